/** How a private front's table is searched: bins of 15 buckets and a word. Twin: native/include/private_table.h. */
import type { ByteSource } from './byte-source.ts';
import { bucket } from './layout.ts';
import { BIN_BUCKETS, BIN_CELLS, homeBin, reachOf, stateKey, withReach } from './overlay-key.ts';

const BIN_BYTES = BIN_CELLS * bucket.size;
const LINE_CELLS = 4;

/** What divides by an odd number, modulo 2^64: each step doubles the bits that are right. */
function inverse(odd: bigint): bigint {
  let found = odd;
  for (let bits = 3; bits < 64; bits *= 2) found = BigInt.asUintN(64, found * (2n - odd * found));
  return found;
}

/** Buckets of a bin in the order of a search: the home line, then all others. */
function* cellsFrom(home: number): Generator<number> {
  const isHome = (cell: number) => cell >= home && cell < home + LINE_CELLS;
  for (let cell = home; isHome(cell) && cell < BIN_BUCKETS; cell++) yield cell;
  for (let cell = 0; cell < BIN_BUCKETS; cell++) if (!isHome(cell)) yield cell;
}

/** True for the cell of a bin that holds its word and no bucket. */
export const isBinWord = (index: number): boolean => index % BIN_CELLS === BIN_BUCKETS;

/** The bins of one table. REQUIRES: `count`, a power of two from 16 on, lies inside the source. */
export class OverlayBins {
  readonly #source: ByteSource;
  readonly #start: number;
  readonly #mask: bigint;

  /** @param start first byte of the table @param count its cells */
  constructor(source: ByteSource, start: number, count: number) {
    this.#source = source;
    this.#start = start;
    this.#mask = BigInt(count / BIN_CELLS - 1);
  }

  /** Buckets in the order in which a search for the key would look at them if its home's word allowed all. */
  *path(key: bigint): Generator<number> {
    const { bin, step, cell } = homeBin(key, this.#mask);
    for (let done = 0n; done <= this.#mask; done++) {
      const first = Number((bin + done * step) & this.#mask) * BIN_CELLS;
      for (const at of cellsFrom(Number(cell))) yield first + at;
    }
  }

  /** Place of a bucket on the path of a key, and whether a search goes that far. */
  place(key: bigint, index: number): { distance: number; isReachable: boolean } {
    const { bin, cell } = homeBin(key, this.#mask);
    const bins = this.#binsTo(key, index);
    const rank = [...cellsFrom(Number(cell))].indexOf(index % BIN_CELLS);
    const isReachable = bins === 0n || bins <= reachOf(this.#word(bin), this.#mask);
    return { distance: Number(bins) * BIN_BUCKETS + rank, isReachable };
  }

  /** The word of the key's home, with a reach that leads to a bucket, and the cell where the word is. */
  reachWord(key: bigint, index: number): { index: number; word: bigint } {
    const { bin } = homeBin(key, this.#mask);
    const word = withReach(this.#word(bin), this.#binsTo(key, index));
    return { index: Number(bin) * BIN_CELLS + BIN_BUCKETS, word };
  }

  /** Steps from the key's home to the bin of a bucket. */
  #binsTo(key: bigint, index: number): bigint {
    const { bin, step } = homeBin(key, this.#mask);
    const apart = BigInt(Math.floor(index / BIN_CELLS)) - bin;
    return apart === 0n ? 0n : (apart * inverse(step)) & this.#mask;
  }

  /** Value words beside a key, in the order of a search. */
  *values(key: bigint): Generator<bigint> {
    const { bin, step, cell } = homeBin(key, this.#mask);
    const wanted = stateKey(key);
    const reach = reachOf(this.#word(bin), this.#mask);
    for (let done = 0n; done <= reach; done++) {
      const first = Number((bin + done * step) & this.#mask);
      const bytes = this.#source.read(this.#start + first * BIN_BYTES, BIN_BYTES);
      for (const at of cellsFrom(Number(cell))) {
        if (bytes.readBigUInt64LE(at * bucket.size) === wanted) yield bytes.readBigUInt64LE(at * bucket.size + 8);
      }
    }
  }

  #word(bin: bigint): bigint {
    const at = this.#start + (Number(bin) * BIN_CELLS + BIN_BUCKETS) * bucket.size;
    return this.#source.read(at, 8).readBigUInt64LE(0);
  }
}
