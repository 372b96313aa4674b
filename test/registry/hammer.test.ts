/**
 * Goal: services killed at any moment leave a registry whose every invariant holds after recovery: no chunk owned twice, none lost,
 * names unique. Method: three processes hammer one region, each is killed with SIGKILL again and again while the others go
 * on; survivors check bytes themselves; then every row and word is counted.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { afterEach, expect, it } from 'vitest';
import { isHostDead } from '../../daxfs/index.ts';
import { seed } from '../support/seed.ts';
import { type Attached, attachTo, createRegion } from './region-of.ts';

const script = new URL('./hammer-child.js', import.meta.url).pathname;
const NAMES = ['red', 'green', 'blue'];
const ROUNDS = 18;

interface Child {
  name: string;
  process: ChildProcess;
  lines: Interface;
  exited: Promise<unknown>;
}

const children: Child[] = [];

afterEach(async () => {
  for (const child of children) child.process.kill('SIGKILL');
  await Promise.all(children.splice(0).map(({ exited }) => exited));
});

let random = seed | 1;
function below(n: number): number {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return (random >>> 8) % n;
}

function start(path: string, name: string): Child {
  const child = spawn(process.execPath, [script, path, name, String(below(2 ** 30))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const started = { name, process: child, lines: createInterface(child.stdout), exited: once(child, 'exit') };
  children.push(started);
  return started;
}

/** Waits for `count` lines of progress. */
async function progress({ lines, exited, name }: Child, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const line = await Promise.race([once(lines, 'line'), exited.then(() => null)]);
    if (line === null) throw new Error(`DAXSERVE_SEED=${seed}: ${name} ended by itself`);
    const said = JSON.parse(line[0] as string) as { violation?: string };
    expect(said.violation, `DAXSERVE_SEED=${seed} ${line[0]}`).toBeUndefined();
  }
}

/** What the reaper of a service does about hosts of this kernel whose lock is gone. */
function bury({ region, registry }: Attached): void {
  for (const host of registry.hosts()) {
    if (host.index === registry.hostIndex || !isHostDead(region, host)) continue;
    registry.lapse(host);
    registry.recover(host.index);
    for (const content of registry.contents()) {
      if (content.mask & (1 << host.index)) registry.clearHostBit(content.index, host.index);
    }
    registry.recover(host.index);
  }
}

/** Nobody else is attached: every chunk is free or belongs to exactly one content, and nothing is half done. */
function checkSound({ region, registry }: Attached): void {
  const hint = `DAXSERVE_SEED=${seed}`;
  const owner = new Map<number, number>();
  const contents = registry.contents();
  for (const content of contents) {
    expect(['ready', 'draining'], hint).toContain(content.state);
    expect(content.corrupt, hint).toBeUndefined();
    expect(content.mask, hint).toBe(0);
    for (const { firstChunk, chunkCount } of content.images) {
      for (let chunk = firstChunk; chunk < firstChunk + chunkCount; chunk += 1) {
        expect(owner.has(chunk), `${hint}: chunk ${chunk} owned twice`).toBe(false);
        owner.set(chunk, content.index);
        expect(registry.chunk(chunk), hint).toMatchObject({
          state: 'used',
          content: content.index,
          contentGeneration: content.generation & 0xffff,
        });
      }
    }
  }
  const keys = contents.filter(({ state }) => state === 'ready').map(({ sourceKey }) => sourceKey);
  expect(new Set(keys).size, hint).toBe(keys.length);
  for (let chunk = 0; chunk < region.chunkCount; chunk += 1) {
    if (!owner.has(chunk)) expect(registry.chunk(chunk).state, `${hint}: chunk ${chunk} leaked`).toBe('free');
  }
  const names = registry.names().map(({ name }) => name);
  expect(new Set(names).size, hint).toBe(names.length);
}

it('survives kill -9 of its hosts', async () => {
  const path = await createRegion();
  const observer = await attachTo(path, 'observer');
  const running = NAMES.map((name) => start(path, name));
  for (let round = 0; round < ROUNDS; round += 1) {
    const at = below(running.length);
    const child = running[at]!;
    await progress(child, 1 + below(3));
    child.process.kill('SIGKILL');
    await child.exited;
    // Either the observer cleans up, or the successor does when it takes the row again.
    if (below(2) === 0) bury(observer);
    running[at] = start(path, child.name);
  }
  await Promise.all(running.map((child) => progress(child, 1)));
  for (const child of running) child.process.kill('SIGKILL');
  await Promise.all(running.map(({ exited }) => exited));
  bury(observer);
  expect(observer.registry.hosts().map(({ name }) => name)).toEqual(['observer']);
  checkSound(observer);
  for (const { name, target } of observer.registry.names()) observer.registry.setName(name, null, target);
  for (const content of observer.registry.contents()) {
    observer.registry.drain(content);
    expect(observer.registry.free(content)).toBe(true);
  }
  expect(observer.registry.chunkStats()).toMatchObject({ free: observer.region.chunkCount, used: 0, quarantined: 0 });
});
