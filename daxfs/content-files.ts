/** Where the files of a content lie in the region, read from its images. */
import { setImmediate as turn } from 'node:timers/promises';
import { mappingSource } from './byte-source.ts';
import type { Content } from './content-row.ts';
import { Image } from './image.ts';
import type { Region } from './region.ts';

export interface FilePlace {
  /** Bytes from the start of the region to byte 0 of the file. */
  offset: number;
  size: number;
}

type ChunkArea = Pick<Region, 'mapping' | 'chunkOffset'>;

/** The event loop gets its turn after this many milliseconds of walking. */
const sliceMs = 4;

function* walkFiles(area: ChunkArea, content: Content): Generator<[string, FilePlace]> {
  for (const { firstChunk, bytes } of content.images) {
    const start = area.chunkOffset(firstChunk);
    const image = new Image(mappingSource(area.mapping, start, bytes));
    for (const { path, node } of image.walk()) {
      if (node.type !== 'file') continue;
      yield [path.toString('utf8'), { offset: start + image.extent(node).offset, size: node.size }];
    }
  }
}

/**
 * Every regular file of every image, by path.
 * @throws DaxfsError DAXFS_BAD_IMAGE where an image breaks a rule
 */
export function contentFiles(area: ChunkArea, content: Content): Map<string, FilePlace> {
  return new Map(walkFiles(area, content));
}

/** As `contentFiles`, without blocking the event loop. The caller holds the content meanwhile. */
export async function contentFilesPaced(area: ChunkArea, content: Content): Promise<Map<string, FilePlace>> {
  const places = new Map<string, FilePlace>();
  let sliceStarted = performance.now();
  for (const [path, place] of walkFiles(area, content)) {
    places.set(path, place);
    if (performance.now() - sliceStarted < sliceMs) continue;
    await turn();
    sliceStarted = performance.now();
  }
  return places;
}
