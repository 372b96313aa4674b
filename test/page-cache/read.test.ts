/**
 * Goal: files of split and export images are read through the page cache, copied up into the overlay, and counted. Method:
 * images of the real command, read by `region.fs`, compared with the tree; counters; the checker afterwards.
 */
import { closeSync, openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { fileSource } from '../../daxfs/byte-source.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { inspect, mkdaxfs } from '../support/run-tool.ts';
import { cacheFacts, defaultFiles, expectBytes, type Mode, makeImage, open, pattern } from './image.ts';

const cases = (['split', 'export'] as Mode[]).flatMap((mode) => [
  { mode, kind: 'kernel-mountable', extra: [] as string[] },
  { mode, kind: 'private', extra: ['--private'] },
]);

function findings(path: string) {
  const fd = openSync(path, 'r');
  try {
    return validateFront(fileSource(fd)).findings;
  } finally {
    closeSync(fd);
  }
}

describe.each(cases)('$kind $mode image', ({ mode, kind, extra }) => {
  /** Any pages find slots; in a plain export image page 0 of all files has 8 slots, whatever their number. */
  const roomy = mode === 'split' || kind === 'private';

  it('gives every byte, the second time without the source', async () => {
    const files = defaultFiles();
    const { path, source } = await makeImage(mode, { files, options: ['-C', '256', ...extra] });
    const region = await open(path, { write: true, ...source });
    for (const [name, bytes] of Object.entries(files)) expectBytes(await region.fs.readFile(name), bytes);
    const first = cacheFacts(region);
    expect(first).toMatchObject({ attached: true, hasSource: true, slots: 256, fallbacks: 0, fillErrors: 0 });
    const { sourceReads, misses, fills } = first;
    expect(misses).toBe(fills);
    expect(sourceReads).toBe(fills);
    expect(fills).toBeGreaterThan(20);
    if (!roomy) return;
    for (const [name, bytes] of Object.entries(files)) expectBytes(region.fs.readFileSync(name), bytes);
    expect(region.info()).toMatchObject({ pageCache: { sourceReads, fills, evictions: 0 } });
  });

  it('copies a page of the base into the overlay before it is changed', async () => {
    const { path, source } = await makeImage(mode, { options: extra });
    const region = await open(path, { write: true, ...source });
    const wanted = pattern(5, 100_000);
    const handle = await region.fs.open('f4', 'r+');
    await handle.write('changed', 5000);
    wanted.write('changed', 5000);
    await handle.truncate(60_001);
    await handle.close();
    await region.fs.appendFile('f4', 'tail');
    expectBytes(await region.fs.readFile('f4'), Buffer.concat([wanted.subarray(0, 60_001), Buffer.from('tail')]));
    await region.fs.rename('f2', 'deep/moved');
    await region.fs.unlink('f1');
    expectBytes(await region.fs.readFile('deep/moved'), pattern(3, 4096));
    expect(region.fs.existsSync('f1')).toBe(false);
    await region.close();
    const again = await open(path, source);
    expect(again.fs.readFileSync('f4').subarray(60_001).toString()).toBe('tail');
    expect(findings(path)).toEqual([]);
  });

  it('more pages than slots: right bytes, evictions, nothing left pinned', async () => {
    const files = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`n${i}`, pattern(i + 1, 9000 + i)]));
    const { path, source } = await makeImage(mode, { files, options: ['-C', '16', ...extra] });
    const region = await open(path, { write: true, ...source });
    for (let round = 0; round < 3; round++) {
      const reads = Object.entries(files).map(async ([name, bytes]) =>
        expectBytes(await region.fs.readFile(name), bytes),
      );
      await Promise.all(reads);
    }
    const { evictions, fills } = cacheFacts(region);
    expect(evictions).toBeGreaterThan(0);
    const status = JSON.parse(inspect('status', '-f', path, '--json').out);
    expect(status.pageCache).toMatchObject({ slots: 16, pins: 0, pending: 0, pendingCount: 0, users: 1 });
    expect(status.pageCache.counters.fills).toBe(fills);
    await region.close();
    const after = JSON.parse(inspect('status', '-f', path, '--json').out).pageCache;
    expect(after).toMatchObject({ users: 0 });
    expect(after.counters.fills).toBe(fills);
    expect(findings(path)).toEqual([]);
  });

  it('is read without rights to change it: what is cached, and the source for the rest', async () => {
    const files = defaultFiles();
    const { path, source } = await makeImage(mode, { files, options: ['-C', '256', ...extra] });
    const writer = await open(path, { write: true, ...source });
    expectBytes(await writer.fs.readFile('f4'), files.f4);
    const reader = await open(path, source);
    expectBytes(await reader.fs.readFile('f4'), files.f4);
    expectBytes(await reader.fs.readFile('deep/er/file'), files['deep/er/file']);
    expect(cacheFacts(reader)).toMatchObject({ attached: false, fills: 0 });
    expect(cacheFacts(reader).hits).toBeGreaterThan(0);
    // Without a source there is what the cache has, and a clear error for the rest.
    const bare = await open(path);
    expect(bare.fs.readFileSync('f4').subarray(0, 4096)).toEqual(files.f4?.subarray(0, 4096));
    expect(() => bare.fs.readFileSync('f1')).toThrow(/ENOTSUP: the bytes are in a backing file; open the image with/);
    expect(() => reader.fs.writeFileSync('f4', 'x')).toThrow(/EROFS/);
  });

  it('prewarm fills free slots when it is opened', async () => {
    const { path, source } = await makeImage(mode, { options: ['-C', '64', ...extra] });
    const region = await open(path, { write: true, prewarm: true, ...source });
    const { fills, evictions, sourceReads } = cacheFacts(region);
    expect(fills).toBeGreaterThan(8);
    expect(evictions).toBe(0);
    for (const [name, bytes] of Object.entries(defaultFiles())) expectBytes(await region.fs.readFile(name), bytes);
    const wanted = Object.values(defaultFiles()).reduce((pages, { length }) => pages + Math.ceil(length / 4096), 0);
    expect(cacheFacts(region).sourceReads - sourceReads).toBeLessThan(roomy ? 1 : wanted);
  });

  it('mkdaxfs --prewarm has filled them already', async () => {
    const { path, source } = await makeImage(mode, { options: ['-C', '64', '--prewarm', ...extra] });
    const region = await open(path, { write: true, ...source });
    expectBytes(await region.fs.readFile('f4'), pattern(5, 100_000));
    expect(cacheFacts(region).hits).toBeGreaterThan(roomy ? 24 : 0);
  });
});

it('--private is refused where it has no meaning', async () => {
  for (const args of [
    ['-E', '-o', 'x'],
    ['-d', '/', '-o', 'x'],
  ]) {
    expect(await mkdaxfs(...args, '--private')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/--private is for split/),
    });
  }
  expect(await mkdaxfs('-d', '/', '-X', '-D', '/x', '-m', '/mnt', '--private')).toMatchObject({ status: 2 });
});

it('a source that does not fit is refused', async () => {
  const { path, tree } = await makeImage('export');
  await expect(open(path, { backing: path, export: tree })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  await expect(open(path, { export: tree, prewarm: true })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  await expect(open(path, { backing: `${tree}/missing` })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
  // The image of the other mode: files of an export image all begin at 0, those of a split one do not.
  const split = await makeImage('split');
  await expect(open(split.path, { export: split.tree })).rejects.toMatchObject({ code: 'DAXFS_BAD_BACKING' });
});
