/** Goal: bytes that a worker maps never change, whatever happens to the service. Method: kill -9, restart, delete, refill. */
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { Holder } from '../support/holder.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';
import { until } from '../support/until.ts';

const MiB = 2 ** 20;
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function service(): Promise<Service> {
  const s = new Service({ size: '96M', args: ['--evict'] });
  cleanups.push(() => s.dispose());
  return s.start();
}

function model(s: Service, name: string, seed: number, mib = 16): string {
  const path = join(s.dir, `${name}.safetensors`);
  writeSafetensors(path, matrices(4, mib * MiB), seed);
  return path;
}

async function holder(s: Service, name: string): Promise<{ worker: Holder; digest: string }> {
  const worker = new Holder(s.socket, name);
  cleanups.push(() => worker.kill().catch(() => undefined));
  return { worker, digest: await worker.next() };
}

/** Loads models until the region refuses; returns how many fitted. */
async function fill(s: Service): Promise<number> {
  for (let i = 0; i < 32; i++) {
    const { status } = await s.call('POST', '/models?wait=true', {
      source: model(s, `fill${i}`, 100 + i),
      name: `fill${i}`,
      keep: true,
    });
    if (status === 507) return i;
    if (status !== 201) throw new Error(`fill${i}: ${status}`);
  }
  throw new Error('the region never filled up');
}

function untilFreed(s: Service, name: string): Promise<void> {
  return until(async () => (await s.call('GET', `/models/${name}`)).status === 404, `${name} was freed`);
}

it('keeps an old worker’s bytes through kill -9, restart, delete and refill; frees them only after it has gone', async () => {
  const s = await service();
  await s.load(model(s, 'old', 1), 'old');
  const { worker, digest } = await holder(s, 'old');
  await s.stop('SIGKILL');
  await s.start();
  expect((await s.call('DELETE', '/models/old')).status).toBe(409);
  expect((await s.call('DELETE', '/models/old?drain=true')).status).toBe(202);
  const fitted = await fill(s);
  expect(fitted).toBeGreaterThan(0);
  expect(await worker.hash()).toBe(digest);
  expect((await s.call('GET', '/models/old')).body.state).toBe('draining');
  await worker.kill();
  await untilFreed(s, 'old');
  expect((await s.call('POST', '/models?wait=true', { source: model(s, 'late', 7), name: 'late' })).status).toBe(201);
});

it('keeps them for a forked child that holds the mapping alone', async () => {
  const s = await service();
  await s.load(model(s, 'old', 2), 'old');
  const { worker, digest } = await holder(s, 'old');
  expect(await worker.fork()).toBe(digest);
  expect((await s.call('DELETE', '/models/old?drain=true')).status).toBe(202);
  await fill(s);
  expect(await worker.hash()).toBe(digest);
  await worker.kill();
  await untilFreed(s, 'old');
});

it('ends the lease and the lock of a killed worker by itself', async () => {
  const s = await service();
  await s.load(model(s, 'm', 3), 'm');
  const { worker } = await holder(s, 'm');
  expect((await s.call('DELETE', '/models/m')).status).toBe(409);
  await worker.kill();
  const seen = new Set<number>();
  await until(async () => {
    seen.add((await s.call('DELETE', '/models/m')).status);
    return seen.has(204);
  });
  expect([...seen].filter((status) => status !== 409)).toEqual([204]);
});
