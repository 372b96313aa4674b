/**
 * Goal: an operator can declare a host of another kernel dead, and nobody who lives.
 * Method: a second store on one region whose row is made to look like another kernel's.
 */
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';
import { offsetOf } from '../../daxfs/codec.ts';
import { hostIdentity, Region, Registry, takeHostRow } from '../../daxfs/index.ts';
import { hostRow } from '../../daxfs/layout.ts';
import { hostRowOffset } from '../../daxfs/region-hosts.ts';
import { Heartbeats } from '../../server/store/heartbeats.ts';
import { TestStore } from '../support/store.ts';
import { until } from '../support/until.ts';

let t: TestStore;
beforeEach(async () => {
  t = await TestStore.open({ heartbeat: { intervalMs: 50, limitMs: 1000 } });
  await t.store.load({ source: t.model('a', 1), name: 'a' });
  await t.store.settled('a');
});
afterEach(() => t.dispose());

const row = () => t.opened.registry.hosts().find(({ name }) => name === 'elsewhere')!;
const at = (field: 'boot_id' | 'heartbeat') => hostRowOffset(t.region.header, row().index) + offsetOf(hostRow, field);

/** A host that pins `a` and has fallen silent, with the boot id of another kernel. */
async function lostElsewhere(): Promise<void> {
  const region = await Region.open({ path: t.path });
  const registry = new Registry(region);
  const identity = hostIdentity('elsewhere', region);
  const lock = await takeHostRow(region, identity, (index) => void registry.attach(index, identity));
  expect(registry.pin(registry.contents()[0]!)).toBe(true);
  t.region.mapping.store64(at('boot_id'), 0x1234n);
  // Its process goes without a word: no detach, no heartbeat, no lock.
  lock.release();
  region.close();
  expect(() => registry.hosts()).toThrow(/closed/);
}

it('gives back what a silent host of another kernel held', async () => {
  await lostElsewhere();
  await expect(t.store.remove('a', { drain: false })).rejects.toMatchObject({ code: 'MODEL_LEASED' });
  // By itself it comes to this and no further: the host may be paused, and its workers may live.
  await until(() => row().state === 'lapsed');
  await expect(t.store.remove('a', { drain: false })).rejects.toMatchObject({ code: 'MODEL_LEASED' });
  expect(await t.opened.fence('elsewhere')).toEqual({ name: 'elsewhere', contents: 0, chunks: 0, names: 0, pins: 1 });
  expect(row()).toBeUndefined();
  expect(t.events).toContainEqual({ type: 'recovered', kind: 'host-bit', count: 1 });
  await t.store.remove('a', { drain: false });
  expect(t.opened.registry.contents()).toHaveLength(0);
});

it('gives it back by itself where an orchestrator stands for the death of silent machines', async () => {
  await t.dispose();
  t = await TestStore.open({ heartbeat: { intervalMs: 50, limitMs: 1000 }, deadAfterMs: 1500 });
  await t.store.load({ source: t.model('a', 1), name: 'a' });
  await t.store.settled('a');
  await lostElsewhere();
  await until(() => row() === undefined);
  expect(t.events).toContainEqual({ type: 'recovered', kind: 'host-bit', count: 1 });
  expect((await t.store.remove('a', { drain: false })).outcome).toBe('freed');
});

it('a silent host is judged by our clock, which stands still while we are paused ourselves', () => {
  const host = (heartbeat: bigint, generation = 1) => ({ ...t.opened.registry.hosts()[0]!, heartbeat, generation });
  const beats = new Heartbeats(1000);
  const silent = (now: number, heartbeat: bigint, generation?: number) =>
    beats.silent([host(heartbeat, generation)], now).length;
  expect([silent(0, 1n), silent(400, 1n), silent(800, 2n), silent(1200, 2n), silent(1600, 2n)]).toEqual([
    0, 0, 0, 0, 0,
  ]);
  expect([silent(1799, 2n), silent(1800, 2n)]).toEqual([0, 1]);
  expect([silent(2000, 2n, 2), silent(2400, 2n, 2)]).toEqual([0, 0]);
  // Nobody looked for longer than half the limit.
  expect([silent(9000, 2n, 2), silent(9400, 2n, 2), silent(9800, 2n, 2), silent(10_000, 2n, 2)]).toEqual([0, 0, 0, 1]);
});

it('refuses a host that beats, this one, one that lives on this machine, and none at all', async () => {
  await lostElsewhere();
  let beat = 1n;
  const place = at('heartbeat');
  const heart = setInterval(() => t.region.mapping.store64(place, ++beat), 10);
  onTestFinished(() => clearInterval(heart));
  await expect(t.opened.fence('elsewhere')).rejects.toThrow(/is alive: process \d+ on another kernel; stop it first/);
  clearInterval(heart);
  const here = await t.second('here');
  await expect(t.opened.fence('here')).rejects.toMatchObject({ code: 'HOST_ALIVE' });
  await expect(t.opened.fence('first')).rejects.toMatchObject({ code: 'HOST_ALIVE' });
  await expect(t.opened.fence('nobody')).rejects.toMatchObject({ code: 'HOST_NOT_FOUND' });
  await here.close();
  expect(t.opened.registry.contents()[0]!.mask & (1 << row().index)).not.toBe(0);
});
