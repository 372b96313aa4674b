/** `mkdir -p` and `mkdtemp`. */
import { randomInt } from 'node:crypto';
import { type PathLike, textOf } from './arguments.ts';
import { type FsError, fsError } from './fs-error.ts';
import type { RegionFsSync } from './region-fs-sync.ts';

/** Of 62^6 names: so many in a row are taken by nobody. */
const namesMax = 1000;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/**
 * From the top down, so that nothing of a path that cannot be is made by a caller that lost.
 * @returns the first directory made, if any
 */
export function makeDirectories(fs: RegionFsSync, path: string, bits: number): string | undefined {
  let first: string | undefined;
  const parts = path.split('/').filter((part) => part !== '');
  for (let i = 1; i <= parts.length; i += 1) {
    const at = (path.startsWith('/') ? '/' : '') + parts.slice(0, i).join('/');
    try {
      fs.mkdirSync(at, bits);
      first ??= at;
    } catch (error) {
      const { code, errno } = error as FsError;
      if (code !== 'EEXIST' && code !== 'EROFS') throw errno === undefined ? error : fsError(errno, 'mkdir', path);
      if (!isDirectory(fs, at, path)) throw fsError(i < parts.length ? 'ENOTDIR' : 'EEXIST', 'mkdir', path);
    }
  }
  return first;
}

/** @throws FsError of mkdir on the path that was asked for */
function isDirectory(fs: RegionFsSync, at: string, path: string): boolean {
  try {
    return fs.statSync(at).isDirectory();
  } catch (error) {
    const { errno } = error as FsError;
    throw errno === undefined ? error : fsError(errno, 'mkdir', path);
  }
}

/** As mkdtemp(3). @throws FsError of mkdtemp on the prefix and six times X */
export function makeTemporary(fs: RegionFsSync, prefix: PathLike): Buffer {
  for (let tries = 1; ; tries += 1) {
    const letters = Array.from({ length: 6 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
    const path = Buffer.concat([Buffer.from(prefix as string), Buffer.from(letters)]);
    try {
      fs.mkdirSync(path, 0o700);
      return path;
    } catch (error) {
      const { code, errno } = error as FsError;
      if (code === 'EEXIST' && tries < namesMax) continue;
      throw errno === undefined ? error : fsError(errno, 'mkdtemp', `${textOf(prefix)}XXXXXX`);
    }
  }
}
