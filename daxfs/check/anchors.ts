/**
 * What everything else hangs on: superblock, two locators, two header copies. Any one of them may be damaged; the region
 * is found by whatever is left, and what should be there is made again from it and compared.
 */
import { type Mapping, native } from '../../native/index.ts';
import { type Decoded, decode, encode, offsetOf } from '../codec.ts';
import {
  CONSTANTS,
  LOCATOR_MAGIC,
  locator,
  overlayHeader,
  pageCacheHeader,
  REGISTRY_MAGIC,
  registryHeader,
  type StructSpec,
  slot,
  superblock,
} from '../layout.ts';
import {
  encodeLocator,
  encodeRegistryHeader,
  encodeSuperblock,
  fingerprint,
  firstWord,
  locatorAt,
  type RegionHeader,
  toHeader,
} from '../region-format.ts';
import { computeGeometry, type Geometry, isValidInput } from '../region-layout.ts';
import { roundUp } from '../units.ts';
import type { FindingList } from './findings.ts';

const blockBytes = CONSTANTS.blockBytes.value;
const checksumAt = offsetOf(registryHeader, 'checksum');
const KERNEL_MOUNTABLE = 1;
/** The registry lies behind the front, whose pool is 64 MiB at most by default: further the search does not go. */
const searchBytesMax = 2 ** 30;

type HeaderPage = Decoded<typeof registryHeader>;
type Front = Pick<Geometry, 'bucketCount' | 'poolBytes' | 'pageCacheSlots'>;

/** Bytes that belong at one place. */
export interface Anchor {
  code: 'SUPERBLOCK' | 'LOCATOR_HEAD' | 'LOCATOR_TAIL' | 'HEADER_COPY';
  index: number;
  offset: number;
  expected: Buffer;
}

function readPage(mapping: Mapping, at: number): HeaderPage | null {
  const bytes = mapping.read(at, registryHeader.size);
  const page = decode(registryHeader, bytes);
  const known = page.magic === REGISTRY_MAGIC && page.fingerprint === fingerprint;
  return known && page.checksum === native.xxh3(bytes.subarray(0, checksumAt)) ? page : null;
}

/** Where a registry may start, by everyone who says so. */
function registryOffsets(mapping: Mapping): number[] {
  const front = decode(superblock, mapping.read(0, superblock.size));
  const tails = [mapping.size, Number(decode(locator, front.locator).region_size)].filter(
    (end) => end >= superblock.size && end <= mapping.size,
  );
  const locators = [locatorAt, ...tails.map((end) => end - locator.size)]
    .map((at) => decode(locator, mapping.read(at, locator.size)))
    .filter(({ magic }) => magic === LOCATOR_MAGIC);
  const offsets = [...locators.map(({ registry_offset }) => registry_offset), front.total_size].map(Number);
  return [...new Set(offsets)].filter(
    (at) => at >= blockBytes && at % blockBytes === 0 && at + 2 * registryHeader.size <= mapping.size,
  );
}

function slotsBetween(start: number, end: number): number {
  for (let slots = 8; slots <= 2 ** 31; slots *= 2) {
    const bytes = pageCacheHeader.size + roundUp(slots * slot.size, blockBytes) + slots * blockBytes;
    if (start + bytes === end) return slots;
  }
  return 0;
}

/** Buckets, pool and slots as the superblock says them, and as the overlay's own header does. */
function frontCandidates(mapping: Mapping, registryOffset: number): Front[] {
  const front = decode(superblock, mapping.read(0, superblock.size));
  const bucketBytes = roundUp(front.overlay_bucket_count * 16, blockBytes);
  const poolBytes = Number(front.overlay_size) - overlayHeader.size - bucketBytes;
  const stated = { bucketCount: front.overlay_bucket_count, poolBytes, pageCacheSlots: front.pcache_slot_count };
  const own = decode(overlayHeader, mapping.read(superblock.size, overlayHeader.size));
  const pool = Number(own.pool_size);
  const bucketCount = (Number(own.pool_offset) - overlayHeader.size) / 16;
  const end = superblock.size + Number(own.pool_offset) + pool;
  return [stated, { bucketCount, poolBytes: pool, pageCacheSlots: slotsBetween(end, registryOffset) }];
}

function pageBytes(header: RegionHeader): Buffer {
  const bytes = encodeRegistryHeader(header);
  bytes.writeBigUInt64LE(native.xxh3(bytes.subarray(0, checksumAt)), checksumAt);
  return bytes;
}

/** The header of a page, if all its numbers follow from its capacities. */
function headerOf(page: HeaderPage, front: Front): RegionHeader | null {
  const input = {
    regionBytes: Number(page.region_size),
    contents: page.content_count,
    names: page.name_count,
    intents: page.intent_count,
    ...front,
  };
  const geometry = isValidInput(input) ? computeGeometry(input) : null;
  if (!geometry) return null;
  const header = toHeader(page, geometry, (page.flags & KERNEL_MOUNTABLE) !== 0);
  const same = pageBytes(header).equals(encode(registryHeader, page));
  const sane = page.heartbeat_interval_ms > 0 && page.heartbeat_limit_ms > page.heartbeat_interval_ms;
  return same && sane ? header : null;
}

/** Where nobody points: pages that look like a registry header and say that they lie where they lie. */
function* searchedOffsets(mapping: Mapping): Generator<number> {
  const end = Math.min(mapping.size - 2 * registryHeader.size, searchBytesMax);
  for (let at = blockBytes; at <= end; at += blockBytes) {
    if (mapping.load64(at) === REGISTRY_MAGIC) yield at;
    // Copy 0 itself may be the damaged one.
    else if (mapping.load64(at + registryHeader.size) === REGISTRY_MAGIC) yield at;
  }
}

/** The region's facts from whatever copy of them is sound; null when there is none. Never throws for what the bytes say. */
export function findHeader(mapping: Mapping): RegionHeader | null {
  if (mapping.size < 2 * blockBytes) return null;
  for (const offset of registryOffsets(mapping)) {
    const header = headerAt(mapping, offset);
    if (header) return header;
  }
  for (const offset of searchedOffsets(mapping)) {
    const header = headerAt(mapping, offset);
    if (header) return header;
  }
  return null;
}

function headerAt(mapping: Mapping, offset: number): RegionHeader | null {
  for (const copy of [0, 1]) {
    const page = readPage(mapping, offset + copy * registryHeader.size);
    if (page === null || Number(page.registry_offset) !== offset) continue;
    for (const front of frontCandidates(mapping, offset)) {
      const header = headerOf(page, front);
      if (header) return header;
    }
  }
  return null;
}

/** What has to be where, for a header. */
export function anchorsOf(header: RegionHeader): Anchor[] {
  const { registryOffset, tailOffset } = header.geometry;
  const block = encodeSuperblock(header);
  block.writeBigUInt64LE(firstWord(header.kernelMountable), 0);
  const place = encodeLocator(header);
  const page = pageBytes(header);
  return [
    { code: 'SUPERBLOCK', index: 0, offset: 0, expected: block.subarray(0, locatorAt) },
    { code: 'LOCATOR_HEAD', index: 0, offset: locatorAt, expected: place },
    { code: 'LOCATOR_TAIL', index: 1, offset: tailOffset, expected: place },
    { code: 'HEADER_COPY', index: 1, offset: registryOffset + registryHeader.size, expected: page },
    { code: 'HEADER_COPY', index: 0, offset: registryOffset, expected: page },
  ];
}

const SPECS = {
  SUPERBLOCK: superblock,
  LOCATOR_HEAD: locator,
  LOCATOR_TAIL: locator,
  HEADER_COPY: registryHeader,
} as const satisfies Record<Anchor['code'], StructSpec>;

/** Name of the field that holds byte `at` of a structure. */
function fieldAt(spec: StructSpec, at: number): string {
  return spec.fields.findLast(({ name }) => offsetOf(spec, name) <= at)?.name ?? spec.name;
}

/** Compares every anchor with what it has to be. */
export function checkAnchors(mapping: Mapping, header: RegionHeader, found: FindingList): void {
  const unfinished = mapping.load64(0) === 0n;
  if (unfinished) {
    const where = { struct: 'superblock', index: 0, offset: 0 } as const;
    found.add('UNFINISHED', where, 'The superblock has no magic number yet, or no longer; create the region again.');
  }
  for (const { code, index, offset, expected } of anchorsOf(header)) {
    const bytes = mapping.read(offset, expected.length);
    if (unfinished && code === 'SUPERBLOCK') expected.copy(bytes, 0, 0, 8);
    if (bytes.equals(expected)) continue;
    const at = expected.findIndex((byte, i) => byte !== bytes[i]);
    const spec = SPECS[code];
    const struct = spec.name as 'superblock' | 'locator' | 'registry_header';
    const message = `${fieldAt(spec, at)} of ${spec.name} ${index} differs from what the region's other copies say.`;
    found.add(code, { struct, index, offset: offset + at }, message);
  }
}
