/** A block of a file in its slot of the page cache, without a copy. */
import type { Front } from './front.ts';
import { count, fsError } from './fs-error.ts';

/** Do not write into `bytes`: the memory is shared. */
export interface PinnedBlock extends Disposable {
  /** Of the file's block; fewer at its end. Length 0 after `release`, and after the region was closed. */
  readonly bytes: Uint8Array;
  /** Of the first byte in the file. */
  readonly offset: number;
  /** Lets the slot go. Idempotent. */
  release(): void;
}

/**
 * @param position any byte of the block
 * @throws FsError EINVAL: the block is not in the page cache (written over, a hole, no such cache, no room), ESTALE, ...
 */
export function pinBlock(
  front: Front,
  file: { ino: number; size: number },
  position: number,
  path: string,
): PinnedBlock {
  const { overlay, cache, blockBytes } = front;
  const offset = Math.floor(position / blockBytes) * blockBytes;
  if (cache === null || position >= file.size) throw fsError('EINVAL', 'pin', path);
  const slot = count(overlay.pinBlock(file.ino, offset), 'pin', path);
  const bytes = new Uint8Array(cache.view(slot), 0, Math.min(blockBytes, file.size - offset));
  let held = true;
  const release = () => {
    if (held) cache.unpin(slot);
    held = false;
  };
  return { bytes, offset, release, [Symbol.dispose]: release };
}
