// Goal: a private front's table is searched as the native core fills it. Method: tables written by the rules of the format
// in a buffer, keys crowded into one home; every path is walked to its end.
import { describe, expect, test } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { isBinWord, OverlayBins } from '../../daxfs/overlay-bins.ts';
import {
  BIN_BUCKETS,
  BIN_CELLS,
  firstPrivateValue,
  homeBin,
  pageKey,
  reachOf,
  stateKey,
  withReach,
} from '../../daxfs/overlay-key.ts';

const CELLS = 8 * BIN_CELLS;
const BIN_MASK = BigInt(CELLS / BIN_CELLS - 1);

/** Keys whose home is one bin, and no two of them neighbours. */
function crowd(count: number): bigint[] {
  const keys: bigint[] = [];
  for (let ino = 1n; keys.length < count; ino++) {
    if (homeBin(pageKey(ino, 0n), BIN_MASK).bin === 3n) keys.push(pageKey(ino, 0n));
  }
  return keys;
}

/** Puts keys where their paths lead, first free bucket first, and says so in the words of their homes. */
function fill(table: Buffer, bins: OverlayBins, keys: readonly bigint[]): void {
  for (const [i, key] of keys.entries()) {
    const index = [...bins.path(key)].find((at) => table.readBigUInt64LE(at * 16) === 0n)!;
    table.writeBigUInt64LE(stateKey(key), index * 16);
    table.writeBigUInt64LE(firstPrivateValue(BigInt(i) * 16n), index * 16 + 8);
    const raised = raisedWord(table, key, index);
    table.writeBigUInt64LE(raised.word, raised.index * 16);
  }
}

const binsOf = (table: Buffer) => new OverlayBins(bufferSource(table), 0, CELLS);
const raisedWord = (table: Buffer, key: bigint, index: number) => binsOf(table).reachWord(key, index);

describe('bins of a private front', () => {
  test('a path visits every bucket once, the home bin first', () => {
    for (const key of crowd(20)) {
      const path = [...binsOf(Buffer.alloc(CELLS * 16)).path(key)];
      expect(new Set(path).size).toBe((CELLS / BIN_CELLS) * BIN_BUCKETS);
      expect(path.some(isBinWord)).toBe(false);
      expect(path.slice(0, BIN_BUCKETS).every((at) => Math.floor(at / BIN_CELLS) === 3)).toBe(true);
    }
  });

  test('a full table: every key is found, at its place', () => {
    const table = Buffer.alloc(CELLS * 16);
    const keys = crowd((CELLS / BIN_CELLS) * BIN_BUCKETS);
    fill(table, binsOf(table), keys);
    const bins = binsOf(table);
    for (const [i, key] of keys.entries()) {
      expect([...bins.values(key)]).toEqual([firstPrivateValue(BigInt(i) * 16n)]);
      const path = [...bins.path(key)];
      const index = path.find((at) => table.readBigUInt64LE(at * 16) === stateKey(key))!;
      expect(bins.place(key, index)).toEqual({ distance: path.indexOf(index), isReachable: true });
    }
  });

  test('what lies behind the reach is neither found nor reachable', () => {
    const table = Buffer.alloc(CELLS * 16);
    const keys = crowd(BIN_BUCKETS + 1);
    fill(table, binsOf(table), keys);
    const last = keys.at(-1)!;
    const index = [...binsOf(table).path(last)][BIN_BUCKETS]!;
    expect([...binsOf(table).values(last)]).toHaveLength(1);
    const wordAt = (3 * BIN_CELLS + BIN_BUCKETS) * 16;
    expect(reachOf(table.readBigUInt64LE(wordAt), BIN_MASK)).toBe(1n);
    table.writeBigUInt64LE(0n, wordAt);
    expect([...binsOf(table).values(last)]).toEqual([]);
    expect(binsOf(table).place(last, index)).toEqual({ distance: BIN_BUCKETS, isReachable: false });
    expect(binsOf(table).reachWord(last, index)).toEqual({ index: wordAt / 16, word: withReach(0n, 1n) });
  });

  test('a reach only grows, and its largest means anywhere', () => {
    expect(withReach(withReach(0n, 5n), 2n)).toBe(withReach(0n, 5n));
    expect(reachOf(withReach(0n, 5n), 1023n)).toBe(5n);
    expect(reachOf(withReach(0n, 5n), 3n)).toBe(3n);
    expect(reachOf(withReach(0n, 9999n), 1023n)).toBe(1023n);
    expect(withReach(1n << 63n, 511n) >> 63n).toBe(1n);
  });
});
