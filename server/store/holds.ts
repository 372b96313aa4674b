/**
 * Who holds a content here: leases in our books, our bit in the row's host mask, locks that the kernel still sees.
 * The bit goes up before the first lease and comes down only when the books are empty and no lock is left.
 */
import type { Content, ContentImage, Region, Registry } from '../../daxfs/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { keyOf } from './names.ts';

const holdable = new Set(['ready', 'draining', 'quarantined']);

function rangesIn(region: Region, runs: readonly Pick<ContentImage, 'firstChunk' | 'chunkCount'>[]) {
  return runs.map(({ firstChunk, chunkCount }) => ({
    offset: region.chunkOffset(firstChunk),
    length: chunkCount * region.chunkBytes,
  }));
}

/** Byte ranges of a content's images in the region; none of a damaged one. */
export function rangesOf(region: Region, content: Content): { offset: number; length: number }[] {
  return rangesIn(region, content.images);
}

export class Holds {
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #counts = new Map<number, number>();

  constructor(region: Region, registry: Registry) {
    this.#region = region;
    this.#registry = registry;
  }

  /** Takes one hold. False when the content is no longer ready. */
  acquire(ref: ContentRef): boolean {
    if (!this.#registry.pin(ref)) return false;
    const key = keyOf(ref);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    return true;
  }

  /** One more hold of a content that was ready a moment ago, in this same turn: our bit is up, so the row need not be asked. */
  extend(ref: ContentRef): boolean {
    const key = keyOf(ref);
    const count = this.#counts.get(key);
    if (count === undefined) return false;
    this.#counts.set(key, count + 1);
    return true;
  }

  /** Gives one hold back; the bit stays until `settle` finds no lock. */
  release(ref: ContentRef): void {
    const key = keyOf(ref);
    const left = (this.#counts.get(key) ?? 0) - 1;
    if (left > 0) this.#counts.set(key, left);
    else this.#counts.delete(key);
  }

  /** Leases in our books. */
  count(ref: ContentRef): number {
    return this.#counts.get(keyOf(ref)) ?? 0;
  }

  /** True while any mapping on this kernel keeps a lock on the content's bytes. */
  isLocked(content: Content): boolean {
    // Where a damaged row's bytes are, only the allocator knows.
    return content.corrupt ? this.#isAnyLocked(this.#registry.runsOf(content)) : this.#isAnyLocked(content.images);
  }

  /** True while somebody here may read the bytes. */
  isHeld(content: Content): boolean {
    return this.count(content) > 0 || this.isLocked(content);
  }

  /** As `isHeld` for looking over many: whoever holds a lock here has set our bit first, so without it there is none. */
  mayBeHeld(content: Content): boolean {
    if (this.count(content) > 0) return true;
    return (content.mask & this.#registry.hostBit) !== 0 && this.isLocked(content);
  }

  /** True while a host other than ours pins the content. */
  isPinnedElsewhere(content: Content): boolean {
    return (content.mask & ~this.#registry.hostBit) !== 0;
  }

  /** Drops our bit when nobody here holds the content any more. */
  settle(content: Content): void {
    if (!holdable.has(content.state) || (content.mask & this.#registry.hostBit) === 0) return;
    if (!this.isHeld(content)) this.#registry.unpin(content);
  }

  /**
   * Frees a draining or quarantined content that no host pins and no lock holds; true when it is free. The proof covers
   * every chunk that the allocator is going to give back, not only what the row says.
   */
  free(content: Content): boolean {
    if (!holdable.has(content.state) || this.isHeld(content)) return false;
    // Our bit first: the other hosts wait for it as we wait for theirs.
    if ((content.mask & this.#registry.hostBit) !== 0) this.#registry.unpin(content);
    return (
      !this.isPinnedElsewhere(content) &&
      !this.#isAnyLocked(this.#registry.runsOf(content)) &&
      this.#registry.free(content)
    );
  }

  /** Looks again at a content after a hold was given back: settles it, or frees it when it drains. True when it is free. */
  review(ref: ContentRef): boolean {
    if (this.count(ref) > 0) return false;
    const content = this.#registry.content(ref.index);
    if (content?.generation !== ref.generation) return false;
    if (content.state === 'draining') return this.free(content);
    this.settle(content);
    return false;
  }

  #isAnyLocked(runs: readonly Pick<ContentImage, 'firstChunk' | 'chunkCount'>[]): boolean {
    return rangesIn(this.#region, runs).some(({ offset, length }) => this.#region.fence.isHeld(offset, length));
  }
}
