/**
 * Goal: whatever bytes stand in a front, the check ends and throws nothing but DAXFS_ errors, repair leaves nothing that it
 * says it can repair, and says so again when it runs again. Method: seeded random damage over overlay header, buckets, bins,
 * entries and links of both kinds of front: flipped bits, words from the edges, words from elsewhere, a whole bucket gone.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRegion } from '../../daxfs/index.ts';
import { bucket, overlayHeader } from '../../daxfs/layout.ts';
import { type Random, randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';
import { contentsOf, FrontVictim, makeFront } from './front-copies.ts';

const rounds = Number(process.env.DAXSERVE_DAMAGE_ROUNDS ?? 60);
const KINDS = ['private', 'kernel'] as const;
const originals = {} as Record<(typeof KINDS)[number], Awaited<ReturnType<typeof makeFront>>>;
beforeAll(async () => {
  for (const kind of KINDS) originals[kind] = await makeFront(kind === 'kernel');
});
afterAll(() => {
  for (const { remove } of Object.values(originals)) remove();
});

const EDGES = [0n, 1n, 2n, 3n, 0xffn, 0xffff_ffffn, 1n << 32n, (1n << 48n) - 4096n, 1n << 53n, 1n << 63n, -1n];

/** Words where something is: of the header, of buckets in use and beside them, of the pool. */
function placeOf(victim: FrontVictim, random: Random): number {
  const overlay = victim.overlay();
  const { bucketsAt, poolAt, header, bucketCount } = overlay.place;
  const used = [...overlay.buckets()];
  const one = used[random(used.length)]!;
  const choices = [
    () => victim.header.geometry.overlayOffset + random(9) * 8,
    () => victim.header.geometry.overlayOffset + random(overlayHeader.size),
    () => bucketsAt + one.index * bucket.size + random(2) * 8,
    () => bucketsAt + one.index * bucket.size + random(2) * 8,
    () => bucketsAt + random(bucketCount) * bucket.size + random(2) * 8,
    () => poolAt + one.offset + random(8) * 8,
    () => poolAt + one.offset + random(38) * 8,
    () => poolAt + random(Math.max(8, Number(header.pool_alloc))),
  ];
  return choices[random(choices.length)]!();
}

function damage(victim: FrontVictim, random: Random): string {
  const place = placeOf(victim, random);
  const word = place - (place % 8);
  const kind = random(4);
  if (kind === 0) victim.u64(word, EDGES[random(EDGES.length)]! & 0xffff_ffff_ffff_ffffn);
  else if (kind === 1) {
    const from = placeOf(victim, random);
    victim.u64(word, victim.mapping.load64(from - (from % 8)));
  } else victim.flip(place, 1 << random(8));
  return `${['edge', 'copy'][kind] ?? 'flip'} ${place}`;
}

/** Null when the overlay cannot be opened any more. */
function damageAll(victim: FrontVictim, random: Random, done: string[]): void {
  for (let count = 1 + random(3); count > 0; count--) {
    try {
      done.push(damage(victim, random));
    } catch (error) {
      // The header is damaged: the next places cannot be chosen by it.
      if (!(error instanceof RangeError) && !String((error as { code?: string }).code).startsWith('DAXFS_'))
        throw error;
      return;
    }
  }
}

async function round(kind: (typeof KINDS)[number], random: Random, done: string[]): Promise<void> {
  const victim = new FrontVictim(originals[kind].path);
  try {
    damageAll(victim, random, done);
    await victim.check();
    const { after, steps } = await victim.repair();
    const left = after.findings.filter(({ repairable }) => repairable).map(({ code, message }) => `${code} ${message}`);
    expect(left.join('\n'), [...left, ...steps].join('\n')).toBe('');
    expect((await victim.repair()).steps, steps.join('\n')).toEqual([]);
    if (!after.sound) return;
    // A front without findings serves: everything in it can be read, and changed.
    await contentsOf(victim.path);
    const region = await openRegion(victim.path, { write: true });
    await region.fs.writeFile('after', 'written');
    expect(await region.fs.readFile('after', 'utf8')).toBe('written');
    await region.close();
    expect((await victim.check()).findings).toEqual([]);
  } finally {
    victim.dispose();
  }
}

it.each(KINDS)(
  `${rounds} random damages of a %s front (seed ${seed}, replay with DAXSERVE_SEED)`,
  async (kind) => {
    const failures: string[] = [];
    for (let i = 0; i < rounds && failures.length < 10; i++) {
      const done: string[] = [];
      await round(kind, randomOf(seed + i), done).catch((error: Error) => {
        failures.push(`DAXSERVE_SEED=${seed + i} DAXSERVE_DAMAGE_ROUNDS=1 after ${done.join(', ')}:\n${error.stack}`);
      });
    }
    expect(failures.join('\n\n')).toBe('');
  },
  Math.max(240_000, rounds * 2000),
);
