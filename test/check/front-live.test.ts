/**
 * Goal: a front that others change meanwhile has no false findings, and what killed writers leave is no damage, is mended,
 * and leaves nothing. Method: two processes that change files as fast as they can, of both kinds of front; checks beside
 * them; SIGKILL at random moments, then check, repair, and check again.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, onTestFinished } from 'vitest';
import { checkRegion } from '../../daxfs/check/check.ts';
import { repairRegion } from '../../daxfs/check/repair.ts';
import { openRegion } from '../../daxfs/index.ts';
import { randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';

const MiB = 2 ** 20;
const killRounds = process.env.DAXSERVE_KILL_ROUNDS ? Number(process.env.DAXSERVE_KILL_ROUNDS) : undefined;
const script = new URL('./front-child.js', import.meta.url).pathname;
const children: ChildProcess[] = [];

async function killAll(): Promise<void> {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}
afterEach(killAll);

interface Writer {
  child: ChildProcess;
  lines: number;
}

function start(path: string, name: string, from: number): Writer {
  const child = spawn(process.execPath, [script, path, name, String(from)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const writer = { child, lines: 0 };
  createInterface(child.stdout!).on('line', () => {
    writer.lines += 1;
  });
  return writer;
}

async function until(writer: Writer, lines: number): Promise<void> {
  while (writer.lines < lines) {
    expect(writer.child.exitCode).toBeNull();
    await sleep(2);
  }
}

async function fresh(kernelMountable: boolean): Promise<string> {
  const path = `/dev/shm/daxserve-live-${process.pid}-${randomBytes(6).toString('hex')}`;
  onTestFinished(() => rmSync(path, { force: true }));
  const mib = kernelMountable ? 96 : 8;
  const region = await openRegion(path, {
    create: true,
    size: (mib + 24) * MiB,
    overlayBytes: mib * MiB,
    kernelMountable,
  });
  await region.close();
  return path;
}

const codes = ({ findings }: { findings: { code: string; message: string }[] }) =>
  findings.map(({ code, message }) => `${code} ${message}`);

it.each([false, true])('no findings while two processes change it (kernel-mountable: %s)', async (kernelMountable) => {
  const path = await fresh(kernelMountable);
  const writers = ['a', 'b'].map((name, i) => start(path, name, seed + i));
  for (const writer of writers) await until(writer, 3);
  for (let look = 0; look < (kernelMountable ? 3 : 8); look++) {
    const report = await checkRegion({ path });
    expect(codes(report), `DAXSERVE_SEED=${seed}`).toEqual([]);
    for (const writer of writers) expect(writer.child.exitCode).toBeNull();
  }
});

it.each([false, true])(
  'what killed writers leave is no damage, and goes (kernel-mountable: %s)',
  async (kernelMountable) => {
    const path = await fresh(kernelMountable);
    const random = randomOf(seed);
    for (let round = 0; round < (killRounds ?? (kernelMountable ? 3 : 8)); round++) {
      const writers = ['a', 'b'].map((name, i) => start(path, name, seed + round * 2 + i));
      for (const writer of writers) await until(writer, 1 + random(3));
      await sleep(random(20));
      await killAll();
      const left = await checkRegion({ path });
      expect(codes(left), `DAXSERVE_SEED=${seed}, round ${round}`).toEqual([]);
      const { after, steps } = await repairRegion({ path });
      const said = `DAXSERVE_SEED=${seed}, round ${round}\n${steps.join('\n')}`;
      expect(codes(after), said).toEqual([]);
      const stays = after.leftovers.filter(({ code }) => code !== 'FRONT_POOL_SPENT');
      expect(stays, said).toEqual([]);
      expect((await repairRegion({ path })).steps, said).toEqual([]);
    }
    // Everything can be used, and removed.
    const region = await openRegion(path, { write: true });
    for (const name of region.fs.readdirSync('/')) if (name !== 'models') await region.fs.rm(name, { recursive: true });
    expect(region.fs.readdirSync('/')).toEqual(['models']);
    await region.close();
    expect(codes(await checkRegion({ path }))).toEqual([]);
  },
);
