/**
 * Goal: damage anywhere in the metadata never makes the check crash or loop, and repair leaves a region that serves, or says
 * why not. Method: seeded random bytes over headers, front headers, rows, words and image metadata.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Region } from '../../daxfs/region.ts';
import { openStore } from '../../server/store/open-store.ts';
import { seed } from '../support/seed.ts';
import { makeOriginal, RegionCopy, stopOpened } from './region-copies.ts';

const rounds = Number(process.env.DAXSERVE_DAMAGE_ROUNDS ?? 60);

let original: Awaited<ReturnType<typeof makeOriginal>>;
beforeAll(async () => {
  original = await makeOriginal();
});
afterAll(() => original.remove());

/** A small reproducible generator (mulberry32). */
function randomOf(start: number): (below: number) => number {
  let state = start >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Places where something is: mostly the rows in use, else anything before the chunks, the tail, an image's start. */
function placeOf(copy: RegionCopy, random: (below: number) => number): number {
  const { registryOffset, stateOffset, chunksOffset, tailOffset, overlayOffset } = copy.header.geometry;
  const rows = copy.usedRows();
  const row = rows[random(rows.length)]!;
  const choices = [
    () => row.offset + random(row.size),
    () => row.offset + random(Math.min(16, row.size)),
    () => random(4096),
    () => overlayOffset + random(4096),
    () => registryOffset + random(2 * 4096 + 64),
    () => registryOffset + stateOffset + random(chunksOffset - registryOffset - stateOffset),
    () => tailOffset + random(64),
    () => chunksOffset + random(8) * 2 ** 21 + random(8192),
    () => copy.at('chunk', 0) + random(copy.header.geometry.chunkCount * 8),
  ];
  return choices[random(choices.length)]!();
}

async function serves(path: string): Promise<void> {
  const region = await Region.open({ path });
  const quiet = () => undefined;
  const log = { info: quiet, warn: quiet, error: quiet };
  const opened = await openStore({ region, sources: { roots: [] }, evict: false, log, hostId: 'after' });
  for (const { name, tag, state } of opened.store.list())
    if (state === 'ready') await opened.store.get(`${name}:${tag}`);
  await stopOpened(opened, region);
}

it(`${rounds} random damages (seed ${seed}, replay with DAXSERVE_SEED)`, async () => {
  for (let round = 0; round < rounds; round++) {
    const random = randomOf(seed + round);
    const copy = new RegionCopy(original.path);
    const places: number[] = [];
    try {
      for (let count = 1 + random(3); count > 0; count--) {
        const place = placeOf(copy, random);
        places.push(place);
        copy.flip(place, 1 + random(255));
      }
      const said = `seed ${seed}, round ${round}, bytes ${places}`;
      const found = await copy.check().catch((error: { code?: string }) => {
        expect(error.code, said).toMatch(/^DAXFS_/);
        return null;
      });
      if (found === null) continue;
      const { after } = await copy.repair();
      const left = after.findings
        .filter(({ repairable }) => repairable)
        .map(({ code, message }) => `${code} ${message}`);
      expect(left, said).toEqual([]);
      if (after.sound) await serves(copy.path);
    } catch (error) {
      throw new Error(`DAXSERVE_SEED=${seed}, round ${round}, damaged bytes ${places}`, { cause: error });
    } finally {
      copy.dispose();
    }
  }
}, 240_000);
