/**
 * Where everything lies in a region, computed from its size and capacities alone. Creation writes these numbers into the
 * header; opening computes them again from the header's capacities and refuses a region whose numbers differ.
 *
 *   [superblock][overlay: header, buckets, pool][page cache]  [registry]  [chunks, 2 MiB aligned]  [tail locator]
 */
import { daxfsError } from './errors.ts';
import {
  bucket,
  CONSTANTS,
  contentRow,
  hostRow,
  intentRow,
  locator,
  nameRow,
  overlayHeader,
  pageCacheHeader,
  registryHeader,
  registryState,
  slot,
  superblock,
} from './layout.ts';
import { BIN_CELLS } from './overlay-key.ts';
import { formatBytes, powerOfTwo, roundDown, roundUp } from './units.ts';

const blockBytes = CONSTANTS.blockBytes.value;
const chunkBytes = CONSTANTS.chunkBytes.value;
const MiB = 2 ** 20;

/** Rows and buckets of a region; fixed at creation. */
export interface Capacities {
  /** Rows of contents, 1 .. 2^20 - 1. */
  contents: number;
  /** Buckets of names, a power of two. */
  names: number;
  /** Rows of intents. */
  intents: number;
}

/** What the geometry is computed from. */
export interface GeometryInput extends Capacities {
  regionBytes: number;
  /** Overlay buckets, a power of two. */
  bucketCount: number;
  /** Overlay pool in bytes, a multiple of the block. */
  poolBytes: number;
  /** Slots of the v8 page cache; 0 = none. */
  pageCacheSlots: number;
}

/** Offsets from the start of the region, in bytes, unless said otherwise. */
export interface Geometry extends GeometryInput {
  overlayOffset: number;
  /** Header block, buckets and pool. */
  overlayBytes: number;
  /** Relative to the overlay. */
  poolOffset: number;
  /** 0 = none. */
  pageCacheOffset: number;
  pageCacheBytes: number;
  registryOffset: number;
  registryBytes: number;
  /** The five tables and the shared counters: relative to the registry. */
  stateOffset: number;
  hostsOffset: number;
  contentsOffset: number;
  namesOffset: number;
  intentsOffset: number;
  wordsOffset: number;
  chunksOffset: number;
  chunkCount: number;
  tailOffset: number;
}

/** The smallest region that `defaultCapacities` and `defaultOverlay` leave room in. */
export const regionBytesMin = 8 * MiB;

/** Bounds that keep every index inside its bit field and every offset inside a double. */
export const CAPACITY_MAX = { contents: 2 ** 20 - 1, names: 2 ** 24, intents: 2 ** 20, bucketCount: 2 ** 32 / 2 };

const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);

/** One content row per 4 MiB, four name buckets per content: small regions stay small, large ones never run out first. */
export function defaultCapacities(regionBytes: number): Capacities {
  const contents = clamp(powerOfTwo(regionBytes / (4 * MiB)), 256, 16384);
  return { contents, names: contents * 4, intents: clamp(contents / 4, 64, 1024) };
}

/** A 64th of the region for the overlay's pool, at most 64 MiB; one bucket per KiB of pool, as the format's tools have it. */
export function defaultOverlay(regionBytes: number): { poolBytes: number; bucketCount: number } {
  const poolBytes = clamp(roundDown(regionBytes / 64, MiB), MiB, 64 * MiB);
  return { poolBytes, bucketCount: defaultBuckets(poolBytes) };
}

/** Overlay buckets for a pool of this many bytes. */
export function defaultBuckets(poolBytes: number): number {
  return clamp(powerOfTwo(poolBytes / 1024), 1024, 2 ** 28);
}

const isPowerOfTwo = (value: number) => Number.isInteger(value) && value > 0 && Math.log2(value) % 1 === 0;

/** True when every number is in its range; the geometry of other numbers is never computed. */
export function isValidInput(input: GeometryInput): boolean {
  const { contents, names, intents, bucketCount, poolBytes, pageCacheSlots, regionBytes } = input;
  const within = (value: number, max: number) => Number.isInteger(value) && value >= 1 && value <= max;
  return (
    Number.isSafeInteger(regionBytes) &&
    regionBytes > 0 &&
    regionBytes % blockBytes === 0 &&
    within(contents, CAPACITY_MAX.contents) &&
    within(names, CAPACITY_MAX.names) &&
    isPowerOfTwo(names) &&
    within(intents, CAPACITY_MAX.intents) &&
    within(bucketCount, CAPACITY_MAX.bucketCount) &&
    isPowerOfTwo(bucketCount) &&
    bucketCount >= BIN_CELLS &&
    within(poolBytes, regionBytes) &&
    poolBytes % blockBytes === 0 &&
    (pageCacheSlots === 0 || isPowerOfTwo(pageCacheSlots))
  );
}

type Front = Pick<
  Geometry,
  'overlayOffset' | 'overlayBytes' | 'poolOffset' | 'pageCacheOffset' | 'pageCacheBytes' | 'registryOffset'
>;

function frontGeometry({ bucketCount, poolBytes, pageCacheSlots }: GeometryInput): Front {
  const overlayOffset = superblock.size;
  const poolOffset = overlayHeader.size + roundUp(bucketCount * bucket.size, blockBytes);
  const overlayBytes = poolOffset + poolBytes;
  const end = overlayOffset + overlayBytes;
  const metaBytes = roundUp(pageCacheSlots * slot.size, blockBytes);
  const pageCacheBytes = pageCacheSlots === 0 ? 0 : pageCacheHeader.size + metaBytes + pageCacheSlots * blockBytes;
  const pageCacheOffset = pageCacheSlots === 0 ? 0 : end;
  return {
    overlayOffset,
    overlayBytes,
    poolOffset,
    pageCacheOffset,
    pageCacheBytes,
    registryOffset: end + pageCacheBytes,
  };
}

function registryTables({ contents, names, intents }: Capacities) {
  const stateOffset = 2 * registryHeader.size;
  const hostsOffset = stateOffset + registryState.size;
  const contentsOffset = hostsOffset + roundUp(CONSTANTS.hostsMax.value * hostRow.size, blockBytes);
  const namesOffset = contentsOffset + roundUp(contents * contentRow.size, blockBytes);
  const intentsOffset = namesOffset + roundUp(names * nameRow.size, blockBytes);
  const wordsOffset = intentsOffset + roundUp(intents * intentRow.size, blockBytes);
  return { stateOffset, hostsOffset, contentsOffset, namesOffset, intentsOffset, wordsOffset };
}

/** Chunks that fit between the registry and the tail; the words that describe them take room themselves. */
function fitChunks(wordsStart: number, tailOffset: number): { chunkCount: number; chunksOffset: number } {
  const startOf = (count: number) => roundUp(wordsStart + count * 8, chunkBytes);
  let chunkCount = Math.max(0, Math.floor((tailOffset - wordsStart) / (chunkBytes + 8)));
  while (chunkCount > 0 && startOf(chunkCount) + chunkCount * chunkBytes > tailOffset) chunkCount -= 1;
  return { chunkCount, chunksOffset: startOf(chunkCount) };
}

/**
 * The geometry of a region; null when no chunk fits.
 * REQUIRES: isValidInput(input).
 */
export function computeGeometry(input: GeometryInput): Geometry | null {
  const front = frontGeometry(input);
  const tables = registryTables(input);
  const tailOffset = input.regionBytes - locator.size;
  // The tail locator has a block of its own, so that chunks never share a page with it.
  const { chunkCount, chunksOffset } = fitChunks(
    front.registryOffset + tables.wordsOffset,
    input.regionBytes - blockBytes,
  );
  if (chunkCount === 0) return null;
  const registryBytes = chunksOffset - front.registryOffset;
  return { ...input, ...front, ...tables, registryBytes, chunksOffset, chunkCount, tailOffset };
}

/** What is asked for at creation; absent numbers get defaults that fit the size. */
export interface GeometryRequest {
  regionBytes: number;
  overlayBytes?: number;
  bucketCount?: number;
  capacities?: Partial<Capacities>;
}

/** @throws DaxfsError DAXFS_TOO_SMALL with the size that would do, DAXFS_BAD_SIZE for a capacity out of range */
export function planGeometry(request: GeometryRequest): Geometry {
  const { regionBytes, capacities = {} } = request;
  const overlay = defaultOverlay(regionBytes);
  const poolBytes = request.overlayBytes === undefined ? overlay.poolBytes : roundUp(request.overlayBytes, blockBytes);
  const bucketCount = request.bucketCount ?? defaultBuckets(poolBytes);
  const rows = { ...defaultCapacities(regionBytes), ...capacities };
  const input = { regionBytes, poolBytes, bucketCount, pageCacheSlots: 0, ...rows };
  const needed = neededBytes(input);
  if (regionBytes < Math.max(needed, regionBytesMin)) {
    throw daxfsError(
      'DAXFS_TOO_SMALL',
      `A region of ${formatBytes(regionBytes)} is too small: with these capacities it needs at least ${formatBytes(Math.max(needed, regionBytesMin))}; raise --size or lower --overlay.`,
      { extra: { neededBytes: Math.max(needed, regionBytesMin) } },
    );
  }
  if (!isValidInput(input)) {
    throw daxfsError(
      'DAXFS_BAD_SIZE',
      `A capacity is out of range: contents 1 to ${CAPACITY_MAX.contents}, names and buckets powers of two, intents 1 to ${CAPACITY_MAX.intents}.`,
    );
  }
  return computeGeometry(input)!;
}

/** The front, the registry and one chunk, in whole MiB. */
function neededBytes(input: GeometryInput): number {
  const wordsStart = frontGeometry(input).registryOffset + registryTables(input).wordsOffset;
  return roundUp(wordsStart + 8, chunkBytes) + chunkBytes + MiB;
}
