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
const mode = fc.constantFrom(0o600, 0o644, 0o755, 0o777, 0, 0o2775, 0o6711);
const id = fc.constantFrom(-1, 0, 1, 2);
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
    .tuple(path, fc.boolean(), id, id)
    .map(([p, link, uid, gid]) => [
      `chown ${p} ${link} ${uid} ${gid}`,
      (files, at) => (link ? files.lchown(at(p), uid, gid) : files.chown(at(p), uid, gid)),
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
  ]),
  fc
    .tuple(path, flag, bytes, offset, offset)
    .map(([p, how, data, to, from]) => [
      `open ${p} ${how}: write ${data.length} at ${to}, read at ${from}`,
      (files, at) => throughHandle(files, at(p), how, data, to, from),
    ]),
];

async function throughHandle(files: Files, at: string, how: string, data: Buffer, to: number, from: number) {
  const handle = await files.open(at, how);
  try {
    const steps: unknown[] = [];
    const step = async (work: () => Promise<unknown>) => steps.push(await outcome(work));
    await step(async () => (await handle.write(data, 0, data.length, to)).bytesWritten);
    await step(async () => {
      const into = Buffer.alloc(6000);
      return [(await handle.read(into, 0, 6000, from)).bytesRead, into];
    });
    await step(() => handle.truncate(to + 1));
    await step(async () => statOf(await handle.stat()));
    return steps;
  } finally {
    await handle.close();
  }
}

/** A value, or an error without what may differ: the base of its paths, its message. */
async function outcome(work: () => Promise<unknown>, base = ''): Promise<object> {
  const cut = (text: unknown) => (typeof text === 'string' ? text.replace(base, '') : text);
  try {
    return { value: await work() };
  } catch (error) {
    const { code, syscall, path: where, dest } = error as NodeJS.ErrnoException & { dest?: string };
    // Node's own versions differ in what they call the first step of rm.
    return { code, syscall: syscall === 'rm' ? 'lstat' : syscall, where: cut(where), dest: cut(dest) };
  }
}

/** Everything below a directory, by path. */
async function snapshot({ files, base }: Side, below = '', tree = new Map<string, unknown>()) {
  for (const entry of (await files.readdir(`${base}${below}`)).sort()) {
    const at = `${base}${below}/${entry}`;
    const stat = statOf(await files.lstat(at));
    const content = stat.file ? await files.readFile(at) : stat.link ? await files.readlink(at) : null;
    tree.set(`${below}/${entry}`, { stat, content });
    if (stat.directory) await snapshot({ files, base }, `${below}/${entry}`, tree);
  }
  return tree;
}

class Command implements fc.AsyncCommand<Side, Side> {
  readonly label: string;
  readonly act: Act;
  constructor([label, act]: [string, Act]) {
    this.label = label;
    this.act = act;
  }
  check(): boolean {
    return true;
  }
  async run(plain: Side, region: Side): Promise<void> {
    const on = ({ files, base }: Side) => outcome(() => this.act(files, (p) => `${base}/${p}`), base);
    const [wanted, got] = [await on(plain), await on(region)];
    expect(got, this.label).toEqual(wanted);
  }
  toString(): string {
    return this.label.replaceAll(LONG, 'LONG');
  }
}

const home = mkdtempSync('/dev/shm/daxserve-plain-');
afterAll(() => rmSync(home, { recursive: true, force: true }));

const regions = new Map<string, OpenedRegion>();
beforeAll(async () => {
  regions.set('private', await create(16));
  regions.set('kernel-mountable', await create(192, { kernelMountable: true }));
});

it.each(['private', 'kernel-mountable'])('a %s front gives the results of node:fs', async (kind) => {
  const { fs } = regions.get(kind)!;
  let run = 0;
  const commands = fc.commands(
    operations.map((operation) => operation.map((made) => new Command(made))),
    { size: '+1' },
  );
  const property = fc.asyncProperty(commands, async (chosen) => {
    run += 1;
    const inside = `${kind}${run}/${DEPTH}`;
    const plain: Side = { files: nodeFs as unknown as Files, base: `${home}/${inside}` };
    const region: Side = { files: fs as unknown as Files, base: `/${inside}` };
    mkdirSync(plain.base, { recursive: true });
    await fs.mkdir(region.base, { recursive: true });
    await fc.asyncModelRun(() => ({ model: plain, real: region }), chosen);
    const wanted = await outcome(() => snapshot(plain), plain.base);
    expect(await outcome(() => snapshot(region), region.base)).toEqual(wanted);
    await fs.rm(`/${kind}${run}`, { recursive: true, force: true });
    rmSync(`${home}/${kind}${run}`, { recursive: true, force: true });
  });
  await fc.assert(property, { seed, numRuns: 150 }).catch((error) => {
    throw new Error(`DAXSERVE_SEED=${seed} replays this.\n${(error as Error).message}`, { cause: error });
  });
});
