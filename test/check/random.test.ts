/**
 * Goal: damage anywhere in the metadata never makes the check crash or loop, and repair leaves a region that serves, or says
 * why not. Method: seeded random bytes over headers, front headers, rows, words and image metadata.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Region } from '../../daxfs/region.ts';
import { openStore } from '../../server/store/open-store.ts';
import { type Random, randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';
import { makeOriginal, RegionCopy, stopOpened } from './region-copies.ts';

const rounds = Number(process.env.DAXSERVE_DAMAGE_ROUNDS ?? 60);

let original: Awaited<ReturnType<typeof makeOriginal>>;
beforeAll(async () => {
  original = await makeOriginal();
});
afterAll(() => original.remove());

/** Numbers at the edges of what fields hold. */
const WORDS = [
  0n,
  1n,
  0xffn,
  0xffffn,
  0xffff_ffffn,
  0x8000_0000n,
  1n << 32n,
  (1n << 48n) - 4096n,
  1n << 53n,
  1n << 63n,
  -1n,
];

/** Places where something is: mostly the rows in use, else anything before the chunks, the tail, an image's start. */
function placeOf(copy: RegionCopy, random: Random): number {
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

/** Some bits of a byte, a word of the edges, or a word from elsewhere. */
function damage(copy: RegionCopy, random: Random): string {
  const place = placeOf(copy, random);
  const last = copy.header.geometry.regionBytes - 8;
  const word = Math.min(place - (place % 8), last);
  const kind = random(4);
  if (kind === 0) copy.mapping.store64(word, WORDS[random(WORDS.length)]! & 0xffff_ffff_ffff_ffffn);
  else if (kind === 1) copy.mapping.store64(word, copy.mapping.load64(Math.min(placeOf(copy, random) & ~7, last)));
  else copy.flip(place, 1 + random(255));
  return `${['edge', 'copy'][kind] ?? 'flip'} ${place}`;
}

async function round(random: Random, done: string[]): Promise<void> {
  const copy = new RegionCopy(original.path);
  try {
    for (let count = 1 + random(3); count > 0; count--) done.push(damage(copy, random));
    const found = await copy.check().catch((error: { code?: string }) => {
      if (error.code?.startsWith('DAXFS_')) return null;
      throw error;
    });
    if (found === null) return;
    const { after, steps } = await copy.repair();
    // Half created or half deleted: repair touches nothing.
    const unfinished = after.findings.some(({ code }) => code === 'UNFINISHED');
    if (unfinished) expect(steps).toEqual([]);
    const repairable = after.findings.filter((finding) => finding.repairable && !unfinished);
    const left = repairable.map(({ code, message }) => `${code} ${message}`);
    expect(left.join('\n')).toBe('');
    if (after.sound) await serves(copy.path);
  } finally {
    copy.dispose();
  }
}

it(
  `${rounds} random damages (seed ${seed}, replay with DAXSERVE_SEED)`,
  async () => {
    const failures: string[] = [];
    for (let i = 0; i < rounds && failures.length < 10; i++) {
      const done: string[] = [];
      await round(randomOf(seed + i), done).catch((error: Error) => {
        failures.push(`DAXSERVE_SEED=${seed + i} DAXSERVE_DAMAGE_ROUNDS=1 after ${done.join(', ')}:\n${error.stack}`);
      });
    }
    expect(failures.join('\n\n')).toBe('');
  },
  Math.max(240_000, rounds * 1000),
);
