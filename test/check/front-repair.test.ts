/**
 * Goal: repair of a front may be cut short anywhere. Method: for every plant of both kinds the process "dies" before each of
 * its stores (the real mapping, which throws from then on); a second repair ends where one that was not cut short ends. Then
 * much damage at once, with a child that kills itself after each step.
 */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { frontSource, kindOf } from '../../daxfs/check/check-front.ts';
import { mendFront } from '../../daxfs/check/repair-front.ts';
import { encodeWord, offsetOf } from '../../daxfs/codec.ts';
import type { FrontRule } from '../../daxfs/front-rules.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { noWork } from '../../daxfs/front-work.ts';
import { INTENT_KIND, INTENT_STATE, intentRow, intentWord, overlayDirent } from '../../daxfs/layout.ts';
import { direntKey, pageKey } from '../../daxfs/overlay-key.ts';
import type { Mapping } from '../../native/index.ts';
import { contentsOf, FrontVictim, makeFront } from './front-copies.ts';
import { COMMON, KINDS, type Kind, PLANTS, type Plant } from './front-plants.ts';

const originals = {} as Record<Kind, Awaited<ReturnType<typeof makeFront>>>;
beforeAll(async () => {
  for (const [kind, isKernel] of Object.entries(KINDS) as [Kind, boolean][])
    originals[kind] = await makeFront(isKernel);
});
afterAll(() => {
  for (const { remove } of Object.values(originals)) remove();
});

class Cut extends Error {}

/** The mapping, of which only so many stores reach the memory. */
function cutMapping(mapping: Mapping, stores: number): { mapping: Mapping; done: () => number } {
  let done = 0;
  const changes = new Set(['store64', 'write', 'zero', 'cas64']);
  const proxy = new Proxy(mapping, {
    get: (target, name: keyof Mapping) => {
      const member = target[name];
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        if (changes.has(name)) {
          if (done === stores) throw new Cut();
          done += 1;
        }
        return (member as (...all: unknown[]) => unknown).apply(target, args);
      };
    },
  });
  return { mapping: proxy, done: () => done };
}

function mend(victim: FrontVictim, mapping: Mapping): void {
  mendFront({
    mapping,
    source: frontSource(victim.mapping, victim.header),
    kind: kindOf(victim.header),
    work: WORK,
    mayLive: () => false,
    settle: () => undefined,
    step: () => undefined,
  });
}

/** A region in which no operation runs. */
const WORK = { ...noWork, rows: new Set<number>() };

function rulesOf(victim: FrontVictim): FrontRule[] {
  const options = { kind: kindOf(victim.header), work: WORK };
  const { findings } = validateFront(frontSource(victim.mapping, victim.header), options);
  return [...new Set(findings.map(({ rule }) => rule))].sort();
}

/** What a cut may cost besides: in a kernel-mountable front bytes that were taken and not used yet. */
const SPENT: FrontRule = 'POOL_SPENT';

describe.each(Object.keys(KINDS) as Kind[])('%s front', (kind) => {
  it.each(Object.entries({ ...COMMON, ...PLANTS[kind] }) as [FrontRule, Plant][])(
    '%s, cut before each store',
    (_, { plant }) => {
      const victim = new FrontVictim(originals[kind].path);
      onTestFinished(() => victim.dispose());
      plant(victim);
      const size = victim.header.geometry.registryOffset;
      const planted = victim.mapping.read(0, size);
      const whole = cutMapping(victim.mapping, Number.POSITIVE_INFINITY);
      mend(victim, whole.mapping);
      const ends = rulesOf(victim);
      for (let stores = 0; stores < whole.done(); stores++) {
        victim.mapping.write(0, planted);
        expect(() => mend(victim, cutMapping(victim.mapping, stores).mapping)).toThrow(Cut);
        mend(victim, victim.mapping);
        const found = rulesOf(victim).filter((rule) => rule !== SPENT || ends.includes(SPENT));
        expect(found, `cut before store ${stores}`).toEqual(ends);
      }
    },
  );
});

/** An operation that host row 4, long gone, had begun. */
function begun(victim: FrontVictim, row: number, kind: number, args: readonly bigint[]): void {
  const at = victim.at('intent', row);
  for (const [i, arg] of args.entries()) victim.u64(at + offsetOf(intentRow, 'arg0') + i * 8, arg);
  const word = { state: INTENT_STATE.READY, kind, host: 4, host_generation: 9, sequence: 3 };
  victim.u64(at, encodeWord(intentWord, word));
}

it.each(Object.keys(KINDS) as Kind[])(
  'a removal of a directory that stopped in the middle is undone: %s front',
  async (kind) => {
    const victim = new FrontVictim(originals[kind].path);
    onTestFinished(() => victim.dispose());
    const { entry, ino } = victim.name('d');
    victim.setInode('d', 'flags', kind === 'private' ? 1 | (2 << 8) : (2 << 1) | 1);
    begun(victim, 2, INTENT_KIND.UNLINK, [1n, BigInt(entry), BigInt(ino), 0n, 0n]);
    expect((await victim.check()).leftovers.map(({ code }) => code)).toEqual(['INTENT_DEAD']);
    const { after, steps } = await victim.repair();
    expect(steps).toEqual(['1 operations of dead hosts finished']);
    expect(after).toMatchObject({ findings: [], leftovers: [] });
    expect(await contentsOf(victim.path)).toEqual(await contentsOf(originals[kind].path));
  },
);

it('a move that stopped between its two names is finished', async () => {
  const victim = new FrontVictim(originals.private.path);
  onTestFinished(() => victim.dispose());
  const { entry, ino } = victim.name('small');
  // Row 2 holds both names: the source by this, the target by its copy.
  victim.setName('small', 'flags', 4 | (2 << 8));
  const target = victim.take(overlayDirent.size, 16);
  victim.mapping.write(victim.poolAt(target), victim.mapping.read(victim.poolAt(entry), overlayDirent.size));
  victim.mapping.write(victim.poolAt(target) + offsetOf(overlayDirent, 'name'), Buffer.from('moved'));
  const slot = 7n;
  victim.u64(victim.poolAt(target) + offsetOf(overlayDirent, 'dir_next'), slot);
  const slotKey = pageKey(1n, slot);
  expect(victim.overlay().find(slotKey)).toBeUndefined();
  expect(victim.editor().insert(slotKey, target)).toBe(true);
  expect(victim.editor().insert(direntKey(1n, Buffer.from('moved')), target)).toBe(true);
  const published = 1n;
  begun(victim, 2, INTENT_KIND.RENAME, [1n, BigInt(entry), 0n, BigInt(ino), BigInt(target) | published]);
  expect((await victim.check()).findings).toEqual([]);
  const { after } = await victim.repair();
  expect(after).toMatchObject({ findings: [], leftovers: [] });
  const { small, ...others } = await contentsOf(originals.private.path);
  expect(await contentsOf(victim.path)).toEqual({ ...others, moved: small });
});

const childPath = new URL('./repair-child.js', import.meta.url).pathname;
/** Plants that do not get in each other's way. */
const TOGETHER: Record<Kind, FrontRule[]> = {
  private: [
    'BUCKET_WORD',
    'BIN_WORD',
    'INODE_BASE',
    'INODE_FLAGS',
    'INODE_CLOSED',
    'NAME_TYPE',
    'NAME_UNLISTED',
    'FREE_LIST',
    'BUCKET_TENTATIVE',
    'POOL_LOST',
  ],
  kernel: [
    'BUCKET_WORD',
    'INODE_LINKS',
    'INODE_FLAGS',
    'INODE_CLOSED',
    'NAME_TYPE',
    'NAME_UNLINKED',
    'LIST_HEAD',
    'LIST_CHAIN',
    'FREE_LIST',
  ],
};

it.each(Object.keys(KINDS) as Kind[])('much at once, killed after every step: %s front', async (kind) => {
  const plants = { ...COMMON, ...PLANTS[kind] };
  const wreck = () => {
    const victim = new FrontVictim(originals[kind].path);
    for (const rule of TOGETHER[kind]) plants[rule]!.plant(victim);
    return victim;
  };
  const whole = wreck();
  onTestFinished(() => whole.dispose());
  const { steps, after } = await whole.repair();
  expect(after.findings).toEqual([]);
  expect(steps.length).toBeGreaterThan(7);
  const contents = await contentsOf(originals[kind].path);
  expect(await contentsOf(whole.path)).toEqual(contents);
  for (let step = 1; step <= steps.length; step++) {
    const victim = wreck();
    try {
      const args = [childPath, victim.path, String(step)];
      const { signal, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      expect(signal, stderr).toBe('SIGKILL');
      const again = await victim.repair();
      expect(again.after.findings, `killed after step ${step}`).toEqual([]);
      expect(await contentsOf(victim.path)).toEqual(contents);
    } finally {
      victim.dispose();
    }
  }
});
