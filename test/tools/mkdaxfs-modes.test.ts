/** Goal: mkdaxfs makes each mode as the format says. Method: the real command on real trees, headers compared byte by byte. */
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { defaultSlots, planFront } from '../../daxfs/mkdaxfs/front.ts';
import { machinePageBytes } from '../../daxfs/mkdaxfs/options.ts';
import { readSuperblock } from '../../daxfs/overlay-read.ts';
import { PageCacheReader } from '../../daxfs/page-cache-read.ts';
import { SLOT_STATE } from '../../daxfs/page-cache-word.ts';
import { inspect, mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

const MiB = 2 ** 20;
/** Small enough to read whole. */
const small = ['-O', '64K', '-B', '256'];

interface Place {
  base: string;
  tree: string;
  memory: string;
  backing: string;
}

/** A tree of two files (one of them linked twice), a directory and a link; and a sparse file that stands for memory. */
function place(bytes = MiB): Place {
  const base = scratchDirectory();
  const tree = join(base, 'tree');
  writeTree(tree, { a: Buffer.alloc(10000, 'a'), 'sub/b': 'short' });
  linkSync(join(tree, 'a'), join(tree, 'hard'));
  symlinkSync('sub/b', join(tree, 'sym'));
  const memory = join(base, 'memory');
  writeFileSync(memory, '');
  truncateSync(memory, bytes);
  return { base, tree, memory, backing: join(base, 'backing') };
}

/** What is not zero in a range: `offset: bytes` per run of 8 bytes. */
function dump(bytes: Buffer, from: number, to: number): string[] {
  const lines: string[] = [];
  for (let at = from; at < to; at += 8) {
    const word = bytes.subarray(at, at + 8);
    if (word.some((byte) => byte !== 0))
      lines.push(`${(at - from).toString(16).padStart(4, '0')}: ${word.toString('hex')}`);
  }
  return lines;
}

/** Headers of every region of an image. */
function headers(image: Buffer) {
  const head = readSuperblock(bufferSource(image));
  const overlay = Number(head.overlay_offset);
  const cache = Number(head.pcache_offset);
  return {
    superblock: dump(image, 0, 4096),
    ...(overlay > 0 && { overlay: dump(image, overlay, overlay + 4096) }),
    ...(cache > 0 && { pageCache: dump(image, cache, cache + 4096) }),
  };
}

function expectSound(image: Buffer): void {
  expect(validateImage(bufferSource(image)).findings).toEqual([]);
  expect(validateFront(bufferSource(image)).findings).toEqual([]);
}

it('empty: the published geometry', async () => {
  const path = join(scratchDirectory(), 'empty');
  expect((await mkdaxfs('-E', '-o', path, '-O', '16M', '-C', '16', '-V')).status).toBe(0);
  const image = readFileSync(path);
  expect(image.length).toBe(17_907_712);
  expect(readSuperblock(bufferSource(image))).toMatchObject({
    total_size: 17_907_712n,
    base_offset: 0n,
    inode_count: 0,
    overlay_offset: 0x1000n,
    overlay_size: 0x1101000n,
    overlay_bucket_count: 65536,
    overlay_bucket_shift: 16,
    pcache_offset: 0x1102000n,
    pcache_size: 0x12000n,
    pcache_slot_count: 16,
    pcache_hash_shift: 4,
  });
  expectSound(image);
});

it('empty: headers, the root inode and its bucket, nothing else', async () => {
  const path = join(scratchDirectory(), 'empty');
  await mkdaxfs('-E', '-o', path, ...small, '-C', '8');
  const image = readFileSync(path);
  expect(headers(image)).toMatchSnapshot();
  // Bucket of inode 1: home 255; root inode at pool offset 0.
  expect(dump(image, 0x2000, 0x3000)).toEqual(['0ff0: ffff3f0000000000']);
  expect(dump(image, 0x3000, 0x13000)).toEqual(['0000: 01000000ed410000', '0018: 0200000000000000']);
  expect(dump(image, 0x14000, image.length)).toEqual([]);
  expectSound(image);
});

it('empty: no page cache unless asked for, 64 MiB of pool, 65,536 buckets', async () => {
  const path = join(scratchDirectory(), 'empty');
  const { out } = await mkdaxfs('--empty', '--output', path);
  expect(out).toBe(`${path}: 65 MiB, overlay 65 MiB (pool 64 MiB, 65536 buckets)\n`);
  expect(statSync(path).size).toBe(4096 + 4096 + MiB + 64 * MiB);
  expect(statSync(path).blocks * 512).toBeLessThan(MiB);
});

it('split: metadata in the image, bytes in one backing file at block boundaries', async () => {
  const { tree, memory, backing } = place();
  const { status, out } = await mkdaxfs('-d', tree, '-D', memory, '-p', '0', '-o', backing, ...small, '-V');
  expect(status).toBe(0);
  expect(out).toContain(`${backing}: 16 KiB of file data\n`);
  const image = readFileSync(memory);
  expect(headers(image)).toMatchSnapshot();
  expectSound(image);
  const files = Buffer.alloc(16384);
  files.fill('a', 0, 10000);
  files.write('short', 12288);
  expect(readFileSync(backing)).toEqual(files);
  // Not a byte of the files is in the image.
  expect(image.indexOf('aaaa')).toBe(-1);
  expect(readSuperblock(bufferSource(image))).toMatchObject({ pcache_slot_count: 16, inode_count: 5 });
  expect(inspect('cat', 'hard', '-f', memory, '--backing', backing).bytes).toEqual(Buffer.alloc(10000, 'a'));
});

it('split without a byte of data writes no backing file', async () => {
  const { base, memory, backing } = place();
  mkdirSync(join(base, 'bare/sub'), { recursive: true });
  writeFileSync(join(base, 'bare/empty'), '');
  const result = await mkdaxfs('-d', join(base, 'bare'), '-D', memory, '-p', '0', '-o', backing, ...small, '-V');
  expect(result.status).toBe(0);
  expect(result.out).toContain('not written: there are no bytes to keep');
  expect(existsSync(backing)).toBe(false);
});

it('export: the same layout, data offsets 0', async () => {
  const { tree, memory } = place();
  expect((await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small, '-V')).status).toBe(0);
  const image = readFileSync(memory);
  expect(headers(image)).toMatchSnapshot();
  expectSound(image);
  expect(inspect('cat', 'a', '-f', memory, '--export', tree).bytes).toEqual(Buffer.alloc(10000, 'a'));
  expect(inspect('cat', '/sub/b', '-f', memory, '--export', tree).bytes.toString()).toBe('short');
});

it('static on memory: the same bytes as in a file', async () => {
  const { tree, memory, base } = place();
  await mkdaxfs('-d', tree, '-o', join(base, 'image'));
  // At an offset, over what was there before.
  writeFileSync(memory, Buffer.alloc(MiB, 0xee));
  expect((await mkdaxfs('-d', tree, '-D', memory, '-p', '64K', '-s', '128K', '-V')).status).toBe(0);
  const bytes = readFileSync(memory);
  const image = readFileSync(join(base, 'image'));
  expect(bytes.subarray(65536, 65536 + image.length)).toEqual(image);
  expect(bytes.subarray(65536 + image.length, 196608).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(0, 65536).every((byte) => byte === 0xee)).toBe(true);
  expect(bytes.subarray(196608).every((byte) => byte === 0xee)).toBe(true);
});

it.each(['16K', '64K'])('block size %s: every part on its blocks', async (size) => {
  const { tree, memory, backing } = place(4 * MiB);
  const block = Number.parseInt(size, 10) * 1024;
  for (const args of [['-o', backing], ['-X']]) {
    const result = await mkdaxfs(
      '-d',
      tree,
      '-D',
      memory,
      '-p',
      '0',
      '--block-size',
      size,
      ...args,
      ...small,
      '-V',
      '--prewarm',
    );
    expect(result).toMatchObject({ status: 0, err: '' });
    const image = readFileSync(memory);
    expectSound(image);
    const head = readSuperblock(bufferSource(image));
    expect(head).toMatchObject({ block_size: block, base_offset: BigInt(block) });
    for (const at of [head.overlay_offset, head.pcache_offset]) expect(Number(at) % block).toBe(0);
    expect(inspect('cat', 'a', '-f', memory).bytes).toEqual(Buffer.alloc(10000, 'a'));
  }
  expect(statSync(backing).size).toBe(2 * block);
});

it('the block size is that of this machine', () => {
  expect(machinePageBytes()).toBe(4096);
  const auxv = Buffer.alloc(48);
  auxv.writeBigUInt64LE(3n, 0);
  auxv.writeBigUInt64LE(6n, 16);
  auxv.writeBigUInt64LE(65536n, 24);
  expect(machinePageBytes(auxv)).toBe(65536);
});

it('slots by default: a power of two not above what there is, at least 16', () => {
  expect([0, 1, 16, 17, 31, 32, 33, 100000].map(defaultSlots)).toEqual([16, 16, 16, 16, 16, 32, 32, 65536]);
});

it('export takes slots by names, hard links too', async () => {
  const { base, memory } = place();
  const tree = join(base, 'many');
  writeTree(tree, Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`f${i}`, 'x'])));
  await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small);
  expect(readSuperblock(bufferSource(readFileSync(memory))).pcache_slot_count).toBe(32);
});

it('pre-warmed pages lie where a kernel looks for them', async () => {
  const { base, memory, backing } = place();
  const tree = join(base, 'pages');
  const pages = (count: number, first: number) =>
    Buffer.concat(Array.from({ length: count }, (_, i) => Buffer.alloc(4096, first + i)));
  writeTree(tree, { one: pages(20, 1), two: pages(20, 101), short: 'tail' });
  const result = await mkdaxfs('-d', tree, '-D', memory, '-p', '0', '-o', backing, ...small, '--prewarm', '-V');
  // 41 pages, 32 slots: some windows are full.
  expect(result.out).toContain('pre-warmed: 32 of 41 pages; 9 found no slot in their windows\n');
  const image = readFileSync(memory);
  const cache = new PageCacheReader(bufferSource(image), readSuperblock(bufferSource(image)));
  const stored = readFileSync(backing);
  let valid = 0;
  for (const { state, tag, page, index, pins, refBit } of cache.slots()) {
    if (state !== SLOT_STATE.VALID) continue;
    valid++;
    expect((index - Number(tag & 31n) + 32) % 32).toBeLessThan(8);
    expect([pins, refBit]).toEqual([0, 0]);
    // Tags of split mode count the pages of the backing file.
    expect(cache.page(tag)).toEqual(stored.subarray(page * 4096, page * 4096 + 4096));
  }
  expect(valid).toBe(32);
});

it('export pre-warms page 0 of every file into one window only', async () => {
  const { base, memory } = place();
  const tree = join(base, 'many');
  writeTree(tree, Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`f${i}`, `file ${i}`])));
  const result = await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small, '--prewarm', '-V');
  expect(result.out).toContain('pre-warmed: 8 of 12 pages');
  const { out } = inspect('status', '-f', memory, '--json');
  expect(JSON.parse(out)).toMatchObject({ pageCache: { valid: 8, free: 8, pending: 0 } });
});

// ------------------------------------------------------------------------------------------- sizes from 4 GiB up

it('a pool of 5 GiB with a page cache: nothing wraps', async () => {
  const { base, memory } = place(6 * 1024 * MiB);
  const path = join(base, 'empty');
  expect((await mkdaxfs('-E', '-o', path, '-O', '5G', '-C', '1024')).status).toBe(0);
  const pool = 5 * 1024 * MiB;
  const overlayEnd = 4096 + 4096 + MiB + pool;
  const total = overlayEnd + 4096 + 16384 + 1024 * 4096;
  expect(statSync(path).size).toBe(total);
  const head = Buffer.alloc(4096);
  const fd = openSync(path, 'r');
  readSync(fd, head, 0, 4096, 0);
  expect(readSuperblock(bufferSource(head))).toMatchObject({
    total_size: BigInt(total),
    pcache_offset: BigInt(overlayEnd),
  });
  readSync(fd, head, 0, 4096, overlayEnd);
  expect(head.readUInt32LE(0)).toBe(0x70636163);
  closeSync(fd);
  expect(inspect('check', '-f', path)).toMatchObject({ status: 0 });
  // Behind 5 GiB of another file.
  const late = await mkdaxfs('-E', '-D', memory, '-p', '5G', '-s', '16M', ...small, '-V');
  expect(late.status).toBe(0);
  expect(inspect('status', '-f', path).status).toBe(0);
});

it('geometry beyond 32 bits, and beyond 53', () => {
  const input = {
    blockBytes: 4096,
    planBytes: 0,
    inodeCount: 0,
    bucketCount: 2 ** 31,
    poolBytes: 2 ** 47,
    slots: 2 ** 31,
  };
  const front = planFront(input);
  expect(front.poolOffset).toBe(4096 + 2 ** 35);
  expect(front.pageCacheOffset).toBe(4096 + 4096 + 2 ** 35 + 2 ** 47);
  expect(front.totalBytes).toBe(front.pageCacheOffset + 4096 + 2 ** 35 + 2 ** 43);
  expect(() => planFront({ ...input, poolBytes: 2 ** 53 - 4096 })).toThrow(/larger than 2\^53/);
});

it('a file of 5 GiB: static keeps it whole, split and export say why not', async () => {
  const { base, memory, backing } = place(16 * MiB);
  const tree = join(base, 'large');
  writeTree(tree, { huge: 'start' });
  truncateSync(join(tree, 'huge'), 5 * 1024 * MiB);
  const source = openSync(join(tree, 'huge'), 'r+');
  writeSync(source, 'tail', 5 * 1024 * MiB - 4);
  closeSync(source);
  const fits = await mkdaxfs('-d', tree, '-o', join(base, 'image'), '-V');
  expect(fits.status).toBe(0);
  expect(statSync(join(base, 'image')).size).toBe(4096 * 3 + 5 * 1024 * MiB);
  const image = openSync(join(base, 'image'), 'r');
  const tail = Buffer.alloc(4);
  readSync(image, tail, 0, 4, 4096 * 3 + 5 * 1024 * MiB - 4);
  closeSync(image);
  expect(tail.toString()).toBe('tail');
  const split = await mkdaxfs('-d', tree, '-D', memory, '-p', '0', '-o', backing, ...small);
  expect(split.status).toBe(1);
  expect(split.err).toMatch(
    /^mkdaxfs: huge ends at byte 5368709120 of the backing file, which has at most 1048574 pages of 4096 bytes; use export mode.*\(DAXFS_FILE_TOO_LARGE\)\n$/,
  );
  const exported = await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small);
  expect(exported).toMatchObject({
    status: 1,
    err: expect.stringMatching(/^mkdaxfs: huge has 5368709120 bytes; a file in export mode/),
  });
  // Larger blocks reach further.
  const wide = await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', '--block-size', '16K', ...small);
  expect(wide.status).toBe(0);
});

it('the limit of split mode from both sides', async () => {
  const { base, memory } = place(16 * MiB);
  const tree = join(base, 'edge');
  writeTree(tree, { edge: '' });
  const pages = 0xffffe;
  truncateSync(join(tree, 'edge'), pages * 4096);
  expect((await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small)).status).toBe(0);
  truncateSync(join(tree, 'edge'), pages * 4096 + 1);
  expect((await mkdaxfs('-X', '-d', tree, '-D', memory, '-p', '0', ...small)).status).toBe(1);
});
