/** Goal: a service that survives another one on its region gets its memory back, but nothing that a worker maps. Method: two processes, kill -9 of one, fill by the other. */
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { Holder } from '../support/holder.ts';
import { killDuringLoad } from '../support/kill-load.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';
import { until } from '../support/until.ts';

const MiB = 2 ** 20;
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function pair(size: string): Promise<[Service, Service]> {
  const first = new Service({ size, args: ['--host-id', 'first'] });
  cleanups.push(() => first.dispose());
  await first.start();
  const second = new Service({ size, region: first.region, args: ['--host-id', 'second', '--evict'] });
  cleanups.push(() => second.dispose());
  await second.start();
  return [first, second];
}

function model(s: Service, name: string, seed: number, mib: number): string {
  const path = join(s.dir, `${name}.safetensors`);
  writeSafetensors(path, matrices(4, mib * MiB), seed);
  return path;
}

const freeBytes = async (s: Service) => Number((await s.call('GET', '/region')).body.freeBytes);

it('keeps the bytes of a worker that attached through a killed service, until the worker has gone', async () => {
  const [first, second] = await pair('96M');
  const free = await freeBytes(second);
  await first.load(model(first, 'old', 1, 16), 'old');
  const worker = new Holder(first.socket, 'old');
  cleanups.push(() => worker.kill().catch(() => undefined));
  const digest = await worker.next();
  await first.stop('SIGKILL');
  expect((await second.call('DELETE', '/models/old')).status).toBe(409);
  expect((await second.call('DELETE', '/models/old?drain=true')).status).toBe(202);
  for (let i = 0; ; i++) {
    const source = model(second, `fill${i}`, 100 + i, 16);
    const { status } = await second.call('POST', '/models?wait=true', { source, name: `fill${i}`, keep: true });
    if (status === 507) break;
    expect(status).toBe(201);
  }
  expect(await worker.hash()).toBe(digest);
  await worker.kill();
  await until(async () => (await second.call('GET', '/models/old')).status === 404, 'old was freed');
  for (let i = 0; (await second.call('DELETE', `/models/fill${i}`)).status === 204; i++);
  expect(await freeBytes(second)).toBe(free);
});

it('undoes a load of a killed service and loads its source itself', async () => {
  const [first, second] = await pair('256M');
  const free = await freeBytes(second);
  const source = model(second, 'm', 2, 160);
  const twin = new Service({
    size: '256M',
    region: first.region,
    args: ['--host-id', 'third', '--source-root', second.dir],
  });
  cleanups.push(() => twin.dispose());
  // Until a kill has hit, however busy the machine is.
  for (let cut = false; !cut; ) {
    await twin.start();
    cut = await killDuringLoad(twin, { source, name: 'm', chunks: 8 });
    if (!cut) await second.call('DELETE', '/models/m');
    await until(async () => (await freeBytes(second)) === free, 'its chunks were free');
  }
  await second.load(source, 'm');
  expect((await second.call('GET', '/models/m')).body.state).toBe('ready');
});
