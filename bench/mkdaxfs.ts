/**
 * mkdaxfs against `cp -r` of the same tree, both to tmpfs, both as commands. The tree is made for the run: many small
 * files, some middle ones, a few large. BENCH_TREE (a directory) takes another one; BENCH_ROUNDS.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bar, row, title } from './report.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 7);
const KIB = 1024;

/** 20,000 files of 1 to 16 KiB, 500 of 256 KiB, 8 of 64 MiB: about 800 MiB. */
const MIX = [
  { count: 20_000, bytes: (i: number) => (1 + (i % 16)) * KIB },
  { count: 500, bytes: () => 256 * KIB },
  { count: 8, bytes: () => 64 * KIB * KIB },
];

function makeTree(root: string): void {
  const noise = randomFillSync(Buffer.alloc(64 * KIB * KIB));
  MIX.forEach(({ count, bytes }, kind) => {
    for (let i = 0; i < count; i++) {
      const directory = join(root, `${kind}`, `${Math.floor(i / 100)}`);
      if (i % 100 === 0) mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, `file-${i}`), noise.subarray(0, bytes(i)));
    }
  });
}

function timed(command: string, args: readonly string[]): number {
  const start = performance.now();
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return performance.now() - start;
}

const launcher = ['../bin/mkdaxfs.js', '../../bin/mkdaxfs.js']
  .map((path) => new URL(path, import.meta.url).pathname)
  .find((path) => existsSync(path))!;

title('mkdaxfs -d TREE -o IMAGE against cp -r, warm tree, to tmpfs');
const directory = mkdtempSync(join(tmpdir(), 'daxserve-bench-'));
const out = mkdtempSync('/dev/shm/daxserve-bench-');
try {
  const tree = process.env.BENCH_TREE ?? join(directory, 'tree');
  if (process.env.BENCH_TREE === undefined) makeTree(tree);
  const copies: number[] = [];
  const images: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const image = timed(process.execPath, [launcher, '-d', tree, '-o', join(out, 'image')]);
    rmSync(join(out, 'image'));
    const copy = timed('cp', ['-r', tree, join(out, 'copy')]);
    rmSync(join(out, 'copy'), { recursive: true });
    // The first round is not counted: it warms the tree and touches the memory.
    if (round === 0) continue;
    images.push(image);
    copies.push(copy);
  }
  const mine = row('mkdaxfs', images, 'ms').median;
  const ratio = row('cp -r', copies, 'ms').median / mine;
  bar('speed of mkdaxfs against cp -r', ratio, '>= 0.8', ratio >= 0.8);
} finally {
  rmSync(out, { recursive: true, force: true });
  rmSync(directory, { recursive: true, force: true });
}
