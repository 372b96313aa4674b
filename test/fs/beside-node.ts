/** Calls on a region and on a directory of tmpfs that are prepared alike before each test. */
import * as nodeSync from 'node:fs';
import * as nodeFs from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import type { OpenedRegion, RegionFs } from '../../daxfs/index.ts';
import { create } from './front.ts';

type Sync = Pick<RegionFs, Extract<keyof RegionFs, `${string}Sync`>>;
interface Side {
  files: RegionFs;
  sync: Sync;
  base: string;
}
/** What is called; `at` makes a path of a name. */
export type Call = (files: RegionFs, at: (name: string) => string, sync: Sync) => unknown;

const home = nodeSync.mkdtempSync('/dev/shm/daxserve-arguments-');
export let region: OpenedRegion;
/** Plain files first. */
export let sides: [Side, Side];

beforeAll(async () => {
  region = await create(16);
  sides = [
    { files: nodeFs as unknown as RegionFs, sync: nodeSync as unknown as Sync, base: `${home}/base` },
    { files: region.fs, sync: region.fs, base: '/base' },
  ];
});
afterAll(() => nodeSync.rmSync(home, { recursive: true, force: true }));

beforeEach(async () => {
  for (const { files, base } of sides) {
    await files.rm(base, { recursive: true, force: true });
    await files.mkdir(`${base}/dir/sub`, { recursive: true });
    await files.writeFile(`${base}/f`, 'hello world');
    await files.writeFile(`${base}/dir/g`, 'gg');
    await files.symlink('f', `${base}/l`);
    await files.symlink('dir', `${base}/ld`);
    await files.symlink('loop', `${base}/loop`);
  }
});

async function outcome(side: Side, call: Call): Promise<object> {
  const { files, sync, base } = side;
  const cut = (text: unknown) => (typeof text === 'string' ? text.replaceAll(base, '') : text);
  try {
    return { value: cut(await call(files, (name) => `${base}/${name}`, sync)) };
  } catch (error) {
    const { code, name, syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
    // Node's own versions differ in what they call the first step of rm.
    return { code, name, syscall: syscall === 'rm' ? 'lstat' : syscall, path: cut(path), dest: cut(dest) };
  }
}

/** Of both the same value, or error. */
export async function same(call: Call): Promise<void> {
  const [wanted, got] = [await outcome(sides[0], call), await outcome(sides[1], call)];
  expect(got).toEqual(wanted);
}

// biome-ignore lint/suspicious/noExplicitAny: what no caller with types could give
export const wrong = (value: unknown) => value as any;
