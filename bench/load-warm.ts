/**
 * Warm load: the copy engine, digests included, against the best plain copy of the same file into pages of the same
 * kind, both with two threads. Kinds: 4 KiB and 2 MiB pages, there already or fresh. The 2 MiB ones need a tmpfs of
 * our own (root). BENCH_SIZE_MIB, BENCH_ROUNDS.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native } from '../native/index.ts';
import { bar, row, title } from './report.ts';

const MIB = 2 ** 20;
const size = Number(process.env.BENCH_SIZE_MIB ?? 1024) * MIB;
const rounds = Number(process.env.BENCH_ROUNDS ?? 9);
const threads = 2;

/** A plain copy: its way and its block size in bytes. */
const PLAIN = [
  ['read', 1 * MIB],
  ['read', 256 * 1024],
  ['mmap', 2 * MIB],
  ['mmap', 64 * MIB],
] as const;

function makeSource(path: string): void {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(MIB);
  for (let done = 0; done < size; done += block.length) writeSync(fd, randomFillSync(block));
  closeSync(fd);
  execFileSync('cat', [path], { stdio: ['ignore', 'ignore', 'inherit'] });
}

function compile(directory: string): string {
  const source = ['../bench/native/plain_copy.cc', '../../bench/native/plain_copy.cc']
    .map((path) => new URL(path, import.meta.url).pathname)
    .find((path) => existsSync(path));
  const program = join(directory, 'plain_copy');
  execFileSync('g++', ['-std=c++20', '-O3', '-pthread', '-o', program, source!]);
  return program;
}

/** A target file; `fresh` gives its pages back before each copy. */
function prepare(target: string, fresh: boolean): void {
  const fd = openSync(target, 'a+');
  if (fresh) ftruncateSync(fd, 0);
  ftruncateSync(fd, size);
  closeSync(fd);
}

async function ours(source: string, target: string, fresh: boolean): Promise<number> {
  prepare(target, fresh);
  const fd = openSync(target, 'r+');
  const mapping = new native.Mapping(fd, 0, size, { write: true, huge: true });
  closeSync(fd);
  if (!fresh) await mapping.populate(0, size);
  const { mtimeNs, ino } = statSync(source, { bigint: true });
  const start = performance.now();
  // Fresh pages are zero, and mkdaxfs, which alone meets them, says so.
  const options = { threads, targetIsZero: fresh };
  await native.startCopy(mapping, [{ path: source, size, mtimeNs, ino, offset: 0 }], options).done;
  const taken = performance.now() - start;
  mapping.close();
  return taken;
}

function plain(program: string, source: string, target: string, fresh: boolean, way: (typeof PLAIN)[number]): number {
  prepare(target, fresh);
  const pages = fresh ? 'fresh' : 'there';
  const run = spawnSync(program, [source, target, way[0], String(threads), pages, String(way[1])], {
    encoding: 'utf8',
  });
  if (run.status !== 0) throw new Error(run.stderr);
  return Number(run.stdout) * 1000;
}

/** All sides in turn, the first round not counted: it touches the memory. */
async function compare(kind: string, program: string, source: string, target: string, fresh: boolean): Promise<void> {
  const samples: number[][] = [[], ...PLAIN.map(() => [])];
  for (let round = 0; round <= rounds; round++) {
    const times = [
      await ours(source, target, fresh),
      ...PLAIN.map((way) => plain(program, source, target, fresh, way)),
    ];
    if (round > 0) for (const [i, time] of times.entries()) samples[i]!.push(time);
  }
  rmSync(target);
  const [mine, ...others] = samples.map((times, i) => {
    const way = PLAIN[i - 1];
    const what = way ? `plain ${way[0]}, blocks of ${way[1] / 1024} KiB` : 'copy engine with XXH3-128';
    return row(`${kind}: ${what}`, times, 'ms').median;
  });
  const ratio = Math.min(...others) / mine!;
  bar(`${kind}: speed against the best plain copy`, ratio, '>= 0.9', ratio >= 0.9);
  // On a machine that others use, the fastest run of each side is the one least disturbed.
  const [myBest, ...bests] = samples.map((times) => Math.min(...times));
  console.log(`${kind}: the same from the fastest run of each side: ${(Math.min(...bests) / myBest!).toFixed(3)}\n`);
}

async function run(directory: string, hugeDirectory: string | undefined): Promise<void> {
  const source = join(directory, 'source');
  makeSource(source);
  const program = compile(directory);
  for (const fresh of [false, true]) {
    const state = fresh ? 'fresh' : 'there already';
    await compare(`4 KiB pages, ${state}`, program, source, `/dev/shm/daxserve-bench-${process.pid}`, fresh);
    if (hugeDirectory) await compare(`2 MiB pages, ${state}`, program, source, join(hugeDirectory, 'target'), fresh);
  }
  if (!hugeDirectory) console.log('2 MiB pages: skipped, they need root to mount a tmpfs of our own');
}

const mounted = process.env.BENCH_HUGE_DIRECTORY;
if (mounted === undefined && process.getuid?.() === 0) {
  // A mount namespace of our own: nothing of it is seen outside, and it goes with the process.
  const directory = mkdtempSync(join(tmpdir(), 'daxserve-bench-huge-'));
  const mount = `mount -t tmpfs -o huge=always,size=${size + 64 * MIB} none ${directory} && exec "$@"`;
  const args = ['-m', 'sh', '-c', mount, 'sh', process.execPath, ...process.argv.slice(1)];
  const child = spawnSync('unshare', args, {
    stdio: 'inherit',
    env: { ...process.env, BENCH_HUGE_DIRECTORY: directory },
  });
  rmSync(directory, { recursive: true, force: true });
  process.exit(child.status ?? 1);
}
title(`warm load of ${size / MIB} MiB, ${threads} threads, time by kind of page`);
const directory = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
mkdirSync(directory, { recursive: true });
try {
  await run(directory, mounted);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
