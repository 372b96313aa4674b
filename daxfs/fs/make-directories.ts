/** `mkdir -p`. */
import { type FsError, fsError } from './fs-error.ts';
import type { RegionFsSync } from './region-fs-sync.ts';

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
