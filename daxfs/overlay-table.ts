/** The overlay's hash table by its bytes alone: where it lies, its buckets, the search for a key. */
import type { ByteSource } from './byte-source.ts';
import { type Decoded, decode } from './codec.ts';
import { daxfsError } from './errors.ts';
import type { Superblock } from './image.ts';
import { bucket, CONSTANTS, overlayHeader } from './layout.ts';
import { decodePrivateValue, type FrontKind, homeBucket, PRIVATE_VALUE_STATE, stateKey } from './overlay-key.ts';

/** A used bucket. Of a private front only those whose value is live. */
export interface BucketEntry {
  index: number;
  key: bigint;
  /** Of the entry in the pool. */
  offset: number;
}

/** A bucket that is not free, as it is stored. */
export interface BucketWord {
  index: number;
  word: bigint;
  value: bigint;
  /** Buckets from the key's home to here. */
  distance: number;
  /** A search from there arrives here: no free bucket lies between, and the bound of a private front allows it. */
  isReachable: boolean;
}

const SCAN_BUCKETS = 4096;

/** Where an overlay lies, offsets from the start of the source; checked. */
export interface OverlayPlace {
  kind: FrontKind;
  blockBytes: number;
  bucketsAt: number;
  bucketCount: number;
  poolAt: number;
  poolBytes: number;
  header: Decoded<typeof overlayHeader>;
}

export function badOverlay(message: string, offset: number): never {
  throw daxfsError('DAXFS_BAD_IMAGE', `The overlay is damaged: ${message} (at byte ${offset}).`, { offset });
}

export const frontKind = (version: number): FrontKind =>
  (version & CONSTANTS.privateFrontBit.value) === 0 ? 'kernel' : 'private';

const isPowerOfTwo = (n: number) => n > 0 && Number.isInteger(Math.log2(n));

/** @throws DaxfsError DAXFS_BAD_IMAGE when the numbers of superblock and header do not fit the source */
export function placeOverlay(source: ByteSource, head: Superblock): OverlayPlace {
  const { overlay_offset, overlay_size, overlay_bucket_count: bucketCount, block_size: blockBytes } = head;
  if (overlay_offset + overlay_size > BigInt(source.size) || overlay_size < BigInt(overlayHeader.size)) {
    badOverlay('it ends behind the last byte', 72);
  }
  if (!isPowerOfTwo(bucketCount)) badOverlay(`it has ${bucketCount} buckets`, 80);
  const start = Number(overlay_offset);
  const header = decode(overlayHeader, source.read(start, overlayHeader.size));
  if (header.magic !== CONSTANTS.overlayMagic.value) badOverlay('its magic number is wrong', start);
  if (header.version !== CONSTANTS.overlayVersion.value) badOverlay(`its version is ${header.version}`, start + 4);
  const tableEnd = header.bucket_offset + BigInt(bucketCount * bucket.size);
  if (header.bucket_offset < BigInt(overlayHeader.size) || tableEnd > overlay_size) {
    badOverlay('the buckets lie outside of it', start + 8);
  }
  if (header.pool_offset < tableEnd || header.pool_offset + header.pool_size > overlay_size) {
    badOverlay('the pool lies outside of it', start + 16);
  }
  return {
    kind: frontKind(head.version),
    blockBytes,
    bucketsAt: start + Number(header.bucket_offset),
    bucketCount,
    poolAt: start + Number(header.pool_offset),
    poolBytes: Number(header.pool_size),
    header,
  };
}

/** One table. REQUIRES: the place was checked. */
export class OverlayTable {
  readonly #source: ByteSource;
  readonly #place: OverlayPlace;
  #index: Map<bigint, number> | undefined;

  constructor(source: ByteSource, place: OverlayPlace) {
    this.#source = source;
    this.#place = place;
  }

  /** Every bucket that is not free, in order, with the question whether a search finds it. */
  *words(): Generator<BucketWord> {
    const { kind, bucketCount, header } = this.#place;
    const mask = BigInt(bucketCount - 1);
    const bound = kind === 'private' ? header.probe_bound : mask;
    let next = 0;
    let run = this.#trailingRun();
    for (const { index, word, value } of this.#raw()) {
      if (index !== next) run = 0;
      next = index + 1;
      const distance = (index - Number(homeBucket(kind, word >> 1n, mask)) + bucketCount) % bucketCount;
      yield { index, word, value, distance, isReachable: distance <= run && BigInt(distance) <= bound };
      run++;
    }
  }

  /** Every used bucket, in order. */
  *buckets(): Generator<BucketEntry> {
    for (const { index, word, value } of this.#raw()) {
      const offset = (word & 1n) === 0n ? undefined : this.offsetOf(value);
      if (offset !== undefined) yield { index, key: word >> 1n, offset };
    }
  }

  /** Reads the whole table into memory; later searches end there. Their answers stay the same. */
  load(): void {
    const nearest = new Map<bigint, number>();
    const index = new Map<bigint, number>();
    for (const { word, value, distance, isReachable } of this.words()) {
      const offset = (word & 1n) === 0n || !isReachable ? undefined : this.offsetOf(value);
      const key = word >> 1n;
      // Of two buckets with one key the search stops at the nearer one.
      if (offset === undefined || (nearest.get(key) ?? Number.POSITIVE_INFINITY) <= distance) continue;
      nearest.set(key, distance);
      index.set(key, offset);
    }
    this.#index = index;
  }

  /** Pool offset behind a key: the probe ends at a free bucket, the bound of a private front, or after the whole table. */
  find(key: bigint): number | undefined {
    if (this.#index) return this.#index.get(key);
    const { kind, bucketsAt, bucketCount, header } = this.#place;
    const mask = bucketCount - 1;
    const wanted = stateKey(key);
    let at = Number(homeBucket(kind, key, BigInt(mask)));
    let left = bucketCount;
    if (kind === 'private' && header.probe_bound < BigInt(bucketCount)) left = Number(header.probe_bound) + 1;
    while (left > 0) {
      const run = Math.min(left, bucketCount - at, 16);
      const bytes = this.#source.read(bucketsAt + at * bucket.size, run * bucket.size);
      for (let i = 0; i < run; i++) {
        const word = bytes.readBigUInt64LE(i * bucket.size);
        if (word === 0n) return undefined;
        if (word !== wanted) continue;
        const offset = this.offsetOf(bytes.readBigUInt64LE(i * bucket.size + 8));
        if (offset !== undefined) return offset;
      }
      left -= run;
      at = (at + run) & mask;
    }
    return undefined;
  }

  /**
   * Pool offset that a value word leads to; undefined where it leads nowhere (private). What lies outside the pool gives
   * the pool's end, where no entry fits.
   */
  offsetOf(value: bigint): number | undefined {
    const { kind, poolBytes } = this.#place;
    if (kind === 'kernel') return value < BigInt(poolBytes) ? Number(value) : poolBytes;
    const { state, offset } = decodePrivateValue(value);
    return state === PRIVATE_VALUE_STATE.LIVE ? Number(offset) : undefined;
  }

  *#raw(): Generator<{ index: number; word: bigint; value: bigint }> {
    const { bucketsAt, bucketCount } = this.#place;
    for (let first = 0; first < bucketCount; first += SCAN_BUCKETS) {
      const count = Math.min(SCAN_BUCKETS, bucketCount - first);
      const bytes = this.#source.read(bucketsAt + first * bucket.size, count * bucket.size);
      for (let i = 0; i < count; i++) {
        const word = bytes.readBigUInt64LE(i * bucket.size);
        if (word !== 0n) yield { index: first + i, word, value: bytes.readBigUInt64LE(i * bucket.size + 8) };
      }
    }
  }

  /** Buckets that are not free, directly before the first one, seen across the end of the table. */
  #trailingRun(): number {
    let next = 0;
    let run = 0;
    for (const { index } of this.#raw()) {
      run = index === next ? run + 1 : 1;
      next = index + 1;
    }
    return next === this.#place.bucketCount ? run : 0;
  }
}
