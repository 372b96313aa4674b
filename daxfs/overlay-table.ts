/** The overlay's hash table by its bytes alone: where it lies, its buckets, the search for a key. */
import type { ByteSource } from './byte-source.ts';
import { type Decoded, decode } from './codec.ts';
import { daxfsError } from './errors.ts';
import type { Superblock } from './image.ts';
import { bucket, CONSTANTS, overlayHeader } from './layout.ts';
import { isBinWord, OverlayBins } from './overlay-bins.ts';
import {
  BIN_BUCKETS,
  BIN_CELLS,
  decodePrivateValue,
  type FrontKind,
  homeBucket,
  PRIVATE_VALUE_STATE,
  stateKey,
} from './overlay-key.ts';

/** A used bucket. Of a private front only those whose value is live. */
export interface BucketEntry {
  index: number;
  key: bigint;
  /** Of the entry in the pool. */
  offset: number;
  /** The word beside the key, as it is stored. */
  value: bigint;
}

/** A bucket that is not free, as it is stored. */
export interface BucketWord {
  index: number;
  word: bigint;
  value: bigint;
  /** Buckets that a search from the key's home looks at before this one. */
  distance: number;
  /** A search arrives here: no free bucket lies between; in a private front the home's word says that keys lie so far. */
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

const BLOCK_BYTES_MAX = 65536;
const isPowerOfTwo = (n: number) => n > 0 && Number.isInteger(Math.log2(n));

/** @throws DaxfsError DAXFS_BAD_IMAGE when the numbers of superblock and header do not fit the source */
export function placeOverlay(source: ByteSource, head: Superblock): OverlayPlace {
  const { overlay_offset, overlay_size, overlay_bucket_count: bucketCount, block_size: blockBytes } = head;
  if (overlay_offset + overlay_size > BigInt(source.size) || overlay_size < BigInt(overlayHeader.size)) {
    badOverlay('it ends behind the last byte', 72);
  }
  if (!isPowerOfTwo(blockBytes) || blockBytes < CONSTANTS.blockBytes.value || blockBytes > BLOCK_BYTES_MAX) {
    badOverlay(`its blocks have ${blockBytes} bytes`, 8);
  }
  const kind = frontKind(head.version);
  const isCount = isPowerOfTwo(bucketCount) && (kind === 'kernel' || bucketCount >= BIN_CELLS);
  if (!isCount) badOverlay(`it has ${bucketCount} buckets`, 80);
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
    kind,
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
  /** Of a private front. */
  readonly #bins: OverlayBins | undefined;
  #index: Map<bigint, number> | undefined;

  constructor(source: ByteSource, place: OverlayPlace) {
    this.#source = source;
    this.#place = place;
    const { kind, bucketsAt, bucketCount } = place;
    if (kind === 'private') this.#bins = new OverlayBins(source, bucketsAt, bucketCount);
  }

  /** Buckets of the table; in a private front one cell of every bin is none. */
  get bucketsMax(): number {
    const { kind, bucketCount } = this.#place;
    return kind === 'kernel' ? bucketCount : (bucketCount / BIN_CELLS) * BIN_BUCKETS;
  }

  /** Every bucket that is not free, in order, with the question whether a search finds it. */
  *words(): Generator<BucketWord> {
    const { bucketCount } = this.#place;
    const mask = BigInt(bucketCount - 1);
    if (this.#bins) {
      for (const found of this.#raw()) yield { ...found, ...this.#bins.place(found.word >> 1n, found.index) };
      return;
    }
    let next = 0;
    let run = this.#trailingRun();
    for (const { index, word, value } of this.#raw()) {
      if (index !== next) run = 0;
      next = index + 1;
      const distance = (index - Number(homeBucket('kernel', word >> 1n, mask)) + bucketCount) % bucketCount;
      yield { index, word, value, distance, isReachable: distance <= run };
      run++;
    }
  }

  /** The bins' words of a private front that are not zero, and what lies beside them. */
  *binWords(): Generator<{ index: number; word: bigint; beside: bigint }> {
    const { kind, bucketsAt, bucketCount } = this.#place;
    if (kind !== 'private') return;
    for (let first = 0; first < bucketCount; first += SCAN_BUCKETS) {
      const count = Math.min(SCAN_BUCKETS, bucketCount - first);
      const bytes = this.#source.read(bucketsAt + first * bucket.size, count * bucket.size);
      for (let i = 0; i < count; i++) {
        if (!isBinWord(first + i)) continue;
        const word = bytes.readBigUInt64LE(i * bucket.size);
        const beside = bytes.readBigUInt64LE(i * bucket.size + 8);
        if (word !== 0n || beside !== 0n) yield { index: first + i, word, beside };
      }
    }
  }

  /** Every used bucket, in order. */
  *buckets(): Generator<BucketEntry> {
    for (const { index, word, value } of this.#raw()) {
      const offset = (word & 1n) === 0n ? undefined : this.offsetOf(value);
      if (offset !== undefined) yield { index, key: word >> 1n, offset, value };
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

  /** Pool offset behind a key. */
  find(key: bigint): number | undefined {
    if (this.#index) return this.#index.get(key);
    if (!this.#bins) return this.#probe(key);
    for (const value of this.#bins.values(key)) {
      const offset = this.offsetOf(value);
      if (offset !== undefined) return offset;
    }
    return undefined;
  }

  /** A kernel-mountable front: bucket after bucket, until a free one or after the whole table. */
  #probe(key: bigint): number | undefined {
    const { bucketsAt, bucketCount } = this.#place;
    const mask = bucketCount - 1;
    const wanted = stateKey(key);
    let at = Number(homeBucket('kernel', key, BigInt(mask)));
    let left = bucketCount;
    while (left > 0) {
      const run = Math.min(left, bucketCount - at, 16);
      const bytes = this.#source.read(bucketsAt + at * bucket.size, run * bucket.size);
      for (let i = 0; i < run; i++) {
        const word = bytes.readBigUInt64LE(i * bucket.size);
        if (word === 0n) return undefined;
        if (word === wanted) return this.offsetOf(bytes.readBigUInt64LE(i * bucket.size + 8));
      }
      left -= run;
      at = (at + run) & mask;
    }
    return undefined;
  }

  /** Buckets in the order in which a search for a key looks at them, the whole table. */
  *path(key: bigint): Generator<number> {
    const { bucketCount } = this.#place;
    if (this.#bins) {
      yield* this.#bins.path(key);
      return;
    }
    const home = Number(homeBucket('kernel', key, BigInt(bucketCount - 1)));
    for (let probe = 0; probe < bucketCount; probe++) yield (home + probe) % bucketCount;
  }

  /** Private fronts: the home word that lets searches for the key go as far as a bucket, and the cell it belongs in. */
  reachWord(key: bigint, index: number): { index: number; word: bigint } | undefined {
    return this.#bins?.reachWord(key, index);
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
    const { kind, bucketsAt, bucketCount } = this.#place;
    for (let first = 0; first < bucketCount; first += SCAN_BUCKETS) {
      const count = Math.min(SCAN_BUCKETS, bucketCount - first);
      const bytes = this.#source.read(bucketsAt + first * bucket.size, count * bucket.size);
      for (let i = 0; i < count; i++) {
        const word = bytes.readBigUInt64LE(i * bucket.size);
        if (word === 0n || (kind === 'private' && isBinWord(first + i))) continue;
        yield { index: first + i, word, value: bytes.readBigUInt64LE(i * bucket.size + 8) };
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
