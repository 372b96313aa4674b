/**
 * Writes an image that is a root file system to write on: the tree as a static base, which many may share, and an empty
 * overlay beside it, which takes every change. Plain v8: a kernel with the module mounts it as well.
 */
import { fsyncSync, ftruncateSync } from 'node:fs';
import {
  copyIntoFile,
  countTree,
  type ImageSummary,
  readTree,
  replaceFile,
  systemError,
  writeAll,
} from './image-file.ts';
import { planImage } from './image-plan.ts';
import type { ScanOptions } from './image-tree.ts';
import { CONSTANTS } from './layout.ts';
import { frontPieces, frontSuperblock, planFront } from './mkdaxfs/front.ts';
import { defaultBuckets } from './region-layout.ts';
import { roundUp } from './units.ts';

export interface RootImageOptions extends ScanOptions {
  /** For what is written later; default 64 MiB. */
  overlayBytes?: number | undefined;
  /** A power of two; default one per KiB of overlay. */
  bucketCount?: number | undefined;
  signal?: AbortSignal;
}

const OVERLAY_DEFAULT = 64 * 2 ** 20;

/**
 * @param directory the tree; @param out appears, or is replaced, only when the image is whole
 * @throws DaxfsError DAXFS_BAD_TREE, DAXFS_SPECIAL_FILE, DAXFS_SOURCE_CHANGED, DAXFS_NO_SPACE, DAXFS_WRITE_FAILED
 */
export async function writeRootImage(
  directory: string,
  out: string,
  options: RootImageOptions = {},
): Promise<ImageSummary> {
  const blockBytes = CONSTANTS.blockBytes.value;
  const entries = readTree(directory, options);
  const plan = planImage(entries, { blockBytes });
  const poolBytes = roundUp(options.overlayBytes ?? OVERLAY_DEFAULT, blockBytes);
  const bucketCount = options.bucketCount ?? defaultBuckets(poolBytes);
  const planBytes = roundUp(plan.totalSize, blockBytes);
  const front = planFront({ blockBytes, planBytes, inodeCount: plan.inodeCount, bucketCount, poolBytes, slots: 0 });
  const [head, ...metadata] = plan.metadata;
  const pieces = [...metadata, ...frontPieces(front), { offset: 0, bytes: frontSuperblock(front, head!.bytes) }];
  await replaceFile(out, directory, async (fd) => {
    try {
      ftruncateSync(fd, front.totalBytes);
      for (const { offset, bytes } of pieces) writeAll(fd, bytes, offset);
    } catch (error) {
      throw systemError(error, `writing ${out}`);
    }
    await copyIntoFile(fd, front.totalBytes, plan.files, out, options);
    fsyncSync(fd);
  });
  return { ...countTree(entries, plan), bytes: front.totalBytes };
}
