/**
 * Goal: every rule about overlay contents is found by its name when it alone is broken, in both kinds of front, and repair
 * leaves what it says it leaves, with every file that was not hit as it was. Method: one plant per rule and kind in a copy
 * of a region with files; the codes found are exactly those expected; repair runs twice.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { CHECK_RULES, type CheckCode } from '../../daxfs/check/findings.ts';
import { FRONT_RULES, type FrontRule } from '../../daxfs/front-rules.ts';
import { contentsOf, FrontVictim, makeFront } from './front-copies.ts';
import { COMMON, KINDS, type Kind, PLANTS, type Plant } from './front-plants.ts';

const originals = {} as Record<Kind, Awaited<ReturnType<typeof makeFront>>>;
const contents = {} as Record<Kind, Record<string, string>>;
beforeAll(async () => {
  for (const [kind, isKernel] of Object.entries(KINDS) as [Kind, boolean][]) {
    originals[kind] = await makeFront(isKernel);
    contents[kind] = await contentsOf(originals[kind].path);
  }
});
afterAll(() => {
  for (const { remove } of Object.values(originals)) remove();
});

const codeOf = (rule: FrontRule): CheckCode => `FRONT_${rule}`;
const codesOf = (report: { findings: { code: CheckCode }[]; leftovers: { code: CheckCode }[] }) =>
  [...new Set([...report.findings, ...report.leftovers].map(({ code }) => code))].sort();
const sorted = (rules: readonly FrontRule[]) => [...new Set(rules.map(codeOf))].sort();

async function compare(kind: Kind, path: string, lost: readonly string[]): Promise<void> {
  if (lost.includes('*')) return;
  const without = (seen: Record<string, string>) =>
    Object.fromEntries(Object.entries(seen).filter(([name]) => !lost.includes(name)));
  expect(without(await contentsOf(path))).toEqual(without(contents[kind]));
}

describe.each(Object.keys(KINDS) as Kind[])('%s front', (kind) => {
  const plants = { ...COMMON, ...PLANTS[kind] };

  it('sound, it has no findings, and repair does nothing', async () => {
    const victim = new FrontVictim(originals[kind].path);
    onTestFinished(() => victim.dispose());
    expect(codesOf(await victim.check())).toEqual([]);
    expect((await victim.repair()).steps).toEqual([]);
  });

  it.each(Object.entries(plants) as [FrontRule, Plant][])(
    '%s',
    async (rule, { plant, also = [], left = [], lost = [] }) => {
      const victim = new FrontVictim(originals[kind].path);
      onTestFinished(() => victim.dispose());
      plant(victim);
      const found = await victim.check();
      expect(codesOf(found)).toEqual(sorted([rule, ...also]));
      const isDamage = [rule, ...also].some((one) => FRONT_RULES[one].severity === 'damage');
      expect(found.sound).toBe(!isDamage);
      const { after, steps } = await victim.repair();
      expect(codesOf(after), steps.join('\n')).toEqual(sorted(left));
      expect((await victim.repair()).steps).toEqual([]);
      await compare(kind, victim.path, lost);
    },
  );
});

it.each(Object.keys(KINDS) as Kind[])('a bump pointer behind the pool comes back: %s front', async (kind) => {
  const victim = new FrontVictim(originals[kind].path);
  onTestFinished(() => victim.dispose());
  const at = victim.headerAt('pool_alloc');
  const was = victim.mapping.load64(at);
  victim.u64(at, 1n << 63n);
  expect(codesOf(await victim.check())).toEqual(['FRONT_OVERLAY_HEADER']);
  const { after } = await victim.repair();
  expect(codesOf(after)).toEqual([]);
  expect(victim.mapping.load64(at)).toBe(was);
  await compare(kind, victim.path, []);
});

it('every rule has a plant in each kind of front that it is about', () => {
  const planted = [...Object.keys(COMMON), ...Object.values(PLANTS).flatMap((plants) => Object.keys(plants))];
  // Superblock and header decide them; page caches are in images.
  const elsewhere = Object.keys(FRONT_RULES).filter((rule) => /CACHE|_PLACE/.test(rule));
  expect([...new Set([...planted, ...elsewhere])].sort()).toEqual(Object.keys(FRONT_RULES).sort());
  expect(Object.keys(FRONT_RULES).every((rule) => `FRONT_${rule}` in CHECK_RULES)).toBe(true);
});
