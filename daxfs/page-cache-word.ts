/** The words of the v8 page cache: tags of pages, the slots where a page may be, states. Twin: native/include/page_cache.h. */
import { type FrontKind, mixGroup } from './overlay-key.ts';

export const SLOT_STATE = { FREE: 0, PENDING: 1, VALID: 2 } as const;

/** A page lies in one of so many slots from the start of a window, wrapping. */
const SLOT_WINDOW = 8;
/** Windows of a private front; v8 has one. */
const WINDOWS_PRIVATE = 4;
const WINDOW_STEP = 0x9e3779b97f4a7c15n;
const U64 = (1n << 64n) - 1n;

const PAGE_INDEX_BITS = 20n;
/** Inode numbers in tags stay below this. */
export const TAG_INODE_END = 2 ** 38;

/** @param page split mode: index in the backing file; export mode: in the file */
export const pageTag = (ino: number, page: number): bigint => (BigInt(ino) << PAGE_INDEX_BITS) | BigInt(page & 0xfffff);

/**
 * The slots where a page may be, in the order of the search: the 8 from the tag's low bits; in a private front 4 windows of 8,
 * each from a mix of the whole tag. @param slots a power of two of at least 8
 */
export function slotPlaces(tag: bigint, slots: number, kind: FrontKind): number[] {
  const mask = BigInt(slots - 1);
  const starts =
    kind === 'kernel'
      ? [tag]
      : Array.from({ length: WINDOWS_PRIVATE }, (_, window) => mixGroup((tag + BigInt(window) * WINDOW_STEP) & U64));
  return starts.flatMap((start) => Array.from({ length: SLOT_WINDOW }, (_, i) => (Number(start & mask) + i) % slots));
}

/** A VALID slot without pins. */
export const firstSlotWord = (tag: bigint): bigint => (tag << 6n) | BigInt(SLOT_STATE.VALID);

export interface SlotWord {
  /** SLOT_STATE, or 3: damage. */
  state: number;
  pins: number;
  tag: bigint;
  ino: number;
  page: number;
}

/** Takes a state_tag word apart. */
export function decodeSlotWord(word: bigint): SlotWord {
  const tag = word >> 6n;
  const low = Number(word & 0x3fn);
  return { state: low & 3, pins: low >> 2, tag, ino: Number(tag >> PAGE_INDEX_BITS), page: Number(tag & 0xfffffn) };
}

const OWNED = 2 ** 31;

/** Who fills a PENDING slot, by its host_mask: a host of ours, or a v8 kernel, which leaves no name and clears no bits. */
export function slotOwner(high: number): { host: number; generation: number } | 'kernel' {
  if (high < OWNED || (high & 0x7ff0_0000) !== 0) return 'kernel';
  return { host: high & 0xf, generation: (high >>> 4) & 0xffff };
}
