/** The bytes that make a piece of memory a region: superblock, locators, header copies, an empty front. */
import { randomUUID } from 'node:crypto';
import type { Mapping } from '../native/index.ts';
import { type Decoded, decode, encode, offsetOf, shownTime } from './codec.ts';
import { layoutFingerprint } from './emit.ts';
import { daxfsError } from './errors.ts';
import {
  bucket,
  CONSTANTS,
  LOCATOR_MAGIC,
  locator,
  overlayHeader,
  overlayInode,
  REGISTRY_MAGIC,
  registryHeader,
  superblock,
} from './layout.ts';
import { firstBucket, homeBucket, inodeKey } from './overlay-key.ts';
import { computeGeometry, type Geometry, isValidInput } from './region-layout.ts';
import { formatBytes } from './units.ts';

const { blockBytes, privateFrontBit, registryFormatVersion, superblockMagic, superblockVersion } = CONSTANTS;
const KERNEL_MOUNTABLE = 1;
const EMPTY_LIST = 0xffff_ffff_ffff_ffffn;

export type Coherence = 'hardware' | 'software';

/** The immutable facts of a region. */
export interface RegionHeader {
  /** 32 hex digits in the usual 8-4-4-4-12 groups. */
  uuid: string;
  formatVersion: number;
  createdAtMs: number;
  kernelMountable: boolean;
  coherence: Coherence;
  heartbeatIntervalMs: number;
  heartbeatLimitMs: number;
  geometry: Geometry;
}

/** What the first block says before anything is trusted. */
export type FrontState = 'blank' | 'unfinished' | 'region' | 'image' | 'foreign';

export const fingerprint: bigint = layoutFingerprint();

export const locatorAt = offsetOf(superblock, 'locator');

function textOfUuid(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

const bytesOfUuid = (uuid: string) => Buffer.from(uuid.replaceAll('-', ''), 'hex');

/** A fresh header for a geometry. */
export function newHeader(
  geometry: Geometry,
  choice: Pick<RegionHeader, 'kernelMountable' | 'coherence' | 'heartbeatIntervalMs' | 'heartbeatLimitMs'>,
): RegionHeader {
  const formatVersion = registryFormatVersion.value;
  return { ...choice, uuid: randomUUID(), formatVersion, createdAtMs: Date.now(), geometry };
}

/** @param block the first 4096 bytes */
export function classifyFront(block: Buffer): FrontState {
  const { magic } = decode(superblock, block);
  const found = decode(locator, block, locatorAt);
  if (magic === superblockMagic.value) return found.magic === LOCATOR_MAGIC ? 'region' : 'image';
  if (magic === 0 && found.magic === LOCATOR_MAGIC) return 'unfinished';
  return block.every((byte) => byte === 0) ? 'blank' : 'foreign';
}

// ------------------------------------------------------------------------------------------------------- writing

export function encodeLocator({ uuid, geometry }: RegionHeader): Buffer {
  return encode(locator, {
    magic: LOCATOR_MAGIC,
    region_size: BigInt(geometry.regionBytes),
    registry_offset: BigInt(geometry.registryOffset),
    registry_size: BigInt(geometry.registryBytes),
    fingerprint,
    format_version: registryFormatVersion.value,
    flags: 0,
    uuid: bytesOfUuid(uuid),
  });
}

/** Superblock of an empty v8 filesystem, magic and version still 0. */
export function encodeSuperblock(header: RegionHeader): Buffer {
  const { geometry } = header;
  return encode(superblock, {
    block_size: blockBytes.value,
    total_size: BigInt(geometry.registryOffset),
    root_inode: 1,
    overlay_offset: BigInt(geometry.overlayOffset),
    overlay_size: BigInt(geometry.overlayBytes),
    overlay_bucket_count: geometry.bucketCount,
    overlay_bucket_shift: Math.log2(geometry.bucketCount),
    pcache_offset: BigInt(geometry.pageCacheOffset),
    pcache_size: BigInt(geometry.pageCacheBytes),
    pcache_slot_count: geometry.pageCacheSlots,
    pcache_hash_shift: geometry.pageCacheSlots === 0 ? 0 : Math.log2(geometry.pageCacheSlots),
    locator: encodeLocator(header),
  });
}

export function encodeRegistryHeader({ geometry, ...header }: RegionHeader): Buffer {
  return encode(registryHeader, {
    magic: REGISTRY_MAGIC,
    format_version: header.formatVersion,
    flags: header.kernelMountable ? KERNEL_MOUNTABLE : 0,
    fingerprint,
    uuid: bytesOfUuid(header.uuid),
    created_at_ms: BigInt(header.createdAtMs),
    region_size: BigInt(geometry.regionBytes),
    registry_offset: BigInt(geometry.registryOffset),
    registry_size: BigInt(geometry.registryBytes),
    chunks_offset: BigInt(geometry.chunksOffset),
    chunk_count: BigInt(geometry.chunkCount),
    coherence: header.coherence === 'software' ? 1 : 0,
    heartbeat_interval_ms: header.heartbeatIntervalMs,
    heartbeat_limit_ms: header.heartbeatLimitMs,
    host_count: CONSTANTS.hostsMax.value,
    hosts_offset: BigInt(geometry.hostsOffset),
    contents_offset: BigInt(geometry.contentsOffset),
    names_offset: BigInt(geometry.namesOffset),
    intents_offset: BigInt(geometry.intentsOffset),
    words_offset: BigInt(geometry.wordsOffset),
    content_count: geometry.contents,
    name_count: geometry.names,
    intent_count: geometry.intents,
  });
}

/** Bucket in which an empty table holds the root inode, and what is written there. */
export function rootBucket(kernelMountable: boolean, bucketCount: number): { index: number; cell: Buffer } {
  const kind = kernelMountable ? 'kernel' : 'private';
  const { stateKey, value } = firstBucket(kind, inodeKey(1n), 0n);
  const index = Number(homeBucket(kind, inodeKey(1n), BigInt(bucketCount - 1)));
  return { index, cell: encode(bucket, { state_key: stateKey, value }) };
}

/** The overlay of an empty filesystem: header, the root inode at pool offset 0, its bucket. The rest is zero already. */
function writeOverlay(mapping: Mapping, { geometry, kernelMountable }: RegionHeader): void {
  const { overlayOffset, bucketCount, poolOffset, poolBytes } = geometry;
  const header = encode(overlayHeader, {
    magic: CONSTANTS.overlayMagic.value,
    version: CONSTANTS.overlayVersion.value,
    bucket_offset: BigInt(overlayHeader.size),
    pool_offset: BigInt(poolOffset),
    pool_size: BigInt(poolBytes),
    pool_alloc: BigInt(overlayInode.size),
    next_ino: 2n,
    free_inode: EMPTY_LIST,
    free_data: EMPTY_LIST,
    free_dirent: EMPTY_LIST,
  });
  mapping.write(overlayOffset, header);
  const root = encode(overlayInode, { type: 1, mode: 0o040755, uid: 0, gid: 0, size: 0n, nlink: 2, flags: 0 });
  mapping.write(overlayOffset + poolOffset, root);
  const { index, cell } = rootBucket(kernelMountable, bucketCount);
  mapping.write(overlayOffset + overlayHeader.size + index * bucket.size, cell);
}

/** Marks the memory as a creation under way: whoever finds the mark without a magic knows that it was interrupted. */
export function writeUnfinishedMark(mapping: Mapping, header: RegionHeader): void {
  mapping.write(locatorAt, encodeLocator(header));
}

function writeHeaderCopies(mapping: Mapping, header: RegionHeader): void {
  const page = encodeRegistryHeader(header);
  const { registryOffset } = header.geometry;
  // Copy 1 first: a reader that finds copy 0 sound finds both written.
  for (const copy of [1, 0]) {
    const at = registryOffset + copy * registryHeader.size;
    mapping.write(at, page);
    mapping.store64(at + offsetOf(registryHeader, 'checksum'), checksumAt(mapping, at));
  }
}

const checksumAt = (mapping: Mapping, at: number) => mapping.xxh3(at, offsetOf(registryHeader, 'checksum'));

/** Writes everything but the word that makes it a region. REQUIRES: front and registry are zero. */
export function writeMetadata(mapping: Mapping, header: RegionHeader): void {
  writeOverlay(mapping, header);
  writeHeaderCopies(mapping, header);
  mapping.write(header.geometry.tailOffset, encodeLocator(header));
  // Magic and version are one word; its 8 bytes stay 0 until `publish`.
  mapping.write(8, encodeSuperblock(header).subarray(8));
}

export function firstWord(kernelMountable: boolean): bigint {
  const version = superblockVersion.value | (kernelMountable ? 0 : privateFrontBit.value);
  return (BigInt(version) << 32n) | BigInt(superblockMagic.value);
}

/** The last step of creation: magic and version by one CAS. False when somebody else has written there. */
export function publish(mapping: Mapping, header: RegionHeader): boolean {
  return mapping.cas64(0, 0n, firstWord(header.kernelMountable)) === 0n;
}

/** The first step of deletion and of creation over an old region: from here on nobody opens it. */
export function unpublish(mapping: Mapping): void {
  mapping.cas64(0, mapping.load64(0), 0n);
}

// ------------------------------------------------------------------------------------------------------- reading

type Locator = Decoded<typeof locator>;

function readLocator(mapping: Mapping): Locator {
  return decode(locator, mapping.read(locatorAt, locator.size));
}

/** @throws DaxfsError DAXFS_NEWER_VERSION, DAXFS_OTHER_LAYOUT, DAXFS_TRUNCATED */
function checkLocator(found: Locator, name: string, backingBytes: number): void {
  const version = registryFormatVersion.value;
  if (found.format_version > version) {
    throw daxfsError(
      'DAXFS_NEWER_VERSION',
      `${name} has region format ${found.format_version}, this build reads ${version}; upgrade daxserve, or recreate it with --on-mismatch recreate.`,
    );
  }
  if (found.format_version !== version || found.fingerprint !== fingerprint) {
    throw daxfsError(
      'DAXFS_OTHER_LAYOUT',
      `${name} was made by a build with another layout (format ${found.format_version}, fingerprint ${found.fingerprint.toString(16)}; here ${version}, ${fingerprint.toString(16)}); run that build, or recreate it with --on-mismatch recreate.`,
    );
  }
  if (found.region_size > BigInt(backingBytes)) {
    throw daxfsError(
      'DAXFS_TRUNCATED',
      `${name} is ${formatBytes(backingBytes)} long, but the region in it needs ${formatBytes(Number(found.region_size))}; restore the file, or recreate the region with --on-mismatch recreate.`,
    );
  }
}

const corrupt = (name: string, what: string) =>
  daxfsError(
    'DAXFS_CORRUPT',
    `${name}: ${what}; run "daxserve region check", or recreate the region with --on-mismatch recreate.`,
  );

/** A copy of the header page whose checksum holds; the page is read again afterwards, so that what was summed is what we use. */
function readHeaderPage(mapping: Mapping, registryOffset: number): Decoded<typeof registryHeader> | null {
  for (const copy of [0, 1]) {
    const at = registryOffset + copy * registryHeader.size;
    const page = mapping.read(at, registryHeader.size);
    const sum = checksumAt(mapping, at);
    const header = decode(registryHeader, page);
    if (header.magic !== REGISTRY_MAGIC || header.checksum !== sum) continue;
    if (mapping.read(at, registryHeader.size).equals(page)) return header;
  }
  return null;
}

/** The geometry of the capacities that header and superblock state; null when they are out of range or nothing fits. */
function geometryOf(page: Decoded<typeof registryHeader>, front: Decoded<typeof superblock>): Geometry | null {
  const overlayBytes = Number(front.overlay_size);
  const poolOffset =
    overlayHeader.size + Math.ceil((front.overlay_bucket_count * bucket.size) / blockBytes.value) * blockBytes.value;
  const input = {
    regionBytes: Number(page.region_size),
    contents: page.content_count,
    names: page.name_count,
    intents: page.intent_count,
    bucketCount: front.overlay_bucket_count,
    poolBytes: overlayBytes - poolOffset,
    pageCacheSlots: front.pcache_slot_count,
  };
  return isValidInput(input) ? computeGeometry(input) : null;
}

/** Every number in the region against the one that was computed. Names the first that differs. */
function firstDifference(
  page: Decoded<typeof registryHeader>,
  front: Decoded<typeof superblock>,
  found: Locator,
  geometry: Geometry,
): string | null {
  const numbers: [string, bigint | number, number][] = [
    ['locator.region_size', found.region_size, geometry.regionBytes],
    ['locator.registry_offset', found.registry_offset, geometry.registryOffset],
    ['locator.registry_size', found.registry_size, geometry.registryBytes],
    ['registry_offset', page.registry_offset, geometry.registryOffset],
    ['registry_size', page.registry_size, geometry.registryBytes],
    ['chunks_offset', page.chunks_offset, geometry.chunksOffset],
    ['chunk_count', page.chunk_count, geometry.chunkCount],
    ['host_count', page.host_count, CONSTANTS.hostsMax.value],
    ['hosts_offset', page.hosts_offset, geometry.hostsOffset],
    ['contents_offset', page.contents_offset, geometry.contentsOffset],
    ['names_offset', page.names_offset, geometry.namesOffset],
    ['intents_offset', page.intents_offset, geometry.intentsOffset],
    ['words_offset', page.words_offset, geometry.wordsOffset],
    ['block_size', front.block_size, blockBytes.value],
    ['total_size', front.total_size, geometry.registryOffset],
    ['overlay_offset', front.overlay_offset, geometry.overlayOffset],
    ['overlay_size', front.overlay_size, geometry.overlayBytes],
    ['pcache_offset', front.pcache_offset, geometry.pageCacheOffset],
    ['pcache_size', front.pcache_size, geometry.pageCacheBytes],
    ['flags', page.flags, (front.version & privateFrontBit.value) === 0 ? KERNEL_MOUNTABLE : 0],
  ];
  return numbers.find(([, has, expected]) => BigInt(has) !== BigInt(expected))?.[0] ?? null;
}

/**
 * Reads and checks the facts of a region; nothing in the region is trusted before it has passed.
 * @param name the path, for messages
 * @param backingBytes how long the backing really is
 * @throws DaxfsError DAXFS_NEWER_VERSION, DAXFS_OTHER_LAYOUT, DAXFS_TRUNCATED, DAXFS_CORRUPT
 */
export function readHeader(mapping: Mapping, name: string, backingBytes: number): RegionHeader {
  const front = decode(superblock, mapping.read(0, superblock.size));
  const kernelMountable = checkVersion(front.version, name);
  const found = readLocator(mapping);
  checkLocator(found, name, backingBytes);
  const registryOffset = Number(found.registry_offset);
  if (registryOffset % blockBytes.value !== 0 || registryOffset + 2 * registryHeader.size > Number(found.region_size)) {
    throw corrupt(name, `the locator names an impossible registry offset (${found.registry_offset})`);
  }
  const page = readHeaderPage(mapping, registryOffset);
  if (!page) throw corrupt(name, 'both copies of the registry header are damaged');
  const geometry = geometryOf(page, front);
  if (!geometry) throw corrupt(name, 'the header states capacities that are out of range');
  const difference = firstDifference(page, front, found, geometry);
  if (difference) throw corrupt(name, `${difference} does not fit the capacities of the region`);
  if (page.coherence > 1 || page.heartbeat_interval_ms === 0 || page.heartbeat_limit_ms <= page.heartbeat_interval_ms) {
    throw corrupt(name, 'the header states a coherence or a heartbeat that cannot be');
  }
  if (!page.uuid.equals(found.uuid)) throw corrupt(name, 'locator and header carry different uuids');
  return toHeader(page, geometry, kernelMountable);
}

/** @returns whether the front is plain v8 */
function checkVersion(version: number, name: string): boolean {
  const plain = version & ~privateFrontBit.value;
  if (plain === superblockVersion.value) return version === plain;
  throw daxfsError(
    'DAXFS_NEWER_VERSION',
    `${name} has superblock version ${plain}, this build reads ${superblockVersion.value}; upgrade daxserve, or recreate it with --on-mismatch recreate.`,
  );
}

export function toHeader(
  page: Decoded<typeof registryHeader>,
  geometry: Geometry,
  kernelMountable: boolean,
): RegionHeader {
  return {
    uuid: textOfUuid(page.uuid),
    formatVersion: page.format_version,
    createdAtMs: shownTime(page.created_at_ms),
    kernelMountable,
    coherence: page.coherence === 1 ? 'software' : 'hardware',
    heartbeatIntervalMs: page.heartbeat_interval_ms,
    heartbeatLimitMs: page.heartbeat_limit_ms,
    geometry,
  };
}
