/**
 * Goal: processes share one copy: what one has read, the others find; processes killed at any moment hold up nobody, and every
 * byte stays right. Method: real processes on one image; reads of the source counted; kill -9 at random moments.
 * (kill -9 in the middle of a fill, at a known step: native/test/cached_files_test.cc.)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { PageCacheFacts } from '../../native/index.ts';
import { inspect } from '../support/run-tool.ts';
import { seed } from '../support/seed.ts';
import { cacheFacts, expectBytes, makeImage, open, pattern, type TestImage } from './image.ts';

const script = new URL('./reader-child.js', import.meta.url).pathname;

function start({ path, source }: TestImage, ...args: string[]): ChildProcess {
  const list = [script, path, JSON.stringify(source), ...args];
  return spawn(process.execPath, list, { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function output(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (bytes) => {
    text += bytes;
  });
  const [code] = await once(child, 'close');
  expect(code, text).toBe(0);
  return text;
}

const treeOf = (count: number, length: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`file-${i}`, pattern(i + 1, length + 8 * i)]));

it.each(['split', 'export'] as const)('%s: the second process reads nothing of the source', async (mode) => {
  // Export mode: pages 0 and 1 of all files have 9 slots together, so there are 8 pages.
  const files = treeOf(4, 5000);
  const image = await makeImage(mode, { files, options: ['-C', '256'] });
  const results: { files: Record<string, string>; pageCache: PageCacheFacts }[] = [];
  for (let i = 0; i < 3; i++) results.push(JSON.parse(await output(start(image, 'all'))));
  const wanted = Object.fromEntries(
    Object.entries(files).map(([name, bytes]) => [name, createHash('sha256').update(bytes).digest('hex')]),
  );
  for (const { files: got } of results) expect(got).toEqual(wanted);
  const [first, ...others] = results;
  expect(first?.pageCache.sourceReads).toBe(8);
  for (const { pageCache } of others) expect(pageCache).toMatchObject({ sourceReads: 0, misses: 0, hits: 8 });
  expect(JSON.parse(inspect('status', '-f', image.path, '--json').out).pageCache.counters).toMatchObject({
    sourceReads: 8,
    hits: 16,
  });
});

it('readers killed at any moment leave a cache that serves on', async () => {
  const files = treeOf(12, 60_000);
  const image = await makeImage('split', { files, options: ['-C', '64'] });
  const survivor = start(image, 'forever', `${seed}`);
  await once(survivor.stdout!, 'data');
  for (let round = 0; round < 5; round++) {
    const victims = [1, 2].map((i) => start(image, 'forever', `${seed + round * 2 + i}`));
    await Promise.all(victims.map((victim) => once(victim.stdout!, 'data')));
    await sleep((seed + round * 7) % 40);
    for (const victim of victims) victim.kill('SIGKILL');
    await Promise.all(victims.map((victim) => once(victim, 'close')));
  }
  expect(survivor.exitCode, `DAXSERVE_SEED=${seed}`).toBeNull();
  survivor.kill('SIGKILL');
  await once(survivor, 'close');
  const region = await open(image.path, { write: true, ...image.source });
  for (const [name, bytes] of Object.entries(files)) expectBytes(await region.fs.readFile(name), bytes);
  expect(cacheFacts(region).fallbacks, `DAXSERVE_SEED=${seed}`).toBe(0);
  const status = JSON.parse(inspect('status', '-f', image.path, '--json').out).pageCache;
  expect(status).toMatchObject({ pending: 0, pendingCount: 0, pins: 0, users: 1 });
  await region.close();
  const check = inspect('check', '-f', image.path);
  expect(check, `DAXSERVE_SEED=${seed}`).toMatchObject({ status: 0 });
});
