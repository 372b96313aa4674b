/**
 * Goal: over a base that is read through the page cache, changes are what the same changes of a plain copy are. Method: random
 * operations on both, in a cache much smaller than the files; everything compared, then read again by another opening.
 */
import { appendFileSync, closeSync, cpSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { OpenedRegion } from '../../daxfs/index.ts';
import { inspect } from '../support/run-tool.ts';
import { seed } from '../support/seed.ts';
import { cacheFacts, makeImage, open, pattern } from './image.ts';

const names = ['a', 'b', 'c', 'd'];
const files = Object.fromEntries(names.map((name, i) => [name, pattern(i + 1, 30_000 + 4096 * i + 7 * i)]));
const rounds = 300;

let random = 0;
function below(n: number): number {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return (random >>> 8) % n;
}

/** The same random change of both. */
async function step(region: OpenedRegion, copy: string): Promise<void> {
  const name = names[below(names.length)]!;
  const plain = join(copy, name);
  const at = below(60_000);
  const bytes = Buffer.alloc(1 + below(9000), below(256));
  const kind = below(10);
  if (kind < 4) {
    const handle = await region.fs.open(name, 'r+');
    await handle.write(bytes, 0, bytes.length, at);
    await handle.close();
    const fd = openSync(plain, 'r+');
    writeSync(fd, bytes, 0, bytes.length, at);
    closeSync(fd);
  } else if (kind < 6) {
    await region.fs.appendFile(name, bytes);
    appendFileSync(plain, bytes);
  } else if (kind < 8) {
    await region.fs.truncate(name, at);
    truncateSync(plain, at);
  }
  const wanted = readFileSync(plain);
  const part = Buffer.alloc(5000);
  const handle = await region.fs.open(name);
  const { bytesRead } = await handle.read(part, 0, part.length, at);
  await handle.close();
  expect(Buffer.compare(part.subarray(0, bytesRead), wanted.subarray(at, at + 5000)), `${name} at ${at}`).toBe(0);
}

const cases = (['split', 'export'] as const).flatMap((mode) => [
  { mode, extra: [] as string[] },
  { mode, extra: ['--private'] },
]);

it.each(cases)('$mode $extra: as a plain copy', async ({ mode, extra }) => {
  random = seed;
  const { path, tree, source } = await makeImage(mode, { files, options: ['-C', '8', ...extra] });
  const copy = `${tree}-copy`;
  cpSync(tree, copy, { recursive: true });
  const region = await open(path, { write: true, ...source });
  for (let i = 0; i < rounds; i++) {
    await step(region, copy).catch((error: Error) => {
      throw new Error(`DAXSERVE_SEED=${seed}, round ${i}: ${error.message}`, { cause: error });
    });
  }
  expect(cacheFacts(region).evictions).toBeGreaterThan(0);
  await region.close();
  const again = await open(path, { write: true, ...source });
  for (const name of names) {
    const same = (await again.fs.readFile(name)).equals(readFileSync(join(copy, name)));
    expect(same, `DAXSERVE_SEED=${seed}: ${name}`).toBe(true);
    // What was never written over is still the source's.
    expect(readFileSync(join(tree, name)).equals(files[name] ?? Buffer.alloc(0))).toBe(true);
  }
  await again.close();
  expect(inspect('check', '-f', path), `DAXSERVE_SEED=${seed}`).toMatchObject({ status: 0 });
});
