/**
 * Goal: a service process starts, refuses to start twice, stops in order and comes back with its weights.
 * Method: real processes on a region of their own, signals, the command line beside them.
 */
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { hostIdentity, Region, Registry, takeHostRow, tryLockAttaching } from '../../daxfs/index.ts';
import { runDaxserve } from '../support/command.ts';
import { lineClient } from '../support/line-client.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service, type ServiceOptions } from '../support/service.ts';
import { until } from '../support/until.ts';

async function started(
  options: ServiceOptions = {},
  extra: (service: Service) => string[] = () => [],
): Promise<Service> {
  const service = new Service({ size: '64M', ...options });
  onTestFinished(() => service.dispose());
  return service.start(extra(service));
}

/** Another host of the region, in this process. */
async function attachedHost(path: string): Promise<Registry> {
  const region = await Region.open({ path });
  const attached = new Registry(region);
  const identity = hostIdentity('other', region);
  const lock = await takeHostRow(region, identity, (index) => void attached.attach(index, identity));
  onTestFinished(() => {
    attached.detach();
    lock.release();
    region.close();
  });
  return attached;
}

function writeModel(service: Service, name: string): string {
  const path = join(service.dir, `${name}.safetensors`);
  writeSafetensors(path, matrices(2, 1 << 20));
  return path;
}

test('SIGTERM: workers and streams are let go, exit 0, and the next start has the weights', async () => {
  const service = await started();
  await service.load(writeModel(service, 'kept'), 'kept');
  const worker = await lineClient(service.socket);
  worker.socket.write('{"v":1,"op":"attach","model":"kept"}\n');
  expect(await worker.line()).toMatchObject({ ok: true });
  const waiting = await lineClient(service.socket);
  waiting.socket.write('{"v":1,"op":"attach","model":"unknown","wait":true}\n');
  expect(await service.stop('SIGTERM')).toBe(0);
  expect(await waiting.line()).toMatchObject({ ok: false, code: 'SERVER_STOPPING' });
  await worker.ended;
  await service.start();
  const { body } = await service.call('GET', '/models/kept');
  expect(body).toMatchObject({ state: 'ready', name: 'kept' });
});

test('SIGTERM while it still starts: what was opened is closed again, exit 0', async () => {
  const service = new Service({ size: '64M' });
  onTestFinished(() => service.dispose());
  // While somebody else attaches, it waits for its row.
  const region = await Region.create({ path: service.region, size: 64 * 2 ** 20 });
  const attaching = tryLockAttaching(region)!;
  const started = service.start().catch(() => 'ended before it was ready');
  await until(() => service.log.includes('service.start'));
  service.child!.kill('SIGTERM');
  await until(() => service.log.includes('service.stop'));
  const exited = once(service.child!, 'exit');
  attaching.release();
  region.close();
  expect((await exited)[0]).toBe(0);
  expect(await started).toBe('ended before it was ready');
  expect(service.log).toContain('service.stopped');
  expect(existsSync(service.socket)).toBe(false);
});

test('SIGKILL: the stale socket is replaced and the row taken over', async () => {
  const service = await started();
  await service.load(writeModel(service, 'kept'), 'kept');
  await service.stop('SIGKILL');
  await service.start();
  expect((await service.call('GET', '/models/kept')).body).toMatchObject({ state: 'ready' });
  expect((await service.call('GET', '/hosts')).body).toMatchObject({ items: [{ self: true, state: 'live' }] });
});

test('taken for dead by another host, it lets go, comes back as a new host and serves; workers attach anew', async () => {
  const service = await started({ args: ['--host-id', 'paused'] });
  await service.load(writeModel(service, 'kept'), 'kept');
  const worker = await lineClient(service.socket);
  worker.socket.write('{"v":1,"op":"attach","model":"kept"}\n');
  expect(await worker.line()).toMatchObject({ ok: true });
  const attached = await attachedHost(service.region);
  const host = attached.hosts().find(({ name }) => name === 'paused')!;
  expect(attached.lapse(host)).toBe(true);
  attached.recover(host.index, 'lapsed');
  await worker.ended;
  await until(async () => (await service.call('GET', '/readyz')).status === 200);
  expect((await service.call('GET', '/models/kept')).body).toMatchObject({ state: 'ready' });
  const again = await lineClient(service.socket);
  again.socket.write('{"v":1,"op":"attach","model":"kept"}\n');
  expect(await again.line()).toMatchObject({ ok: true });
  again.socket.destroy();
  const back = attached.hosts().find(({ name }) => name === 'paused')!;
  expect([back.state, back.generation]).toEqual(['live', host.generation + 1]);
});

test('a stop lets go of idle connections at once and waits for a running request', async () => {
  const service = await started();
  const { port } = new URL(service.url);
  const body = JSON.stringify({ source: service.dir });
  // A request whose body is not complete yet keeps the service from ending.
  const slow = request({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/models',
    headers: { 'content-type': 'application/json', 'content-length': body.length },
  });
  slow.write(body.slice(0, 5));
  const probe = connect(Number(port), '127.0.0.1');
  await once(probe, 'connect');
  probe.write('GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  expect(String((await once(probe, 'data'))[0])).toContain('200 OK');
  const closed = new Promise<string>((resolve) => probe.once('close', () => resolve('closed')));
  service.child?.kill('SIGTERM');
  await until(() => service.log.includes('service.stop'));
  expect(await closed).toBe('closed');
  const answered = once(slow, 'response') as Promise<[IncomingMessage]>;
  const ended = service.child && once(service.child, 'exit');
  slow.end(body.slice(5));
  expect((await answered)[0].statusCode).toBe(503);
  expect((await ended)?.[0]).toBe(0);
});

test('a second service is refused the address, the socket, and the host id', async () => {
  const service = await started();
  const { host } = new URL(service.url);
  const other = join(service.dir, 'other.sock');
  const base = ['serve', '--region', service.region, '--log-level', 'silent'];
  const address = await runDaxserve([...base, '--socket', other, '--listen', host]);
  expect([address.code, address.stderr]).toEqual([1, expect.stringContaining('SERVER_LISTEN')]);
  const socket = await runDaxserve([...base, '--socket', service.socket, '--listen', '127.0.0.1:0']);
  expect([socket.code, socket.stderr]).toEqual([1, expect.stringContaining('SERVER_SOCKET_IN_USE')]);
  const identity = await runDaxserve([...base, '--socket', other, '--listen', '127.0.0.1:0']);
  expect([identity.code, identity.stderr]).toEqual([1, expect.stringContaining('DAXFS_HOST_BUSY')]);
  expect((await service.call('GET', '/readyz')).status).toBe(200);
});

test('mistakes in the configuration are exit code 2 and name the flag', async () => {
  for (const args of [['--listen', 'x'], ['--numa', 'far'], ['--listen', '0.0.0.0:0'], ['--nope']]) {
    const { code, stderr } = await runDaxserve(['serve', '--region', '/dev/shm/never-made', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(args[0]);
  }
});

test('a source root that does not exist is named in the log', async () => {
  const service = await started({}, ({ dir }) => ['--source-root', join(dir, 'absent')]);
  const lines = service.log.split('\n').filter((line) => line.includes('source-root.missing'));
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ level: 40, folder: join(service.dir, 'absent') }]);
});

test('tokens: without one nothing, with one the whole API; it is not in the log', async () => {
  const token = 'a-secret-of-some-length';
  const service = await started({}, ({ dir }) => {
    writeFileSync(join(dir, 'tokens'), `admin ${token}\n`, { mode: 0o600 });
    return ['--token-file', join(dir, 'tokens')];
  });
  expect((await service.call('GET', '/models')).status).toBe(401);
  const refused = await runDaxserve(['ls', '--url', service.url]);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('SERVER_UNAUTHORIZED')]);
  expect(await runDaxserve(['ls', '--url', service.url, '--token', token])).toMatchObject({ code: 0 });
  expect(await runDaxserve(['ls', '--url', service.url], { DAXSERVE_TOKEN: token })).toMatchObject({ code: 0 });
  expect(service.log).not.toContain(token);
});

test('the ops address has health and metrics, and nothing else', async () => {
  const service = await started({ args: ['--ops-listen', '127.0.0.1:0', '--log-level', 'info'] });
  await until(() => service.log.includes('service.ready'));
  const ready = service.log.split('\n').find((line) => line.includes('service.ready'))!;
  const { opsUrl } = JSON.parse(ready) as { opsUrl: string };
  const get = async (path: string) => (await fetch(`${opsUrl}${path}`)).status;
  for (const path of ['/healthz', '/readyz', '/metrics']) expect(await get(path)).toBe(200);
  for (const path of ['/models', '/handles', '/region', '/openapi.json', '/docs']) expect(await get(path)).toBe(404);
});

test('preloaded sources are served, a bad one is said and harms nothing', async () => {
  const service = new Service({ size: '64M' });
  onTestFinished(() => service.dispose());
  const source = join(service.dir, 'early');
  mkdirSync(source);
  writeModel(service, 'early/model');
  await service.start(['--log-level', 'silent', join(service.dir, 'missing'), source]);
  await until(async () => (await service.call('GET', '/models/early')).body.state === 'ready');
  await until(() => service.log.includes('SOURCE_NOT_FOUND') && /early:latest {2}ready/.test(service.log));
});
