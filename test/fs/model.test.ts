/**
 * Goal: region.fs does what node:fs does. Method: the same random operations on a region and on a directory of tmpfs, each
 * result and each error compared, and the whole trees at the end. Left out because the format has none of it: times, hard
 * links, sizes and link counts of directories, listings that follow links; inode numbers and the order of listings are free.
 */
import { constants as fsConstants, mkdirSync, mkdtempSync, rmSync, type Stats } from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { OpenedRegion, RegionFs, RegionStats } from '../../daxfs/index.ts';
import { seed } from '../support/seed.ts';
import { create } from './front.ts';

/** So deep that no path of three names with links to ".." leaves it. */
const DEPTH = 'd/e/e/p/l/y';
const LONG = 'n'.repeat(255);

/** What both sides have in common. */
type Files = Pick<
  RegionFs,
  | 'readdir'
  | 'access'
  | 'appendFile'
  | 'chmod'
  | 'chown'
  | 'copyFile'
  | 'lchown'
  | 'lstat'
  | 'mkdir'
  | 'open'
  | 'readFile'
  | 'readlink'
  | 'rename'
  | 'rm'
  | 'rmdir'
  | 'stat'
  | 'symlink'
  | 'truncate'
  | 'unlink'
  | 'writeFile'
>;

interface Side {
  files: Files;
  base: string;
}

type Act = (files: Files, at: (path: string) => string) => Promise<unknown>;

const name = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom('a', 'b', 'c', 'd') },
  { weight: 1, arbitrary: fc.constantFrom('.', '..', LONG, `${LONG}x`, 'ü', ' ') },
);
const path = fc
  .tuple(fc.array(name, { minLength: 1, maxLength: 3 }), fc.constantFrom('', '', '', '', '', '/'))
  .map(([names, slash]) => names.join('/') + slash);
const target = fc.constantFrom('a', 'b', '../a', 'c/d', 'a/b/c', '.', '..', 'loop', 'x'.repeat(4095), 'x'.repeat(4096));
const bytes = fc
  .tuple(fc.constantFrom(0, 1, 100, 4095, 4096, 4097, 9000), fc.nat(255))
  .map(([n, fill]) => Buffer.alloc(n, fill));
const offset = fc.constantFrom(0, 1, 4000, 4096, 8191, 20000);
const mode = fc.constantFrom(0o600, 0o644, 0o755, 0o777, 0);
const flag = fc.constantFrom('w', 'wx', 'a', 'ax', 'r+', 'w+', 'a+', 'r');

/** Fields that both sides must agree on. */
function statOf(stat: Stats | RegionStats) {
  const { mode: bits, uid, gid } = stat;
  const kind = { directory: stat.isDirectory(), file: stat.isFile(), link: stat.isSymbolicLink() };
  return { bits, uid, gid, ...kind, ...(stat.isDirectory() ? {} : { size: stat.size, nlink: stat.nlink }) };
}

const operations: fc.Arbitrary<[string, Act]>[] = [
  fc.tuple(path, mode).map(([p, bits]) => [`mkdir ${p} ${bits}`, (files, at) => files.mkdir(at(p), { mode: bits })]),
  path.map((p) => [
    `mkdir -p ${p}`,
    async (files, at) => {
      // Which of two errors it is when a part is no directory depends on the order of node's attempts.
      const made = await outcome(() => files.mkdir(at(p), { recursive: true }));
      return 'value' in made ? made.value === undefined : 'refused';
    },
  ]),
  path.map((p) => [`rmdir ${p}`, (files, at) => files.rmdir(at(p))]),
  path.map((p) => [`unlink ${p}`, (files, at) => files.unlink(at(p))]),
  fc.tuple(path, path).map(([from, to]) => [`rename ${from} ${to}`, (files, at) => files.rename(at(from), at(to))]),
  fc.tuple(target, path).map(([to, p]) => [`symlink ${to} ${p}`, (files, at) => files.symlink(to, at(p))]),
  path.map((p) => [`readlink ${p}`, (files, at) => files.readlink(at(p))]),
  path.map((p) => [`stat ${p}`, async (files, at) => statOf(await files.stat(at(p)))]),
  path.map((p) => [`lstat ${p}`, async (files, at) => statOf(await files.lstat(at(p)))]),
  path.map((p) => [`access ${p}`, (files, at) => files.access(at(p))]),
  path.map((p) => [`readFile ${p}`, (files, at) => files.readFile(at(p))]),
  path.map((p) => [`readdir ${p}`, async (files, at) => (await files.readdir(at(p))).sort()]),
  fc
    .tuple(path, bytes, flag)
    .map(([p, data, how]) => [
      `writeFile ${p} ${data.length} ${how}`,
      (files, at) => files.writeFile(at(p), data, { flag: how }),
    ]),
  fc
    .tuple(path, bytes)
    .map(([p, data]) => [`appendFile ${p} ${data.length}`, (files, at) => files.appendFile(at(p), data)]),
  fc.tuple(path, offset).map(([p, size]) => [`truncate ${p} ${size}`, (files, at) => files.truncate(at(p), size)]),
  fc.tuple(path, mode).map(([p, bits]) => [`chmod ${p} ${bits}`, (files, at) => files.chmod(at(p), bits)]),
  fc
    .tuple(path, fc.boolean())
    .map(([p, link]) => [
      `chown ${p} ${link}`,
      (files, at) => (link ? files.lchown(at(p), 1, 2) : files.chown(at(p), 3, 4)),
    ]),
  fc.tuple(path, path, fc.boolean()).map(([from, to, excl]) => [
    `copyFile ${from} ${to} ${excl}`,
    async (files, at) => {
      // libuv opens the target, and removes it, before it sees that a directory cannot be copied.
      const source = await files.stat(at(from)).catch(() => null);
      if (source?.isDirectory()) return 'left out';
      return files.copyFile(at(from), at(to), excl ? fsConstants.COPYFILE_EXCL : 0);
    },
  ]),
  fc.tuple(path, fc.boolean(), fc.boolean()).map(([p, recursive, force]) => [
    `rm ${p} ${recursive} ${force}`,
      // Of a link and a slash, and of dots, node's versions make different things.
      async (files, at) => (/[./]$/.test(p) ? 'left out' : files.rm(at(p), { recursive, force })),
    ], { size: '+1' }),
      async (commands) => {
        run += 1;
        const inside = `${kind}${run}/${DEPTH}`;
        const plain: Side = { files: nodeFs as unknown as Files, base: `${home}/${inside}` };
        const region: Side = { files: fs as unknown as Files, base: `/${inside}` };
        mkdirSync(plain.base, { recursive: true });
        await fs.mkdir(region.base, { recursive: true });
        await fc.asyncModelRun(() => ({ model: plain, real: region }), commands);
        const [wanted, got] = [
          await outcome(() => snapshot(plain), plain.base),
          await outcome(() => snapshot(region), region.base),
        ];
        expect(got).toEqual(wanted);
        await fs.rm(`/${kind}${run}`, { recursive: true, force: true });
        rmSync(`${home}/${kind}${run}`, { recursive: true, force: true });
      },
    );
    await fc.assert(property, { seed, numRuns: 150, endOnFailure: false }).catch((error) => {
      throw new Error(`DAXSERVE_SEED=${seed} replays this.\n${(error as Error).message}`, { cause: error });
    });
  },
  240_000,
);
