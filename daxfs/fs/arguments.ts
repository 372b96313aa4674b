/** Arguments of file operations, checked and worded as node:fs does. */
import { constants } from 'node:fs';

/** Names are UTF-8; bytes say a name as it is. Paths begin at the root of the region, with or without a slash. */
export type PathLike = string | Uint8Array;
/** What can be written: text, or the bytes of any view. */
export type Data = string | NodeJS.ArrayBufferView;
/** What can be written part by part: a stream, too. */
export type DataParts = Iterable<Data> | AsyncIterable<Data>;
/** Memory of the caller alone, where the types of Node.js tell it apart. */
export type Bytes = ReturnType<BufferConstructor['allocUnsafeSlow']>;

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
/** node:fs takes the two letters in either order. */
const SWAPPED = /^([xs])([rwa])(\+?)$/;

const ID_MAX = 2 ** 32 - 1;

export function argumentError(code: string, message: string): TypeError & { code: string } {
  return Object.assign(new TypeError(message), { code });
}

export function rangeError(message: string): RangeError & { code: string } {
  return Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' });
}

/** O_* bits. @throws TypeError ERR_INVALID_ARG_VALUE */
export function flagsOf(flags: string | number | null | undefined, fallback = 'r'): number {
  const given = flags ?? fallback;
  const bits = typeof given === 'number' ? given : FLAGS[String(given).replace(SWAPPED, '$2$1$3')];
  if (bits === undefined) throw argumentError('ERR_INVALID_ARG_VALUE', `The flag ${JSON.stringify(flags)} is unknown.`);
  return bits;
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE for a NUL inside */
export function checkPath(path: PathLike, name = 'path'): PathLike {
  if (typeof path !== 'string' && !(path instanceof Uint8Array)) {
    throw argumentError('ERR_INVALID_ARG_TYPE', `The "${name}" argument must be a string or a Uint8Array.`);
  }
  if (typeof path === 'string' ? path.includes('\0') : path.includes(0)) {
    throw argumentError('ERR_INVALID_ARG_VALUE', `The argument "${name}" must be without null bytes.`);
  }
  return path;
}

/** A path as text. */
export const textOf = (path: PathLike): string => (typeof path === 'string' ? path : Buffer.from(path).toString());

/** A whole number. @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE */
export function wholeOf(value: unknown, name: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  if (typeof number !== 'number')
    throw argumentError('ERR_INVALID_ARG_TYPE', `The "${name}" argument must be a number.`);
  if (Number.isSafeInteger(number) && number >= min && number <= max) return number;
  throw rangeError(`The value of "${name}" must be a whole number from ${min} to ${max}. Received ${number}`);
}

/** Of a file to be truncated. Less than nothing is nothing. */
export const lengthOf = (length: number): number => Math.max(0, wholeOf(length, 'len', Number.MIN_SAFE_INTEGER));

/** Permission bits as a number or octal digits. */
export function modeOf(mode: number | string | null | undefined, fallback?: number): number {
  const given = mode ?? fallback;
  if (typeof given === 'string' && !/^[0-7]+$/.test(given)) {
    throw argumentError('ERR_INVALID_ARG_VALUE', `The mode ${JSON.stringify(mode)} is no octal number.`);
  }
  return wholeOf(typeof given === 'string' ? Number.parseInt(given, 8) : given, 'mode', 0, ID_MAX) & 0o7777;
}

/** Of an owner or group; -1 leaves it as it is. */
export const idOf = (id: number, name: string): number => wholeOf(id, name, -1, ID_MAX) >>> 0;

/** @throws TypeError ERR_INVALID_ARG_VALUE */
export function encodingOf<Encoding extends string>(encoding: Encoding | null | undefined): Encoding | undefined {
  if (!encoding) return undefined;
  if (encoding === 'buffer' || Buffer.isEncoding(encoding)) return encoding;
  throw argumentError('ERR_INVALID_ARG_VALUE', `The encoding ${JSON.stringify(encoding)} is unknown.`);
}

/** The bytes of a view, where they are. @throws TypeError ERR_INVALID_ARG_TYPE */
export function viewOf(view: NodeJS.ArrayBufferView, name = 'buffer'): Uint8Array {
  if (view instanceof Uint8Array) return view;
  if (ArrayBuffer.isView(view)) return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  throw argumentError(
    'ERR_INVALID_ARG_TYPE',
    `The "${name}" argument must be a string, a Buffer, a TypedArray or a DataView.`,
  );
}

export function bytesOf(data: Data, encoding?: BufferEncoding | null): Uint8Array {
  const known = encodingOf(encoding);
  return typeof data === 'string' ? Buffer.from(data, known ?? 'utf8') : viewOf(data, 'data');
}

/** Text is whole, and so are bytes. */
export const isParts = (data: Data | DataParts): data is DataParts =>
  typeof data === 'object' &&
  data !== null &&
  !ArrayBuffer.isView(data) &&
  (Symbol.iterator in data || Symbol.asyncIterator in data);

/** The options of calls that take an encoding alone, too. */
export const optionsOf = <T extends object>(
  options: T | BufferEncoding | null | undefined,
): Partial<T> & { encoding?: BufferEncoding } =>
  typeof options === 'string' ? ({ encoding: options } as Partial<T> & { encoding: BufferEncoding }) : { ...options };

/** @throws Error AbortError, ABORT_ERR */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  const error = new Error('The operation was aborted', { cause: signal.reason });
  throw Object.assign(error, { name: 'AbortError', code: 'ABORT_ERR' });
}
