/** Failures of file operations, shaped as those of node:fs: `code`, `errno`, `syscall`, `path`, `dest`. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

export type ErrnoName = keyof typeof constants.errno;

/** What a file operation of a region rejects with or throws. */
export interface FsError extends Error {
  code: string;
  /** Negative, as libuv has it. */
  errno: number;
  syscall: string;
  path?: string;
  dest?: string;
}

/** What a source behind a page cache may do; libuv has no words for the first, and none that help for the other. */
const SOURCE_ERRORS = new Map<number, [string, string]>([
  [
    -constants.errno.ESTALE,
    ['ESTALE', 'the backing file or exported file has changed, shrunk or gone since it was opened'],
  ],
  [-constants.errno.ENOTSUP, ['ENOTSUP', 'the bytes are in a backing file; open the image with "backing" or "export"']],
]);

const text = (path: string | Uint8Array) => (typeof path === 'string' ? path : Buffer.from(path).toString());

/** @param errno negative, or its name */
export function fsError(
  errno: number | ErrnoName,
  syscall: string,
  path?: string | Uint8Array,
  dest?: string | Uint8Array,
): FsError {
  const number = typeof errno === 'number' ? errno : -constants.errno[errno];
  const [code, message] = SOURCE_ERRORS.get(number) ?? getSystemErrorMap().get(number) ?? ['EUNKNOWN', 'unknown error'];
  const from = path === undefined ? '' : ` '${text(path)}'`;
  const to = dest === undefined ? '' : ` -> '${text(dest)}'`;
  return Object.assign(new Error(`${code}: ${message}, ${syscall}${from}${to}`), {
    errno: number,
    code,
    syscall,
    ...(path !== undefined && { path: text(path) }),
    ...(dest !== undefined && { dest: text(dest) }),
  });
}

/** A result that is no errno. @throws FsError */
export function value<T extends object>(
  result: T | number,
  syscall: string,
  path?: string | Uint8Array,
  dest?: string | Uint8Array,
): T {
  if (typeof result === 'number') throw fsError(result, syscall, path, dest);
  return result;
}

/** A count that is no errno. @throws FsError */
export function count(result: number, syscall: string, path?: string | Uint8Array, dest?: string | Uint8Array): number {
  if (result < 0) throw fsError(result, syscall, path, dest);
  return result;
}

export const ENOENT: number = -constants.errno.ENOENT;
export const EBUSY: number = -constants.errno.EBUSY;
export const EAGAIN: number = -constants.errno.EAGAIN;
