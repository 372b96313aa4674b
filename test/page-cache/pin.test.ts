/** Goal: a pinned block stays what it is until it is released, whatever is evicted; then its view has no bytes. Method: a cache of 8 slots. */
import { expect, it } from 'vitest';
import { inspect } from '../support/run-tool.ts';
import { cacheFacts, expectBytes, makeImage, open, pattern } from './image.ts';

const files = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`f${i}`, pattern(i + 1, 10_000)]));
const pinsOf = (path: string) => JSON.parse(inspect('status', '-f', path, '--json').out).pageCache.pins;

it('holds its slot while everything else is evicted', async () => {
  const { path, source } = await makeImage('split', { files, options: ['-C', '8', '--private'] });
  const region = await open(path, { write: true, ...source });
  const pinned = region.fs.pinSync('f3', 5000);
  expect(pinned.offset).toBe(4096);
  const again = region.fs.pinSync('f3', 4096);
  expect(again.bytes.buffer).toBe(pinned.bytes.buffer);
  const last = region.fs.pinSync('f3', 9999);
  expect(last.bytes.length).toBe(10_000 - 8192);
  for (const [name, bytes] of Object.entries(files)) expectBytes(await region.fs.readFile(name), bytes);
  expect(cacheFacts(region).evictions).toBeGreaterThan(8);
  expectBytes(pinned.bytes, files.f3?.subarray(4096, 8192));
  expectBytes(last.bytes, files.f3?.subarray(8192));
  expect(pinsOf(path)).toBe(2);
  pinned.release();
  pinned.release();
  expectBytes(again.bytes, files.f3?.subarray(4096, 8192));
  again.release();
  expect([pinned.bytes.length, again.bytes.length]).toEqual([0, 0]);
  expect(pinsOf(path)).toBe(1);
  await region.close();
  expect(last.bytes.length).toBe(0);
  expect(pinsOf(path)).toBe(0);
});

it('with all slots pinned, reads go past the cache', async () => {
  const { path, source } = await makeImage('split', { files, options: ['-C', '8', '--private'] });
  const region = await open(path, { write: true, ...source });
  const pins = Array.from({ length: 8 }, (_, i) => region.fs.pinSync(`f${i}`));
  expect(() => region.fs.pinSync('f9')).toThrow(/EINVAL.*pin 'f9'/);
  for (const [name, bytes] of Object.entries(files)) expectBytes(await region.fs.readFile(name), bytes);
  expect(cacheFacts(region).fallbacks).toBeGreaterThan(0);
  for (const pin of pins) pin.release();
  expect(pinsOf(path)).toBe(0);
});

it('is refused for what does not lie in the cache', async () => {
  const { path, source } = await makeImage('split', { files: { file: pattern(1, 20_000) } });
  const region = await open(path, { write: true, ...source });
  const handle = await region.fs.open('file', 'r+');
  await handle.write('new', 0);
  await handle.close();
  await region.fs.writeFile('fresh', 'new');
  expect(() => region.fs.pinSync('file', 0)).toThrow(/EINVAL/);
  expect(() => region.fs.pinSync('file', 20_000)).toThrow(/EINVAL/);
  expect(() => region.fs.pinSync('fresh')).toThrow(/EINVAL/);
  expect(() => region.fs.pinSync('none')).toThrow(/ENOENT/);
  const reader = await open(path, source);
  expect(() => reader.fs.pinSync('file', 4096)).toThrow(/EINVAL/);
  using pinned = region.fs.pinSync('file', 4096);
  expectBytes(pinned.bytes, pattern(1, 20_000).subarray(4096, 8192));
  await region.close();
  expect(() => region.fs.pinSync('file', 4096)).toThrow(/closed/);
});
