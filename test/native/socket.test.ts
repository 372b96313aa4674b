/** Goal: one line each way with descriptors, on time, and nothing behind the line taken. Method: real unix sockets. */
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../native/index.ts';
import { scratchDirectory } from '../support/scratch.ts';

/** Of a call that is not expected to wait. */
const patienceMs = 120_000;

let server: Server;
let path: string;
let client: number;
let peer: Socket;

/** The descriptor under a socket; Node has no public name for it. */
const fdOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;
const openCount = () => readdirSync('/proc/self/fd').length;

beforeEach(async () => {
  path = join(scratchDirectory(), 'socket');
  server = createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  client = await native.connectUnix(path, patienceMs);
  peer = await connected;
});
afterEach(() => {
  closeSync(client);
  peer.destroy();
  server.close();
});

const send = (text: string, fds: number[] = []) => native.sendFds(fdOf(peer), Buffer.from(text), fds);
const exchange = (line: string, maxBytes = 1000, timeoutMs = patienceMs) =>
  native.exchangeLine(client, line, maxBytes, timeoutMs);

describe('exchangeLine', () => {
  it('sends a line, adds the newline, and receives one with its descriptors', async () => {
    const file = `${path}.file`;
    writeFileSync(file, 'bytes');
    const fds = [openSync(file, 'r'), openSync(file, 'r')];
    const heard = new Promise<string>((resolve) => peer.once('data', (data) => resolve(String(data))));
    peer.resume();
    const answer = exchange('{"op":"x"}');
    expect(await heard).toBe('{"op":"x"}\n');
    expect(send('{"ok":true}\n', fds)).toBe(12);
    const { data, fds: got } = await answer;
    expect(String(data)).toBe('{"ok":true}\n');
    expect(got.map((fd) => fstatSync(fd).ino)).toEqual(fds.map((fd) => fstatSync(fd).ino));
    for (const fd of [...fds, ...got]) closeSync(fd);
  });

  it('takes nothing behind the newline', async () => {
    send('first\nsec');
    send('ond\nrest');
    expect(String((await exchange('a')).data)).toBe('first\n');
    expect(String((await exchange('b')).data)).toBe('second\n');
  });

  it('puts a line together that comes in pieces', async () => {
    const answer = exchange('a');
    for (const piece of ['{"o', 'k":', 'true}', '\n']) {
      send(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(String((await answer).data)).toBe('{"ok":true}\n');
  });

  it('a line of exactly the limit passes, one byte more does not', async () => {
    send(`${'x'.repeat(99)}\n`);
    expect((await exchange('a', 100)).data).toHaveLength(100);
    send(`${'x'.repeat(100)}\n`);
    await expect(exchange('a', 100)).rejects.toMatchObject({ code: 'EMSGSIZE' });
  });

  it('a megabyte without a newline is refused', async () => {
    const answer = exchange('a', 65536);
    peer.write(Buffer.alloc(2 ** 20, 120));
    await expect(answer).rejects.toMatchObject({ code: 'EMSGSIZE' });
  });

  it('gives up on time, and when the peer goes', async () => {
    await expect(exchange('a', 100, 50)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    const answer = exchange('a');
    peer.destroy();
    await expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('reads what a peer said before it closed', async () => {
    send('{"ok":false}\n');
    peer.destroy();
    expect(String((await exchange('a')).data)).toBe('{"ok":false}\n');
  });

  it('closes descriptors that came with a failed answer', async () => {
    const before = openCount();
    const fd = openSync('/dev/null', 'r');
    send('x'.repeat(50), [fd, fd]);
    closeSync(fd);
    await expect(exchange('a', 50)).rejects.toMatchObject({ code: 'EMSGSIZE' });
    expect(openCount()).toBe(before);
  });
});

describe('sendFds', () => {
  it('carries as many descriptors as the kernel takes, and refuses more', async () => {
    const fd = openSync('/dev/null', 'r');
    expect(() => native.sendFds(fdOf(peer), Buffer.from('x'), Array(254).fill(fd))).toThrow(RangeError);
    send('\n', Array(253).fill(fd));
    const { fds } = await exchange('a');
    expect(fds).toHaveLength(253);
    for (const got of [fd, ...fds]) closeSync(got);
  });

  it('says -1 when the socket is full and throws when it is gone', () => {
    const data = Buffer.alloc(65536);
    let sent = 0;
    for (let i = 0; i < 1000 && sent !== -1; i++) sent = native.sendFds(fdOf(peer), data, []);
    expect(sent).toBe(-1);
    expect(() => native.sendFds(99999, data, [])).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => native.sendFds(fdOf(peer), Buffer.alloc(0), [])).toThrow(TypeError);
  });
});

it('peerCredentials names the process that connected', () => {
  const [uid, gid] = [process.geteuid!(), process.getegid!()];
  expect(native.peerCredentials(fdOf(peer))).toEqual({ pid: process.pid, uid, gid });
});

describe('connectUnix', () => {
  it('says why it cannot', async () => {
    await expect(native.connectUnix(`${path}.none`, 100)).rejects.toMatchObject({ code: 'ENOENT', syscall: 'connect' });
    await expect(native.connectUnix('x'.repeat(200), 100)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    await expect(native.connectUnix('', 100)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    writeFileSync(`${path}.file`, '');
    await expect(native.connectUnix(`${path}.file`, 100)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('gives a descriptor that a child does not inherit', () => {
    const link = readlinkSync(`/proc/self/fd/${client}`);
    expect(link).toMatch(/^socket:/);
    expect(execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' })).not.toContain(link);
  });
});

it('locks: types, ranges and errors', () => {
  const file = `${path}.locks`;
  writeFileSync(file, '');
  const [a, b] = [openSync(file, 'r+'), openSync(file, 'r+')];
  expect(native.ofdLock(a, 'read', 0, 10)).toBe(true);
  expect(native.ofdLock(b, 'read', 5, 10)).toBe(true);
  expect(native.ofdLock(b, 'write', 0, 10)).toBe(false);
  expect(native.ofdLock(b, 'write', 15, 2 ** 50)).toBe(true);
  expect(native.ofdHeld(a, 20, 1)).toBe(true);
  expect(native.ofdHeld(b, 20, 1)).toBe(false);
  native.ofdLock(a, 'unlock', 0, 10);
  expect(native.ofdLock(b, 'write', 0, 10)).toBe(true);
  const wrong = 'append' as 'read';
  expect(() => native.ofdLock(a, wrong, 0, 1)).toThrow(TypeError);
  expect(() => native.ofdLock(a, 'read', 0, 0)).toThrow(RangeError);
  expect(() => native.ofdLock(99999, 'read', 0, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  closeSync(a);
  closeSync(b);
});
