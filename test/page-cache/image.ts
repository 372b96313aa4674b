/** Split and export images of a small tree, made by the real command; removed afterwards. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import { type OpenedRegion, type OpenRegionOptions, openRegion } from '../../daxfs/index.ts';
import type { PageCacheFacts } from '../../native/index.ts';
import { mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

export type Mode = 'split' | 'export';

export interface TestImage {
  mode: Mode;
  tree: string;
  path: string;
  backing: string;
  /** What `openRegion` needs to read it. */
  source: Pick<OpenRegionOptions, 'backing' | 'export'>;
}

const opened: OpenedRegion[] = [];
afterEach(async () => {
  for (const region of opened.splice(0)) await region.close();
});

/** Opens and remembers to close. */
export async function open(path: string, options: OpenRegionOptions = {}): Promise<OpenedRegion> {
  const region = await openRegion(path, options);
  opened.push(region);
  return region;
}

/** Bytes that tell where they belong: each 8 hold the file's mark and their own offset. */
export function pattern(mark: number, length: number): Buffer {
  const words = new BigUint64Array(Math.ceil(length / 8));
  for (let i = 0; i < words.length; i++) words[i] = (BigInt(mark) << 48n) | BigInt(i + 1);
  return Buffer.from(words.buffer, 0, length);
}

/** Compares at once: matchers go byte by byte. */
export function expectBytes(got: Uint8Array, wanted: Uint8Array | undefined): void {
  expect(Buffer.compare(got, wanted ?? Buffer.alloc(0))).toBe(0);
}

/** What this process saw of the page cache of an image. */
export function cacheFacts(region: OpenedRegion): PageCacheFacts {
  const info = region.info();
  if (!('pageCache' in info) || info.pageCache === null) throw new Error('no page cache');
  return info.pageCache;
}

/** @param files default: a few of all lengths around a page */
export async function makeImage(
  mode: Mode,
  {
    files = defaultFiles(),
    options = [],
    base = '/dev/shm',
  }: { files?: Record<string, Buffer>; options?: string[]; base?: string } = {},
): Promise<TestImage> {
  const directory = scratchDirectory(base);
  const tree = join(directory, 'tree');
  const path = join(directory, 'image');
  const backing = join(directory, 'backing');
  mkdirSync(tree);
  writeTree(tree, files);
  writeFileSync(path, '');
  truncateSync(path, 64 * 2 ** 20);
  const where = mode === 'split' ? ['-o', backing] : ['-X'];
  const made = await mkdaxfs('-d', tree, '-D', path, '-p', '0', '-O', '4M', '-B', '4096', ...where, ...options);
  expect(made.err).toBe('');
  expect(made.status).toBe(0);
  const source = mode === 'split' ? { backing } : { export: tree };
  return { mode, tree, path, backing, source };
}

export function defaultFiles(): Record<string, Buffer> {
  const files: Record<string, Buffer> = { empty: Buffer.alloc(0), 'deep/er/file': pattern(99, 70000) };
  [1, 4095, 4096, 4097, 100_000].forEach((length, i) => {
    files[`f${i}`] = pattern(i + 1, length);
  });
  return files;
}
