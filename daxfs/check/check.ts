/** `region check`: every invariant of a region, quiescent or live, read without changing anything. */
import type { BackingRequest } from '../backing.ts';
import { HOST_STATE, NAME_STATE } from '../layout.ts';
import { lookAtImage } from './check-image.ts';
import { checkImages, chunkArea, type ImageCheckOptions } from './check-images.ts';
import { type CheckedRegion, checkRegistry } from './check-registry.ts';
import { type CheckCode, type CheckFinding, FindingList, type Seen } from './findings.ts';
import { type OpenedForCheck, openForCheck } from './open-check.ts';
import { type OpenedImage, openImage } from './open-image.ts';
import type { Tables } from './tables.ts';

export interface CheckOptions extends ImageCheckOptions {}

export interface CheckReport {
  /** Null when the region cannot be recognised any more, and of an image. */
  region: string | null;
  hosts: number;
  contents: number;
  images: number;
  names: number;
  /** Broken rules. */
  findings: CheckFinding[];
  /** What a crash left and the next service undoes, and what an operator may want to know. */
  leftovers: CheckFinding[];
  /** No rule is broken. */
  sound: boolean;
}

const publicFinding = ({ evidence: _, ...finding }: Seen): CheckFinding => finding;

function countsOf(tables: Tables | null) {
  if (tables === null) return { hosts: 0, contents: 0, names: 0 };
  return {
    hosts: tables.hosts.filter(({ bits }) => bits.state !== HOST_STATE.FREE).length,
    contents: [...tables.contents.values()].filter(({ bits }) => bits.state !== 0).length,
    names: tables.names.filter(({ bits }) => bits.state === NAME_STATE.USED && bits.content !== 0xfffff).length,
  };
}

export function reportOf(
  region: string | null,
  tables: Tables | null,
  images: number,
  all: readonly Seen[],
): CheckReport {
  const findings = all.filter(({ severity }) => severity === 'damage').map(publicFinding);
  const leftovers = all.filter(({ severity }) => severity === 'leftover').map(publicFinding);
  return { region, ...countsOf(tables), images, findings, leftovers, sound: findings.length === 0 };
}

const LOST: Readonly<Record<string, CheckCode>> = {
  DAXFS_TRUNCATED: 'TRUNCATED',
  DAXFS_UNFINISHED: 'UNFINISHED',
};

/** A region of which no header is left: nothing else can be looked at. */
export function lostReport({ refusal }: Pick<OpenedForCheck, 'refusal'>): CheckReport {
  const found = new FindingList();
  const code = LOST[refusal?.code ?? ''] ?? 'HEADER_LOST';
  const message = refusal?.message ?? 'No copy of the registry header can be used; create the region again.';
  found.add(code, { struct: 'registry_header', index: 0, offset: 0 }, message);
  return reportOf(null, null, 0, found.list);
}

/** Checks a region that is open. */
export async function checkOpened(region: CheckedRegion, options: CheckOptions = {}): Promise<CheckReport> {
  const { tables, findings } = await checkRegistry(region);
  const images = await checkImages(chunkArea(region.mapping, region.header), tables, options);
  return reportOf(region.header.uuid, tables, images.images, [...findings, ...images.findings]);
}

/** Checks an image that is open; nothing of it but its front is a matter of a region. */
export async function checkImage(image: OpenedImage): Promise<CheckReport> {
  return reportOf(null, null, 1, await lookAtImage(image));
}

/**
 * Checks a region, or an image with overlay or page cache, without changing it. What other hosts change meanwhile is looked at again before it is reported.
 * @throws DaxfsError when there is no region to check
 */
export async function checkRegion(request: BackingRequest, options: CheckOptions = {}): Promise<CheckReport> {
  const image = openImage(request, false);
  if (image) return checkImage(image).finally(image.close);
  const opened = await openForCheck(request, false);
  try {
    const { header } = opened;
    return header === null ? lostReport(opened) : await checkOpened({ ...opened, header }, options);
  } finally {
    opened.close();
  }
}
