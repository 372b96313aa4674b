/** What every benchmark prints: the machine, and per side n, median and p99; then the ratio against its bar. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

/** One line that names the machine class, without host names or paths. */
export function machine(): string {
  const model = cpus()[0]?.model ?? 'unknown CPU';
  const shmem = readFileSync('/sys/kernel/mm/transparent_hugepage/shmem_enabled', 'utf8').match(/\[(\w+)\]/)?.[1];
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  return `${model} x ${cpus().length}, ${gib} GiB, Linux ${release()}, Node ${process.versions.node}, shmem THP ${shmem}`;
}

export interface Summary {
  n: number;
  median: number;
  p99: number;
}

/** Nearest-rank percentiles of `samples`. */
export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = (q: number) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
  return { n: sorted.length, median: rank(0.5), p99: rank(0.99) };
}

/** Prints one side of a benchmark. @param unit of the samples */
export function row(what: string, samples: readonly number[], unit: string): Summary {
  const s = summarize(samples);
  console.log(
    `${what.padEnd(52)} n ${String(s.n).padStart(5)}   median ${s.median.toFixed(3)} ${unit}   p99 ${s.p99.toFixed(3)} ${unit}`,
  );
  return s;
}

/** Prints a bar: what was measured, what is wanted, and whether it holds. */
export function bar(what: string, value: number, wanted: string, holds: boolean): void {
  console.log(`${what}: ${value.toFixed(3)} (bar ${wanted}) ${holds ? 'holds' : 'MISSED'}`);
}

export function title(text: string): void {
  console.log(`# ${text}\n${machine()}\n`);
}
