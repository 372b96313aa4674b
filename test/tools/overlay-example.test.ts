/** Goal: overlays of a kernel are read and judged right. Method: the published example, built byte by byte, and changes to it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { cachedSource } from '../../daxfs/cached-source.ts';
import { FrontReader } from '../../daxfs/front-read.ts';
import type { FrontRule } from '../../daxfs/front-rules.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { overlayReport } from '../../daxfs/inspect/report.ts';
import { treeItems } from '../../daxfs/inspect/tree.ts';
import { direntKey, stateKey } from '../../daxfs/overlay-key.ts';
import { OverlayReader, readSuperblock } from '../../daxfs/overlay-read.ts';
import { baseFiles, buildExample, type Example } from '../support/overlay-example.ts';
import { inspect } from '../support/run-tool.ts';
import { scratchDirectory } from '../support/scratch.ts';

const openExample = (example = buildExample()) => new FrontReader(bufferSource(example.image));
const textOf = (front: FrontReader, path: string) =>
  Buffer.concat([...front.content(front.lookup(path), path)]).toString();

it('the published keys', () => {
  const keys: [number, string, bigint, bigint][] = [
    [1, 'a', 0x294d26ee47fab5dfn, 0x529a4ddc8ff56bbfn],
    [1, 'hello.txt', 0x0ee66a096fb53621n, 0x1dccd412df6a6c43n],
    [1, 'modify.txt', 0x4a4043e7ee903d2an, 0x948087cfdd207a55n],
    [2, 'f0', 0x4e279ae9944d95dcn, 0x9c4f35d3289b2bb9n],
    [7, 'x'.repeat(255), 0x436402ed85caa937n, 0x86c805db0b95526fn],
  ];
  for (const [parent, name, key, word] of keys) {
    expect(direntKey(BigInt(parent), Buffer.from(name))).toBe(key);
    expect(stateKey(key)).toBe(word);
  }
});

it('the example breaks no rule, and every byte of its pool that was used is owned', () => {
  const { image } = buildExample();
  expect(validateImage(bufferSource(image))).toMatchObject({ ok: true, upstreamOk: true });
  const report = validateFront(bufferSource(image));
  expect(report.findings).toEqual([]);
  // 5 inodes, 4 pages, 5 names, 2 lists; the rest are gaps before pages.
  expect(report.pool).toEqual({ allocated: 32768, owned: 5 * 32 + 4 * 4096 + 5 * 304 + 2 * 16, end: 32768 });
});

it('names and bytes come from where the format says', () => {
  const front = openExample();
  expect(textOf(front, 'hello.txt')).toBe('fresh');
  expect(textOf(front, 'a')).toBe('new a\n');
  expect(textOf(front, '/dd/f')).toBe('in dd');
  expect(textOf(front, 'keep')).toBe('kept');
  expect(textOf(front, 'big')).toBe(baseFiles.big.toString());
  expect(front.link(front.lookup('sl'), 'sl').toString()).toBe('hello.txt');
  expect(() => front.lookup('modify.txt')).toThrow(/There is no modify.txt/);
  const root = front.inode(1)!;
  expect([...front.names(root)].map(({ name }) => name.toString())).toEqual([
    'big',
    'hello.txt',
    'keep',
    'sub',
    'dd',
    'sl',
    'a',
  ]);
});

it('the list of the root, newest first, tombstone included', () => {
  const source = bufferSource(buildExample().image);
  const overlay = new OverlayReader(source, readSuperblock(source));
  expect([...overlay.list(1)].map(({ offset, isTombstone }) => [offset, isTombstone])).toEqual([
    [25216, false],
    [24880, true],
    [24576, false],
    [8224, false],
  ]);
});

it('the numbers of overlay', () => {
  expect(overlayReport(bufferSource(buildExample().image))).toEqual({
    header: {
      magic: '0x6f766c79',
      version: 2,
      bucketOffset: 4096,
      poolOffset: 20480,
      poolSize: 1048576,
      poolAllocated: 32768,
      nextInode: 12,
      freeInode: null,
      freeData: null,
      freeDirent: null,
    },
    poolPercent: 3.1,
    bucketCount: 1024,
    entries: {
      bucketsUsed: 16,
      bucketsFree: 1008,
      inodes: 5,
      dataPages: 4,
      dirents: 4,
      tombstones: 1,
      directoryLists: 2,
      directorySlots: 0,
      damaged: 0,
    },
  });
});

it('tree says where bytes live', () => {
  const items = [...treeItems(bufferSource(buildExample().image))];
  const places = Object.fromEntries(items.map(({ path, places: found }) => [path, found]));
  const none = { base: 0, overlay: 0, pageCache: 0, backing: 0, hole: 0 };
  expect(places).toMatchObject({
    'hello.txt': { ...none, overlay: 5 },
    a: { ...none, overlay: 6 },
    big: { ...none, base: 10000 },
    sl: { ...none, overlay: 9 },
    'sub/deep': { ...none, base: 4 },
  });
  expect(items.filter(({ damage }) => damage !== undefined)).toEqual([]);
});

it('a data page that looks like a name is still a page', () => {
  const example = buildExample();
  // The head of a valid entry, and even a whole one whose name hashes to the page's key cannot be listed.
  example.image.copy(example.image, example.poolAt + 12288, example.poolAt + 8224, example.poolAt + 8224 + 304);
  const report = overlayReport(bufferSource(example.image))!;
  expect(report.entries).toMatchObject({ dataPages: 4, dirents: 4, tombstones: 1, damaged: 0 });
});

it('bytes that hash like a name: the list of the directory decides', () => {
  const { image, poolAt, bucketsAt, overlayAt } = buildExample();
  // Every inode number has been given out, and the entry of "a" lies on a block: by key and place it may be a page.
  image.writeBigUInt64LE(1n << 43n, overlayAt + 40);
  image.writeBigUInt64LE(65536n, overlayAt + 32);
  image.copy(image, poolAt + 32768, poolAt + 8224, poolAt + 8528);
  image.writeBigUInt64LE(32768n, bucketsAt + 479 * 16 + 8);
  const count = () => overlayReport(bufferSource(image))!.entries;
  expect(count()).toMatchObject({ dataPages: 5, dirents: 3 });
  image.writeBigUInt64LE(32768n, poolAt + 24576 + 40);
  expect(count()).toMatchObject({ dataPages: 4, dirents: 4 });
});

it('names further down a chain count, and are found', () => {
  const example = buildExample();
  const { image, poolAt, bucketsAt } = example;
  // "sl" now hangs behind "a", as it would if their keys were equal: found by its own name only through the chain.
  image.writeBigUInt64LE(24576n, poolAt + 8224 + 32);
  const key = direntKey(1n, Buffer.from('sl'));
  image.fill(0, bucketsAt + Number(key & 1023n) * 16, bucketsAt + Number(key & 1023n) * 16 + 16);
  expect(overlayReport(bufferSource(image))!.entries).toMatchObject({ bucketsUsed: 15, dirents: 4, tombstones: 1 });
  expect(rulesOf(example)).toEqual(['NAME_HASH']);
});

it('a hole reads as zeros, a partly written page keeps the rest', () => {
  const example = buildExample();
  // a grows to 10,000 bytes: pages 1 and 2 are nowhere.
  example.image.writeBigUInt64LE(10000n, example.poolAt + 8192 + 16);
  const bytes = Buffer.concat([...openExample(example).content(openExample(example).lookup('a'), 'a')]);
  expect(bytes.length).toBe(10000);
  expect(bytes.subarray(0, 6).toString()).toBe('new a\n');
  expect(bytes.subarray(6).every((byte) => byte === 0)).toBe(true);
  const item = [...treeItems(bufferSource(example.image))].find(({ path }) => path === 'a')!;
  expect(item.places).toEqual({ base: 0, overlay: 4096, pageCache: 0, backing: 0, hole: 5904 });
});

it('a base name that was removed and made again is listed once', () => {
  const { image, poolAt } = buildExample();
  // The tombstone of modify.txt is revived with inode 8.
  image.writeUInt32LE(0, poolAt + 24880 + 4);
  image.writeBigUInt64LE(8n, poolAt + 24880 + 16);
  image.writeUInt32LE(0o100644, poolAt + 24880 + 24);
  const front = new FrontReader(bufferSource(image));
  const names = [...front.names(front.inode(1)!)].filter(({ name }) => name.toString() === 'modify.txt');
  expect(names).toEqual([{ name: Buffer.from('modify.txt'), ino: 8, from: 'overlay' }]);
  expect(textOf(front, 'modify.txt')).toBe('new a\n');
});

it('the commands on it', () => {
  const path = join(scratchDirectory(), 'example.daxfs');
  writeFileSync(path, buildExample().image);
  expect(inspect('cat', 'dd/f', '-f', path)).toMatchObject({ status: 0, bytes: Buffer.from('in dd') });
  expect(inspect('check', '-f', path)).toMatchObject({ status: 0, out: `${path} breaks no rule.\n` });
  expect(inspect('tree', '-f', path).out).toMatchSnapshot();
  expect(inspect('overlay', '-f', path).out).toMatchSnapshot();
});

// ------------------------------------------------------------------------------------------------ planted damage

function rulesOf({ image }: Example): FrontRule[] {
  return [...new Set(validateFront(cachedSource(bufferSource(image))).findings.map(({ rule }) => rule))].sort();
}

const u64 = (at: number, value: bigint) => (image: Buffer) => void image.writeBigUInt64LE(value, at);

/** What is changed, and every rule that must be named. */
const planted: [string, FrontRule[], (example: Example) => void][] = [
  ['overlay magic', ['OVERLAY_PLACE'], ({ image, overlayAt }) => void image.writeUInt32LE(1, overlayAt)],
  ['word with bit 0 clear', ['BUCKET_WORD'], ({ image, bucketsAt }) => u64(bucketsAt + 600 * 16, 2n)(image)],
  [
    'key in two buckets',
    ['BUCKET_TWICE', 'POOL_OVERLAP'],
    ({ image, bucketsAt }) => image.copy(image, bucketsAt + 9 * 16, bucketsAt + 8 * 16, bucketsAt + 9 * 16),
  ],
  [
    'gap before a displaced key',
    ['BUCKET_UNREACHABLE', 'NAME_CHILD', 'PAGE_ORPHAN'],
    ({ image, bucketsAt }) => image.fill(0, bucketsAt + 4 * 16, bucketsAt + 5 * 16),
  ],
  ['value behind the pool', ['BUCKET_ENTRY'], ({ image, bucketsAt }) => u64(bucketsAt + 8 * 16 + 8, 1n << 40n)(image)],
  [
    'value of another key (the bucket race)',
    ['BUCKET_ENTRY'],
    ({ image, bucketsAt }) => u64(bucketsAt + 8 * 16 + 8, 25520n)(image),
  ],
  [
    'inode number never given out',
    ['BUCKET_ENTRY', 'INODE_NUMBER_UNUSED'],
    ({ image, overlayAt }) => u64(overlayAt + 40, 11n)(image),
  ],
  ['inode of no type', ['INODE_FIELDS'], ({ image, poolAt }) => void image.writeUInt32LE(0o644, poolAt + 8192 + 4)],
  ['inode too large', ['INODE_FIELDS'], ({ image, poolAt }) => u64(poolAt + 8192 + 16, 1n << 33n)(image)],
  ['chain to nowhere', ['NAME_CHAIN'], ({ image, poolAt }) => u64(poolAt + 8224 + 32, 4096n)(image)],
  ['chain that bites its tail', ['NAME_CHAIN'], ({ image, poolAt }) => u64(poolAt + 8224 + 32, 8224n)(image)],
  [
    'two names alike in a chain',
    ['NAME_TWICE'],
    ({ image, poolAt }) => {
      image.copy(image, poolAt + 26000, poolAt + 8224, poolAt + 8224 + 304);
      u64(poolAt + 8224 + 32, 26000n)(image);
    },
  ],
  [
    'name without bytes',
    ['BUCKET_ENTRY', 'LIST_CHAIN'],
    ({ image, poolAt }) => void image.writeUInt16LE(0, poolAt + 8224 + 28),
  ],
  ['child that is none', ['NAME_CHILD'], ({ image, poolAt }) => u64(poolAt + 8224 + 16, 99n)(image)],
  [
    'child of another type',
    ['NAME_TYPE'],
    ({ image, poolAt }) => void image.writeUInt32LE(0o040755, poolAt + 8224 + 24),
  ],
  [
    'name that no list has',
    ['NAME_UNLISTED'],
    ({ image, poolAt }) => u64(poolAt + 24576 + 40, 0xffff_ffff_ffff_ffffn)(image),
  ],
  ['list to nowhere', ['LIST_CHAIN'], ({ image, poolAt }) => u64(poolAt + 8224 + 40, 16n)(image)],
  ['list that bites its tail', ['LIST_CHAIN'], ({ image, poolAt }) => u64(poolAt + 8224 + 40, 24576n)(image)],
  [
    'list of another directory',
    ['LIST_PARENT', 'LIST_TWICE'],
    ({ image, poolAt }) => u64(poolAt + 8224 + 40, 25552n)(image),
  ],
  [
    'page of no inode',
    ['NAME_CHILD', 'PAGE_ORPHAN'],
    ({ image, bucketsAt }) => u64(bucketsAt + 16, (((20n << 20n) | 0xfffffn) << 1n) | 1n)(image),
  ],
  ['free list into an entry', ['FREE_TWICE'], ({ image, overlayAt }) => u64(overlayAt + 48, 8192n)(image)],
  ['free list to nowhere', ['FREE_LIST'], ({ image, overlayAt }) => u64(overlayAt + 56, 100n)(image)],
  ['entry behind the bump pointer', ['POOL_BEYOND'], ({ image, overlayAt }) => u64(overlayAt + 32, 28672n)(image)],
  [
    'a name that lost its directory',
    ['BUCKET_ENTRY', 'LIST_PARENT'],
    ({ image, poolAt }) => u64(poolAt + 25552 + 8, 3n)(image),
  ],
  [
    'a directory that became a file',
    ['NAME_PARENT', 'NAME_TYPE'],
    ({ image, poolAt }) => void image.writeUInt32LE(0o100644, poolAt + 25184 + 4),
  ],
  [
    'a name that is a slash',
    ['NAME_INVALID'],
    ({ image, poolAt, bucketsAt }) => {
      image.write('/', poolAt + 8224 + 48);
      image.fill(0, bucketsAt + 479 * 16, bucketsAt + 480 * 16);
      const key = direntKey(1n, Buffer.from('/'));
      u64(bucketsAt + Number(key & 1023n) * 16, stateKey(key))(image);
      u64(bucketsAt + Number(key & 1023n) * 16 + 8, 8224n)(image);
    },
  ],
];

it.each(planted)('%s', (name, rules, change) => {
  const example = buildExample();
  change(example);
  const found = rulesOf(example);
  expect(found, name).toEqual(expect.arrayContaining(rules));
  expect(validateFront(bufferSource(example.image)).ok).toBe(false);
});

it('a full findings list still counts', () => {
  const { image, bucketsAt } = buildExample();
  for (let i = 100; i < 400; i++) image.writeBigUInt64LE(2n, bucketsAt + i * 16);
  const report = validateFront(bufferSource(image), { findingsMax: 3 });
  expect(report.findings).toHaveLength(3);
  expect(report.total).toBeGreaterThanOrEqual(300);
});
