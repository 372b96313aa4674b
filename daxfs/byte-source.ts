/** Where the bytes of an image are: a file, a range of a mapping, or a buffer. */
import { fstatSync, readSync } from 'node:fs';
import type { Mapping } from '../native/index.ts';
import { daxfsError } from './errors.ts';

export interface ByteSource {
  /** Bytes that may be read. */
  readonly size: number;
  /** A copy of exactly `length` bytes. @throws RangeError outside [0, size) */
  read(offset: number, length: number): Buffer;
}

function checkRange(offset: number, length: number, size: number): void {
  const ok = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!ok || length > size - offset) {
    throw new RangeError(`bytes ${offset} to ${offset + length} lie outside the ${size} bytes of the source`);
  }
}

/** An open file; the descriptor stays the caller's. @throws DaxfsError DAXFS_BAD_IMAGE when the file shrinks meanwhile */
export function fileSource(fd: number, size = fstatSync(fd).size): ByteSource {
  const read = (offset: number, length: number): Buffer => {
    checkRange(offset, length, size);
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const got = readSync(fd, bytes, done, length - done, offset + done);
      if (got === 0) throw daxfsError('DAXFS_BAD_IMAGE', 'The file became shorter while it was read.');
      done += got;
    }
    return bytes;
  };
  return { size, read };
}

/** `size` bytes of a mapping from `start`. */
export function mappingSource(mapping: Mapping, start: number, size: number): ByteSource {
  checkRange(start, size, mapping.size);
  const read = (offset: number, length: number): Buffer => {
    checkRange(offset, length, size);
    return mapping.read(start + offset, length);
  };
  return { size, read };
}

export function bufferSource(bytes: Buffer): ByteSource {
  const read = (offset: number, length: number): Buffer => {
    checkRange(offset, length, bytes.length);
    return Buffer.from(bytes.subarray(offset, offset + length));
  };
  return { size: bytes.length, read };
}
