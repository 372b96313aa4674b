/**
 * Long work in short steps. A parser is a generator that yields after at most `stepBytesMax` bytes of input, and yields
 * a function when it needs bytes that are not in memory yet. `pace` runs it and gives the event loop back every
 * `sliceMs`; `runToEnd` runs one that needs no bytes, at once.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { limit } from './limits.ts';

/** What a parser yields: nothing, or what must be awaited before it goes on. */
export type Step = undefined | (() => Promise<void>);

export type Steps<T> = Generator<Step, T, void>;

/** Runs a parser without blocking the event loop. @throws whatever the parser throws, and the signal's reason */
export async function pace<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  let sliceStarted = performance.now();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (value) await value();
    else if (performance.now() - sliceStarted < limit('sliceMs')) continue;
    else await turn();
    signal?.throwIfAborted();
    sliceStarted = performance.now();
  }
}

/** Runs a parser whose input is in memory, without a break: for small input only. */
export function runToEnd<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (value) throw new Error('this parser waits for bytes: run it with pace()');
  }
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
