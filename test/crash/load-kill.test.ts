/** Goal: kill -9 of the service during a load loses nothing else and leaks nothing. Method: kill at spread points of the copy, restart, compare. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { Holder } from '../support/holder.ts';
import { killDuringLoad } from '../support/kill-load.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { seed } from '../support/seed.ts';
import { Service } from '../support/service.ts';

const MiB = 2 ** 20;
const points = Number(process.env.DAXSERVE_KILL_POINTS ?? 12);
const victimMib = 160;

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
  writeSafetensors(victim, matrices(8, victimMib * MiB), 12);
  await s.load(good, 'good');
  const goodBytes = await bytesOf(s, 'good');
  const freeBefore = await freeBytes(s);
  // A busy machine may let a load end before its kill: it goes on until one has hit.
  for (let i = 0, hits = 0; i < points || hits === 0; i++) {
    const chunks = Math.floor((((i + fraction(i)) / points) % 1) * (victimMib / 2));
    const cut = await killDuringLoad(s, { source: victim, name: 'victim', chunks });
    await s.start();
    const { status } = await s.call('GET', '/models/victim');
    // Also a load that ended may have been killed before it had its name.
    if (cut) expect(status).toBe(404);
    else expect([200, 404]).toContain(status);
    if (status === 200) expect((await s.call('DELETE', '/models/victim')).status).toBe(204);
    expect(await freeBytes(s)).toBe(freeBefore);
    expect(await bytesOf(s, 'good')).toBe(goodBytes);
    hits += Number(cut);
  }
  await s.load(victim, 'victim');
  expect((await s.call('GET', '/models/victim')).body.state).toBe('ready');
});
