/** Walks a GGUF header through a window of the file. A step that needs more bytes yields the read of the next window. */
import { isUtf8 } from 'node:buffer';
import type { Steps } from '../daxfs/pace.ts';
import type { ByteSource } from './byte-source.ts';
import { type LoaderCode, type LoaderError, loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';

export class GgufCursor {
  readonly #source: ByteSource;
  #window: Buffer = Buffer.alloc(0);
  /** File offset of byte 0 of the window. */
  #start = 0;
  /** Relative to the window; may lie past it after `skip`. */
  #at = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Offset in the file of the next byte. */
  get offset(): number {
    return this.#start + this.#at;
  }

  /** Bytes of the file from here on. */
  get left(): number {
    return this.#source.size - this.offset;
  }

  error(code: LoaderCode, what: string, offset: number = this.offset): LoaderError {
    return loaderError(code, `${shown(this.#source.name)}: ${what} (byte ${offset}).`, { offset });
  }

  /** Makes `length` bytes readable in the window. */
  *#need(length: number): Steps<void> {
    if (this.#at + length <= this.#window.length) return;
    this.#checkBounds(length);
    yield () => this.#fetch(length);
  }

  #checkBounds(length: number): void {
    if (length > this.left) {
      throw this.error(
        'GGUF_TRUNCATED',
        `the header needs ${length} more bytes, the file has ${this.left}; copy it again`,
      );
    }
    const max = limit('ggufHeaderBytesMax');
    if (this.offset + length > max) throw this.error('GGUF_HEADER_TOO_LARGE', `the header is larger than ${max} bytes`);
  }

  async #fetch(length: number): Promise<void> {
    const { offset } = this;
    const want = Math.min(this.left, Math.max(length, limit('readBytesMax')));
    this.#window = await this.#source.read(offset, want);
    this.#start = offset;
    this.#at = 0;
  }

  *bytes(length: number): Steps<Buffer> {
    yield* this.#need(length);
    this.#at += length;
    return this.#window.subarray(this.#at - length, this.#at);
  }

  /** Steps over bytes without reading them. */
  skip(length: number): void {
    this.#checkBounds(length);
    this.#at += length;
  }

  *u32(): Steps<number> {
    return (yield* this.bytes(4)).readUInt32LE();
  }

  *u64(): Steps<bigint> {
    return (yield* this.bytes(8)).readBigUInt64LE();
  }

  /** A u64 as a number; beyond 48 bits it is infinite, so that every bound refuses it. */
  *count(): Steps<number> {
    const value = Number(yield* this.u64());
    return value <= limit('sizeMax') ? value : Number.POSITIVE_INFINITY;
  }

  /** A string with its length before it. The bytes are valid until the next step. */
  *text(bytesMax: number, tooLong: LoaderCode): Steps<Buffer> {
    const at = this.offset;
    const length = yield* this.count();
    if (length > bytesMax) {
      throw this.error(tooLong, `a string says ${length} bytes, at most ${bytesMax} are allowed here`, at);
    }
    const bytes = yield* this.bytes(length);
    if (!isUtf8(bytes)) throw this.error('GGUF_UTF8', 'a string is no valid UTF-8; write the file again', at);
    return bytes;
  }
}
