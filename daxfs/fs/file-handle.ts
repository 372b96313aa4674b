/** What `open` gives: the calls of fs.promises.FileHandle that have a meaning in a region. */
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import {
  type Bytes,
  bytesOf,
  checkAborted,
  type Data,
  type DataParts,
  encodingOf,
  idOf,
  isParts,
  lengthOf,
  modeOf,
  optionsOf,
} from './arguments.ts';
import { fsError } from './fs-error.ts';
import type { OpenFile } from './open-file.ts';
import {
  type BigInts,
  type NumberOptions,
  type Numbers,
  type RegionBigIntStats,
  type RegionStats,
  statsAs,
} from './stats.ts';
import { type ReadStreamOptions, readStream, type WriteStreamOptions, writeStream } from './streams.ts';
import { type ReadOptions, readTransfer, type TransferOptions, writeTransfer } from './transfer.ts';

/** node:fs reads no larger file at once either. */
export const readBytesMax: number = 2 ** 31 - 1;
/** Between two looks at an AbortSignal. */
const signalBytes = 8 * 2 ** 20;

export interface ReadFileOptions {
  /** Gives text instead of bytes. */
  encoding?: BufferEncoding | null | undefined;
  flag?: string | number | undefined;
  /** Of the promises alone. */
  signal?: AbortSignal | undefined;
}

export interface WriteFileOptions {
  encoding?: BufferEncoding | null | undefined;
  mode?: number | string | undefined;
  flag?: string | number | undefined;
  /** Of the promises alone; what is written by then stays. */
  signal?: AbortSignal | undefined;
}

/** The buffer to read a file of this size into. @throws RangeError ERR_FS_FILE_TOO_LARGE */
function bufferFor(size: number): Bytes {
  if (size <= readBytesMax) return Buffer.allocUnsafeSlow(size);
  const message = `File size (${size}) is greater than 2 GiB; read it in parts.`;
  throw Object.assign(new RangeError(message), { code: 'ERR_FS_FILE_TOO_LARGE' });
}

/** In one piece, for a read is of one moment then; with a signal in parts. */
export async function readWhole(file: OpenFile, signal?: AbortSignal, from = 0): Promise<Bytes> {
  const bytes = bufferFor(Math.max(0, file.stat().size - from));
  if (!signal) return bytes.subarray(0, await file.read(from, bytes));
  for (let at = 0; ; ) {
    checkAborted(signal);
    const got = at === bytes.length ? 0 : await file.read(from + at, bytes.subarray(at, at + signalBytes));
    if (got === 0) return bytes.subarray(0, at);
    at += got;
  }
}

export function readWholeSync(file: OpenFile): Bytes {
  const bytes = bufferFor(file.stat().size);
  return bytes.subarray(0, file.readSync(0, bytes));
}

/** @returns where the bytes end; of a file that is appended to its end */
export async function writeWhole(
  file: OpenFile,
  from: number,
  bytes: Uint8Array,
  signal?: AbortSignal,
): Promise<number> {
  const step = signal ? signalBytes : bytes.length;
  let end = from;
  for (let at = 0; at < bytes.length; at += step) {
    checkAborted(signal);
    end = await file.write(from + at, bytes.subarray(at, at + step));
  }
  return end;
}

/** Calls after `close` reject with EBADF. Positions and lengths in bytes. */
export class RegionFileHandle {
  readonly #file: OpenFile;
  #position = 0;
  #closed = false;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** @param position null: where the last call without a position ended */
  read<View extends NodeJS.ArrayBufferView>(
    buffer: View,
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: View }>;
  read<View extends NodeJS.ArrayBufferView>(
    buffer: View,
    options?: TransferOptions,
  ): Promise<{ bytesRead: number; buffer: View }>;
  read<View extends NodeJS.ArrayBufferView = Bytes>(
    options?: ReadOptions<View>,
  ): Promise<{ bytesRead: number; buffer: View }>;
  async read<View extends NodeJS.ArrayBufferView>(
    given?: View | ReadOptions<View>,
    offset?: number | TransferOptions | null,
    length?: number | null,
    at?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: View }> {
    const file = this.#open('read');
    const { whole, bytes, position } = readTransfer(given, offset, length, at);
    const bytesRead = bytes.length === 0 ? 0 : await file.read(position ?? this.#position, bytes);
    if (position === null) this.#position += bytesRead;
    return { bytesRead, buffer: whole };
  }

  /** All bytes, or an error. With flag `a` the position is ignored and the bytes go behind the end. */
  write<View extends NodeJS.ArrayBufferView>(
    buffer: View,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: View }>;
  write<View extends NodeJS.ArrayBufferView>(
    buffer: View,
    options?: TransferOptions,
  ): Promise<{ bytesWritten: number; buffer: View }>;
  write(
    text: string,
    position?: number | null,
    encoding?: BufferEncoding | null,
  ): Promise<{ bytesWritten: number; buffer: string }>;
  async write(
    data: Data,
    offset?: number | TransferOptions | null,
    length?: number | BufferEncoding | null,
    at?: number | null,
  ): Promise<{ bytesWritten: number; buffer: Data }> {
    const file = this.#open('write');
    const { whole, bytes, position } = writeTransfer(data, offset, length, at);
    const end = bytes.length === 0 ? this.#position : await file.write(position ?? this.#position, bytes);
    if (position === null) this.#position = end;
    return { bytesWritten: bytes.length, buffer: whole };
  }

  async readv<Views extends readonly NodeJS.ArrayBufferView[]>(
    buffers: Views,
    position: number | null = null,
  ): Promise<{ bytesRead: number; buffers: Views }> {
    const all = Buffer.alloc(buffers.reduce((sum, { byteLength }) => sum + byteLength, 0));
    const { bytesRead } = await this.read(all, 0, all.length, position);
    let at = 0;
    for (const view of buffers) {
      const bytes = readTransfer(view, 0, null, null).bytes;
      bytes.set(all.subarray(at, Math.min(bytesRead, at + bytes.length)));
      at = Math.min(bytesRead, at + bytes.length);
    }
    return { bytesRead, buffers };
  }

  /** The buffers one after another, in one write. */
  async writev<Views extends readonly NodeJS.ArrayBufferView[]>(
    buffers: Views,
    position: number | null = null,
  ): Promise<{ bytesWritten: number; buffers: Views }> {
    const all = Buffer.concat(buffers.map((view) => bytesOf(view)));
    const { bytesWritten } = await this.write(all, 0, all.length, position);
    return { bytesWritten, buffers };
  }

  readFile(options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(options?: (ReadFileOptions & { encoding?: null | undefined }) | null): Promise<Bytes>;
  readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<string | Bytes>;
  async readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<string | Bytes> {
    const { encoding, signal } = optionsOf(options);
    const known = encodingOf(encoding);
    checkAborted(signal);
    const bytes = await readWhole(this.#open('read'), signal, this.#position);
    this.#position += bytes.length;
    return known ? bytes.toString(known) : bytes;
  }

  /** From where the last call without a position ended; the parts of an iterable as they come. */
  async writeFile(data: Data | DataParts, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    const { encoding, signal } = optionsOf(options);
    const known = encodingOf(encoding);
    if (!isParts(data)) return this.#append(bytesOf(data, known), signal);
    this.#open('write');
    checkAborted(signal);
    for await (const part of data) await this.#append(bytesOf(part, known), signal);
  }

  /** As writeFile; to write behind the end, open with flag `a`. */
  async appendFile(data: Data | DataParts, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    await this.writeFile(data, options);
  }

  createReadStream(options?: ReadStreamOptions): Readable {
    return readStream(async () => this, options);
  }

  createWriteStream(options?: WriteStreamOptions): Writable {
    return writeStream(async () => this, options);
  }

  readLines(options?: ReadStreamOptions): Interface {
    return createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  stat(options?: Numbers): Promise<RegionStats>;
  stat(options: BigInts): Promise<RegionBigIntStats>;
  stat(options?: NumberOptions): Promise<RegionStats | RegionBigIntStats>;
  async stat({ bigint }: NumberOptions = {}): Promise<RegionStats | RegionBigIntStats> {
    return statsAs(this.#open('fstat').stat(), bigint);
  }

  async truncate(length = 0): Promise<void> {
    await this.#open('ftruncate').truncate(lengthOf(length));
  }

  async chmod(mode: number | string): Promise<void> {
    this.#open('fchmod').chmod(modeOf(mode));
  }

  async chown(uid: number, gid: number): Promise<void> {
    this.#open('fchown').chown(idOf(uid, 'uid'), idOf(gid, 'gid'));
  }

  /** Nothing: the memory is the file. What is written is visible to all at once. */
  async sync(): Promise<void> {
    this.#open('fsync');
  }

  async datasync(): Promise<void> {
    this.#open('fdatasync');
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Where the last call without a position ended. */
  async #append(bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    checkAborted(signal);
    this.#position = await writeWhole(this.#open('write'), this.#position, bytes, signal);
  }

  #open(syscall: string): OpenFile {
    if (this.#closed) throw fsError('EBADF', syscall);
    return this.#file;
  }
}
