/**
 * Keys of the overlay's table, the bucket where the search for a key starts, and the value word of a private front.
 * Twin: native/include/overlay_key.h (test/daxfs/overlay-key-vectors.json holds what both must give).
 */
import { CONSTANTS } from './layout.ts';

/** `kernel`: plain v8, a kernel may mount it, published entries are never recycled. `private`: ours alone. */
export type FrontKind = 'kernel' | 'private';

const U64 = (1n << 64n) - 1n;
const PAGE_INDEX_BITS = 20n;
/** Pages whose indexes differ in these low bits only are neighbours in a private front. */
const HOME_GROUP_BITS = 3n;
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

/** Bucket at which the search for `key` starts. @param mask bucket count - 1, the count a power of two */
export function homeBucket(kind: FrontKind, key: bigint, mask: bigint): bigint {
  if (kind === 'kernel') return key & mask;
  const low = key & ((1n << HOME_GROUP_BITS) - 1n);
  return ((mixGroup(key >> HOME_GROUP_BITS) << HOME_GROUP_BITS) | low) & mask;
}

/** State in a value word of a private front. */
export const PRIVATE_VALUE_STATE = { DELETED: 0, TENTATIVE: 1, LIVE: 2 } as const;

/** The first value of a fresh bucket of a private front: LIVE, version 1. @param offset pool offset, a multiple of 16 */
export const firstPrivateValue = (offset: bigint): bigint => (2n << 62n) | (1n << 40n) | (offset >> 4n);

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
