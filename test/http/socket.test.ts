/**
 * Goal: the worker socket answers good lines with descriptors and survives everything else.
 * Method: a real listener in a temporary folder, raw clients, canned services behind it.
 */
import { once } from 'node:events';
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { native } from '../../native/index.ts';
import { serverError } from '../../server/errors.ts';
import type { LeaseBook, ModelStore } from '../../server/services.ts';
import { defaultSocketPath } from '../../server/socket/path.ts';
import { type SocketOptions, WorkerSocket } from '../../server/socket/worker-socket.ts';
import { lineClient } from '../support/line-client.ts';
import { handle, model, stubServices } from '../support/stub-services.ts';
import { eventually, until } from '../support/until.ts';
import { testDeps } from '../support/web.ts';

/** No peer here is slow on purpose, unless a test says so. */
const patienceMs = 120_000;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'daxserve-socket-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Setup {
  store?: Partial<ModelStore>;
  leases?: Partial<LeaseBook>;
  options?: Partial<SocketOptions>;
  lineTimeoutMs?: number;
}

async function listen({ store, leases, options, lineTimeoutMs = patienceMs }: Setup = {}) {
  const released: string[] = [];
  const granted = async () => ({ handle: handle({ expiresAt: null }), fds: [openSync('/dev/null', 'r')] });
  const services = stubServices({
    ...(store && { store }),
    leases: { attach: granted, attachReserved: granted, release: async (id) => void released.push(id), ...leases },
  });
  const deps = testDeps(services);
  const socket = await WorkerSocket.listen(
    { path: join(folder(), 'd.sock'), mode: 0o600, allowUid: [], connectionsPerUidMax: 1024, ...options },
    { ...deps, lineTimeoutMs },
  );
  socket.adopt(services);
  onTestFinished(() => socket.close());
  return { socket, path: socket.path, deps, released };
}

const ATTACH = '{"v":1,"op":"attach","model":"org/m"}\n';

async function answer(path: string, bytes: string | Buffer) {
  const client = await lineClient(path);
  onTestFinished(() => void client.socket.destroy());
  client.socket.write(bytes);
  return { client, first: await client.line() };
}

/** What a worker does: one line out, one line with descriptors in. */
async function attachNative(path: string, line = ATTACH) {
  const fd = await native.connectUnix(path, patienceMs);
  const open = new Set([fd]);
  const close = () => {
    for (const each of open) closeSync(each);
    open.clear();
  };
  onTestFinished(close);
  const { data, fds } = await native.exchangeLine(fd, line.trimEnd(), 1 << 22, patienceMs);
  for (const each of fds) open.add(each);
  return { close, fds, answer: JSON.parse(data.toString()) as { ok: boolean; handle?: unknown; code?: string } };
}

test('attach answers with the handle and its descriptor, and closing releases the lease', async () => {
  const { path, released } = await listen();
  const { close, fds, answer: got } = await attachNative(path);
  expect(got.ok).toBe(true);
  expect(got.handle).toEqual(handle({ expiresAt: null }));
  expect(fds).toHaveLength(1);
  expect(released).toEqual([]);
  close();
  await eventually(() => expect(released).toEqual(['h1']));
});

test('a reserved handle is attached by id and token; the token is not sent back', async () => {
  const attachReserved = vi.fn(async () => ({
    handle: handle({ token: 'secret' }),
    fds: [openSync('/dev/null', 'r')],
  }));
  const { path } = await listen({ leases: { attachReserved } });
  const { answer: got } = await attachNative(path, '{"v":1,"op":"attach","handle":"h1","token":"secret"}\n');
  expect(got.handle).toEqual(handle());
  expect(attachReserved).toHaveBeenCalledWith('h1', 'secret', { pid: process.pid, uid: process.getuid?.() });
});

test("someone else's token is refused", async () => {
  const attachReserved = async () => {
    throw serverError('HANDLE_BAD_TOKEN', 'The token does not belong to this handle.');
  };
  const { path } = await listen({ leases: { attachReserved } });
  const { first } = await answer(path, '{"v":1,"op":"attach","handle":"h1","token":"other"}\n');
  expect(first).toMatchObject({ ok: false, code: 'HANDLE_BAD_TOKEN' });
});

test('a handle longer than the socket buffer arrives whole', async () => {
  const files = Array.from({ length: 20_000 }, (_, i) => ({
    path: `shard-${i}.safetensors`,
    size: i,
    digest: '00'.repeat(16),
    extents: [{ fileOffset: 0, bufferOffset: i, length: i }],
  }));
  const big = handle({ buffers: [{ size: 1, files }] });
  const { path } = await listen({
    leases: { attach: async () => ({ handle: big, fds: [openSync('/dev/null', 'r')] }) },
  });
  const { fds, answer: got } = await attachNative(path);
  expect(got.handle).toEqual(big);
  expect(fds).toHaveLength(1);
});

const BAD_LINES: [string, string | Buffer, string][] = [
  ['not JSON', 'hello\n', 'SOCKET_BAD_LINE'],
  ['binary garbage', Buffer.from([0, 255, 254, 128, 7, 10]), 'SOCKET_BAD_LINE'],
  [
    'bytes that are no UTF-8 in a name',
    Buffer.concat([Buffer.from('{"v":1,"op":"attach","model":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}\n')]),
    'SOCKET_BAD_LINE',
  ],
  ['an empty line', '\n', 'SOCKET_BAD_LINE'],
  ['an array', '[1]\n', 'SOCKET_BAD_LINE'],
  ['null', 'null\n', 'SOCKET_BAD_LINE'],
  ['no version', '{"op":"attach","model":"m"}\n', 'SOCKET_BAD_LINE'],
  ['another version', '{"v":2,"op":"attach","model":"m"}\n', 'SOCKET_BAD_LINE'],
  ['an unknown op', '{"v":1,"op":"format","model":"m"}\n', 'SOCKET_BAD_LINE'],
  ['a wrong type', '{"v":1,"op":"attach","model":5}\n', 'SOCKET_BAD_LINE'],
  ['an unknown key', '{"v":1,"op":"attach","model":"m","modle":"m"}\n', 'SOCKET_BAD_LINE'],
  ['a name with ..', '{"v":1,"op":"attach","model":"../m"}\n', 'SOCKET_BAD_LINE'],
  ['a name with a control character', '{"v":1,"op":"attach","model":"a\\u0000b"}\n', 'SOCKET_BAD_LINE'],
  ['a time of zero', '{"v":1,"op":"attach","model":"m","wait":true,"timeoutSeconds":0}\n', 'SOCKET_BAD_LINE'],
  ['a handle without a token', '{"v":1,"op":"attach","handle":"h1"}\n', 'SOCKET_BAD_LINE'],
  ['deep nesting', `${'['.repeat(60_000)}\n`, 'SOCKET_BAD_LINE'],
  ['a megabyte with a newline', `${'x'.repeat(1 << 20)}\n`, 'SOCKET_LINE_TOO_LONG'],
  ['a megabyte without a newline', 'x'.repeat(1 << 20), 'SOCKET_LINE_TOO_LONG'],
  ['two lines at once', ATTACH + ATTACH, 'SOCKET_BAD_LINE'],
];

test.each(BAD_LINES)('%s: one error line, then the end; the service goes on', async (_title, bytes, code) => {
  const { path } = await listen();
  const { client, first } = await answer(path, bytes);
  expect(first).toMatchObject({ ok: false, code });
  expect(await client.line()).toBeNull();
  await client.ended;
  expect((await attachNative(path)).answer.ok).toBe(true);
});

test('the longest line is taken, one byte more is not', async () => {
  const { path } = await listen();
  const pad = (bytes: number) => `${' '.repeat(bytes - ATTACH.length + 1)}${ATTACH}`;
  expect((await attachNative(path, pad(64 * 1024))).answer.ok).toBe(true);
  expect((await answer(path, pad(64 * 1024 + 1))).first).toMatchObject({ code: 'SOCKET_LINE_TOO_LONG' });
});

test('a line in pieces is one line; half a line and a close leaves nothing behind', async () => {
  const { path, released } = await listen();
  const client = await lineClient(path);
  for (const byte of ATTACH.slice(0, 20)) client.socket.write(byte);
  client.socket.write(ATTACH.slice(20));
  expect(await client.line()).toMatchObject({ ok: true });
  client.socket.destroy();
  await eventually(() => expect(released).toHaveLength(1));
  const half = await lineClient(path);
  half.socket.end(ATTACH.slice(0, 10));
  await half.ended;
  expect((await attachNative(path)).answer.ok).toBe(true);
});

test('a second line on a leased connection ends it and its lease', async () => {
  const { path, released } = await listen();
  const { client, first } = await answer(path, ATTACH);
  expect(first).toMatchObject({ ok: true });
  client.socket.write(ATTACH);
  expect(await client.line()).toMatchObject({ ok: false, code: 'SOCKET_BAD_LINE' });
  await client.ended;
  await eventually(() => expect(released).toEqual(['h1']));
});

async function idleClients(path: string, count: number) {
  const idle = await Promise.all(Array.from({ length: count }, () => lineClient(path)));
  onTestFinished(() => idle.forEach(({ socket }) => void socket.destroy()));
  return idle;
}

test('500 idle connections do not keep others out', async () => {
  const { path } = await listen();
  const idle = await idleClients(path, 500);
  expect((await attachNative(path)).answer.ok).toBe(true);
  expect(idle.filter(({ socket }) => socket.readyState !== 'open')).toEqual([]);
});

test('idle connections are closed after a while', async () => {
  const { path } = await listen({ lineTimeoutMs: 100 });
  for (const client of await idleClients(path, 50)) {
    expect(await client.line()).toMatchObject({ ok: false, code: 'SOCKET_IDLE' });
    await client.ended;
  }
});

test('one user cannot take more than its share of connections', async () => {
  const { path } = await listen({ options: { connectionsPerUidMax: 3 } });
  const held = await Promise.all([1, 2, 3].map(() => lineClient(path)));
  onTestFinished(() => held.forEach(({ socket }) => void socket.destroy()));
  const extra = await lineClient(path);
  expect(await extra.line()).toMatchObject({ ok: false, code: 'SOCKET_TOO_MANY' });
  held[0]?.socket.destroy();
  await held[0]?.ended;
  await extra.ended;
  await eventually(async () => expect((await attachNative(path)).answer.ok).toBe(true));
});

test('a failure in the lease book is an error line', async () => {
  const attach = async () => {
    throw serverError('MODEL_NOT_FOUND', 'There is no model org/m.');
  };
  const { path } = await listen({ leases: { attach } });
  expect((await answer(path, ATTACH)).first).toEqual({
    ok: false,
    code: 'MODEL_NOT_FOUND',
    error: 'There is no model org/m.',
  });
});

test('an unforeseen failure tells nothing of the inside', async () => {
  const attach = async () => {
    throw new TypeError('secret path /root/x');
  };
  const { path } = await listen({ leases: { attach } });
  const { first } = await answer(path, ATTACH);
  expect(first).toMatchObject({ code: 'SERVER_INTERNAL' });
  expect(JSON.stringify(first)).not.toContain('secret');
});

test('wait: unknown, then loading, then ready', async () => {
  const states = [null, model({ state: 'loading' }), model()];
  const get = vi.fn(async () => {
    const next = states.length > 1 ? states.shift() : states[0];
    if (!next) throw serverError('MODEL_NOT_FOUND', 'no such model');
    return next;
  });
  const settled = vi.fn(async () => model());
  const { path } = await listen({ store: { get, settled } });
  const { answer: got } = await attachNative(path, '{"v":1,"op":"attach","model":"org/m","wait":true}\n');
  expect(got.ok).toBe(true);
  expect(settled).toHaveBeenCalledTimes(1);
});

test('wait ends at its time limit', async () => {
  const get = async () => {
    throw serverError('MODEL_NOT_FOUND', 'no such model');
  };
  const { path } = await listen({ store: { get } });
  const { first } = await answer(path, '{"v":1,"op":"attach","model":"m","wait":true,"timeoutSeconds":0.05}\n');
  expect(first).toMatchObject({ code: 'MODEL_WAIT_TIMEOUT' });
});

test('wait answers with the reason when the load fails', async () => {
  const error = { code: 'SOURCE_NOT_FOUND', detail: 'There is nothing at /x.' };
  const { path } = await listen({ store: { get: async () => model({ state: 'failed', error }) } });
  const { first } = await answer(path, '{"v":1,"op":"attach","model":"m","wait":true}\n');
  expect(first).toEqual({ ok: false, code: error.code, error: error.detail });
});

test('source loads an unknown model and repeats a failed load', async () => {
  for (const known of [null, model({ state: 'failed' })]) {
    const load = vi.fn<ModelStore['load']>(async () => ({ outcome: 'miss', model: model({ state: 'loading' }) }));
    const get = async () => {
      if (load.mock.calls.length > 0) return model();
      if (known) return known;
      throw serverError('MODEL_NOT_FOUND', 'no such model');
    };
    const { path } = await listen({ store: { load, get } });
    const line = '{"v":1,"op":"attach","model":"org/m","wait":true,"source":"/models/m"}\n';
    expect((await attachNative(path, line)).answer.ok).toBe(true);
    expect(load).toHaveBeenCalledWith({ source: '/models/m', name: 'org/m' });
  }
});

test('a worker that leaves while it waits ends the wait', async () => {
  let aborted = false;
  let waits = false;
  const settled: ModelStore['settled'] = (_name, signal) =>
    new Promise((_, reject) => {
      waits = true;
      signal?.addEventListener('abort', () => {
        aborted = true;
        reject(signal.reason);
      });
    });
  const { path } = await listen({ store: { get: async () => model({ state: 'loading' }), settled } });
  const client = await lineClient(path);
  client.socket.write('{"v":1,"op":"attach","model":"org/m","wait":true}\n');
  await until(() => waits);
  client.socket.destroy();
  await until(() => aborted);
});

test('draining is told to the worker that holds the lease, and to no other', async () => {
  let tell: (id: string) => void = () => {};
  let count = 0;
  const { path } = await listen({
    leases: {
      attach: async () => ({ handle: handle({ id: `h${count++}` }), fds: [openSync('/dev/null', 'r')] }),
      onDraining: (listener) => {
        tell = listener;
        return () => {};
      },
    },
  });
  const first = await answer(path, ATTACH);
  const second = await answer(path, ATTACH);
  expect(second.first).toMatchObject({ handle: { id: 'h1' } });
  tell('h1');
  expect(await second.client.line()).toEqual({ event: 'draining' });
  first.client.socket.destroy();
  expect(await first.client.line()).toBeNull();
});

test('while the region is prepared, and while the service stops, workers are told to come back', async () => {
  const { path, deps } = await listen();
  deps.lifecycle.stop();
  expect((await answer(path, ATTACH)).first).toMatchObject({ code: 'SERVER_STOPPING' });
  const starting = testDeps(null);
  const early = await WorkerSocket.listen(
    { path: join(folder(), 'd.sock'), mode: 0o600, allowUid: [], connectionsPerUidMax: 8 },
    { ...starting, lineTimeoutMs: patienceMs },
  );
  onTestFinished(() => early.close());
  expect((await answer(early.path, ATTACH)).first).toMatchObject({ code: 'SERVER_STARTING' });
});

test('the socket has the mode asked for, and goes away with the service', async () => {
  const { socket, path } = await listen({ options: { mode: 0o660 } });
  expect(statSync(path).mode & 0o777).toBe(0o660);
  await socket.close();
  await socket.close();
  expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
});

test('a live socket is refused, a stale one replaced, anything else left alone', async () => {
  const { path, deps } = await listen();
  const options = { mode: 0o600, allowUid: [], connectionsPerUidMax: 8 };
  const again = (at: string) => WorkerSocket.listen({ path: at, ...options }, { ...deps, lineTimeoutMs: patienceMs });
  await expect(again(path)).rejects.toMatchObject({ code: 'SERVER_SOCKET_IN_USE' });

  const dir = folder();
  const foreign = createServer().listen(join(dir, 'foreign.sock'));
  await once(foreign, 'listening');
  await expect(again(join(dir, 'foreign.sock'))).rejects.toMatchObject({ code: 'SERVER_SOCKET_IN_USE' });
  foreign.close();

  writeFileSync(join(dir, 'file'), 'precious');
  await expect(again(join(dir, 'file'))).rejects.toMatchObject({ code: 'SERVER_SOCKET_BAD_PATH' });
  await expect(again(join(dir, 'x'.repeat(120)))).rejects.toMatchObject({ code: 'SERVER_SOCKET_BAD_PATH' });
  chmodSync(dir, 0o777);
  await expect(again(join(dir, 'd.sock'))).rejects.toMatchObject({ code: 'SERVER_SOCKET_BAD_PATH' });
});

test('the default path is the system one for root, the own runtime folder for others', () => {
  expect(defaultSocketPath({}, 0)).toBe('/run/daxserve/daxserve.sock');
  expect(defaultSocketPath({ XDG_RUNTIME_DIR: '/run/user/7' }, 7)).toBe('/run/user/7/daxserve/daxserve.sock');
  expect(defaultSocketPath({}, 7)).toBe(join(tmpdir(), 'daxserve-7/daxserve.sock'));
});
