/**
 * The overlay's table: finds and inserts as multiples of an uncontended CAS, at 70 % load against nearly empty, by two
 * threads against one; a pinned page; 100,000 small files. What the rows do is in native/overlay_table.cc.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bar, row, title } from './report.ts';

/** Most times an uncontended CAS that a row may take whose working set is hot; the others only say how many it is. */
const CAS_BARS = [
  [/^find, 1,000 hot keys/, 20],
  [/^insert, table of 256 KiB/, 60],
  [/^pin/, 12],
] as const;
/** Most times the first side that the second may take. */
const RATIO_BARS = { '70 % full': 2, '2 threads': 1 } as const;
const LOADED_AND_BESIDE: Readonly<Record<string, string>> = { '70 % full': '1,000 keys', '2 threads': '1 thread' };

function compile(directory: string): string {
  const root = ['../', '../../']
    .map((path) => new URL(path, import.meta.url).pathname)
    .find((path) => existsSync(join(path, 'bench/native/overlay_table.cc')))!;
  const program = join(directory, 'overlay_table');
  const source = join(root, 'bench/native/overlay_table.cc');
  execFileSync('g++', ['-std=c++20', '-O3', '-pthread', '-I', join(root, 'native/include'), '-o', program, source]);
  return program;
}

/** Nanoseconds by row and side, in the order of the rows. */
function parse(output: string): Map<string, Map<string, number[]>> {
  const rows = new Map<string, Map<string, number[]>>();
  for (const line of output.trim().split('\n')) {
    const [name, side, time] = line.split('\t') as [string, string, string];
    const sides = rows.get(name) ?? new Map<string, number[]>();
    rows.set(name, sides);
    const samples = sides.get(side) ?? [];
    sides.set(side, samples);
    samples.push(Number(time));
  }
  return rows;
}

function besideCas(what: string, times: number, most: number | undefined): void {
  if (most === undefined) console.log(`${what}: ${times.toFixed(3)}`);
  else bar(what, times, `<= ${most}`, times <= most);
}

function report(name: string, sides: ReadonlyMap<string, number[]>): void {
  const medians = new Map([...sides].map(([side, ns]) => [side, row(`${name}: ${side}`, ns, 'ns').median]));
  const cas = medians.get('CAS');
  const casMax = CAS_BARS.find(([pattern]) => pattern.test(name))?.[1];
  for (const [side, median] of medians) {
    if (cas !== undefined && side !== 'CAS') besideCas(`${name}: ${side} / CAS`, median / cas, casMax);
    const max = RATIO_BARS[side as keyof typeof RATIO_BARS];
    const beside = medians.get(LOADED_AND_BESIDE[side] ?? '');
    if (max === undefined || beside === undefined) continue;
    bar(`${name}: ${side} / ${LOADED_AND_BESIDE[side]}`, median / beside, `<= ${max}`, median / beside <= max);
  }
  console.log();
}

title('overlay table, nanoseconds per operation (two threads: of both together)');
const directory = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
try {
  const program = compile(directory);
  const run = spawnSync(program, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28 });
  if (run.status !== 0) throw new Error('overlay_table failed; its message is above.');
  for (const [name, sides] of parse(run.stdout)) report(name, sides);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
