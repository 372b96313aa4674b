/**
 * Goal: a source that changed, shrank or went away is a clear error, never wrong bytes and never a cached zero page; a changed
 * source empties the cache at the next opening. Method: real files are changed under a real image.
 */
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type OpenedRegion, writeRootImage } from '../../daxfs/index.ts';
import { inspect } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';
import { cacheFacts, expectBytes, makeImage, open, pattern, type TestImage } from './image.ts';

const gone = /ESTALE: the backing file or exported file has changed, shrunk or gone/;
const files = { one: pattern(1, 20_000), two: pattern(2, 20_000) };

function states(path: string) {
  return JSON.parse(inspect('status', '-f', path, '--json').out).pageCache;
}

async function opened(mode: 'split' | 'export'): Promise<TestImage & { region: OpenedRegion }> {
  const image = await makeImage(mode, { files, options: ['-C', '64'] });
  return { ...image, region: await open(image.path, { write: true, ...image.source }) };
}

describe('split image', () => {
  it.each([
    ['changed in place', ({ backing }: TestImage) => writeFileSync(backing, pattern(7, 40_960), { flag: 'r+' })],
    ['truncated', ({ backing }: TestImage) => truncateSync(backing, 4096)],
    ['deleted', ({ backing }: TestImage) => rmSync(backing)],
  ])('backing file %s: an error, and the slot is free', async (_, change) => {
    const { region, path, ...image } = await opened('split');
    expectBytes(await region.fs.readFile('one'), files.one);
    const before = states(path);
    change({ path, ...image });
    await expect(region.fs.readFile('two')).rejects.toThrow(gone);
    expect(() => region.fs.readFileSync('two')).toThrow(gone);
    expect(() => region.fs.appendFileSync('two', 'x')).toThrow(gone);
    expect(states(path)).toMatchObject({ valid: before.valid, pending: 0, pins: 0, pendingCount: 0 });
    expect(cacheFacts(region).fillErrors).toBeGreaterThan(0);
    // What was cached before is of the file as it was.
    expectBytes(await region.fs.readFile('one'), files.one);
  });

  it('a file that is too short, missing, or no file is refused when the image is opened', async () => {
    const { path, backing, tree } = await makeImage('split', { files });
    const short = join(tree, 'short');
    writeFileSync(short, 'short');
    await expect(open(path, { write: true, backing: short })).rejects.toMatchObject({ code: 'DAXFS_SOURCE_CHANGED' });
    await expect(open(path, { backing: `${backing}.no` })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
    await expect(open(path, { backing: tree })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  });
});

describe('export image', () => {
  const old = (path: string) => utimesSync(path, 1000, 1000);
  it.each([
    ['changed in place', (tree: string) => writeFileSync(join(tree, 'two'), pattern(7, 20_000), { flag: 'r+' })],
    ['truncated', (tree: string) => truncateSync(join(tree, 'two'), 5000)],
    ['longer', (tree: string) => writeFileSync(join(tree, 'two'), 'more', { flag: 'a' })],
    ['deleted', (tree: string) => rmSync(join(tree, 'two'))],
    [
      'replaced',
      (tree: string) => {
        writeFileSync(join(tree, 'other'), pattern(7, 20_000));
        renameSync(join(tree, 'other'), join(tree, 'two'));
      },
    ],
    [
      'replaced by a link',
      (tree: string) => {
        rmSync(join(tree, 'two'));
        symlinkSync('one', join(tree, 'two'));
      },
    ],
  ])('file %s: an error for this file alone', async (_, change) => {
    const { region, path, tree } = await opened('export');
    // A page of it may be open and cached already.
    const head = Buffer.alloc(4096);
    const handle = await region.fs.open('two');
    await handle.read(head, 0, 4096, 0);
    expectBytes(head, files.two.subarray(0, 4096));
    change(tree);
    await expect(region.fs.readFile('two')).rejects.toThrow(gone);
    await handle.close();
    expectBytes(await region.fs.readFile('one'), files.one);
    expect(states(path)).toMatchObject({ pending: 0, pins: 0, pendingCount: 0 });
  });

  it('no link in the tree leads out of it', async () => {
    const { path, tree } = await makeImage('export', { files: { 'dir/file': pattern(3, 5000) } });
    const outside = scratchDirectory();
    writeTree(outside, { file: pattern(4, 5000) });
    old(join(outside, 'file'));
    renameSync(join(tree, 'dir'), join(tree, 'moved'));
    symlinkSync(outside, join(tree, 'dir'));
    const region = await open(path, { write: true, export: tree });
    await expect(region.fs.readFile('dir/file')).rejects.toThrow(gone);
  });

  it('a file that cannot be found at the opening is an error when it is read, not before', async () => {
    const { path, tree } = await makeImage('export', { files });
    rmSync(join(tree, 'two'));
    mkdirSync(join(tree, 'two'));
    const region = await open(path, { write: true, export: tree });
    expectBytes(await region.fs.readFile('one'), files.one);
    await expect(region.fs.readFile('two')).rejects.toThrow(gone);
  });
});

it.each(['split', 'export'] as const)('%s: a changed source empties the cache, unless others use it', async (mode) => {
  const { region, path, tree, backing, source } = await opened(mode);
  expectBytes(await region.fs.readFile('one'), files.one);
  const changed = Buffer.alloc(20_000, 'z');
  const target = mode === 'split' ? backing : join(tree, 'one');
  writeFileSync(target, mode === 'split' ? Buffer.alloc(statSync(backing).size, 'z') : changed);
  utimesSync(target, 2000, 2000);
  await expect(open(path, { write: true, ...source })).rejects.toMatchObject({ code: 'DAXFS_SOURCE_CHANGED' });
  // Who may only read believes no page of the old source.
  const reader = await open(path, source);
  expectBytes(await reader.fs.readFile('one'), changed);
  expect(cacheFacts(reader).hits).toBe(0);
  await reader.close();
  expectBytes(await region.fs.readFile('one'), files.one);
  await region.close();
  const again = await open(path, { write: true, ...source });
  expect(states(path)).toMatchObject({ valid: 0 });
  expectBytes(await again.fs.readFile('one'), changed);
  expectBytes(await again.fs.readFile('two'), mode === 'split' ? changed : files.two);
});

it.each(['split', 'export'] as const)(
  '%s: pages that mkdaxfs put in are given up when the source is another',
  async (mode) => {
    const { path, tree, backing, source } = await makeImage(mode, { files, options: ['-C', '64', '--prewarm'] });
    const changed = Buffer.alloc(20_000, 'z');
    const target = mode === 'split' ? backing : join(tree, 'one');
    writeFileSync(target, mode === 'split' ? Buffer.alloc(statSync(backing).size, 'z') : changed);
    utimesSync(target, 3000, 3000);
    expect(states(path).valid).toBeGreaterThan(4);
    const region = await open(path, { write: true, ...source });
    expectBytes(await region.fs.readFile('one'), changed);
    expect(cacheFacts(region).hits).toBe(0);
  },
);

it('a static image and a region have no source, and none is taken', async () => {
  const directory = scratchDirectory('/dev/shm');
  writeTree(join(directory, 'tree'), { file: 'in the image' });
  const path = join(directory, 'root.daxfs');
  await writeRootImage(join(directory, 'tree'), path, { overlayBytes: 2 ** 20 });
  await expect(open(path, { backing: path })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  await expect(open(path, { write: true, prewarm: true })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  const region = await open(path);
  expect(region.info()).toMatchObject({ pageCache: null });
  const pool = join(directory, 'region');
  const create = { create: true, size: 16 * 2 ** 20 };
  await (await open(pool, create)).close();
  await expect(open(pool, { export: directory })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
});
