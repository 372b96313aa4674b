/** Goal: one live instance per host id, and the dead told from the living at once. Method: real processes, killed; planted rows. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encode, offsetOf } from '../../daxfs/codec.ts';
import { isHostDead, isRowLocked, takeHostRow } from '../../daxfs/host.ts';
import { bootId, hostIdentity, lockDomain, startTime } from '../../daxfs/host-identity.ts';
import { HOST_STATE, hostRow } from '../../daxfs/layout.ts';
import { Region } from '../../daxfs/region.ts';
import { hostRowOffset } from '../../daxfs/region-hosts.ts';
import { Registry } from '../../daxfs/registry.ts';
import { type Place, placeOn } from '../support/backings.ts';
import { until } from '../support/until.ts';

const size = 16 * 2 ** 20;
const script = fileURLToPath(new URL('./host-child.js', import.meta.url));
let place: Place;
let region: Region;
const children: ChildProcess[] = [];

beforeEach(async () => {
  place = await placeOn('tmpfs (/dev/shm)', size);
  region = await Region.create({ ...place.request, size, heartbeat: { intervalMs: 20, limitMs: 300 } });
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  region.close();
  await place.dispose();
});

type Answer = { index?: number; code?: string; message?: string };

interface StartedHost {
  child: ChildProcess;
  answer: Answer;
}

async function startHost(name: string): Promise<StartedHost> {
  const child = spawn(process.execPath, [script, place.path!, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const [data] = (await once(child.stdout!, 'data')) as [Buffer];
  return { child, answer: JSON.parse(String(data)) as Answer };
}

async function killHost({ child, answer }: StartedHost): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
  await until(() => !isRowLocked(region, answer.index!), 'its lock went');
}

/** A row as a host of another kernel would have written it. */
function plantRow(index: number, name: string, boot: Buffer = Buffer.alloc(16, 9), pid = 4711): void {
  const bytes = encode(hostRow, {
    word: BigInt(HOST_STATE.LIVE) | (1n << 3n) | (15n << 19n),
    heartbeat: 5n,
    boot_id: boot,
    pid,
    name_len: name.length,
    name: Buffer.from(name),
  });
  region.mapping.write(hostRowOffset(region.header, index), bytes);
}

it('says who we are', () => {
  expect(bootId()).toHaveLength(16);
  expect(startTime()).toBeGreaterThan(0n);
  expect(hostIdentity('n')).toMatchObject({ name: 'n', pid: process.pid, startTime: startTime() });
  expect(() => hostIdentity('x'.repeat(65))).toThrow(/--host-id/);
  expect(() => hostIdentity('')).toThrow(RangeError);
});

it('counts hosts on two nodes of one device as two kernels: they cannot see each other’s locks', () => {
  const [a, b] = [openSync('/dev/null', 'r'), openSync('/dev/zero', 'r')];
  const domain = (fd: number, kind: string) => lockDomain({ fd, kind }).toString('hex');
  expect(domain(a, 'devdax')).toBe(domain(a, 'devdax'));
  expect(domain(a, 'devdax')).not.toBe(domain(b, 'devdax'));
  expect(domain(a, 'tmpfs')).toBe(bootId().toString('hex'));
  closeSync(a);
  closeSync(b);
});

it('refuses a second live instance, naming the process, and takes a dead one’s row at once', async () => {
  const first = await startHost('one');
  const second = await startHost('one');
  expect(second.answer.code).toBe('DAXFS_HOST_BUSY');
  expect(second.answer.message).toMatch(new RegExp(`process ${first.child.pid} on this machine.*--host-id`));
  await killHost(first);
  const third = await startHost('one');
  expect(third.answer.index).toBe(first.answer.index);
});

it('gives two names two rows, also when both come at once', async () => {
  const hosts = await Promise.all(['a', 'b', 'c'].map((name) => startHost(name)));
  expect(new Set(hosts.map(({ answer }) => answer.index))).toEqual(new Set([0, 1, 2]));
});

it('lets one of several instances of one name in, when all come at once', async () => {
  const hosts = await Promise.all(Array.from({ length: 4 }, () => startHost('same')));
  const codes = hosts.map(({ answer }) => answer.code ?? 'in').sort();
  expect(codes).toEqual(['DAXFS_HOST_BUSY', 'DAXFS_HOST_BUSY', 'DAXFS_HOST_BUSY', 'in']);
});

it('tells the dead from the living by the lock', async () => {
  const started = await startHost('worker');
  const { answer } = started;
  const registry = new Registry(region);
  const host = () => registry.hosts().find(({ index }) => index === answer.index)!;
  expect(isRowLocked(region, answer.index!)).toBe(true);
  expect(isHostDead(region, host())).toBe(false);
  await killHost(started);
  expect(isHostDead(region, host())).toBe(true);
  // A host of another kernel may live, whatever our locks say.
  expect(isHostDead(region, { index: answer.index!, bootId: Buffer.alloc(16, 9) })).toBe(false);
});

it('takes its own row after a reboot when the row has stopped beating', async () => {
  plantRow(3, 'rebooted');
  const lock = await takeHostRow(region, hostIdentity('rebooted'));
  expect(lock.index).toBe(3);
  lock.release();
});

it('refuses a name that beats on another kernel', async () => {
  plantRow(3, 'elsewhere');
  const at = hostRowOffset(region.header, 3) + offsetOf(hostRow, 'heartbeat');
  let beat = 5n;
  const timer = setInterval(() => region.mapping.store64(at, ++beat), 10);
  const taking = takeHostRow(region, hostIdentity('elsewhere'));
  await expect(taking).rejects.toMatchObject({ code: 'DAXFS_HOST_BUSY', extra: { pid: 4711 } });
  await expect(takeHostRow(region, hostIdentity('elsewhere'))).rejects.toThrow(/on another kernel/);
  clearInterval(timer);
});

it('does not take a host for dead that was paused together with us', async () => {
  plantRow(3, 'elsewhere');
  const at = hostRowOffset(region.header, 3) + offsetOf(hostRow, 'heartbeat');
  const taking = takeHostRow(region, hostIdentity('elsewhere'));
  await turn();
  // It has looked once. Longer than the limit for silence nobody runs; then the other one comes a little after us.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
  const timer = setTimeout(() => region.mapping.store64(at, 6n), 50);
  await expect(taking).rejects.toMatchObject({ code: 'DAXFS_HOST_BUSY' });
  clearTimeout(timer);
});

it('uses a dead row of this kernel last, and refuses when all rows are others’', async () => {
  for (let i = 0; i < 15; i++) plantRow(i, `host${i}`, i === 7 ? bootId() : undefined);
  const lock = await takeHostRow(region, hostIdentity('new'));
  expect(lock.index).toBe(7);
  await expect(takeHostRow(region, hostIdentity('newer'))).rejects.toMatchObject({ code: 'DAXFS_HOSTS_FULL' });
  lock.release();
});

it('tries another row when attaching loses the first to another kernel, and frees what it gives up', async () => {
  const tried: number[] = [];
  const lock = await takeHostRow(region, hostIdentity('duel'), (index) => {
    tried.push(index);
    if (tried.length > 1) return;
    plantRow(index, 'winner');
    throw Object.assign(new Error('taken'), { code: 'DAXFS_HOST_BUSY' });
  });
  expect([tried, lock.index]).toEqual([[0, 1], 1]);
  expect(isRowLocked(region, 0)).toBe(false);
  lock.release();
  const failing = takeHostRow(region, hostIdentity('duel'), () => {
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(isRowLocked(region, 1)).toBe(false);
});

it('a region with a beating host of another kernel is neither deleted nor replaced', async () => {
  const { deleteRegion } = await import('../../daxfs/region-create.ts');
  plantRow(3, 'elsewhere');
  const at = hostRowOffset(region.header, 3) + offsetOf(hostRow, 'heartbeat');
  const fd = region.fd;
  const other = await import('../../native/index.ts').then(
    ({ native }) => new native.Mapping(fd, 0, size, { write: true }),
  );
  region.close();
  let beat = 5n;
  const timer = setInterval(() => other.store64(at, ++beat), 10);
  // The mapping keeps the region's own description, and with it the lock of an open region.
  await expect(deleteRegion(place.request)).rejects.toMatchObject({ code: 'DAXFS_IN_USE' });
  other.close();
  clearInterval(timer);
  await deleteRegion(place.request);
});
