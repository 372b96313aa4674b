/**
 * Goal: every rule of an image is checked, and no byte of one can crash or hang a reader. Method: one planted change per
 * rule; every single byte of a small image's metadata changed in several ways; random bytes.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { encode, offsetOf } from '../../daxfs/codec.ts';
import { DaxfsError } from '../../daxfs/errors.ts';
import { Image } from '../../daxfs/image.ts';
import { IMAGE_RULES, type ImageRule } from '../../daxfs/image-rules.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { dirent, inode, overlayHeader, pageCacheHeader, superblock } from '../../daxfs/layout.ts';
import { holds } from '../support/seed.ts';
import { directory, file, imageOf, open, symlink } from './build.ts';

const BLOCK = 4096;
const sound = imageOf([
  file('a', 'aaaa'),
  directory('d'),
  file('d/b', 'bbbb', { linkKey: 'k' }),
  file('d/c', '', { linkKey: 'k' }),
  directory('e'),
  file('e/f', ''),
  symlink('s', 'a'),
]);
const inoOf = (path: string) => open(sound).lookup(path).ino;
const superAt = (name: Parameters<typeof offsetOf<typeof superblock>>[1]) => offsetOf(superblock, name);
const inodeAt = (path: string, name: Parameters<typeof offsetOf<typeof inode>>[1]) =>
  BLOCK + (inoOf(path) - 1) * inode.size + offsetOf(inode, name);
const dataOf = (path: string) => BLOCK + open(sound).lookup(path).dataOffset;
const direntAt = (dir: string, i: number, name: Parameters<typeof offsetOf<typeof dirent>>[1]) =>
  dataOf(dir) + i * dirent.size + offsetOf(dirent, name);

/** The sound image with overlay and page cache behind it: 16 buckets, 64 KiB pool, 8 slots. */
function writable(): Buffer {
  const base = sound.length;
  const overlaySize = BLOCK + BLOCK + 65536;
  const pcacheSize = BLOCK + BLOCK + 8 * BLOCK;
  const bytes = Buffer.concat([sound, Buffer.alloc(overlaySize + pcacheSize)]);
  encode(
    superblock,
    {
      total_size: BigInt(bytes.length),
      overlay_offset: BigInt(base),
      overlay_size: BigInt(overlaySize),
      overlay_bucket_count: 16,
      overlay_bucket_shift: 4,
      pcache_offset: BigInt(base + overlaySize),
      pcache_size: BigInt(pcacheSize),
      pcache_slot_count: 8,
      pcache_hash_shift: 3,
    },
    bytes,
  );
  const none = 2n ** 64n - 1n;
  const lists = { free_inode: none, free_data: none, free_dirent: none };
  const overlay = { magic: 0x6f766c79, version: 2, bucket_offset: 4096n, pool_offset: 8192n, pool_size: 65536n };
  encode(overlayHeader, { ...overlay, pool_alloc: 0n, next_ino: 100n, ...lists }, bytes, base);
  const cache = { magic: 0x70636163, version: 2, slot_meta_offset: 4096n, slot_data_offset: 8192n };
  encode(pageCacheHeader, cache, bytes, base + overlaySize);
  return bytes;
}

const u32 = (at: number, value: number) => (bytes: Buffer) => void bytes.writeUInt32LE(value, at);
const u64 = (at: number, value: bigint) => (bytes: Buffer) => void bytes.writeBigUInt64LE(value, at);
const byte = (at: number, value: number) => (bytes: Buffer) => void bytes.writeUInt8(value, at);
const rules = (bytes: Buffer) => new Set(validateImage(bufferSource(bytes)).findings.map(({ rule }) => rule));

/** One planted change and the rule that must name it. */
const planted: [ImageRule, string, (bytes: Buffer) => void][] = [
  ['SUPER_MAGIC', 'magic', byte(0, 0)],
  ['SUPER_VERSION', 'version 9', u32(superAt('version'), 9)],
  ['SUPER_VERSION', 'private front', u32(superAt('version'), 0x40000008)],
  ['SUPER_BLOCK_SIZE', 'block size 2048', u32(superAt('block_size'), 2048)],
  ['SUPER_BLOCK_SIZE', 'block size 5000', u32(superAt('block_size'), 5000)],
  ['BASE_RANGE', 'base beyond the end', u64(superAt('base_size'), BigInt(sound.length))],
  ['BASE_RANGE', 'base size that overflows', u64(superAt('base_size'), 2n ** 64n - 4096n)],
  ['REGION_OVERLAP', 'base over the superblock', u64(superAt('base_offset'), 8n)],
  [
    'REGION_ALIGNMENT',
    'base not on a block',
    (bytes) => {
      encode(superblock, { base_offset: 4097n, base_size: BigInt(sound.length - 4097) }, bytes);
    },
  ],
  ['INODE_COUNT', 'no inodes', u32(superAt('inode_count'), 0)],
  ['INODE_TABLE_RANGE', 'too many inodes', u32(superAt('inode_count'), 0xffffffff)],
  ['INODE_TABLE_RANGE', 'table beyond the base', u64(superAt('inode_offset'), 2n ** 63n)],
  ['ROOT_INODE', 'root 0', u32(superAt('root_inode'), 0)],
  ['ROOT_INODE', 'root beyond the table', u32(superAt('root_inode'), 1000)],
  ['ROOT_INODE', 'root is a file', u32(superAt('root_inode'), inoOf('a'))],
  ['INODE_TYPE', 'a device', u32(inodeAt('a', 'mode'), 0o020644)],
  ['INODE_TYPE', 'an empty slot', (bytes) => void bytes.fill(0, inodeAt('a', 'ino'), inodeAt('a', 'ino') + 64)],
  ['DATA_RANGE', 'data beyond the base', u64(inodeAt('a', 'data_offset'), BigInt(sound.length))],
  ['DATA_RANGE', 'size beyond the base', u64(inodeAt('a', 'size'), 2n ** 40n)],
  ['DATA_RANGE', 'size that overflows', u64(inodeAt('a', 'size'), 2n ** 64n - 1n)],
  ['DIRECTORY_SIZE', 'odd directory size', u64(inodeAt('d', 'size'), 272n)],
  ['DIRENT_INO', 'name of inode 0', u32(direntAt('d', 0, 'ino'), 0)],
  ['DIRENT_INO', 'name of no inode', u32(direntAt('d', 1, 'ino'), 99)],
  ['DIRENT_NAME_LENGTH', 'empty name', (bytes) => void bytes.writeUInt16LE(0, direntAt('d', 0, 'name_len'))],
  ['DIRENT_NAME_LENGTH', 'name of 256 bytes', (bytes) => void bytes.writeUInt16LE(256, direntAt('d', 0, 'name_len'))],
  ['DIRENT_NAME', 'slash', byte(direntAt('d', 0, 'name'), 0x2f)],
  ['DIRENT_NAME', 'dot', byte(direntAt('d', 0, 'name'), 0x2e)],
  ['SUPER_RESERVED', 'reserved0', u32(superAt('reserved0'), 1)],
  ['SUPER_RESERVED', 'reserved', byte(superAt('reserved') + 100, 1)],
  ['SUPER_RESERVED', 'locator', byte(superAt('locator'), 1)],
  ['TOTAL_SIZE', 'total size', u64(superAt('total_size'), BigInt(sound.length + 1))],
  ['ABSENT_REGION', 'overlay without offset', u64(superAt('overlay_size'), 1n)],
  ['ABSENT_REGION', 'page cache without offset', u32(superAt('pcache_slot_count'), 8)],
  ['ABSENT_REGION', 'base without offset', u64(superAt('base_offset'), 0n)],
  ['DATA_OFFSET', 'data offset', u64(superAt('data_offset'), 0n)],
  ['INODE_NUMBER', 'inode number', u32(inodeAt('a', 'ino'), 7)],
  ['INODE_RESERVED', 'inode reserved', byte(inodeAt('a', 'reserved') + 27, 1)],
  ['INODE_NLINK', 'no links', u32(inodeAt('a', 'nlink'), 0)],
  ['INODE_NLINK', 'fewer links than names', u32(inodeAt('d/b', 'nlink'), 1)],
  ['INODE_UNREACHABLE', 'a file without a name', u32(direntAt('e', 0, 'ino'), inoOf('a'))],
  ['INODE_MODE', 'unknown mode bits', u32(inodeAt('a', 'mode'), 0x10000 | 0o100644)],
  ['DATA_ALIGNMENT', 'data inside a block', u64(inodeAt('a', 'data_offset'), BigInt(dataOf('a') - BLOCK + 8))],
  ['DATA_OVERLAP', 'two files in one place', u64(inodeAt('a', 'data_offset'), BigInt(dataOf('d/b') - BLOCK))],
  ['DATA_OVERLAP', 'data over the inode table', u64(inodeAt('a', 'data_offset'), 0n)],
  ['DATA_OVERLAP', 'two directories in one place', u64(inodeAt('e', 'data_offset'), BigInt(dataOf('d') - BLOCK))],
  ['EMPTY_DATA', 'an empty file outside', u64(inodeAt('e/f', 'data_offset'), 2n ** 50n)],
  ['SYMLINK_LENGTH', 'an empty link', u64(inodeAt('s', 'size'), 0n)],
  ['SYMLINK_LENGTH', 'a long link', u64(inodeAt('s', 'size'), 4096n)],
  ['SYMLINK_NUL', 'no NUL', byte(dataOf('s') + 1, 0x41)],
  ['SYMLINK_NUL', 'an early NUL', byte(dataOf('s'), 0)],
  ['DIRENT_NUL', 'NUL in a name', byte(direntAt('d', 0, 'name'), 0)],
  ['DIRENT_MODE', 'mode of a name', u32(direntAt('d', 0, 'mode'), 0o100600)],
  ['DIRENT_RESERVED', 'reserved of a name', byte(direntAt('d', 0, 'reserved'), 1)],
  ['DIRENT_RESERVED', 'bytes behind a name', byte(direntAt('d', 0, 'name') + 200, 1)],
  ['DIRENT_DUPLICATE', 'a name twice', byte(direntAt('d', 1, 'name'), 0x62)],
  ['DIRECTORY_TWICE', 'a directory that contains itself', u32(direntAt('d', 0, 'ino'), inoOf('d'))],
  ['DIRECTORY_TWICE', 'a directory that contains the root', u32(direntAt('d', 0, 'ino'), 1)],
  ['DIRECTORY_TWICE', 'two names of one directory', u32(direntAt('e', 0, 'ino'), inoOf('d'))],
];

it('the sound images break no rule', () => {
  expect(validateImage(bufferSource(sound))).toEqual({ ok: true, upstreamOk: true, findings: [], total: 0 });
  expect(validateImage(bufferSource(writable())).findings).toEqual([]);
});

it.each(planted)('%s: %s', (rule, _, change) => {
  const bytes = Buffer.from(sound);
  change(bytes);
  const report = validateImage(bufferSource(bytes));
  expect(rules(bytes)).toContain(rule);
  expect(report.ok).toBe(false);
  if (IMAGE_RULES[rule].upstream !== null) expect(report.upstreamOk).toBe(false);
});

const overlayAt = sound.length;
const cacheAt = overlayAt + 2 * BLOCK + 65536;
const plantedWritable: [ImageRule, string, (bytes: Buffer) => void][] = [
  ['OVERLAY_RANGE', 'overlay beyond the end', u64(superAt('overlay_size'), 2n ** 40n)],
  ['OVERLAY_BUCKET_COUNT', '15 buckets', u32(superAt('overlay_bucket_count'), 15)],
  ['OVERLAY_BUCKET_COUNT', 'no buckets', u32(superAt('overlay_bucket_count'), 0)],
  ['OVERLAY_SIZE', 'too many buckets', u32(superAt('overlay_bucket_count'), 2 ** 20)],
  ['COUNT_SHIFT', 'bucket shift', u32(superAt('overlay_bucket_shift'), 5)],
  ['COUNT_SHIFT', 'slot shift', u32(superAt('pcache_hash_shift'), 64)],
  ['PCACHE_RANGE', 'page cache beyond the end', u64(superAt('pcache_offset'), 2n ** 63n)],
  ['PCACHE_SLOT_POWER', '9 slots', u32(superAt('pcache_slot_count'), 9)],
  ['PCACHE_SLOT_MIN', '4 slots', u32(superAt('pcache_slot_count'), 4)],
  ['PCACHE_SIZE', 'too many slots', u32(superAt('pcache_slot_count'), 1024)],
  ['REGION_OVERLAP', 'overlay and page cache', u64(superAt('pcache_offset'), BigInt(overlayAt))],
  ['OVERLAY_HEADER', 'magic', u32(overlayAt, 0)],
  ['OVERLAY_HEADER', 'version', u32(overlayAt + 4, 1)],
  ['OVERLAY_HEADER', 'bucket offset', u64(overlayAt + 8, 0n)],
  ['OVERLAY_HEADER', 'pool offset', u64(overlayAt + 16, 2n ** 60n)],
  ['OVERLAY_HEADER', 'pool size', u64(overlayAt + 24, 65537n)],
  ['OVERLAY_HEADER', 'pool in use', u64(overlayAt + 32, 65537n)],
  ['OVERLAY_HEADER', 'next inode', u64(overlayAt + 40, 3n)],
  ['OVERLAY_HEADER', 'free list', u64(overlayAt + 56, 65536n)],
  ['OVERLAY_HEADER', 'reserved', byte(overlayAt + 100, 1)],
  ['PCACHE_HEADER', 'magic', u32(cacheAt, 0)],
  ['PCACHE_HEADER', 'version', u32(cacheAt + 4, 9)],
  ['PCACHE_HEADER', 'slot words', u64(cacheAt + 8, 0n)],
  ['PCACHE_HEADER', 'slot data', u64(cacheAt + 16, 2n ** 62n)],
  ['PCACHE_HEADER', 'pending count', u32(cacheAt + 28, 9)],
  ['PCACHE_HEADER', 'reserved', byte(cacheAt + 200, 1)],
  ['DATA_PAGE', 'a page without tag', u64(inodeAt('a', 'data_offset'), 0xffffen * 4096n)],
];

it.each(plantedWritable)('%s: %s (image with overlay and page cache)', (rule, _, change) => {
  const bytes = writable();
  change(bytes);
  expect(rules(bytes)).toContain(rule);
});

it('a cut-off superblock, and a ring of directories that no one reaches', () => {
  expect(rules(sound.subarray(0, 4095))).toEqual(new Set(['SUPER_TRUNCATED']));
  const bytes = imageOf([directory('x'), directory('x/y'), file('x/y/f', ''), file('g', '')]);
  const image = open(bytes);
  const root = BLOCK + image.root().dataOffset;
  const x = image.lookup('x').ino;
  const y = image.lookup('x/y');
  // The root's name for x now points to g, and y's only name points back to x.
  const names = [...image.entries(image.root())].findIndex(({ ino }) => ino === x);
  bytes.writeUInt32LE(image.lookup('g').ino, root + names * dirent.size);
  bytes.writeUInt32LE(x, BLOCK + y.dataOffset);
  const unreachable = validateImage(bufferSource(bytes)).findings.filter(({ rule }) => rule === 'INODE_UNREACHABLE');
  expect(unreachable.length).toBe(3);
});

it('every rule is in the tables above', () => {
  const tested = new Set([...planted, ...plantedWritable].map(([rule]) => rule));
  const elsewhere: ImageRule[] = ['SUPER_TRUNCATED', 'DIRENT_TRUNCATED'];
  expect(
    Object.keys(IMAGE_RULES).filter((rule) => !tested.has(rule as ImageRule) && !elsewhere.includes(rule as ImageRule)),
  ).toEqual([]);
});

it("upstream's directories: 271 bytes reserved per entry are read; a cut-off or overwritten name is found", () => {
  const count = 15;
  const bytes = imageOf(Array.from({ length: count }, (_, i) => directory(`f${String(i).padStart(2, '0')}`)));
  // The root is the last object: cut the image where upstream's reservation ends.
  const start = BLOCK + open(bytes).root().dataOffset;
  const short = Buffer.from(bytes.subarray(0, start + count * 271));
  encode(superblock, { total_size: BigInt(short.length), base_size: BigInt(short.length - BLOCK) }, short);
  expect(validateImage(bufferSource(short)).findings).toEqual([]);
  expect([...open(short).entries(open(short).root())].length).toBe(count);
  const cut = Buffer.from(short.subarray(0, start + (count - 1) * 272 + 17));
  encode(superblock, { total_size: BigInt(cut.length), base_size: BigInt(cut.length - BLOCK) }, cut);
  cut.writeBigUInt64LE(BigInt(count * 271), BLOCK + offsetOf(inode, 'size'));
  expect(validateImage(bufferSource(cut)).upstreamOk).toBe(false);
  expect(() => [...open(cut).entries(open(cut).root())]).toThrow(DaxfsError);
});

it('the list of findings is bounded, the count is not', () => {
  const bytes = imageOf(Array.from({ length: 50 }, (_, i) => file(`${i}`, '')));
  for (let ino = 2; ino <= 51; ino++) bytes.writeUInt32LE(0, BLOCK + (ino - 1) * inode.size + offsetOf(inode, 'nlink'));
  const report = validateImage(bufferSource(bytes), { findingsMax: 7 });
  expect(report.findings.length).toBe(7);
  expect(report.total).toBe(50);
});

/** Reads everything a reader can reach; only errors of ours may come out. */
function readAll(bytes: Buffer): void {
  try {
    const image = new Image(bufferSource(bytes));
    for (const { node } of image.walk()) {
      if (node.type === 'file') image.extent(node);
      else if (node.type === 'symlink') image.readLink(node);
    }
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
  }
}

const image = open(sound);
/** Where something is stored; between the end of an object and the next block nothing is. */
const stored: [number, number][] = [
  [0, BLOCK + image.inodeCount * inode.size],
  ...['', 'd', 'e'].map((path): [number, number] => {
    const node = image.lookup(path);
    return [BLOCK + node.dataOffset, BLOCK + node.dataOffset + (node.size / 271) * 272];
  }),
  [dataOf('s'), dataOf('s') + 2],
];

it('every single changed byte of the metadata is found or harmless', () => {
  const silent = new Set<string>();
  for (const [start, end] of stored) {
    for (let at = start; at < end; at++) {
      for (const value of [sound[at]! ^ 0x01, sound[at]! ^ 0x80]) {
        const bytes = Buffer.from(sound);
        bytes[at] = value;
        readAll(bytes);
        if (validateImage(bufferSource(bytes)).ok) silent.add(describe(at));
      }
    }
  }
  // Free choices of whoever made the image: owners, the root's permissions, more links than names, a size within the
  // last block, where an empty file would be, the letters of names and links, and one byte of padding per entry.
  expect([...silent].sort()).toEqual([
    'inode.data_offset',
    'inode.gid',
    'inode.nlink',
    'inode.size',
    'inode.uid',
    'letters',
    'root inode.mode',
  ]);
});

function describe(at: number): string {
  if (at < BLOCK) return `superblock ${at}`;
  if (at >= BLOCK + image.inodeCount * inode.size) return 'letters';
  const within = (at - BLOCK) % inode.size;
  const field = [...inode.fields].reverse().find(({ name }) => offsetOf(inode, name) <= within)!;
  const isRootMode = field.name === 'mode' && at < BLOCK + inode.size;
  return `${isRootMode ? 'root ' : ''}inode.${field.name}`;
}

it('random damage never crashes a reader', async () => {
  const change = fc.record({ at: fc.nat(sound.length - 1), value: fc.nat(255) });
  await holds(
    fc.property(fc.array(change, { minLength: 1, maxLength: 40 }), (changes) => {
      const bytes = Buffer.from(sound);
      for (const { at, value } of changes) bytes[at] = value;
      readAll(bytes);
      validateImage(bufferSource(bytes));
    }),
    500,
  );
});

it('a file of noise is refused with its place', () => {
  expect(() => open(Buffer.alloc(8192, 7))).toThrow(expect.objectContaining({ code: 'DAXFS_BAD_IMAGE', offset: 0 }));
  expect(() => open(Buffer.alloc(10))).toThrow(/shorter/);
});
