/** Goal: a wrong, broken or hostile service gives one clear error and leaks nothing. Method: a peer that misbehaves. */
import { closeSync, openSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { attach } from '../../worker/node/index.ts';
import { until } from '../support/until.ts';
import { CHUNK, MANIFEST, Peer, type PeerHandle, type PeerTensor, type Script } from '../support/worker-peer.ts';

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer().start();
});
afterEach(() => peer.end());

const fileOf = (h: PeerHandle, path = 'w.safetensors') => h.buffers[0]!.files.find((f) => f.path === path)!;
const extent = (change: Record<string, unknown>) => (h: PeerHandle) => {
  Object.assign(fileOf(h).extents[0]!, change);
};
const region = (change: Record<string, unknown>) => (h: PeerHandle) => {
  Object.assign(h.region, change);
};
const set = (target: object, key: string, value: unknown) => Reflect.set(target, key, value);

const badHandles: [string, (h: PeerHandle) => void][] = [
  ['another kind', (h) => set(h, 'kind', 'dmabuf')],
  ['no buffers', (h) => set(h, 'buffers', [])],
  ['two buffers', (h) => h.buffers.push(h.buffers[0]!)],
  ['buffers of no type', (h) => set(h, 'buffers', [7])],
  ['buffers that are an object', (h) => set(h, 'buffers', {})],
  ['no region', (h) => set(h, 'region', null)],
  ['no digest', (h) => set(h, 'digest', undefined)],
  ['size is a text', region({ size: 'big' })],
  ['size is true', region({ size: true })],
  ['size is negative', region({ size: -1 })],
  ['size beyond what a number counts', region({ size: 2 ** 53 })],
  ['alignment 0', region({ mapAlignment: 0 })],
  ['alignment below a page', region({ mapAlignment: 512 })],
  ['files of no type', (h) => set(h.buffers[0]!, 'files', 'all')],
  ['a file of no type', (h) => set(h.buffers[0]!, 'files', ['w.safetensors'])],
  ['extents of no type', (h) => set(fileOf(h), 'extents', null)],
  ['an extent of no type', (h) => set(fileOf(h), 'extents', [1])],
  ['offset outside the region', extent({ bufferOffset: 48 * CHUNK })],
  ['offset that overflows', extent({ bufferOffset: Number.MAX_SAFE_INTEGER })],
  ['negative offset', extent({ bufferOffset: -4096 })],
  ['fraction', extent({ bufferOffset: 4096.5 })],
  ['length beyond the file', extent({ length: 2 ** 40 })],
  ['file offset beyond the file', extent({ fileOffset: 2 ** 40 })],
  ['extents that overlap', (h) => fileOf(h).extents.push(fileOf(h).extents[0]!)],
  [
    'descriptor smaller than it says',
    (h) => {
      region({ size: 2 ** 40 })(h);
      extent({ bufferOffset: 2 ** 39 })(h);
    },
  ],
  ['no manifest', (h) => set(h.buffers[0]!, 'files', [fileOf(h)])],
];

it.each(badHandles)('refuses a handle: %s', async (_, damage) => {
  peer.script = (c) => c.grant(damage);
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code: 'WORKER_BAD_HANDLE' });
  await until(() => peer.open.size === 0);
  expect(peer.region.mayReuse()).toBe(true);
});

const badAnswers: [string, string | Buffer, number][] = [
  ['garbage', Buffer.from([0, 255, 254, 7, 10]), 0],
  ['garbage with a descriptor', 'garbage\n', 1],
  ['an array', '[]\n', 0],
  ['a number', '1\n', 0],
  ['an empty line', '\n', 0],
  ['ok without a handle', '{"ok":true}\n', 1],
  ['a refusal without a code', '{"ok":false}\n', 0],
  ['bad UTF-8', Buffer.concat([Buffer.from('{"ok":false,"code":"'), Buffer.from([255]), Buffer.from('"}\n')]), 0],
];

it.each(badAnswers)('refuses an answer: %s', async (_, data, fds) => {
  peer.script = (c) => c.send(data, Array(fds).fill(peer.region.fd));
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code: 'WORKER_BAD_ANSWER' });
  await until(() => peer.open.size === 0);
});

it.each([0, 2])('refuses %i descriptors', async (count) => {
  const line = `${JSON.stringify({ ok: true, handle: peer.region.handle() })}\n`;
  peer.script = (c) => c.send(line, Array(count).fill(peer.region.fd));
  const failure = attach('org/m', { socket: peer.path });
  await expect(failure).rejects.toMatchObject({
    code: 'WORKER_BAD_HANDLE',
    message: expect.stringMatching(/descriptors instead of one/),
  });
  await until(() => peer.open.size === 0);
});

it('refuses a descriptor that is no memory', async () => {
  const fd = openSync('/dev/null', 'r');
  peer.script = (c) => c.send(`${JSON.stringify({ ok: true, handle: peer.region.handle() })}\n`, [fd]);
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code: 'WORKER_MAP_FAILED' });
  closeSync(fd);
});

it('half a line, then silence', async () => {
  peer.script = (c) => c.send('{"ok":tr');
  const failure = attach('org/m', { socket: peer.path, timeoutMs: 100 });
  await expect(failure).rejects.toMatchObject({ code: 'WORKER_TIMEOUT' });
  await until(() => peer.open.size === 0);
});

it.each(['', '{"ok":true,"handle":{'])('closed behind %j', async (sent) => {
  peer.script = (c) => {
    if (sent) c.send(sent, [peer.region.fd]);
    c.socket.destroy();
  };
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code: 'WORKER_LOST' });
});

it('takes an answer in many pieces', async () => {
  const line = `${JSON.stringify({ ok: true, handle: peer.region.handle() })}\n`;
  peer.script = (c) => {
    c.send(line.slice(0, 1), [peer.region.fd]);
    const pieces = line.slice(1).match(/.{1,97}\n?/gs) ?? [];
    const next = () => {
      const piece = pieces.shift();
      if (piece === undefined) return;
      c.send(piece);
      setImmediate(next);
    };
    next();
  };
  await using m = await attach('org/m', { socket: peer.path });
  expect(Buffer.compare(m.tensor('f32').bytes, peer.region.expected('f32'))).toBe(0);
});

const first = (change: object) => ({ tensors: [change] });
const good: PeerTensor = { name: 't', dtype: 'F32', shape: [2, 3], file: 'w.safetensors', offset: 0, length: 24 };
const badManifests: [string, Record<string, unknown> | Buffer][] = [
  ['not JSON', Buffer.alloc(100)],
  ['an array', Buffer.from('[]')],
  ['empty', Buffer.alloc(0)],
  ['another version', { version: 2 }],
  ['no tensors', { tensors: undefined }],
  ['a tensor of no type', first([])],
  ['a tensor without a name', first({ ...good, name: undefined })],
  ['a shape that is a number', first({ ...good, shape: 6 })],
  ['a negative shape', first({ ...good, shape: [-2, -3] })],
  ['a fractional shape', first({ ...good, shape: [1.5, 4] })],
  ['a shape that overflows', first({ ...good, shape: [2 ** 52, 2 ** 52] })],
  ['a length that does not fit the shape', first({ ...good, length: 20 })],
  ['a negative offset', first({ ...good, offset: -8 })],
];

it.each(badManifests)('refuses a manifest: %s', async (_, manifest) => {
  peer.region.putManifest(manifest);
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code: 'WORKER_BAD_MANIFEST' });
  await until(() => peer.open.size === 0);
  expect(peer.region.mayReuse()).toBe(true);
});

it('refuses a tensor behind the end of its file when it is used', async () => {
  peer.region.putManifest({ tensors: [good, { ...good, name: 'far', offset: 2 ** 40 }] });
  await using m = await attach('org/m', { socket: peer.path });
  expect(() => m.tensor('far')).toThrowError(expect.objectContaining({ code: 'WORKER_BAD_MANIFEST' }));
  expect(m.tensor('t').bytes.length).toBe(24);
});

it('leaves out tensors of files that are not attached', async () => {
  peer.region.putManifest({ tensors: [good, { ...good, name: 'other', file: 'elsewhere' }] });
  await using m = await attach('org/m', { socket: peer.path });
  expect([...m.tensors.keys()]).toEqual(['t']);
});

const split = (bufferOffset: number) => (h: PeerHandle) => {
  const file = fileOf(h);
  file.extents = [
    { fileOffset: 0, bufferOffset: CHUNK, length: 30 },
    { fileOffset: 30, bufferOffset, length: file.size - 30 },
  ];
};

it('does not join bytes that lie apart', async () => {
  peer.script = (c) => c.grant(split(3 * CHUNK));
  await using m = await attach('org/m', { socket: peer.path });
  expect(Buffer.compare(m.tensor('f32').bytes, peer.region.expected('f32'))).toBe(0);
  expect(() => m.tensor('f64')).toThrowError(expect.objectContaining({ code: 'WORKER_NOT_CONTIGUOUS' }));
});

it('joins extents that touch', async () => {
  peer.script = (c) => c.grant(split(CHUNK + 30));
  await using m = await attach('org/m', { socket: peer.path });
  expect(Buffer.compare(m.tensor('f64').bytes, peer.region.expected('f64'))).toBe(0);
});

it('two files on the same bytes share a window', async () => {
  const twice: Script = (c) => c.grant((h) => h.buffers[0]!.files.push({ ...fileOf(h), path: 'copy.safetensors' }));
  peer.script = twice;
  await using m = await attach('org/m', { socket: peer.path });
  expect(m.file('copy.safetensors').buffer).toBe(m.file('w.safetensors').buffer);
  expect(m.file(MANIFEST).length).toBeGreaterThan(0);
});

it.each(['MODEL_NOT_FOUND', 'MODEL_NOT_READY', 'SOCKET_UID', 'SOMETHING_NEW'])('keeps the code %s', async (code) => {
  peer.script = (c) => c.refuse(code);
  await expect(attach('org/m', { socket: peer.path })).rejects.toMatchObject({ code, message: 'No.' });
});
