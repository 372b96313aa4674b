/**
 * Who holds a content here: leases in our books, our bit in the row's host mask, locks that the kernel still sees.
 * The bit goes up before the first lease and comes down only when the books are empty and no lock is left.
 */
import type { Content, Region, Registry } from '../../daxfs/index.ts';
import type { ContentRef } from '../../native/index.ts';

const keyOf = (ref: ContentRef) => `${ref.index}@${ref.generation}`;

/** Byte ranges of a content's images in the region. */
export function rangesOf(region: Region, content: Content): { offset: number; length: number }[] {
  return content.images.map(({ firstChunk, chunkCount }) => ({
    offset: region.chunkOffset(firstChunk),
    length: chunkCount * region.chunkBytes,
  }));
}

export class Holds {
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #counts = new Map<string, number>();

  constructor(region: Region, registry: Registry) {
    this.#region = region;
    this.#registry = registry;
  }

  /** Takes one hold. False when the content is no longer ready. */
  acquire(ref: ContentRef): boolean {
    if (!this.#registry.pin(ref)) return false;
    this.#counts.set(keyOf(ref), this.count(ref) + 1);
    return true;
  }

  /** Gives one hold back; the bit stays until `settle` finds no lock. */
  release(ref: ContentRef): void {
    const left = this.count(ref) - 1;
    if (left > 0) this.#counts.set(keyOf(ref), left);
    else this.#counts.delete(keyOf(ref));
  }

  /** Leases in our books. */
  count(ref: ContentRef): number {
    return this.#counts.get(keyOf(ref)) ?? 0;
  }

  /** True while any mapping on this kernel keeps a lock on the content's bytes. */
  isLocked(content: Content): boolean {
    return rangesOf(this.#region, content).some(({ offset, length }) => this.#region.fence.isHeld(offset, length));
  }

  /** True while somebody here may read the bytes. */
  isHeld(content: Content): boolean {
    return this.count(content) > 0 || this.isLocked(content);
  }

  /** Drops our bit when nobody here holds the content any more. */
  settle(content: Content): void {
    if (content.corrupt || (content.mask & this.#registry.hostBit) === 0) return;
    if (!this.isHeld(content)) this.#registry.unpin(content);
  }

  /** Frees a draining content when no host and no lock holds it. True when it is free. Damaged rows stay: their ranges are unknown. */
  free(content: Content): boolean {
    if (content.corrupt) return false;
    this.settle(content);
    return !this.isHeld(content) && this.#registry.free(content);
  }
}
