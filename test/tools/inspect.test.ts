/** Goal: daxfs-inspect says what is there, whatever it is given. Method: the real command on images of every kind, and on what is none. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { encode } from '../../daxfs/codec.ts';
import { FrontReader } from '../../daxfs/front-read.ts';
import type { FrontRule } from '../../daxfs/front-rules.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { noWork } from '../../daxfs/front-work.ts';
import { treeItems } from '../../daxfs/inspect/tree.ts';
import { bucket, overlayDirent, overlayInode } from '../../daxfs/layout.ts';
import { direntKey, firstBucket, homeBucket, inodeKey, pageKey } from '../../daxfs/overlay-key.ts';
import { readSuperblock } from '../../daxfs/overlay-read.ts';
import { OverlayTable, placeOverlay } from '../../daxfs/overlay-table.ts';
import { Region } from '../../daxfs/region.ts';
import { inspect, mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

const root = new URL('../..', import.meta.url).pathname;
const small = ['-O', '64K', '-B', '256'];

async function exportImage(files: Record<string, string | Buffer>, ...more: string[]) {
  const base = scratchDirectory();
  const tree = join(base, 'tree');
  const image = join(base, 'memory');
  writeTree(tree, files);
  writeFileSync(image, '');
  truncateSync(image, 16 * 2 ** 20);
  const made = await mkdaxfs('-X', '-d', tree, '-D', image, '-p', '0', ...small, ...more);
  expect(made).toMatchObject({ status: 0, err: '' });
  return { tree, image };
}

it('--json of every command', async () => {
  const { image } = await exportImage({ a: Buffer.alloc(5000, 1), 'd/b': 'x' }, '--prewarm');
  const json = (...args: string[]) => JSON.parse(inspect(...args, '-f', image, '--json').out);
  expect(json('status')).toEqual({
    format: { magic: '0x64617835', version: 8, blockSize: 4096, totalSize: 163840, front: 'kernel' },
    base: { offset: 4096, size: 12288, inodeCount: 4, rootInode: 1, inodeOffset: 0, dataOffset: 4096 },
    overlay: {
      offset: 16384,
      size: 73728,
      bucketCount: 256,
      bucketShift: 8,
      poolSize: 65536,
      poolAllocated: 0,
      poolPercent: 0,
      nextInode: 5,
    },
    pageCache: {
      offset: 90112,
      size: 73728,
      slots: 16,
      hashShift: 4,
      pendingCount: 0,
      valid: 3,
      free: 13,
      pending: 0,
      damaged: 0,
      occupancyPercent: 18.8,
      evictHand: 0,
      hot: 0,
      pinned: 0,
      pins: 0,
      users: 0,
      counters: {
        hits: 0,
        misses: 0,
        fills: 0,
        fillErrors: 0,
        evictions: 0,
        pendingWaits: 0,
        fallbacks: 0,
        takeovers: 0,
        sourceReads: 0,
        sourceBytes: 0,
      },
    },
    region: null,
  });
  expect(json('overlay')).toMatchObject({
    bucketCount: 256,
    entries: { bucketsUsed: 0, bucketsFree: 256, damaged: 0 },
  });
  const places = { base: 0, overlay: 0, backing: 0, hole: 0 };
  expect(json('tree').items).toEqual([
    { path: '', ino: 1, type: 'directory', mode: '0755', uid: 0, gid: 0, size: 0, name: 'base' },
    {
      path: 'a',
      ino: 2,
      type: 'file',
      mode: '0644',
      uid: 0,
      gid: 0,
      size: 5000,
      name: 'base',
      places: { ...places, pageCache: 5000 },
    },
    { path: 'd', ino: 3, type: 'directory', mode: '0755', uid: 0, gid: 0, size: 0, name: 'base' },
    {
      path: 'd/b',
      ino: 4,
      type: 'file',
      mode: '0644',
      uid: 0,
      gid: 0,
      size: 1,
      name: 'base',
      places: { ...places, pageCache: 1 },
    },
  ]);
  expect(json('check')).toEqual({
    ok: true,
    upstreamOk: true,
    findings: [],
    total: 0,
    pool: { allocated: 0, owned: 0, end: 0 },
  });
});

it('a static image has no overlay', async () => {
  const base = scratchDirectory();
  writeTree(join(base, 'tree'), { file: 'bytes' });
  const image = join(base, 'image');
  await mkdaxfs('-d', join(base, 'tree'), '-o', image);
  expect(inspect('overlay', '-f', image)).toMatchObject({
    status: 0,
    out: `${image} has no overlay: it is read-only.\n`,
  });
  expect(inspect('overlay', '-f', image, '--json').out).toBe('null\n');
  expect(inspect('status', '-f', image).out).toMatch(/Overlay: none\nPage cache: none\n/);
  expect(inspect('cat', 'file', '-f', image).bytes.toString()).toBe('bytes');
});

const refusals: [string, number, RegExp][] = [
  ['status', 2, /give one of -f FILE, -m MOUNT and -p ADDR -s SIZE; see daxfs-inspect help/],
  ['status -f a -m b', 2, /give one of/],
  ['status -p 0x1000', 2, /-p needs -s SIZE/],
  ['status -f a -s 1M', 2, /-s belongs to -p ADDR/],
  ['status -p here -s 1M', 2, /"here" is not a size/],
  ['nonsense', 2, /unknown command 'nonsense'/],
  ['cat -f a', 2, /missing required argument 'path'/],
  ['status more -f a', 2, /too many arguments/],
  ['', 2, /^$/],
  ['status -f /none', 1, /\/none is not there; give an image, a region or a device.*DAXFS_BAD_BACKING/],
  ['status -f /etc/passwd', 1, /There is no DAXFS superblock/],
  ['status -f /dev/null', 1, /but not device-dax/],
  ['status -m /none', 1, /\/none cannot be read \(ENOENT\); give the mount point of a daxfs/],
  ['status -m /proc', 1, /\/proc is a mount of type proc, not a mounted daxfs/],
  ['status -m /etc', 1, /\/etc is no mount point, not a mounted daxfs/],
];

it.each(refusals)('daxfs-inspect %s exits with %i', (line, status, message) => {
  const result = inspect(...line.split(' ').filter(Boolean));
  expect(result.err).toMatch(message);
  expect(result.status).toBe(status);
  if (status === 1) expect(result.err).toMatch(/^daxfs-inspect: [^\n]*\n$/);
});

it('names that are not there, and what is no file', async () => {
  const { image, tree } = await exportImage({ a: 'x', 'd/b': 'y' });
  const cat = (path: string, ...more: string[]) => inspect('cat', path, '-f', image, ...more);
  expect(cat('missing')).toMatchObject({
    status: 1,
    err: expect.stringMatching(/There is no missing in it.*DAXFS_NO_ENTRY/),
  });
  expect(cat('a/b').err).toMatch(/There is no a\/b/);
  expect(cat('d').err).toMatch(/d is not a regular file.*DAXFS_WRONG_TYPE/);
  expect(cat('a').err).toMatch(/in a backing file and not in the page cache; name it with --backing FILE/);
  expect(cat('a', '--export', tree).bytes.toString()).toBe('x');
});

it('version and help need no source', () => {
  for (const flag of ['-v', '--version']) {
    expect(inspect(flag)).toMatchObject({
      status: 0,
      out: 'daxfs-inspect (daxfs) 0.1.0\non-disk format: super v8, overlay v2, pcache v2\n',
    });
  }
  expect(inspect('help')).toMatchObject({
    status: 0,
    out: expect.stringMatching(/status[\s\S]*overlay[\s\S]*tree[\s\S]*cat/),
  });
});

it('the front of a region', async () => {
  const path = join(scratchDirectory(), 'region');
  for (const kernelMountable of [true, false]) {
    const region = await Region.create({ path, size: 16 * 2 ** 20, kernelMountable, force: true });
    await region.close();
    const status = JSON.parse(inspect('status', '-f', path, '--json').out);
    expect(status).toMatchObject({
      format: { version: 8, front: kernelMountable ? 'kernel' : 'private' },
      region: { uuid: region.header.uuid, size: 16 * 2 ** 20 },
    });
    expect(JSON.parse(inspect('overlay', '-f', path, '--json').out).entries).toMatchObject({ inodes: 1, damaged: 0 });
    expect(inspect('tree', '-f', path)).toMatchObject({ status: 0, out: expect.stringMatching(/^d0755 0:0 .* \/\n$/) });
    expect(inspect('check', '-f', path).out).toBe(`${path} breaks no rule.\n`);
  }
});

// ------------------------------------------------------------------------------------- a private front, by hand

/** A region's front with /name (inode 2, 5 bytes in one page), as the lock-free code would leave it. */
async function privateFront(): Promise<Buffer> {
  const path = join(scratchDirectory(), 'region');
  const region = await Region.create({ path, size: 16 * 2 ** 20 });
  await region.close();
  const image = readFileSync(path);
  const source = bufferSource(image);
  const { bucketsAt, bucketCount, poolAt } = placeOverlay(source, readSuperblock(source));
  const overlayAt = Number(readSuperblock(source).overlay_offset);
  const add = (key: bigint, offset: number) => {
    const { stateKey, value } = firstBucket('private', key, BigInt(offset));
    const at = bucketsAt + Number(homeBucket('private', key, BigInt(bucketCount - 1))) * bucket.size;
    expect(image.readBigUInt64LE(at)).toBe(0n);
    encode(bucket, { state_key: stateKey, value }, image, at);
  };
  // The root got 8 slots.
  image.writeBigUInt64LE(8n, poolAt + 16);
  encode(overlayInode, { type: 1, mode: 0o100644, uid: 0, gid: 0, size: 5n, nlink: 0, flags: 0 }, image, poolAt + 64);
  add(inodeKey(2n), 64);
  const name = Buffer.from('name');
  const fields = {
    type: 3,
    parent_ino: 1n,
    child_ino: 2n,
    child_mode: 0o100644,
    name_len: 4,
    next: ~0n & 0xffffffffffffffffn,
  };
  encode(overlayDirent, { ...fields, dir_next: 3n, name }, image, poolAt + 128);
  add(direntKey(1n, name), 128);
  add(pageKey(1n, 3n), 128);
  image.write('bytes', poolAt + 4096);
  add(pageKey(2n, 0n), 4096);
  image.writeBigUInt64LE(8192n, overlayAt + 32);
  image.writeBigUInt64LE(3n, overlayAt + 40);
  return image;
}

it('a private front: names by slots, pages, kinds', async () => {
  const image = await privateFront();
  const front = new FrontReader(bufferSource(image));
  expect([...front.names(front.inode(1)!)]).toEqual([{ name: Buffer.from('name'), ino: 2, from: 'overlay' }]);
  expect(Buffer.concat([...front.content(front.lookup('name'), 'name')]).toString()).toBe('bytes');
  expect(validateFront(bufferSource(image)).findings).toEqual([]);
  const path = join(scratchDirectory(), 'region');
  writeFileSync(path, image);
  expect(inspect('tree', '-f', path).out).toMatch(/5 \/name {2}\[overlay 5\]\n$/);
  expect(JSON.parse(inspect('overlay', '-f', path, '--json').out).entries).toMatchObject({
    inodes: 2,
    dataPages: 1,
    dirents: 1,
    directorySlots: 1,
    damaged: 0,
  });
});

it('a private front: a removed key hides, a stale slot is named', async () => {
  const image = await privateFront();
  const source = bufferSource(image);
  const place = placeOverlay(source, readSuperblock(source));
  const at = (key: bigint) =>
    place.bucketsAt + Number(homeBucket('private', key, BigInt(place.bucketCount - 1))) * bucket.size + 8;
  // State DELETED, the next version.
  image.writeBigUInt64LE(2n << 40n, at(direntKey(1n, Buffer.from('name'))));
  expect(() => new FrontReader(source).lookup('name')).toThrow(/There is no name/);
  expect([...new OverlayTable(source, place).buckets()]).toHaveLength(4);
  expect(validateFront(source).findings).toEqual([]);
  // What a crash in the middle of a removal leaves.
  const report = validateFront(source, { work: noWork });
  const rules = new Set(report.findings.map(({ rule }) => rule));
  // Between the entries of this front, which was put together by hand, lie bytes of nobody.
  expect([...rules].sort()).toEqual(['INODE_ORPHAN', 'POOL_LOST', 'SLOT_STALE']);
});

// ------------------------------------------------------------------------------------------- damage in the cache

const cacheDamage: [FrontRule, (slots: Buffer, header: Buffer) => void][] = [
  ['PCACHE_PLACE', (_, header) => void header.writeUInt32LE(1, 0)],
  ['CACHE_STATE', (slots) => void slots.writeBigUInt64LE(3n, 15 * 16)],
  ['CACHE_FREE', (slots) => void slots.writeBigUInt64LE(1n << 8n, 15 * 16)],
  ['CACHE_WINDOW', (slots) => slots.copy(slots, 12 * 16, 0, 16)],
  ['CACHE_TWICE', (slots) => slots.copy(slots, 7 * 16, 0, 16)],
  ['CACHE_PAGE', (slots) => void slots.writeBigUInt64LE((((9n << 20n) | 0n) << 6n) | 2n, 0)],
  ['CACHE_PENDING', (_, header) => void header.writeUInt32LE(1, 28)],
  ['CACHE_PINS', (slots) => void slots.writeUInt32LE(0b11, 12)],
  ['CACHE_REF', (slots) => void slots.writeUInt32LE(2, 8)],
];

it.each(cacheDamage)('%s is found', async (rule, change) => {
  const { image } = await exportImage({ a: Buffer.alloc(5000, 1) }, '--prewarm');
  const bytes = readFileSync(image);
  const cache = Number(readSuperblock(bufferSource(bytes)).pcache_offset);
  change(bytes.subarray(cache + 4096, cache + 8192), bytes.subarray(cache, cache + 4096));
  expect(validateFront(bufferSource(bytes)).findings.map((finding) => finding.rule)).toContain(rule);
  writeFileSync(image, bytes);
  expect(inspect('check', '-f', image)).toMatchObject({ status: 1, out: expect.stringMatching(`${rule} at byte`) });
});

it('damage in one place does not hide the rest of the tree', async () => {
  const { image } = await exportImage({ a: 'x', b: 'y' });
  const bytes = readFileSync(image);
  // Inode 2 gets a size beyond everything.
  bytes.writeBigUInt64LE(1n << 60n, 4096 + 64 + 16);
  const items = [...treeItems(bufferSource(bytes))];
  expect(items.map(({ path, damage }) => [path, damage === undefined])).toEqual([
    ['', true],
    ['a', false],
    ['b', true],
  ]);
  writeFileSync(image, bytes);
  expect(inspect('tree', '-f', image)).toMatchObject({ status: 1, out: expect.stringMatching(/\/b/) });
});

it('control characters of names do not reach the terminal', async () => {
  const { image } = await exportImage({ 'esc\u001b[31m\nnew': 'x' });
  expect(inspect('tree', '-f', image).out).toContain('/esc\\x1b[31m\\x0anew');
});

it('a deep tree', async () => {
  const { image } = await exportImage({ [`${'d/'.repeat(1000)}leaf`]: 'x' });
  expect(inspect('tree', '-f', image).out.split('\n')).toHaveLength(1003);
});

// ------------------------------------------------------------------------------------------------- the launchers

it('the commands as installed; cat writes into a pipe that closes early', () => {
  const base = scratchDirectory();
  writeTree(join(base, 'tree'), { file: Buffer.alloc(2 ** 20, 'x') });
  const image = join(base, 'image.daxfs');
  const node = process.execPath;
  execFileSync(node, [`${root}bin/mkdaxfs.js`, '-d', join(base, 'tree'), '-o', image]);
  const cat = execFileSync(node, [`${root}bin/daxfs-inspect.js`, 'cat', 'file', '-f', image], { maxBuffer: 2 ** 22 });
  expect(cat).toEqual(readFileSync(join(base, 'tree/file')));
  const piped = spawnSync('sh', ['-c', `"${node}" "${root}bin/daxfs-inspect.js" cat file -f "${image}" | head -c 3`]);
  expect(piped.stdout.toString()).toBe('xxx');
  expect(piped.stderr.toString()).toBe('');
  const usage = spawnSync(node, [`${root}bin/daxfs-inspect.js`, 'status']);
  expect(usage.status).toBe(2);
  const failed = spawnSync(node, [
    `${root}bin/mkdaxfs.js`,
    '--empty',
    '-H',
    '/dev/dma_heap/none',
    '-m',
    '/mnt',
    '-s',
    '256M',
  ]);
  expect(failed.status).toBe(1);
  expect(failed.stderr.toString()).toMatch(/^mkdaxfs: There is no DMA heap [^\n]*\n$/);
});
