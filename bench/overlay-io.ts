/**
 * File data of an overlay against the same reads and writes on a file of tmpfs through system calls: sizes and threads
 * of the format's paper. Both sides on /dev/shm, open file, in turns. BENCH_SIZE_MIB (of each file), BENCH_ROUNDS.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Region } from '../daxfs/index.ts';
import { bar, row, title } from './report.ts';

const MIB = 2 ** 20;
const sizeMiB = Number(process.env.BENCH_SIZE_MIB ?? 128);
const rounds = Number(process.env.BENCH_ROUNDS ?? 11);

/** Rows whose time is the copying of bytes. */
const BOUND_BY_MEMCPY = /(1M|64K)/;
const wantedOf = (name: string) =>
  name.startsWith('random write 4K, 4 threads') ? 1.73 : BOUND_BY_MEMCPY.test(name) ? 0.97 : 1;

function compile(directory: string): string {
  const root = ['../', '../../']
    .map((path) => new URL(path, import.meta.url).pathname)
    .find((path) => existsSync(join(path, 'bench/native/overlay_io.cc')))!;
  const program = join(directory, 'overlay_io');
  const folders = ['include', 'binding', 'third_party'].flatMap((name) => ['-I', join(root, 'native', name)]);
  const core = readdirSync(join(root, 'native/src')).map((name) => join(root, 'native/src', name));
  const sources = [join(root, 'bench/native/overlay_io.cc'), join(root, 'native/binding/overlay_home.cc'), ...core];
  execFileSync('g++', ['-std=c++20', '-O3', '-pthread', ...folders, '-o', program, ...sources]);
  return program;
}

async function createRegion(path: string, kernelMountable: boolean): Promise<string> {
  const overlayBytes = (sizeMiB + 32) * MIB;
  const region = await Region.create({ path, size: overlayBytes + 64 * MIB, overlayBytes, kernelMountable });
  region.close();
  return path;
}

/** Microseconds per call by row and side, in the order of the rows. */
function parse(output: string): Map<string, Map<string, number[]>> {
  const rows = new Map<string, Map<string, number[]>>();
  for (const line of output.trim().split('\n')) {
    const [name, side, time] = line.split('\t') as [string, string, string];
    const sides = rows.get(name) ?? new Map<string, number[]>();
    sides.set(side, [...(sides.get(side) ?? []), Number(time)]);
    rows.set(name, sides);
  }
  return rows;
}

title(`overlay against tmpfs, files of ${sizeMiB} MiB, time per call (all threads together)`);
const directory = mkdtempSync('/dev/shm/daxserve-bench-');
try {
  const program = compile(directory);
  const regions = [
    await createRegion(join(directory, 'private'), false),
    await createRegion(join(directory, 'kernel'), true),
  ];
  const args = [join(directory, 'file'), ...regions, String(sizeMiB), String(rounds)];
  const run = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (run.status !== 0) throw new Error('overlay_io failed; its message is above.');
  for (const [name, sides] of parse(run.stdout)) {
    const medians = [...sides].map(([side, samples]) => [side, row(`${name}: ${side}`, samples, 'us').median] as const);
    const { tmpfs, private: ours, kernel } = Object.fromEntries(medians) as Record<string, number>;
    const wanted = wantedOf(name);
    bar(`${name}: private front`, tmpfs! / ours!, `>= ${wanted}`, tmpfs! / ours! >= wanted);
    console.log(`${name}: kernel-mountable front: ${(tmpfs! / kernel!).toFixed(3)}\n`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
