/** Where the files of a content lie in the region, read from its images. */
import { mappingSource } from './byte-source.ts';
import { Image } from './image.ts';
import type { Region } from './region.ts';
import type { Content } from './content-row.ts';

export interface FilePlace {
  /** Bytes from the start of the region to byte 0 of the file. */
  offset: number;
  size: number;
}

/**
 * Every regular file of every image, by path.
 * @throws DaxfsError DAXFS_BAD_IMAGE where an image breaks a rule
 */
export function contentFiles(region: Region, content: Content): Map<string, FilePlace> {
  const places = new Map<string, FilePlace>();
  for (const { firstChunk, bytes } of content.images) {
    const start = region.chunkOffset(firstChunk);
    const image = new Image(mappingSource(region.mapping, start, bytes));
    for (const { path, node } of image.walk()) {
      if (node.type !== 'file') continue;
      places.set(path.toString('utf8'), { offset: start + image.extent(node).offset, size: node.size });
    }
  }
  return places;
}
