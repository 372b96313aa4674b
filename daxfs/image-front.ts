/** Opens an image with an overlay: a file of mkdaxfs, or a copy-on-write root over a base tree. */
import { closeSync } from 'node:fs';
import { type Mapping, native, type PageCache, type PageCacheFacts } from '../native/index.ts';
import { type Backing, openBacking } from './backing.ts';
import { decode } from './codec.ts';
import { daxfsError } from './errors.ts';
import { Front } from './fs/front.ts';
import type { Superblock } from './image.ts';
import { type ImageSourceOptions, openImageCache, refuseSource } from './image-cache.ts';
import { superblock } from './layout.ts';
import { classifyFront } from './region-format.ts';
import { lockInUse, releaseLocks } from './region-locks.ts';
import { roundDown } from './units.ts';

export interface ImageFacts {
  path: string;
  sizeBytes: number;
  blockBytes: number;
  kernelMountable: boolean;
  front: { poolBytes: number; poolAllocated: number; bucketCount: number };
  /** What this process saw of the page cache; null where all bytes are in the image. */
  pageCache: PageCacheFacts | null;
}

export interface ImageFront {
  front: Front;
  info(): ImageFacts;
  close(): Promise<void>;
}

export interface ImageFrontOptions extends ImageSourceOptions {
  write?: boolean | undefined;
}

/** Memory behind overlay and page cache before the first write: a hole that cannot be filled would end the process. */
async function reserveOverlay(backing: Backing, head: Superblock): Promise<void> {
  if (backing.kind === 'devdax') return;
  try {
    const start = Number(head.overlay_offset);
    const end = Math.max(start + Number(head.overlay_size), Number(head.pcache_offset + head.pcache_size));
    await native.fallocate(backing.fd, start, end - start);
  } catch (error) {
    throw daxfsError('DAXFS_NO_SPACE', `There is no room for the overlay of ${backing.path}; free some.`, {
      cause: error,
    });
  }
}

/** @throws DaxfsError DAXFS_BAD_IMAGE */
function openOverlay(mapping: Mapping, cache: PageCache | null, path: string): Front {
  try {
    return new Front(new native.Overlay(mapping, null, null, cache), cache);
  } catch (error) {
    cache?.close();
    throw daxfsError(
      'DAXFS_BAD_IMAGE',
      `${path}: superblock and overlay do not fit each other; check it with "daxfs-inspect".`,
      {
        cause: error,
      },
    );
  }
}

/** @throws DaxfsError DAXFS_NOT_A_REGION for an image without an overlay */
function headOf(block: Buffer, path: string): Superblock {
  const head = decode(superblock, block);
  if (head.overlay_offset !== 0n) return head;
  throw daxfsError(
    'DAXFS_NOT_A_REGION',
    `${path} is a static image without an overlay; read it with "daxfs-inspect", or make one with an overlay (writeRootImage).`,
  );
}

/** Split and export images have a base and a page cache. @throws DaxfsError DAXFS_BAD_BACKING: a source for another one */
async function cacheOf(
  backing: Backing,
  mapping: Mapping,
  { head, path }: { head: Superblock; path: string },
  { write = false, ...source }: ImageFrontOptions,
): Promise<PageCache | null> {
  if (head.base_offset !== 0n && head.pcache_offset !== 0n) {
    return openImageCache({ backing, mapping, path, write }, source);
  }
  refuseSource(path, source);
  return null;
}

async function adopt(
  backing: Backing,
  mapping: Mapping,
  path: string,
  options: ImageFrontOptions,
): Promise<ImageFront> {
  const head = headOf(mapping.read(0, superblock.size), path);
  lockInUse(backing.fd, path);
  if (options.write) await reserveOverlay(backing, head);
  const cache = await cacheOf(backing, mapping, { head, path }, options);
  const front = openOverlay(mapping, cache, path);
  const info = () => {
    const { kind, blockBytes, fileBytesMax: _, ...facts } = front.overlay.facts();
    return {
      path,
      sizeBytes: mapping.size,
      blockBytes,
      kernelMountable: kind === 'kernel',
      front: facts,
      pageCache: front.cache?.facts() ?? null,
    };
  };
  const close = async () => {
    await front.close();
    mapping.close();
    // What native code still maps keeps the description, and with it the lock, for a while.
    releaseLocks(backing.fd);
    closeSync(backing.fd);
  };
  return { front, info, close };
}

/** Null when it is no image. @throws DaxfsError DAXFS_NOT_A_REGION, DAXFS_BAD_IMAGE, DAXFS_NO_SPACE */
export async function openImageFront(path: string, options: ImageFrontOptions): Promise<ImageFront | null> {
  const { write = false } = options;
  const backing = openBacking({ path }, { write, create: false });
  let mapping: Mapping | undefined;
  try {
    const bytes = backing.kind === 'file' ? backing.sizeBytes : roundDown(backing.sizeBytes, backing.mapAlignment);
    if (bytes >= superblock.size) mapping = new native.Mapping(backing.fd, 0, bytes, { write });
    if (mapping && classifyFront(mapping.read(0, superblock.size)) === 'image')
      return await adopt(backing, mapping, path, options);
  } catch (error) {
    mapping?.close();
    closeSync(backing.fd);
    throw error;
  }
  mapping?.close();
  closeSync(backing.fd);
  return null;
}
