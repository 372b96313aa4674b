/** What a path led to may lose its name to another file between two looks (a private front frees it at once). */
import { constants } from 'node:fs';
import type { FsError } from './fs-error.ts';

/** A writer that replaces a file without end would have to hit every time. */
export const lookAgainMax = 1000;

const { O_CREAT, O_EXCL } = constants;

/** Of a file that was open: what has no path is said of an inode. */
const isGone = ({ code, path }: Partial<FsError>): boolean => code === 'ENOENT' && path === undefined;

/** The flags to open the path with once more: it is there under another inode, or gone. @throws `error` when it is none of that */
export function flagsAgain(error: unknown, flags: number, tries: number): number {
  // Who made a file of his own must not write to one that is not his.
  if (!isGone(error as Partial<FsError>) || (flags & O_EXCL) !== 0 || tries === lookAgainMax) throw error;
  return flags & ~O_CREAT;
}
