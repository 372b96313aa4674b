/** The numbers of `daxfs-inspect status` and `overlay`, as objects and as text. */
import type { PageCacheFacts } from '../../native/index.ts';
import type { ByteSource } from '../byte-source.ts';
import { decode, offsetOf } from '../codec.ts';
import type { Superblock } from '../image.ts';
import { CONSTANTS, LOCATOR_MAGIC, locator, superblock } from '../layout.ts';
import { type OverlayCensus, takeCensus } from '../overlay-census.ts';
import { freeListOffset, OverlayReader, readSuperblock } from '../overlay-read.ts';
import { frontKind, placeOverlay } from '../overlay-table.ts';
import { PageCacheReader } from '../page-cache-read.ts';
import { SLOT_STATE } from '../page-cache-word.ts';

/** Numbers are bytes unless the name says otherwise. */
export interface StatusReport {
  format: { magic: string; version: number; blockSize: number; totalSize: number; front: 'kernel' | 'private' };
  base: null | {
    offset: number;
    size: number;
    inodeCount: number;
    rootInode: number;
    inodeOffset: number;
    dataOffset: number;
  };
  overlay: null | {
    offset: number;
    size: number;
    bucketCount: number;
    bucketShift: number;
    poolSize: number;
    poolAllocated: number;
    /** 0 .. 100 */
    poolPercent: number;
    nextInode: number;
  };
  pageCache: null | {
    offset: number;
    size: number;
    slots: number;
    hashShift: number;
    pendingCount: number;
    valid: number;
    free: number;
    pending: number;
    /** Slots with a state that does not exist. */
    damaged: number;
    /** 0 .. 100 */
    occupancyPercent: number;
    evictHand: number;
    /** Slots with the reference bit set. */
    hot: number;
    /** Slots that somebody pins, and all pins together. */
    pinned: number;
    pins: number;
    /** Processes that use it now, of an image. */
    users: number;
    /** What all processes saw that ever used it. */
    counters: PageCacheTotals;
  };
  region: null | { uuid: string; size: number; registryOffset: number; registrySize: number };
}

export type PageCacheTotals = Omit<PageCacheFacts, 'attached' | 'hasSource' | 'sourceStamp' | 'slots'>;

/** Numbers of the header; list heads are pool offsets, null = empty. */
export interface OverlayReport {
  header: {
    magic: string;
    version: number;
    bucketOffset: number;
    poolOffset: number;
    poolSize: number;
    poolAllocated: number;
    nextInode: number;
    freeInode: number | null;
    freeData: number | null;
    freeDirent: number | null;
  };
  poolPercent: number;
  bucketCount: number;
  entries: OverlayCensus;
}

const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;
const percent = (part: number, whole: number) => (whole === 0 ? 0 : Math.round((part / whole) * 1000) / 10);

function baseReport(head: Superblock): StatusReport['base'] {
  if (head.base_offset === 0n) return null;
  return {
    offset: Number(head.base_offset),
    size: Number(head.base_size),
    inodeCount: head.inode_count,
    rootInode: head.root_inode,
    inodeOffset: Number(head.inode_offset),
    dataOffset: Number(head.data_offset),
  };
}

function overlayStatus(source: ByteSource, head: Superblock): StatusReport['overlay'] {
  if (head.overlay_offset === 0n) return null;
  const { header } = placeOverlay(source, head);
  const poolSize = Number(header.pool_size);
  const poolAllocated = Number(header.pool_alloc);
  return {
    offset: Number(head.overlay_offset),
    size: Number(head.overlay_size),
    bucketCount: head.overlay_bucket_count,
    bucketShift: head.overlay_bucket_shift,
    poolSize,
    poolAllocated,
    poolPercent: percent(poolAllocated, poolSize),
    nextInode: Number(header.next_ino),
  };
}

/** Of processes that are gone, and of those that are there. */
function pageCacheTotals({ totals, users }: PageCacheReader['place']['header']): PageCacheTotals {
  const tables = [totals[0], ...users.map((user) => (user.counters as Record<string, unknown>[])[0])];
  const sum = (...names: string[]) =>
    Number(
      tables.reduce(
        (all, table) => names.reduce((some, name) => some + BigInt((table?.[name] ?? 0n) as bigint), all),
        0n,
      ),
    );
  return {
    hits: sum('hits'),
    misses: sum('misses'),
    fills: sum('fills'),
    fillErrors: sum('fill_errors'),
    evictions: sum('evictions_unreferenced', 'evictions_second_chance', 'evictions_forced'),
    pendingWaits: sum('pending_waits'),
    fallbacks: sum('fallbacks'),
    takeovers: sum('takeovers'),
    sourceReads: sum('source_reads'),
    sourceBytes: sum('source_bytes'),
  };
}

function pageCacheStatus(source: ByteSource, head: Superblock): StatusReport['pageCache'] {
  if (head.pcache_offset === 0n) return null;
  const reader = new PageCacheReader(source, head);
  const { slots, header } = reader.place;
  const counts = { valid: 0, free: 0, pending: 0, damaged: 0, hot: 0, pinned: 0, pins: 0 };
  for (const { state, refBit, pins } of reader.slots()) {
    if (state === SLOT_STATE.VALID) counts.valid++;
    else if (state === SLOT_STATE.FREE) counts.free++;
    else if (state === SLOT_STATE.PENDING) counts.pending++;
    else counts.damaged++;
    if (refBit !== 0) counts.hot++;
    if (pins > 0) counts.pinned++;
    counts.pins += pins;
  }
  return {
    offset: Number(head.pcache_offset),
    size: Number(head.pcache_size),
    slots,
    hashShift: head.pcache_hash_shift,
    pendingCount: header.pending_count,
    occupancyPercent: percent(slots - counts.free, slots),
    evictHand: header.evict_hand,
    users: header.users.filter(({ word }) => ((word as bigint) & 1n) !== 0n).length,
    counters: pageCacheTotals(header),
    ...counts,
  };
}

function regionStatus(source: ByteSource): StatusReport['region'] {
  const found = decode(locator, source.read(offsetOf(superblock, 'locator'), locator.size));
  if (found.magic !== LOCATOR_MAGIC) return null;
  return {
    uuid: found.uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    size: Number(found.region_size),
    registryOffset: Number(found.registry_offset),
    registrySize: Number(found.registry_size),
  };
}

/** @throws DaxfsError DAXFS_BAD_IMAGE */
export function statusReport(source: ByteSource): StatusReport {
  const head = readSuperblock(source);
  return {
    format: {
      magic: hex(head.magic),
      version: head.version & ~CONSTANTS.privateFrontBit.value,
      blockSize: head.block_size,
      totalSize: Number(head.total_size),
      front: frontKind(head.version),
    },
    base: baseReport(head),
    overlay: overlayStatus(source, head),
    pageCache: pageCacheStatus(source, head),
    region: regionStatus(source),
  };
}

/** Reads the whole table. Undefined: there is no overlay. @throws DaxfsError DAXFS_BAD_IMAGE */
export function overlayReport(source: ByteSource): OverlayReport | undefined {
  const head = readSuperblock(source);
  if (head.overlay_offset === 0n) return undefined;
  const overlay = new OverlayReader(source, head);
  overlay.prepareForAll();
  const { header } = overlay.place;
  const listHead = (word: bigint) =>
    freeListOffset(word) === freeListOffset(-1n) ? null : Number(freeListOffset(word));
  return {
    header: {
      magic: hex(header.magic),
      version: header.version,
      bucketOffset: Number(header.bucket_offset),
      poolOffset: Number(header.pool_offset),
      poolSize: Number(header.pool_size),
      poolAllocated: Number(header.pool_alloc),
      nextInode: Number(header.next_ino),
      freeInode: listHead(header.free_inode),
      freeData: listHead(header.free_data),
      freeDirent: listHead(header.free_dirent),
    },
    poolPercent: percent(Number(header.pool_alloc), Number(header.pool_size)),
    bucketCount: overlay.place.bucketCount,
    entries: takeCensus(overlay),
  };
}
