/** How full the front of a region is, at a cost that whoever asks again and again can bear. */
import { native, type Overlay } from '../native/index.ts';
import type { Region } from './region.ts';

/** Counting takes at most one part in so many of the time. */
const COUNT_SHARE = 100;

export interface PoolUse {
  bytes: number;
  /** Handed out up to now; what was freed of it is used again, and not taken off. */
  usedBytes: number;
}

export class FrontUse {
  readonly #region: Region;
  #count: Promise<number | undefined> = Promise.resolve(undefined);
  /** On the clock of `performance`; Infinity while a count runs. */
  #goodUntil = 0;

  constructor(region: Region) {
    this.#region = region;
  }

  /** Reads one word. Undefined where the front is damaged. */
  pool(): PoolUse | undefined {
    return this.#read((overlay) => {
      const { poolBytes, poolAllocated } = overlay.facts();
      return { bytes: poolBytes, usedBytes: Math.min(poolAllocated, poolBytes) };
    });
  }

  /**
   * Buckets of the table that are not free: counted by a native thread that reads the whole table, 16 bytes a bucket, and
   * not counted again for a hundred times as long as that took. Undefined where the front is damaged.
   */
  bucketsUsed(): Promise<number | undefined> {
    if (performance.now() >= this.#goodUntil) {
      this.#goodUntil = Number.POSITIVE_INFINITY;
      this.#count = this.#countNow();
    }
    return this.#count;
  }

  async #countNow(): Promise<number | undefined> {
    const began = performance.now();
    try {
      return await this.#read((overlay) => overlay.bucketsUsed());
    } finally {
      const now = performance.now();
      this.#goodUntil = now + COUNT_SHARE * (now - began);
    }
  }

  /** Opened for each look, so that nothing keeps the region mapped. */
  #read<T>(look: (overlay: Overlay) => T): T | undefined {
    let overlay: Overlay;
    try {
      overlay = new native.Overlay(this.#region.mapping, null, null);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') return undefined;
      throw error;
    }
    try {
      return look(overlay);
    } finally {
      overlay.close();
    }
  }
}
