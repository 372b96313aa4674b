/**
 * Goal: several processes work on one region's files at once: of creators of one name one wins, and who is killed loses
 * nothing that was acknowledged and stops nobody. Method: real processes over one region in shared memory, SIGKILL at
 * random moments, then everything that they said they had done is looked for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, expect, it } from 'vitest';
import { randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';
import { until } from '../support/until.ts';
import { create } from './front.ts';

const script = new URL('./writer-child.js', import.meta.url).pathname;
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

interface Writer {
  child: ChildProcess;
  said: string[];
  ended: Promise<unknown>;
}

function start(path: string, ...args: string[]): Writer {
  const child = spawn(process.execPath, [script, path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const said: string[] = [];
  const lines = createInterface(child.stdout!).on('line', (line) => said.push(line));
  return { child, said, ended: Promise.all([once(child, 'exit'), once(lines, 'close')]) };
}

it.each([false, true])(
  'each name is won by exactly one of three creators (kernel-mountable: %s)',
  async (kernelMountable) => {
    const { fs, region } = await create(8, { kernelMountable });
    const names = 300;
    const writers = ['x', 'y', 'z'].map((name) => ({ name, ...start(region!.path!, 'race', name, String(names)) }));
    await Promise.all(writers.map(({ ended }) => ended));
    expect(writers.map(({ said }) => said.at(-1))).toEqual(['end', 'end', 'end']);
    for (let i = 0; i < names; i += 1) {
      const winners = writers.filter(({ said }) => said.includes(`won ${i}`));
      expect(winners).toHaveLength(1);
      expect(await fs.readFile(`race/n${i}`, 'utf8')).toBe(`${winners[0]!.name} ${i}`);
    }
    expect(fs.readdirSync('race')).toHaveLength(names);
  },
);

it.each([false, true])('writers go on beside killed ones (kernel-mountable: %s)', async (kernelMountable) => {
  const region = await create(kernelMountable ? 200 : 16, { kernelMountable });
  const path = region.region!.path!;
  const acknowledged = new Map<string, number>();
  const random = randomOf(seed);
  const survivor = start(path, 'forever', 'survivor');
  for (let round = 0; round < 4; round += 1) {
    const name = `victim${round}`;
    const victim = start(path, 'forever', name);
    const [mine, theirs] = [survivor.said.length, 20 + random(60)];
    await until(() => victim.said.length >= theirs && survivor.said.length > mine, `both wrote, DAXSERVE_SEED=${seed}`);
    victim.child.kill('SIGKILL');
    await victim.ended;
    acknowledged.set(name, Number(victim.said.at(-1)));
  }
  const before = survivor.said.length;
  await until(() => survivor.said.length >= before + 40);
  survivor.child.kill('SIGKILL');
  await survivor.ended;
  acknowledged.set('survivor', Number(survivor.said.at(-1)));

  region.recover();
  const log = (await region.fs.readFile('log', 'latin1'))
    .match(/.{32}/gs)!
    .map((record) => record.trim().replaceAll('\0', ''));
  for (const [name, last] of acknowledged) {
    const records = log.filter((record) => record.startsWith(`${name} `)).map((record) => Number(record.split(' ')[1]));
    // In the order in which they were written, each once; one that was not acknowledged yet may be there.
    expect(records.slice(0, last + 1)).toEqual(Array.from({ length: last + 1 }, (_, i) => i));
    expect(records.length).toBeLessThanOrEqual(last + 2);
    await checkFiles(region.fs, name, last);
  }
  // Nothing is stuck: what the dead left can be removed, and their names used again.
  for (const name of acknowledged.keys()) await region.fs.rm(`by-${name}`, { recursive: true });
  expect(region.fs.readdirSync('/').sort()).toEqual(['log', 'models']);
  await region.fs.mkdir('by-survivor');
});

it.each([false, true])(
  'a name that always leads somewhere does so for every call, whatever takes it (kernel-mountable: %s)',
  async (kernelMountable) => {
    const { fs, region } = await create(128, { kernelMountable });
    for (const name of ['v0', 'v1', 'dir']) await fs.mkdir(name);
    for (const name of ['v0/x', 'v1/x']) await fs.writeFile(name, name);
    await fs.symlink('v0', 'link');
    await fs.writeFile('file', Buffer.alloc(9000));
    const swapper = start(region!.path!, 'swap', '-', '1500');
    for (let looks = 0; swapper.said.length === 0 || looks < 100; looks += 1) {
      const bytes = looks % 2 === 0 ? fs.readFileSync('file') : await fs.readFile('file');
      expect(bytes.equals(Buffer.alloc(9000, bytes[0]))).toBe(true);
      expect(fs.readFileSync('link/x', 'utf8')).toMatch(/^v[01]\/x$/);
      expect(fs.readlinkSync('link')).toMatch(/^v[01]$/);
      expect(fs.readdirSync('dir')).toEqual([]);
      fs.chmodSync('file', 0o600);
      fs.chownSync('dir', 0, 0);
      if (looks % 10 === 0) await fs.truncate('file', 9000);
    }
    await swapper.ended;
    expect(swapper.said).toEqual(['end']);
  },
);

it.each([false, true])(
  'directories moved into each other stay in the tree (kernel-mountable: %s)',
  async (kernelMountable) => {
    const { fs, region } = await create(64, { kernelMountable });
    for (let round = 0; round < 4; round += 1) {
      for (const name of ['a', 'b']) await fs.mkdir(`${name}/mark-${name}`, { recursive: true });
      const duellists = ['a', 'b'].map((name) => start(region!.path!, 'duel', name, '2000'));
      await Promise.all(duellists.map(({ ended }) => ended));
      expect(duellists.map(({ said }) => said.at(-1))).toEqual(['end', 'end']);
      expect(Math.max(...duellists.map(({ said }) => Number(said[0])))).toBeGreaterThan(0);
      const all = fs.readdirSync('/', { recursive: true }).map((path) => path.split('/').at(-1));
      expect(all.filter((name) => name !== 'models').sort()).toEqual(['a', 'b', 'mark-a', 'mark-b']);
      for (const name of ['a', 'b']) await fs.rm(name, { recursive: true, force: true });
    }
  },
);

/** f(i % 50) holds 9000 bytes of the newest i that was moved there and not removed since. */
async function checkFiles(fs: Awaited<ReturnType<typeof create>>['fs'], name: string, last: number): Promise<void> {
  const wanted = new Map<number, number>();
  for (let i = 0; i <= last; i += 1) {
    wanted.set(i % 50, i);
    if (i % 7 === 6) wanted.delete((i - 3) % 50);
  }
  // What the operation in flight may have done already.
  const open = new Set([(last + 1) % 50, (last + 1) % 7 === 6 ? (last - 2) % 50 : -1]);
  for (const [slot, i] of wanted) {
    if (open.has(slot)) continue;
    const bytes = await fs.readFile(`by-${name}/f${slot}`);
    expect(bytes.equals(Buffer.alloc(9000, i & 0xff)), `${name}/f${slot}`).toBe(true);
  }
  const names = fs.readdirSync(`by-${name}`);
  expect(new Set(names).size).toBe(names.length);
}
