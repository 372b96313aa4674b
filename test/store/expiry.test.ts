/** Goal: items end once, in the order of their time, and not at all once taken out. Method: short waits beside a list of what ended. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { Expiry } from '../../server/expiry.ts';

const START_MS = Date.parse('2026-01-02T03:04:05.000Z');
let ended: string[] = [];
let expiry = new Expiry<string>(Date.now, () => {});
afterEach(() => expiry.close());

function open(now: () => number = Date.now): Expiry<string> {
  ended = [];
  expiry = new Expiry(now, (item) => ended.push(item));
  return expiry;
}

async function untilEnded(count: number): Promise<void> {
  for (let i = 0; i < 500 && ended.length < count; i++) await sleep(20);
}

it('ends items in the order of their time, each once', async () => {
  open();
  for (const [item, ttlMs] of [
    ['third', 450],
    ['first', 1],
    ['second', 250],
  ] as const)
    expiry.add(item, ttlMs);
  await untilEnded(3);
  await sleep(200);
  expect(ended).toEqual(['first', 'second', 'third']);
});

it('starts again after it had nothing left to end', async () => {
  open().add('one', 1);
  await untilEnded(1);
  await sleep(150);
  expiry.add('two', 1);
  await untilEnded(2);
  expect(ended).toEqual(['one', 'two']);
});

it('does not end what was taken out, and knows that nothing is left then', async () => {
  open();
  const ending = expiry.add('out', 1);
  expiry.add('stays', 150);
  expiry.remove('out', ending);
  expiry.remove('out', ending);
  await untilEnded(1);
  expect(ended).toEqual(['stays']);
});

it('ends nothing before its time, and shows when that is', () => {
  open(() => START_MS);
  const { at } = expiry.add('item', 60_000);
  const ttlMs = Date.parse(at) - START_MS;
  expect(ttlMs).toBeGreaterThanOrEqual(60_000);
  expect(ttlMs).toBeLessThan(60_101);
});

it('keeps together what ends together', () => {
  open();
  const endings = Array.from({ length: 1000 }, (_, i) => expiry.add(String(i), 30_000));
  expect(new Set(endings).size).toBeLessThan(50);
});

it('ends nothing after it was closed', async () => {
  open().add('item', 1);
  expiry.close();
  await sleep(250);
  expect(ended).toEqual([]);
});
