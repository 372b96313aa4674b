/** Goal: items end once, in the order of their time, and not at all once taken out. Method: timers that the test moves, beside a list of what ended. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Expiry } from '../../server/expiry.ts';

const START_MS = Date.parse('2026-01-02T03:04:05.000Z');
let ended: string[];
let expiry: Expiry<string>;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  ended = [];
  expiry = new Expiry(
    () => START_MS,
    (item) => ended.push(item),
  );
});
afterEach(() => {
  expiry.close();
  vi.useRealTimers();
});

it('ends items in the order of their time, each once, none before it', () => {
  for (const [item, ttlMs] of [
    ['third', 450],
    ['first', 1],
    ['second', 250],
  ] as const)
    expiry.add(item, ttlMs);
  const seen = [0, 200, 249, 400, 449, 600].map((at) => {
    vi.advanceTimersByTime(at - performance.now());
    return ended.length;
  });
  expect(seen).toEqual([0, 1, 1, 2, 2, 3]);
  vi.advanceTimersByTime(10_000);
  expect(ended).toEqual(['first', 'second', 'third']);
});

it('ends what is due at once after the process was paused', () => {
  expiry.add('second', 900);
  expiry.add('first', 300);
  vi.spyOn(performance, 'now').mockReturnValue(5000);
  vi.advanceTimersToNextTimer();
  expect(ended).toEqual(['first', 'second']);
});

it('starts again after it had nothing left to end', () => {
  expiry.add('one', 1);
  vi.advanceTimersByTime(1000);
  expect(vi.getTimerCount()).toBe(0);
  expiry.add('two', 1);
  vi.advanceTimersByTime(200);
  expect(ended).toEqual(['one', 'two']);
});

it('does not end what was taken out, and knows that nothing is left then', () => {
  const ending = expiry.add('out', 1);
  expiry.add('stays', 150);
  expiry.remove('out', ending);
  expiry.remove('out', ending);
  vi.advanceTimersByTime(1000);
  expect(ended).toEqual(['stays']);
  expect(vi.getTimerCount()).toBe(0);
});

it('shows when an item ends', () => {
  const { at } = expiry.add('item', 60_000);
  const ttlMs = Date.parse(at) - START_MS;
  expect(ttlMs).toBeGreaterThanOrEqual(60_000);
  expect(ttlMs).toBeLessThan(60_101);
});

it('keeps together what ends together', () => {
  const endings = Array.from({ length: 1000 }, (_, i) => {
    if (i % 10 === 0) vi.advanceTimersByTime(1);
    return expiry.add(String(i), 30_050);
  });
  expect(new Set(endings).size).toBe(2);
});

it('ends nothing after it was closed', () => {
  expiry.add('item', 1);
  expiry.close();
  vi.advanceTimersByTime(1000);
  expect(ended).toEqual([]);
});
