/** Goal: the connection is the lease, and comes back by itself. Method: a peer with real range locks that dies and returns. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { attach, type Model } from '../../worker/node/index.ts';
import { until } from '../support/until.ts';
import { CHUNK, Peer, type PeerHandle } from '../support/worker-peer.ts';

let peer: Peer;
beforeEach(async () => {
  peer = await new Peer().start();
});
afterEach(() => peer.end());

function events(m: Model): string[] {
  const seen: string[] = [];
  for (const event of ['draining', 'detached', 'reattached'] as const) m.on(event, () => seen.push(event));
  return seen;
}

it('tells once that the content drains', async () => {
  peer.script = (c) => c.grant(undefined, '{"event":"draining"}\n');
  await using m = await attach('org/m', { socket: peer.path });
  const seen = events(m);
  await until(() => m.draining);
  expect(m.attached).toBe(true);
  // What follows the lines tells when they were read.
  for (const socket of peer.open) socket.end('{"event":"draining"}\n{"event":"new"}\n');
  await until(() => !m.attached);
  expect(seen).toEqual(['draining', 'detached']);
});

it.each(['garbage\n', '[]\n', '{"event":7}\n', '\n\n\n', '\u0000\n'])('ignores %j between events', async (noise) => {
  await using m = await attach('org/m', { socket: peer.path });
  for (const socket of peer.open) socket.write(`${noise}{"event":"drai`);
  await sleep(5);
  for (const socket of peer.open) socket.write('ning"}\n');
  await until(() => m.draining);
});

it('attaches again by digest when the service is back', async () => {
  await using m = await attach('org/m', { socket: peer.path, files: ['w.safetensors'] });
  const seen = events(m);
  const { bytes } = m.tensor('f32');
  await peer.stop();
  await until(() => !m.attached);
  expect(peer.region.mayReuse()).toBe(false);
  expect(Buffer.compare(bytes, peer.region.expected('f32'))).toBe(0);
  await peer.start();
  await until(() => m.attached);
  expect(seen).toEqual(['detached', 'reattached']);
  expect(peer.requests.at(-1)).toEqual({
    v: 1,
    op: 'attach',
    model: 'org/m:latest',
    digest: m.digest,
    files: ['w.safetensors'],
  });
  expect(m.tensor('f32').bytes.buffer).toBe(bytes.buffer);
});

it('asks again while the service refuses', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  await peer.stop();
  peer.script = (c) => (peer.requests.length < 4 ? c.refuse('SERVER_STARTING') : c.grant());
  await peer.start();
  await until(() => peer.requests.length === 4 && m.attached);
});

it('a name that moved while the service was away counts as draining', async () => {
  await using m = await attach('org/m', { socket: peer.path });
  const seen = events(m);
  await peer.stop();
  peer.script = (c) => c.refuse('MODEL_MISMATCH');
  await peer.start();
  await until(() => m.draining);
  expect([seen, m.attached]).toEqual([['detached', 'draining'], false]);
});

function move(h: PeerHandle): void {
  for (const extent of h.buffers[0]!.files.flatMap((f) => f.extents)) extent.bufferOffset += 4096;
}

const elsewhere: [string, (h: PeerHandle) => void][] = [
  ['other offsets', move],
  ['another region', (h) => Reflect.set(h.region, 'uuid', 'u-2')],
  ['nonsense', (h) => Reflect.set(h, 'buffers', 7)],
];

it.each(elsewhere)('gives back a lease on %s', async (_, damage) => {
  await using m = await attach('org/m', { socket: peer.path });
  await peer.stop();
  peer.script = (c) => c.grant(damage);
  await peer.start();
  await until(() => peer.requests.length === 2 && peer.open.size === 0);
  expect(m.attached).toBe(false);
  expect(Buffer.compare(m.tensor('f32').bytes, peer.region.expected('f32'))).toBe(0);
});

it('close while the service is away ends the coming back', async () => {
  const m = await attach('org/m', { socket: peer.path });
  await peer.stop();
  await until(() => !m.attached);
  await m.close();
  await peer.start();
  await sleep(200);
  expect(peer.requests).toHaveLength(1);
});

it('waits for a service that starts later', async () => {
  await peer.stop();
  const attaching = attach('org/m', { socket: peer.path, wait: 120 });
  await sleep(100);
  await peer.start();
  await using m = await attaching;
  expect(m.tensors.size).toBe(14);
  expect(peer.requests[0]).toMatchObject({ wait: true, timeoutSeconds: expect.any(Number) });
});

it('says that nobody is there', async () => {
  await peer.stop();
  for (const wait of [0, 0.1]) {
    const failure = attach('org/m', { socket: peer.path, wait });
    await expect(failure).rejects.toMatchObject({
      code: 'WORKER_NO_SERVICE',
      message: expect.stringContaining(peer.path),
    });
  }
  const long = attach('org/m', { socket: `/tmp/${'x'.repeat(200)}` });
  await expect(long).rejects.toMatchObject({ code: 'WORKER_NO_SERVICE' });
});

it('an abort ends a pending attach at once', async () => {
  peer.script = () => {};
  const ending = new AbortController();
  const attaching = attach('org/m', { socket: peer.path, wait: 600, signal: ending.signal });
  await until(() => peer.requests.length === 1);
  ending.abort(new Error('enough'));
  await expect(attaching).rejects.toThrow('enough');
  await until(() => peer.open.size === 0);
  const before = attach('org/m', { socket: peer.path, signal: ending.signal });
  await expect(before).rejects.toThrow('enough');
  await peer.stop();
  const retrying = attach('org/m', { socket: peer.path, wait: 600, signal: AbortSignal.timeout(100) });
  await expect(retrying).rejects.toMatchObject({ name: 'TimeoutError' });
});

/** A worker process of its own, from the built package; `body` sees `m`. */
function worker(body: string): ChildProcess {
  const built = fileURLToPath(new URL('../../dist/worker/node/index.js', import.meta.url));
  const program = `
    import { attach } from ${JSON.stringify(built)};
    const m = await attach('org/m', { socket: ${JSON.stringify(peer.path)} });
    ${body}`;
  const options = { stdio: ['pipe', 'pipe', 'inherit'] as ['pipe', 'pipe', 'inherit'] };
  return spawn(process.execPath, ['--input-type=module', '-e', program], options);
}

it('the lease does not keep the process alive', async () => {
  const [code] = await once(worker(''), 'exit');
  expect(code).toBe(0);
  await until(() => peer.open.size === 0);
  expect(peer.region.mayReuse()).toBe(true);
});

it('nor does a service that is away', async () => {
  const child = worker(
    `process.stdout.write('up'); m.on('detached', () => process.stdin.destroy()); process.stdin.resume();`,
  );
  await once(child.stdout!, 'data');
  await peer.stop();
  expect((await once(child, 'exit'))[0]).toBe(0);
});

it('a killed worker frees everything', async () => {
  const child = worker(`process.stdout.write('up'); process.stdin.resume();`);
  await once(child.stdout!, 'data');
  expect(peer.region.mayReuse()).toBe(false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await until(() => peer.open.size === 0 && peer.region.mayReuse());
});

it('a store through a view ends the writer with SIGSEGV and changes nothing', async () => {
  const before = peer.region.snapshot(CHUNK, CHUNK);
  const child = worker(`m.tensor('f32').bytes[0] ^= 255; process.stdout.write('survived');`);
  let output = '';
  child.stdout!.on('data', (text) => (output += text));
  const [code, signal] = await once(child, 'exit');
  expect([code, signal, output]).toEqual([null, 'SIGSEGV', '']);
  expect(Buffer.compare(peer.region.snapshot(CHUNK, CHUNK), before)).toBe(0);
});
