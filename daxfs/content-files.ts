/** Where the files of a content lie in the region, read from its images. */
import { mappingSource } from './byte-source.ts';
import type { Content } from './content-row.ts';
import { Image } from './image.ts';
import { itemsPerStep, pace, runToEnd, type Steps } from './pace.ts';
import type { Region } from './region.ts';

export interface FilePlace {
  /** Bytes from the start of the region to byte 0 of the file. */
  offset: number;
  size: number;
}

type ChunkArea = Pick<Region, 'mapping' | 'chunkOffset'>;

function* walkSteps(area: ChunkArea, content: Content): Steps<Map<string, FilePlace>> {
  const places = new Map<string, FilePlace>();
  let names = 0;
  for (const { firstChunk, bytes } of content.images) {
    const start = area.chunkOffset(firstChunk);
    const image = new Image(mappingSource(area.mapping, start, bytes));
    for (const { path, node } of image.walk()) {
      if (++names % itemsPerStep === 0) yield;
      if (node.type !== 'file') continue;
      places.set(path.toString('utf8'), { offset: start + image.extent(node).offset, size: node.size });
    }
  }
  return places;
}

/**
 * Every regular file of every image, by path.
 * @throws DaxfsError DAXFS_BAD_IMAGE where an image breaks a rule
 */
export function contentFiles(area: ChunkArea, content: Content): Map<string, FilePlace> {
  return runToEnd(walkSteps(area, content));
}

/** As `contentFiles`, without blocking the event loop. The caller holds the content meanwhile. */
export function contentFilesPaced(area: ChunkArea, content: Content): Promise<Map<string, FilePlace>> {
  return pace(walkSteps(area, content));
}
