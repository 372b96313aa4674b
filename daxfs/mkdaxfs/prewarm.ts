/** Fills a fresh page cache with the first pages of files, as a kernel that had read them would have left them. */
import { closeSync, openSync, readSync } from 'node:fs';
import { encode } from '../codec.ts';
import { daxfsError } from '../errors.ts';
import type { PlannedFile } from '../image-plan.ts';
import { slot } from '../layout.ts';
import type { FrontKind } from '../overlay-key.ts';
import { firstSlotWord, pageTag, slotPlaces } from '../page-cache-word.ts';
import type { Front } from './front.ts';

export interface Prewarmed {
  /** Pages now in the cache, and pages of all files. */
  pages: number;
  wanted: number;
}

/** Slots taken so far. */
class Placement {
  readonly #taken: Uint8Array;
  readonly #kind: FrontKind;
  free: number;
  constructor(slots: number, kind: FrontKind) {
    this.#kind = kind;
    this.#taken = new Uint8Array(slots);
    this.free = slots;
  }

  /** The first free slot where the page may be; undefined when all are taken. */
  take(tag: bigint): number | undefined {
    for (const at of slotPlaces(tag, this.#taken.length, this.#kind)) {
      if (this.#taken[at] === 1) continue;
      this.#taken[at] = 1;
      this.free--;
      return at;
    }
    return undefined;
  }
}

/** One block of which `length` bytes are the file's, the rest zero. */
function readBlock(fd: number, from: number, length: number, block: Buffer, path: string): void {
  block.fill(0, length);
  for (let done = 0; done < length; ) {
    const got = readSync(fd, block, done, length - done, from + done);
    if (got === 0) throw daxfsError('DAXFS_SOURCE_CHANGED', `${path} became shorter while it was read; run it again.`);
    done += got;
  }
}

/**
 * Puts pages of files into free slots: page by page of each file in inode order, each where it may be.
 * @param backing split mode: the file that holds the bytes of all; tags then count its pages
 * @param put stores bytes at an offset of the image
 * @throws DaxfsError DAXFS_SOURCE_CHANGED; Node's own errors of reading
 */
export function prewarm(
  front: Front,
  files: readonly PlannedFile[],
  backing: string | undefined,
  put: (offset: number, bytes: Buffer) => void,
): Prewarmed {
  const { pageCacheOffset, blockBytes, slotDataOffset, slots } = front;
  const placement = new Placement(slots, front.isPrivate ? 'private' : 'kernel');
  const block = Buffer.alloc(blockBytes);
  const done = { pages: 0, wanted: 0 };
  for (const file of files) {
    const count = Math.ceil(file.size / blockBytes);
    done.wanted += count;
    if (placement.free === 0 || count === 0 || !('path' in file.origin)) continue;
    const fd = openSync(backing ?? file.origin.path, 'r');
    try {
      for (let page = 0; page < count && placement.free > 0; page++) {
        const from = file.offset + page * blockBytes;
        const tag = pageTag(file.ino, from / blockBytes);
        const at = placement.take(tag);
        if (at === undefined) continue;
        readBlock(fd, from, Math.min(blockBytes, file.size - page * blockBytes), block, file.path);
        put(pageCacheOffset + slotDataOffset + at * blockBytes, block);
        put(pageCacheOffset + blockBytes + at * slot.size, encode(slot, { state_tag: firstSlotWord(tag) }));
        done.pages++;
      }
    } finally {
      closeSync(fd);
    }
  }
  return done;
}
