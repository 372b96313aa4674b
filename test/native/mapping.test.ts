/** Goal: a mapping never reads or writes outside, and nothing works after close. Method: every operation x every state. */
import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Mapping, native } from '../../native/index.ts';
import { scratchDirectory } from '../support/scratch.ts';

const size = 1 << 20;
let fd: number;
let path: string;
const open: Mapping[] = [];

beforeEach(() => {
  path = join(scratchDirectory(), 'bytes');
  fd = openSync(path, 'w+');
  ftruncateSync(fd, size);
});
afterEach(() => {
  for (const mapping of open.splice(0)) mapping.close();
  closeSync(fd);
});

function map(options = {}): Mapping {
  const mapping = new native.Mapping(fd, 0, size, { write: true, ...options });
  open.push(mapping);
  return mapping;
}

const operations: Record<string, (m: Mapping, at: number, length: number) => unknown> = {
  read: (m, at, length) => m.read(at, length),
  write: (m, at, length) => m.write(at, Buffer.alloc(length)),
  zero: (m, at, length) => m.zero(at, length),
  load64: (m, at) => m.load64(at),
  store64: (m, at) => m.store64(at, 1n),
  cas64: (m, at) => m.cas64(at, 0n, 1n),
  populate: (m, at, length) => m.populate(at, length),
  equal: (m, at, length) => m.equal(0, at, length),
  digest: (m, at, length) => m.digest(at, length),
  xxh3: (m, at, length) => m.xxh3(at, length),
  window: (m, at, length) => m.window(at, length),
};
const writing = new Set(['write', 'zero', 'store64', 'cas64']);

describe.each(Object.entries(operations))('%s', (name, operation) => {
  it('works to the last byte', async () => void (await operation(map(), size - 8, 8)));

  it.each([
    ['behind the end', size, 8],
    ['across the end', size - 4, 8],
    ['far away', Number.MAX_SAFE_INTEGER, 8],
    ['before the start', -8, 8],
    ['half a byte', 0.5, 8],
    ['no number', Number.NaN, 8],
  ])('refuses %s', (_, at, length) => {
    expect(() => operation(map(), at, length)).toThrow(RangeError);
  });

  it('refuses what is no number', () => {
    expect(() => operation(map(), '0' as unknown as number, 8)).toThrow(TypeError);
  });

  it('throws DAXFS_CLOSED after close', () => {
    const mapping = map();
    mapping.close();
    mapping.close();
    expect(() => operation(mapping, 0, 8)).toThrow(expect.objectContaining({ code: 'DAXFS_CLOSED' }));
  });

  it('on a read-only mapping', () => {
    const mapping = map({ write: false });
    if (!writing.has(name)) return void operation(mapping, 0, 8);
    expect(() => operation(mapping, 0, 8)).toThrow(expect.objectContaining({ code: 'EACCES' }));
  });
});

it('unaligned words are refused', () => {
  expect(() => map().load64(4)).toThrow(RangeError);
  expect(() => map().cas64(1, 0n, 1n)).toThrow(RangeError);
});

it('words beyond 64 bits are refused', () => {
  for (const value of [-1n, 1n << 64n]) expect(() => map().store64(0, value)).toThrow(RangeError);
  expect(() => map().store64(0, 5 as unknown as bigint)).toThrow(TypeError);
});

it('cas64 answers what it found', () => {
  const mapping = map();
  expect(mapping.cas64(8, 0n, 0xffff_ffff_ffff_ffffn)).toBe(0n);
  expect(mapping.cas64(8, 0n, 1n)).toBe(0xffff_ffff_ffff_ffffn);
  expect(mapping.load64(8)).toBe(0xffff_ffff_ffff_ffffn);
});

it('bytes are shared with the file and copied to the caller', () => {
  const mapping = map();
  mapping.write(100, Buffer.from('hello'));
  const copy = mapping.read(100, 5);
  mapping.zero(100, 5);
  expect(copy.toString()).toBe('hello');
  expect(readFileSync(path).subarray(100, 105)).toEqual(Buffer.alloc(5));
});

it('one window per range; close detaches them all and unmaps', () => {
  const mapping = map();
  const window = mapping.window(4096, 8192);
  expect(mapping.window(4096, 8192)).toBe(window);
  const shorter = mapping.window(4096, 4096);
  expect(shorter).not.toBe(window);
  new Uint8Array(window)[0] = 42;
  expect(mapping.read(4096, 1)[0]).toBe(42);
  expect(new Uint8Array(shorter)[0]).toBe(42);
  mapping.close();
  expect([window.byteLength, shorter.byteLength]).toEqual([0, 0]);
  expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain(path);
  expect(map().window(0, 0).byteLength).toBe(0);
});

it('a job that runs while close is called finishes on bytes that are still there', async () => {
  const mapping = map();
  const jobs = [mapping.digest(0, size), mapping.equal(0, 0, size), mapping.populate(0, size)];
  mapping.close();
  const [digest, equal] = await Promise.all(jobs);
  expect(digest).toHaveLength(16);
  expect(equal).toBe(true);
});

it('equal and digest see a single different byte', async () => {
  const mapping = map();
  const same = await mapping.digest(0, 65536);
  expect(await mapping.equal(0, 65536, 65536)).toBe(true);
  mapping.write(70000, Buffer.from([1]));
  expect(await mapping.equal(0, 65536, 65536)).toBe(false);
  expect(await mapping.digest(0, 65536)).toEqual(same);
  expect(await mapping.digest(65536, 65536)).not.toEqual(same);
});

it('populate tells how far it is and ends with all', async () => {
  const steps: number[] = [];
  await map().populate(0, size, (done) => void steps.push(done));
  expect(steps.at(-1)).toBe(size);
});

it('refuses what cannot be mapped', () => {
  expect(() => new native.Mapping(fd, 0, 0, {})).toThrow(RangeError);
  expect(() => new native.Mapping(99999, 0, 4096, {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => new native.Mapping(fd, 1, 4096, {})).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  const reader = openSync(path, 'r');
  expect(() => new native.Mapping(reader, 0, 4096, { write: true })).toThrow(
    expect.objectContaining({ code: 'EACCES' }),
  );
  closeSync(reader);
  const numa = { mode: 'bind', node: 1023 } as const;
  expect(() => new native.Mapping(fd, 0, 4096, { numa })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
});

it('the methods refuse a stranger as this', () => {
  expect(() => map().read.call({} as Mapping, 0, 1)).toThrow(TypeError);
});

it('interleaves over the nodes there are', () => {
  map({ numa: { mode: 'interleave' } });
  const line = readFileSync('/proc/self/numa_maps', 'utf8')
    .split('\n')
    .find((text) => text.includes(path));
  expect(line).toMatch(/ interleave:0/);
});

it('a worker thread has its own state and may end with a mapping open', async () => {
  const addon = join(process.cwd(), 'native/build/daxserve.node');
  const code = `
    const { parentPort } = require('node:worker_threads');
    const n = require(${JSON.stringify(addon)});
    const m = new n.Mapping(${fd}, 0, ${size}, { write: true });
    const w = m.window(0, 4096);
    new Uint8Array(w)[0] = 9;
    void m.populate(0, ${size});
    parentPort.postMessage(w.byteLength);`;
  const here = map();
  const worker = new Worker(code, { eval: true });
  expect(await new Promise((resolve) => worker.once('message', resolve))).toBe(4096);
  await worker.terminate();
  expect(here.read(0, 1)[0]).toBe(9);
});
