/** Reads a v8 page cache by its bytes alone: slots, where a page is. */
import type { ByteSource } from './byte-source.ts';
import { type Decoded, decode } from './codec.ts';
import { daxfsError } from './errors.ts';
import type { Superblock } from './image.ts';
import { CONSTANTS, pageCacheHeader, slot } from './layout.ts';
import type { FrontKind } from './overlay-key.ts';
import { frontKind } from './overlay-table.ts';
import { decodeSlotWord, SLOT_STATE, type SlotWord, slotPlaces } from './page-cache-word.ts';

/** Offsets from the start of the source; checked. */
export interface PageCachePlace {
  kind: FrontKind;
  blockBytes: number;
  slots: number;
  slotsAt: number;
  dataAt: number;
  header: Decoded<typeof pageCacheHeader>;
}

export interface SlotEntry extends SlotWord {
  index: number;
  refBit: number;
  /** Bits of hosts that hold pins; always 0 from a kernel. While PENDING they mean something else: `slotOwner`. */
  hostMask: number;
  /** state_tag as it is stored. */
  low: bigint;
  /** host_mask as it is stored. */
  high: number;
}

const SCAN_SLOTS = 4096;

function bad(message: string, offset: number): never {
  throw daxfsError('DAXFS_BAD_IMAGE', `The page cache is damaged: ${message} (at byte ${offset}).`, { offset });
}

/** @throws DaxfsError DAXFS_BAD_IMAGE when the numbers of superblock and header do not fit the source */
export function placePageCache(source: ByteSource, head: Superblock): PageCachePlace {
  const { pcache_offset, pcache_size, pcache_slot_count: slots, block_size: blockBytes } = head;
  if (pcache_offset + pcache_size > BigInt(source.size) || pcache_size < BigInt(pageCacheHeader.size)) {
    bad('it ends behind the last byte', 96);
  }
  if (slots < 1 || !Number.isInteger(Math.log2(slots))) bad(`it has ${slots} slots`, 104);
  const start = Number(pcache_offset);
  const header = decode(pageCacheHeader, source.read(start, pageCacheHeader.size));
  if (header.magic !== CONSTANTS.pageCacheMagic.value) bad('its magic number is wrong', start);
  const metaEnd = header.slot_meta_offset + BigInt(slots * slot.size);
  const dataEnd = header.slot_data_offset + BigInt(slots * blockBytes);
  if (metaEnd > pcache_size || dataEnd > pcache_size) bad('slots lie outside of it', start + 8);
  return {
    kind: frontKind(head.version),
    blockBytes,
    slots,
    slotsAt: start + Number(header.slot_meta_offset),
    dataAt: start + Number(header.slot_data_offset),
    header,
  };
}

function decodeSlot(bytes: Buffer, at: number, index: number): SlotEntry {
  const low = bytes.readBigUInt64LE(at);
  const high = bytes.readUInt32LE(at + 12);
  return { ...decodeSlotWord(low), index, refBit: bytes.readUInt32LE(at + 8), hostMask: high & 0x7fff, low, high };
}

/** One page cache. */
export class PageCacheReader {
  readonly place: PageCachePlace;
  readonly #source: ByteSource;

  constructor(source: ByteSource, head: Superblock) {
    this.#source = source;
    this.place = placePageCache(source, head);
  }

  /** Every slot, in order. */
  *slots(): Generator<SlotEntry> {
    const { slotsAt, slots } = this.place;
    for (let first = 0; first < slots; first += SCAN_SLOTS) {
      const count = Math.min(SCAN_SLOTS, slots - first);
      const bytes = this.#source.read(slotsAt + first * slot.size, count * slot.size);
      for (let i = 0; i < count; i++) yield decodeSlot(bytes, i * slot.size, first + i);
    }
  }

  /** The slot that holds a page VALID, within its window. */
  find(tag: bigint): number | undefined {
    const { slotsAt, slots, kind } = this.place;
    for (const at of slotPlaces(tag, slots, kind)) {
      const word = decodeSlotWord(this.#source.read(slotsAt + at * slot.size, 8).readBigUInt64LE(0));
      if (word.state === SLOT_STATE.VALID && word.tag === tag) return at;
    }
    return undefined;
  }

  /** Bytes of a page that the cache holds; undefined when it does not, or gives it up while it is read. */
  page(tag: bigint): Buffer | undefined {
    const { dataAt, blockBytes } = this.place;
    const at = this.find(tag);
    if (at === undefined) return undefined;
    const bytes = this.#source.read(dataAt + at * blockBytes, blockBytes);
    return this.find(tag) === at ? bytes : undefined;
  }
}
