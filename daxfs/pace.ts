/**
 * Long work in short steps. A pass is a generator that yields after little work (a few items, some kilobytes of input),
 * and yields a function when it needs bytes that are not in memory yet. `pace` runs it and gives the event loop back every
 * `sliceMs`; `runToEnd` runs one that needs no bytes, at once: what commands do.
 */
import { setImmediate as turn } from 'node:timers/promises';

/** What a pass yields: nothing, or what must be awaited before it goes on. */
export type Step = undefined | (() => Promise<void>);

export type Steps<T> = Generator<Step, T, void>;

/** The event loop gets its turn after so many milliseconds. */
const sliceMs = 2;

/** Items handled in one step: a look at the clock costs as much as some of them. */
export const itemsPerStep = 32;

/** Runs a pass without blocking the event loop. @throws whatever it throws, and the signal's reason */
export async function pace<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  let sliceStarted = performance.now();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (value) await value();
    else if (performance.now() - sliceStarted < sliceMs) continue;
    else await turn();
    signal?.throwIfAborted();
    sliceStarted = performance.now();
  }
}

/** Runs a pass whose input is in memory, without a break: for small input, and where nobody waits for the event loop. */
export function runToEnd<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (value) throw new Error('this pass waits for bytes: run it with pace()');
  }
}

/** Visits every item. */
export function* eachStep<T>(items: Iterable<T>, visit: (item: T, index: number) => unknown): Steps<void> {
  let done = 0;
  for (const item of items) {
    visit(item, done);
    if (++done % itemsPerStep === 0) yield;
  }
}

export function* mapStep<T, U>(items: Iterable<T>, map: (item: T, index: number) => U): Steps<U[]> {
  const out: U[] = [];
  yield* eachStep(items, (item, i) => out.push(map(item, i)));
  return out;
}

const runLength = 512;

function* mergeSteps<T>(left: T[], right: T[], compare: (a: T, b: T) => number): Steps<T[]> {
  if (compare(left.at(-1)!, right[0]!) <= 0) return left.concat(right);
  const out: T[] = [];
  let l = 0;
  let r = 0;
  while (l < left.length && r < right.length) {
    out.push(compare(left[l]!, right[r]!) <= 0 ? left[l++]! : right[r++]!);
    if (out.length % runLength === 0) yield;
  }
  return out.concat(left.slice(l), right.slice(r));
}

/** A stable sort in steps; items that are in order already cost one pass. */
export function* sortSteps<T>(items: readonly T[], compare: (a: T, b: T) => number): Steps<T[]> {
  let runs: T[][] = [];
  for (let start = 0; start < items.length; start += runLength) {
    runs.push(items.slice(start, start + runLength).sort(compare));
    yield;
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) {
      const right = runs[i + 1];
      merged.push(right ? yield* mergeSteps(runs[i]!, right, compare) : runs[i]!);
    }
    runs = merged;
  }
  return runs[0] ?? [];
}
