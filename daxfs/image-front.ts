/** Opens an image with an overlay: a file of mkdaxfs, or a copy-on-write root over a base tree. */
import { closeSync } from 'node:fs';
import { type Mapping, native } from '../native/index.ts';
import { type Backing, openBacking } from './backing.ts';
import { decode } from './codec.ts';
import { daxfsError } from './errors.ts';
import { Front } from './fs/front.ts';
import type { Superblock } from './image.ts';
import { superblock } from './layout.ts';
import { classifyFront } from './region-format.ts';
import { lockInUse } from './region-locks.ts';
import { roundDown } from './units.ts';

export interface ImageFacts {
  path: string;
  sizeBytes: number;
  blockBytes: number;
  kernelMountable: boolean;
  front: { poolBytes: number; poolAllocated: number; bucketCount: number };
}

export interface ImageFront {
  front: Front;
  info(): ImageFacts;
  close(): Promise<void>;
}

/** Memory behind the overlay before the first write: a hole that cannot be filled would end the process. */
async function reserveOverlay(backing: Backing, head: Superblock): Promise<void> {
  if (backing.kind === 'devdax') return;
  try {
    await native.fallocate(backing.fd, Number(head.overlay_offset), Number(head.overlay_size));
  } catch (error) {
    throw daxfsError('DAXFS_NO_SPACE', `There is no room for the overlay of ${backing.path}; free some.`, {
      cause: error,
    });
  }
}

/** @throws DaxfsError DAXFS_BAD_IMAGE */
function openOverlay(mapping: Mapping, path: string): Front {
  try {
    return new Front(new native.Overlay(mapping, null, null));
  } catch (error) {
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

async function adopt(backing: Backing, mapping: Mapping, path: string, write: boolean): Promise<ImageFront> {
  const head = headOf(mapping.read(0, superblock.size), path);
  lockInUse(backing.fd, path);
  if (write) await reserveOverlay(backing, head);
  const front = openOverlay(mapping, path);
  const info = () => {
    const { kind, blockBytes, fileBytesMax: _, ...facts } = front.overlay.facts();
    return { path, sizeBytes: mapping.size, blockBytes, kernelMountable: kind === 'kernel', front: facts };
  };
  const close = async () => {
    await front.close();
    mapping.close();
    closeSync(backing.fd);
  };
  return { front, info, close };
}

/** Null when it is no image. @throws DaxfsError DAXFS_NOT_A_REGION, DAXFS_BAD_IMAGE, DAXFS_NO_SPACE */
export async function openImageFront(
  path: string,
  { write = false }: { write?: boolean | undefined },
): Promise<ImageFront | null> {
  const backing = openBacking({ path }, { write, create: false });
  let mapping: Mapping | undefined;
  try {
    const bytes = backing.kind === 'file' ? backing.sizeBytes : roundDown(backing.sizeBytes, backing.mapAlignment);
    if (bytes >= superblock.size) mapping = new native.Mapping(backing.fd, 0, bytes, { write });
    if (mapping && classifyFront(mapping.read(0, superblock.size)) === 'image')
      return await adopt(backing, mapping, path, write);
  } catch (error) {
    mapping?.close();
    closeSync(backing.fd);
    throw error;
  }
  mapping?.close();
  closeSync(backing.fd);
  return null;
}
