/** `region check`: header, rows and every image of a region, read without changing anything. */
import { mappingSource } from '../../daxfs/byte-source.ts';
import type { Content } from '../../daxfs/content-row.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import type { Region } from '../../daxfs/region.ts';
import type { Registry } from '../../daxfs/registry.ts';

export interface CheckFinding {
  /** `content 3` or `content 3, image 0`. */
  place: string;
  rule: string;
  detail: string;
}

export interface CheckReport {
  region: string;
  contents: number;
  images: number;
  names: number;
  hosts: number;
  findings: CheckFinding[];
}

/** States whose bytes are complete; those of a running or broken load may be anything. */
const WHOLE: readonly Content['state'][] = ['ready', 'draining', 'quarantined'];

function checkImages(region: Region, content: Content): CheckFinding[] {
  return content.images.flatMap(({ firstChunk, bytes }, index) => {
    const source = mappingSource(region.mapping, region.chunkOffset(firstChunk), bytes);
    const { findings } = validateImage(source);
    return findings.map(({ rule, offset, detail }) => ({
      place: `content ${content.index}, image ${index}`,
      rule,
      detail: `byte ${offset}: ${detail}`,
    }));
  });
}

/** A name whose content is gone points to nothing, which is allowed; a row that lies is not. */
function checkContent(region: Region, content: Content): CheckFinding[] {
  if (content.corrupt !== undefined)
    return [{ place: `content ${content.index}`, rule: 'content-row', detail: content.corrupt }];
  return WHOLE.includes(content.state) ? checkImages(region, content) : [];
}

/** The header was checked when the region was opened. */
export function checkRegion(region: Region, registry: Registry): CheckReport {
  const contents = registry.contents();
  return {
    region: region.uuid,
    contents: contents.length,
    images: contents.reduce((sum, content) => sum + content.images.length, 0),
    names: registry.names().length,
    hosts: registry.hosts().length,
    findings: contents.flatMap((content) => checkContent(region, content)),
  };
}
