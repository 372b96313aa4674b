/** What `open` gives: the calls of fs.promises.FileHandle that have a meaning in a region. */
import { bytesOf, modeOf, optionsOf } from './arguments.ts';
import { fsError } from './fs-error.ts';
import type { OpenFile } from './open-file.ts';
import type { RegionStats } from './stats.ts';

/** node:fs reads no larger file at once either. */
export const readBytesMax: number = 2 ** 31 - 1;

export interface ReadFileOptions {
  /** Gives text instead of bytes. */
  encoding?: BufferEncoding | null | undefined;
  flag?: string | undefined;
}

export interface WriteFileOptions {
  encoding?: BufferEncoding | undefined;
  mode?: number | string | undefined;
  flag?: string | undefined;
}

/** The buffer to read a file of this size into. @throws RangeError ERR_FS_FILE_TOO_LARGE */
function bufferFor(size: number): Buffer {
  if (size <= readBytesMax) return Buffer.allocUnsafeSlow(size);
  const message = `File size (${size}) is greater than 2 GiB; read it in parts.`;
  throw Object.assign(new RangeError(message), { code: 'ERR_FS_FILE_TOO_LARGE' });
}

export async function readWhole(file: OpenFile): Promise<Buffer> {
  const bytes = bufferFor(file.stat().size);
  return bytes.subarray(0, await file.read(0, bytes));
}

export function readWholeSync(file: OpenFile): Buffer {
  const bytes = bufferFor(file.stat().size);
  return bytes.subarray(0, file.readSync(0, bytes));
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
  async read(
    buffer: Uint8Array,
    offset = 0,
    length: number = buffer.byteLength - offset,
    position: number | null = null,
  ): Promise<{ bytesRead: number; buffer: Uint8Array }> {
    const file = this.#open('read');
    const bytes = part(buffer, offset, length);
    const bytesRead = bytes.length === 0 ? 0 : await file.read(position ?? this.#position, bytes);
    if (position === null) this.#position += bytesRead;
    return { bytesRead, buffer };
  }

  /** All bytes, or an error. With flag `a` the position is ignored and the bytes go behind the end. */
  async write(
    data: Uint8Array | string,
    offset = 0,
    length?: number,
    position: number | null = null,
  ): Promise<{ bytesWritten: number; buffer: Uint8Array | string }> {
    const file = this.#open('write');
    const all = bytesOf(data);
    const bytes = part(all, offset, length ?? all.byteLength - offset);
    const at = position ?? this.#position;
    if (bytes.length > 0) await file.write(at, bytes);
    if (position === null) this.#position = at + bytes.length;
    return { bytesWritten: bytes.length, buffer: data };
  }

  async readFile(options?: ReadFileOptions | BufferEncoding): Promise<string | Buffer> {
    const file = this.#open('read');
    const rest = bufferFor(Math.max(0, file.stat().size - this.#position));
    const bytes = rest.subarray(0, await file.read(this.#position, rest));
    this.#position += bytes.length;
    const { encoding } = optionsOf(options);
    return encoding ? bytes.toString(encoding) : bytes;
  }

  async writeFile(data: string | Uint8Array, options?: WriteFileOptions | BufferEncoding): Promise<void> {
    await this.write(bytesOf(data, optionsOf(options).encoding));
  }

  async appendFile(data: string | Uint8Array, options?: WriteFileOptions | BufferEncoding): Promise<void> {
    await this.#open('write').write(null, bytesOf(data, optionsOf(options).encoding));
  }

  async stat(): Promise<RegionStats> {
    return this.#open('fstat').stat();
  }

  async truncate(length = 0): Promise<void> {
    await this.#open('ftruncate').truncate(Math.max(0, length));
  }

  async chmod(mode: number | string): Promise<void> {
    this.#open('fchmod').chmod(modeOf(mode, 0));
  }

  async chown(uid: number, gid: number): Promise<void> {
    this.#open('fchown').chown(uid, gid);
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

  #open(syscall: string): OpenFile {
    if (this.#closed) throw fsError('EBADF', syscall);
    return this.#file;
  }
}

/** @throws RangeError ERR_OUT_OF_RANGE */
function part(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  if (offset >= 0 && length >= 0 && offset + length <= bytes.byteLength) return bytes.subarray(offset, offset + length);
  const message = `offset ${offset} and length ${length} lie outside the ${bytes.byteLength} bytes of the buffer`;
  throw Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' });
}
