/**
 * Keys of the overlay's table, the bucket where the search for a key starts, and the value word of a private front.
 * Twin: native/include/overlay_key.h (test/daxfs/overlay-key-vectors.json holds what both must give).
 */
import { CONSTANTS } from './layout.ts';

/** `kernel`: plain v8, a kernel may mount it, published entries are never recycled. `private`: ours alone. */
export type FrontKind = 'kernel' | 'private';

const U64 = (1n << 64n) - 1n;
const PAGE_INDEX_BITS = 20n;
/** A private front's table is made of bins: 15 buckets, and in the last cell the bin's word. */
export const BIN_CELLS = 16;
export const BIN_BUCKETS = BIN_CELLS - 1;
/** Pages whose indexes differ in these low bits only are neighbours: their keys have one home bin, a line each. */
const NEIGHBOUR_BITS = 2n;
const LINE_CELLS = 4n;
/** A reach that means the whole table. */
const REACH_ANY = 511n;
const FNV_START = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

/** Inode numbers stay below this, so that every key has 63 bits. */
export const INODE_NUMBER_END = 1n << 43n;

export const pageKey = (ino: bigint, page: bigint): bigint => (ino << PAGE_INDEX_BITS) | page;
export const inodeKey = (ino: bigint): bigint => pageKey(ino, BigInt(CONSTANTS.inodeKeySuffix.value));
export const dirlistKey = (ino: bigint): bigint => pageKey(ino, BigInt(CONSTANTS.dirlistKeySuffix.value));

/** The word stored for a key: bit 0 says used. */
export const stateKey = (key: bigint): bigint => (key << 1n) | 1n;

/** Key of a directory entry: 64-bit FNV-1a over the parent (8 bytes, low first) and the name, without its low bit. */
export function direntKey(parent: bigint, name: Uint8Array): bigint {
  let hash = FNV_START;
  const step = (byte: bigint) => {
    hash = ((hash ^ byte) * FNV_PRIME) & U64;
  };
  for (let shift = 0n; shift < 64n; shift += 8n) step((parent >> shift) & 0xffn);
  for (const byte of name) step(BigInt(byte));
  return hash >> 1n;
}

/** Spreads a number over 64 bits, one to one. */
export function mixGroup(group: bigint): bigint {
  let mixed = group ^ (group >> 32n);
  mixed = (mixed * 0x9e3779b97f4a7c15n) & U64;
  mixed ^= mixed >> 29n;
  mixed = (mixed * 0xbf58476d1ce4e5b9n) & U64;
  return mixed ^ (mixed >> 32n);
}

/** Where a private front looks for a key: the bins `bin`, `bin + step`, `bin + 2 * step` ... (step is odd: all of them). */
export interface BinHome {
  bin: bigint;
  step: bigint;
  /** Of the bin: first of the line that is filled first. */
  cell: bigint;
}

/** @param binMask bin count - 1, the count a power of two */
export function homeBin(key: bigint, binMask: bigint): BinHome {
  const mixed = mixGroup(key >> NEIGHBOUR_BITS);
  const bin = mixed & binMask;
  return { bin, step: mixGroup(bin) | 1n, cell: (((mixed >> 60n) + key) % LINE_CELLS) * LINE_CELLS };
}

/** Bucket at which the search for `key` starts. @param mask cell count - 1, the count a power of two (private: >= 16) */
export function homeBucket(kind: FrontKind, key: bigint, mask: bigint): bigint {
  if (kind === 'kernel') return key & mask;
  const { bin, cell } = homeBin(key, mask / BigInt(BIN_CELLS));
  return bin * BigInt(BIN_CELLS) + cell;
}

/** Bins after a key's home in which such keys may lie, as the home's word says. */
export function reachOf(binWord: bigint, binMask: bigint): bigint {
  const reach = (binWord >> 54n) & REACH_ANY;
  return reach === REACH_ANY || reach > binMask ? binMask : reach;
}

/** A bin's word whose reach is at least `bins`. */
export function withReach(binWord: bigint, bins: bigint): bigint {
  const old = (binWord >> 54n) & REACH_ANY;
  const reach = bins < REACH_ANY ? bins : REACH_ANY;
  return reach <= old ? binWord : (binWord & ~(REACH_ANY << 54n)) | (reach << 54n);
}

/** State in a value word of a private front. */
export const PRIVATE_VALUE_STATE = { DELETED: 0, TENTATIVE: 1, LIVE: 2 } as const;

/** The first value of a fresh bucket of a private front: LIVE, version 1. @param offset pool offset, a multiple of 16 */
export const firstPrivateValue = (offset: bigint): bigint => (2n << 62n) | (1n << 40n) | (offset >> 4n);

/** What follows a value in the same bucket of a private front. @param offset pool offset, a multiple of 16 */
export function nextPrivateValue(previous: bigint, state: number, offset: bigint): bigint {
  const version = (((previous >> 40n) & 0x3fffffn) + 1n) & 0x3fffffn;
  return (BigInt(state) << 62n) | (version << 40n) | ((offset >> 4n) & 0xffffffffffn);
}

/** Takes a value word of a private front apart: state (PRIVATE_VALUE_STATE), version, pool offset in bytes. */
export function decodePrivateValue(value: bigint): { state: number; version: number; offset: bigint } {
  return {
    state: Number(value >> 62n),
    version: Number((value >> 40n) & 0x3fffffn),
    offset: (value & 0xffffffffffn) << 4n,
  };
}

/** What a creator writes into the bucket of an entry: state_key and value, at `homeBucket` of an empty table. */
export function firstBucket(kind: FrontKind, key: bigint, offset: bigint): { stateKey: bigint; value: bigint } {
  return { stateKey: stateKey(key), value: kind === 'kernel' ? offset : firstPrivateValue(offset) };
}
