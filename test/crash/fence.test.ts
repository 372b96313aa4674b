/** Goal: bytes that a worker maps never change, whatever happens to the service. Method: kill -9, restart, delete, refill. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { Holder } from '../support/holder.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';

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

async function untilFreed(s: Service, name: string): Promise<void> {
  for (let i = 0; i < 40; i++) {
    if ((await s.call('GET', `/models/${name}`)).status === 404) return;
    await sleep(50);
  }
  throw new Error(`${name} was not freed within 2 s`);
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

it('ends the lease and the lock of a killed worker within a second', async () => {
  const s = await service();
  await s.load(model(s, 'm', 3), 'm');
  const { worker } = await holder(s, 'm');
  expect((await s.call('DELETE', '/models/m')).status).toBe(409);
  await worker.kill();
  await sleep(1000);
  expect((await s.call('DELETE', '/models/m')).status).toBe(204);
});
