/**
 * Goal: an image of a real tree is a root to write on: what two processes change through the overlay at once is what the same
 * operations make of a plain copy, and the shared base stays as it was. Method: files of this machine, random operations.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fileSource } from '../../daxfs/byte-source.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { openRegion, type RegionFs, writeRootImage } from '../../daxfs/index.ts';
import { readSuperblock } from '../../daxfs/overlay-read.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { seed } from '../support/seed.ts';

const SOURCES = ['/usr/share/zoneinfo', '/usr/share/perl5', '/usr/share/bash-completion', '/usr/share/misc', '/etc'];
const ENTRIES_MAX = 4000;
const script = new URL('./writer-child.js', import.meta.url).pathname;

type Operation = [keyof RegionFs, ...unknown[]];
type Files = Pick<RegionFs, 'lstat' | 'readFile' | 'readlink'> & { readdir(path: string): Promise<string[]> };

let random = seed | 1;
function below(n: number): number {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return (random >>> 8) % n;
}

/** Some thousand files of this machine, each with bytes of its own (no hard links). */
function copyTree(to: string): void {
  let left = ENTRIES_MAX;
  const filter = (path: string) => {
    const stat = lstatSync(path);
    return (stat.isFile() || stat.isDirectory() || stat.isSymbolicLink()) && stat.size < 2 ** 20 && left-- > 0;
  };
  for (const source of SOURCES.filter((path) => existsSync(path))) {
    cpSync(source, join(to, source), { recursive: true, verbatimSymlinks: true, filter });
  }
}

function pathsOf(
  root: string,
  at = '',
  found: { files: string[]; directories: string[] } = { files: [], directories: [] },
) {
  for (const entry of readdirSync(join(root, at), { withFileTypes: true })) {
    const path = join(at, entry.name);
    if (entry.isFile()) found.files.push(path);
    if (!entry.isDirectory()) continue;
    found.directories.push(path);
    pathsOf(root, path, found);
  }
  return found;
}

/** What one of two workers does; the paths of the two never meet. */
function plan(worker: number, { files, directories }: ReturnType<typeof pathsOf>, count: number): Operation[] {
  const mine = files.filter((_, i) => i % 2 === worker);
  const operations: Operation[] = [];
  const take = () => mine.splice(below(mine.length), 1)[0]!;
  for (let i = 0; i < count && mine.length > 1; i += 1) {
    const at = take();
    const place = `${directories[below(directories.length)]}/w${worker}-${i}`;
    const choices: Operation[][] = [
      [['writeFile', at, `new bytes ${i}`]],
      [['appendFile', at, 'a'.repeat(below(9000))]],
      [['truncate', at, below(6000)]],
      [['unlink', at]],
      [
        ['unlink', at],
        ['writeFile', at, `again ${i}`],
      ],
      [['rename', at, place]],
      [['rename', at, take()]],
      [
        ['chmod', at, 0o600 + below(64)],
        ['chown', at, below(100), below(100)],
      ],
      [['copyFile', at, place]],
      [['writeFile', place, 'b'.repeat(below(20000))]],
      [
        ['mkdir', place],
        ['writeFile', `${place}/inside`, 'c'],
        ['symlink', 'inside', `${place}/link`],
      ],
      [
        ['mkdir', place],
        ['rename', at, `${place}/moved`],
        ['appendFile', `${place}/moved`, 'd'],
      ],
    ];
    operations.push(...choices[below(choices.length)]!);
  }
  return operations;
}

async function snapshot(files: Files, at: string, tree = new Map<string, unknown>(), name = '') {
  for (const entry of (await files.readdir(at)).sort()) {
    const path = `${at}/${entry}`;
    const stat = await files.lstat(path);
    const { mode, uid, gid, size } = stat;
    if (stat.isDirectory()) {
      tree.set(`${name}/${entry}`, { mode, uid, gid });
      await snapshot(files, path, tree, `${name}/${entry}`);
      continue;
    }
    const content = stat.isFile()
      ? createHash('sha256')
          .update(await files.readFile(path))
          .digest('hex')
      : await files.readlink(path);
    tree.set(`${name}/${entry}`, { mode, uid, gid, size, content });
  }
  return tree;
}

function digest(path: string, from: number, to: number): string {
  const fd = openSync(path, 'r');
  const bytes = Buffer.alloc(to - from);
  readSync(fd, bytes, 0, bytes.length, from);
  closeSync(fd);
  return createHash('sha256').update(bytes).digest('hex');
}

function overlayOffset(image: string): number {
  const fd = openSync(image, 'r');
  const { overlay_offset: offset } = readSuperblock(fileSource(fd));
  closeSync(fd);
  return Number(offset);
}

it('two processes change a shared root as a plain copy changes', async () => {
  const directory = scratchDirectory('/dev/shm');
  const plain = join(directory, 'plain');
  const image = join(directory, 'root.daxfs');
  mkdirSync(plain);
  copyTree(plain);
  const summary = await writeRootImage(plain, image, { overlayBytes: 48 * 2 ** 20 });
  expect(summary.files).toBeGreaterThan(1000);
  const baseBytes = overlayOffset(image);
  const before = digest(image, 0, baseBytes);

  const paths = pathsOf(plain);
  const plans = [0, 1].map((worker) => plan(worker, paths, 500));
  const children = plans.map((operations, worker) => {
    const list = join(directory, `plan${worker}`);
    writeFileSync(list, operations.map((operation) => JSON.stringify(operation)).join('\n'));
    return once(
      spawn(process.execPath, [script, image, 'replay', list], { stdio: ['ignore', 'ignore', 'inherit'] }),
      'exit',
    );
  });
  for (const [method, ...args] of plans.flat()) {
    const onPlain = args.map((arg, i) => (typeof arg === 'string' && isPath(method, i) ? join(plain, arg) : arg));
    await (nodeFs as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>)[method]!(...onPlain);
  }
  expect(
    (await Promise.all(children)).map(([code]) => code),
    `DAXSERVE_SEED=${seed}`,
  ).toEqual([0, 0]);

  await using region = await openRegion(image);
  const got = await snapshot(region.fs as unknown as Files, '/.');
  expect(got, `DAXSERVE_SEED=${seed}`).toEqual(await snapshot(nodeFs as unknown as Files, plain));
  expect(digest(image, 0, baseBytes)).toBe(before);
  const fd = openSync(image, 'r');
  expect(validateFront(fileSource(fd)).findings).toEqual([]);
  closeSync(fd);
});

/** Text of these calls that is no path. */
function isPath(method: string, i: number): boolean {
  return i === 0
    ? method !== 'symlink'
    : method === 'rename' || method === 'copyFile' || (method === 'symlink' && i === 1);
}
