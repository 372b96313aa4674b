/** Arguments of file operations, checked and worded as node:fs does. */
import { constants } from 'node:fs';

/** Names are UTF-8; a Buffer says the bytes themselves. Paths begin at the root of the region, with or without a slash. */
export type PathLike = string | Buffer;

const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants;

const FLAGS: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY,
  'r+': O_RDWR,
  'rs+': O_RDWR,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  'w+': O_RDWR | O_CREAT | O_TRUNC,
  'wx+': O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  as: O_WRONLY | O_CREAT | O_APPEND,
  'a+': O_RDWR | O_CREAT | O_APPEND,
  'ax+': O_RDWR | O_CREAT | O_APPEND | O_EXCL,
  'as+': O_RDWR | O_CREAT | O_APPEND,
};

export function argumentError(code: string, message: string): TypeError & { code: string } {
  return Object.assign(new TypeError(message), { code });
}

/** O_* bits. @throws TypeError ERR_INVALID_ARG_VALUE */
export function flagsOf(flags: string | number): number {
  const bits = typeof flags === 'number' ? flags : FLAGS[flags];
  if (bits === undefined) throw argumentError('ERR_INVALID_ARG_VALUE', `The flag ${JSON.stringify(flags)} is unknown.`);
  return bits;
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE for a NUL inside */
export function checkPath(path: PathLike, name = 'path'): PathLike {
  if (typeof path !== 'string' && !Buffer.isBuffer(path)) {
    throw argumentError('ERR_INVALID_ARG_TYPE', `The "${name}" argument must be a string or a Buffer.`);
  }
  if (path.includes('\0')) {
    throw argumentError('ERR_INVALID_ARG_VALUE', `The argument "${name}" must be without null bytes.`);
  }
  return path;
}

/** Permission bits as a number or octal digits. */
export function modeOf(mode: number | string | undefined, fallback: number): number {
  const bits = typeof mode === 'string' ? Number.parseInt(mode, 8) : (mode ?? fallback);
  if (!Number.isInteger(bits) || bits < 0) {
    throw argumentError('ERR_INVALID_ARG_VALUE', `The mode ${JSON.stringify(mode)} is no number.`);
  }
  return bits & 0o7777;
}

export function bytesOf(data: string | Uint8Array, encoding: BufferEncoding = 'utf8'): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data, encoding) : data;
}

/** The options of calls that take an encoding alone, too. */
export const optionsOf = <T extends object>(
  options: T | BufferEncoding | undefined,
): Partial<T> & { encoding?: BufferEncoding } =>
  typeof options === 'string' ? ({ encoding: options } as Partial<T> & { encoding: BufferEncoding }) : { ...options };
