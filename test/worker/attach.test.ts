/** Goal: what a Node worker sees of an attached model. Method: a real peer with shared memory; every byte is compared. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { attach, attachHandle, defaultSocketPath } from '../../worker/node/index.ts';
import { until } from '../support/until.ts';
import { CHUNK, DIGEST, MANIFEST, Peer } from '../support/worker-peer.ts';

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer().start();
});
afterEach(() => peer.end());

it('every tensor has the bytes of the source', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  expect([...m.tensors.keys()]).toEqual(peer.region.tensors.map((t) => t.name));
  for (const [name, info] of m.tensors) {
    const tensor = m.tensor(name);
    expect(Buffer.compare(tensor.bytes, peer.region.expected(name)), name).toBe(0);
    expect([tensor.dtype, tensor.shape, tensor.parts.length]).toEqual([info.dtype, info.shape, 1]);
  }
});

it.each([4096, CHUNK, 16 * CHUNK])('maps at multiples of %i', async (mapAlignment) => {
  peer.script = (c) => c.grant((h) => Reflect.set(h.region, 'mapAlignment', mapAlignment));
  await using m = await attach('org/m', { socket: peer.path });
  for (const name of m.tensors.keys()) {
    expect(Buffer.compare(m.tensor(name).bytes, peer.region.expected(name)), name).toBe(0);
  }
  const mine = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('daxserve-test-peer'));
  expect(mine.length).toBeGreaterThan(0);
  for (const line of mine) {
    const [range = '', mode, offset = ''] = line.split(/\s+/);
    const [start = 0, end = 0] = range.split('-').map((text) => Number.parseInt(text, 16));
    expect([mode, Number.parseInt(offset, 16) % mapAlignment, (end - start) % mapAlignment]).toEqual(['r--s', 0, 0]);
  }
});

it('aligned tensors of JavaScript types are typed arrays', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  const array = (name: string) => m.tensor(name).array;
  const floats = array('f32') as Float32Array;
  expect(floats).toBeInstanceOf(Float32Array);
  const expected = peer.region.expected('f32');
  expect(Buffer.compare(Buffer.from(new Float32Array(floats).buffer), expected)).toBe(0);
  expect(array('f64')).toBeInstanceOf(Float64Array);
  expect(array('i64')).toEqual(new BigInt64Array([peer.region.expected('i64').readBigInt64LE()]));
  expect(array('u64')).toBeInstanceOf(BigUint64Array);
  expect(array('i16')).toBeInstanceOf(Int16Array);
  expect(array('bool')).toBeInstanceOf(Uint8Array);
  expect(array('empty')).toEqual(new Float32Array(0));
  for (const name of ['bf16', 'f8', 'f4', 'q4', 'odd']) expect(array(name), name).toBeNull();
  const half = (globalThis as { Float16Array?: unknown }).Float16Array;
  expect(array('f16') === null).toBe(half === undefined);
});

it('gives files and facts', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  expect(JSON.parse(Buffer.from(m.file('config.json')).toString())).toEqual({ hidden_size: 384 });
  expect(Buffer.compare(m.file('far.safetensors'), peer.region.contents.get('far.safetensors')!)).toBe(0);
  expect(m.file('empty.txt').length).toBe(0);
  expect(JSON.parse(Buffer.from(m.file(MANIFEST)).toString()).version).toBe(1);
  expect([...m.files.keys()]).toEqual(['w.safetensors', 'config.json', 'far.safetensors', 'empty.txt']);
  expect([m.name, m.digest, m.revision, m.format]).toEqual(['org/m:latest', DIGEST, 'abc123', 'safetensors']);
  expect(m.metadata).toEqual({ a: 1 });
});

it('a tensor is one ArrayBuffer of its own length, however often it is asked for', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  const { buffer, byteLength } = m.tensor('f32').bytes;
  expect(m.tensor('f32').bytes.buffer).toBe(buffer);
  expect(buffer.byteLength).toBe(byteLength);
  expect(m.tensor('f64').bytes.buffer).not.toBe(buffer);
  expect(m.file('w.safetensors').buffer).toBe(m.file('w.safetensors').buffer);
});

it('names what is not there', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  expect(() => m.tensor('nope')).toThrowError(expect.objectContaining({ code: 'WORKER_NO_TENSOR' }));
  expect(() => m.file('nope')).toThrowError(expect.objectContaining({ code: 'WORKER_NO_FILE' }));
});

it('attaches only the files and tensors asked for', async () => {
  await using a = await attach('org/m', { socket: peer.path, files: ['far.safetensors'] });
  expect([...a.tensors.keys(), ...a.files.keys()]).toEqual(['far', 'far.safetensors']);
  expect(Buffer.compare(a.tensor('far').bytes, peer.region.expected('far'))).toBe(0);
  await using b = await attach('org/m', { socket: peer.path, tensors: ['f32'], source: '/x', revision: 'r' });
  expect([...b.tensors.keys()]).toEqual(['f32']);
  expect(peer.requests[0]).toEqual({ v: 1, op: 'attach', model: 'org/m', files: ['far.safetensors'] });
  expect(peer.requests[1]).toEqual({
    v: 1,
    op: 'attach',
    model: 'org/m',
    tensors: ['f32'],
    source: '/x',
    revision: 'r',
  });
});

it('close ends the lease and empties every view', async () => {
  const m = await attach('org/m', { socket: peer.path });
  const tensor = m.tensor('f32');
  const views = [tensor.bytes, m.file('config.json'), tensor.array!];
  expect(peer.region.mayReuse()).toBe(false);
  await m.close();
  await m.close();
  expect(views.map((view) => view.length)).toEqual([0, 0, 0]);
  expect(tensor.bytes[0]).toBeUndefined();
  expect([m.closed, m.attached]).toEqual([true, false]);
  for (const use of [() => m.tensor('f32'), () => m.file('config.json'), () => m.fileParts('config.json')]) {
    expect(use).toThrowError(expect.objectContaining({ code: 'WORKER_CLOSED' }));
  }
  await until(() => peer.open.size === 0);
  expect(peer.region.mayReuse()).toBe(true);
});

it('leaves no descriptor behind', async () => {
  const before = descriptors();
  for (let i = 0; i < 5; i++) await (await attach('org/m', { socket: peer.path })).close();
  await until(() => peer.open.size === 0);
  expect(descriptors()).toEqual(before);
});

/** Descriptors of this process that show a region or are sockets. */
function descriptors(): number {
  const target = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  };
  return readdirSync('/proc/self/fd').filter((fd) => /daxserve-test-peer|^socket:/.test(target(fd))).length;
}

it('attaches a reserved handle', async () => {
  await using m = await attachHandle('h1', 'secret', { socket: peer.path });
  expect(m.tensors.size).toBe(14);
  expect(peer.requests).toEqual([{ v: 1, op: 'attach', handle: 'h1', token: 'secret' }]);
});

it('two attachments in one process are independent', async () => {
  const a = await attach('org/m', { socket: peer.path });
  await using b = await attach('org/m', { socket: peer.path });
  await a.close();
  expect(Buffer.compare(b.tensor('far').bytes, peer.region.expected('far'))).toBe(0);
  expect(b.file('far.safetensors').length).toBe(3 * CHUNK + 5);
});

it('finds the socket in the usual places', () => {
  expect(defaultSocketPath({ DAXSERVE_SOCKET: '/x/y.sock', XDG_RUNTIME_DIR: '/run/user/7' })).toBe('/x/y.sock');
  const usual = ['/run/user/7/daxserve/daxserve.sock', '/run/daxserve/daxserve.sock'];
  expect(usual).toContain(defaultSocketPath({ XDG_RUNTIME_DIR: '/run/user/7' }));
  expect(defaultSocketPath({})).toBe('/run/daxserve/daxserve.sock');
});

it.each([{ wait: -1 }, { wait: Number.NaN }, { timeoutMs: 0 }, { timeoutMs: Number.POSITIVE_INFINITY }])(
  'refuses the times %j',
  async (options) => {
    const failure = attach('org/m', { socket: peer.path, ...options });
    await expect(failure).rejects.toMatchObject({ code: 'WORKER_BAD_ARGUMENT' });
  },
);
