/** Goal: kill -9 of the service during a load loses nothing else and leaks nothing. Method: kill at spread points, restart, compare. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { Holder } from '../support/holder.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';

const MiB = 2 ** 20;
const points = Number(process.env.DAXSERVE_KILL_POINTS ?? 12);
/** Upper end of the spread, in milliseconds after the POST was sent. */
const spreadMs = 240;
const seed = Number(process.env.DAXSERVE_SEED ?? Date.now() % 2 ** 31);

let service: Service | undefined;
afterEach(() => service?.dispose());

/** A reproducible fraction in [0, 1) for point `i`. */
const fraction = (i: number) => createHash('sha256').update(`${seed}:${i}`).digest().readUInt32LE(0) / 2 ** 32;

async function freeBytes(s: Service): Promise<number> {
  const { body } = await s.call('GET', '/region');
  return Number(body.freeBytes);
}

async function bytesOf(s: Service, name: string): Promise<string> {
  const worker = new Holder(s.socket, name);
  const digest = await worker.next();
  await worker.kill();
  return digest;
}

it(`repairs what kill -9 leaves at ${points} points of a load (seed ${seed}, replay with DAXSERVE_SEED)`, async () => {
  const s = new Service({ size: '256M' });
  service = s;
  await s.start();
  const good = join(s.dir, 'good.safetensors');
  const victim = join(s.dir, 'victim.safetensors');
  writeSafetensors(good, matrices(4, 8 * MiB), 11);
  writeSafetensors(victim, matrices(8, 160 * MiB), 12);
  await s.load(good, 'good');
  const goodBytes = await bytesOf(s, 'good');
  const freeBefore = await freeBytes(s);
  let interrupted = 0;
  for (let i = 0; i < points; i++) {
    const posted = s.call('POST', '/models', { source: victim, name: 'victim' }).catch(() => undefined);
    await sleep(((i + fraction(i)) / points) * spreadMs);
    await s.stop('SIGKILL');
    await posted;
    await s.start();
    const victimState = await s.call('GET', '/models/victim');
    expect([200, 404]).toContain(victimState.status);
    if (victimState.status === 404) {
      interrupted += 1;
      expect(await freeBytes(s)).toBe(freeBefore);
    } else {
      expect((await s.call('DELETE', '/models/victim')).status).toBe(204);
    }
    expect(await bytesOf(s, 'good')).toBe(goodBytes);
  }
  expect(interrupted).toBeGreaterThan(0);
  await s.load(victim, 'victim');
  expect((await s.call('GET', '/models/victim')).body.state).toBe('ready');
}, 180_000);
