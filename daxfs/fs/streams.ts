/** Files as streams. */
import { Readable, Writable } from 'node:stream';
import { wholeOf } from './arguments.ts';
import type { RegionFileHandle } from './file-handle.ts';

export interface ReadStreamOptions {
  flags?: string | undefined;
  encoding?: BufferEncoding | undefined;
  /** First and last byte, both included. */
  start?: number | undefined;
  end?: number | undefined;
  /** Bytes of a part; default 64 KiB. */
  highWaterMark?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface WriteStreamOptions {
  flags?: string | undefined;
  mode?: number | undefined;
  encoding?: BufferEncoding | undefined;
  start?: number | undefined;
  highWaterMark?: number | undefined;
  signal?: AbortSignal | undefined;
}

type Open = () => Promise<RegionFileHandle>;
const partBytes = 64 * 1024;

/** The handle is closed at the end, or when the stream is destroyed. */
export function readStream(open: Open, options: ReadStreamOptions = {}): Readable {
  const { encoding, start, end = Number.POSITIVE_INFINITY, highWaterMark = partBytes, signal } = options;
  let position = start === undefined ? null : wholeOf(start, 'start', 0);
  let left = end === Number.POSITIVE_INFINITY ? end : wholeOf(end, 'end', position ?? 0) + 1 - (position ?? 0);
  let handle: RegionFileHandle | undefined;
  const read = async () => {
    handle ??= await open();
    const buffer = Buffer.allocUnsafeSlow(Math.min(highWaterMark, left));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (position !== null) position += bytesRead;
    left -= bytesRead;
    return bytesRead === 0 ? null : buffer.subarray(0, bytesRead);
  };
  const stream = new Readable({
    highWaterMark,
    ...(signal && { signal }),
    read() {
      read().then(
        (part) => this.push(part),
        (error) => this.destroy(error),
      );
    },
    destroy: (error, done) => closed(handle, error, done),
  });
  return encoding ? stream.setEncoding(encoding) : stream;
}

/** The handle is closed at the end, or when the stream is destroyed. */
export function writeStream(open: Open, options: WriteStreamOptions = {}): Writable {
  const { encoding = 'utf8', start, highWaterMark = partBytes, signal } = options;
  let position = start === undefined ? null : wholeOf(start, 'start', 0);
  let handle: RegionFileHandle | undefined;
  return new Writable({
    highWaterMark,
    defaultEncoding: encoding,
    ...(signal && { signal }),
    construct: (done) => {
      open().then((opened) => {
        handle = opened;
        done();
      }, done);
    },
    write: (part: Buffer, _encoding, done) => {
      const at = position;
      if (position !== null) position += part.length;
      handle!.write(part, 0, part.length, at).then(() => done(), done);
    },
    destroy: (error, done) => closed(handle, error, done),
  });
}

function closed(handle: RegionFileHandle | undefined, error: Error | null, done: (error: Error | null) => void): void {
  if (handle) handle.close().then(() => done(error), done);
  else done(error);
}
