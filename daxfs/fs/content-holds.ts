/**
 * Keeps contents in memory while somebody here reads them. With a host row its bit in the content's mask does, on all
 * kernels; without one a read lock on the bytes, which the other hosts of this kernel see.
 */
import { closeSync } from 'node:fs';
import type { Content } from '../content-row.ts';
import type { ByteRange } from '../fence.ts';
import type { Region } from '../region.ts';
import type { Registry } from '../registry.ts';

interface Hold {
  count: number;
  release(): void;
}

const keyOf = ({ index, generation }: Content) => `${index}@${generation}`;

const isReady = (content: Content | undefined) => content?.state === 'ready' && content.corrupt === undefined;

/** Bytes of a content's images. */
export function rangesOf(region: Region, content: Content): ByteRange[] {
  return content.images.map(({ firstChunk, chunkCount }) => ({
    offset: region.chunkOffset(firstChunk),
    length: chunkCount * region.chunkBytes,
  }));
}

export class ContentHolds {
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #holds = new Map<string, Hold>();

  constructor(region: Region, registry: Registry) {
    this.#region = region;
    this.#registry = registry;
  }

  /** Null when the content is no longer ready. Call the result once to let go. */
  take(content: Content): (() => void) | null {
    const key = keyOf(content);
    const hold = this.#holds.get(key) ?? this.#first(content);
    if (!hold) return null;
    hold.count += 1;
    this.#holds.set(key, hold);
    return () => this.#drop(key, hold);
  }

  /** Lets go of everything: nothing of it may be read any more. */
  close(): void {
    for (const hold of this.#holds.values()) hold.release();
    this.#holds.clear();
  }

  #drop(key: string, hold: Hold): void {
    hold.count -= 1;
    if (hold.count > 0 || this.#holds.get(key) !== hold) return;
    this.#holds.delete(key);
    hold.release();
  }

  #first(content: Content): Hold | null {
    const release = this.#registry.hostIndex >= 0 ? this.#pin(content) : this.#lock(content);
    return release && { count: 0, release };
  }

  /** A bit that was up before is a predecessor's in our row: its workers may live, and it is not ours to take down. */
  #pin({ index, generation }: Content): (() => void) | null {
    const inherited = ((this.#registry.content(index)?.mask ?? 0) & this.#registry.hostBit) !== 0;
    if (!this.#registry.pin({ index, generation })) return null;
    return () => {
      if (!inherited) this.#registry.unpin({ index, generation });
    };
  }

  /** First the lock, then the look: who frees looks for locks after the content has left READY. */
  #lock(content: Content): (() => void) | null {
    let fd: number;
    try {
      fd = this.#region.fence.openLease(rangesOf(this.#region, content));
    } catch (error) {
      if ((error as { code?: string }).code === 'DAXFS_IN_USE') return null;
      throw error;
    }
    const now = this.#registry.content(content.index);
    if (isReady(now) && now?.generation === content.generation) return () => closeSync(fd);
    closeSync(fd);
    return null;
  }
}
