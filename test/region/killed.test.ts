/** Goal: a creation killed anywhere leaves what open refuses and create replaces. Method: kill -9 children, then look. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DaxfsError } from '../../daxfs/errors.ts';
import { Region } from '../../daxfs/region.ts';
import { type Place, placeOn } from '../support/backings.ts';
import { seed } from '../support/seed.ts';

const MiB = 2 ** 20;
const size = 256 * MiB;
const script = fileURLToPath(new URL('./create-child.js', import.meta.url));
let place: Place;

beforeEach(async () => {
  place = await placeOn('tmpfs (/dev/shm)', size);
});
afterEach(() => place.dispose());

function startChild(...words: string[]): ChildProcess {
  return spawn(process.execPath, [script, place.path!, String(size), ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** The state that a dead creator left: refused with one of these codes, or whole. */
async function stateLeft(): Promise<string> {
  try {
    (await Region.open({ path: place.path! })).close();
    return 'whole';
  } catch (error) {
    if (error instanceof DaxfsError) return error.code;
    throw error;
  }
}

async function createWorksNow(): Promise<void> {
  const { region } = await Region.openOrCreate({ path: place.path!, size });
  expect(region.sizeBytes).toBe(size);
  expect(region.mapping.read(region.chunkOffset(region.chunkCount - 1), 8)).toEqual(Buffer.alloc(8));
  region.close();
}

it('killed when the space is reserved: unfinished, then created', async () => {
  const child = startChild('reserved');
  await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  expect(await stateLeft()).toBe('DAXFS_UNFINISHED');
  await createWorksNow();
});

it('killed at random moments: never a region that is not whole', async () => {
  let state = seed >>> 0;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const seen = new Set<string>();
  const isHit = () => [...seen].some((state) => state !== 'whole');
  // How long a creation takes is the machine's business: some kills are early, and it goes on until one has hit.
  for (let i = 0; i < 12 || !isHit(); i++) {
    const child = startChild();
    await once(child.stdout!, 'data');
    if (i % 4 !== 0) await sleep(random() ** 2 * 400);
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    const left = await stateLeft();
    seen.add(left);
    expect(['DAXFS_NO_REGION', 'DAXFS_UNFINISHED', 'whole'], `seed ${seed}, try ${i}`).toContain(left);
    await createWorksNow();
    await place.dispose();
  }
});

it('four processes at once make one region', async () => {
  const children = Array.from({ length: 4 }, () => startChild('either'));
  const answers = await Promise.all(
    children.map(async (child) => {
      let text = '';
      for await (const data of child.stdout!) text += data;
      return JSON.parse(text.split('\n')[1]!) as { uuid: string; created: boolean };
    }),
  );
  expect(new Set(answers.map(({ uuid }) => uuid)).size).toBe(1);
  expect(answers.filter(({ created }) => created)).toHaveLength(1);
});

it('processes that meet at the same moment make one region each time', async () => {
  const rounds = 60;
  const words = [script, place.path!, String(16 * MiB), 'meet', String(rounds)];
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  try {
    await Promise.all(children.map(({ stdout }) => once(stdout, 'readable')));
    for (const { stdin } of children) stdin.end(String(Date.now() + 100));
    const answers = await Promise.all(
      children.map(async ({ stdout }) => (await stdout.toArray()).join('').split('\n')),
    );
    for (let round = 0; round < rounds; round++) {
      const said = answers.map((lines) => JSON.parse(lines[round + 1]!) as { uuid: string; created: boolean });
      expect(new Set(said.map(({ uuid }) => uuid)).size, `round ${round}`).toBe(1);
      expect(
        said.filter(({ created }) => created),
        `round ${round}`,
      ).toHaveLength(1);
    }
  } finally {
    for (let round = 0; round < rounds; round++) rmSync(`${place.path}-${round}`, { force: true });
  }
});

it('an aborted creation leaves nothing behind', async () => {
  const stop = new AbortController();
  const creating = Region.create({
    path: place.path!,
    size: 4 * size,
    signal: stop.signal,
    onProgress: () => stop.abort(),
  });
  await expect(creating).rejects.toMatchObject({ name: 'AbortError' });
  expect(existsSync(place.path!)).toBe(false);
});

it('a killed deletion can be repeated', async () => {
  const { deleteRegion } = await import('../../daxfs/region-create.ts');
  const region = await Region.create({ path: place.path!, size: 8 * MiB });
  // What a deletion does first: from here on nobody opens it.
  region.mapping.store64(0, 0n);
  region.close();
  expect(await stateLeft()).toBe('DAXFS_UNFINISHED');
  expect(statSync(place.path!).size).toBe(8 * MiB);
  await deleteRegion({ path: place.path! });
  expect(existsSync(place.path!)).toBe(false);
});
