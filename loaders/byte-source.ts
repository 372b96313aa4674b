/** Bounded reads of one file: positions are checked, reads are short, nothing blocks the event loop. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type LoaderCode, loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';
import type { SourceFile } from './source.ts';

/** Bytes at offsets: a file, or a buffer in tests. */
export interface ByteSource {
  /** Name for messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes at `offset`; the caller keeps both inside the file. @throws LoaderError SOURCE_CHANGED when it ends before */
  read(offset: number, length: number): Promise<Buffer>;
}

export function bufferSource(bytes: Buffer, name = 'buffer'): ByteSource {
  return { name, size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}

const codesByErrno: Readonly<Record<string, LoaderCode>> = {
  ENOENT: 'SOURCE_NOT_FOUND',
  ENOTDIR: 'SOURCE_NOT_FOUND',
  EACCES: 'SOURCE_UNREADABLE',
  EPERM: 'SOURCE_UNREADABLE',
  ELOOP: 'SOURCE_LINK_BROKEN',
  ENAMETOOLONG: 'SOURCE_FILE_NAME',
};

const sentences: Readonly<Partial<Record<LoaderCode, string>>> = {
  SOURCE_NOT_FOUND: 'does not exist; check the path',
  SOURCE_UNREADABLE: 'may not be read by the service; give its user the right to read it',
  SOURCE_LINK_BROKEN: 'is a link that leads nowhere; remove it or repair it',
  SOURCE_FILE_NAME: 'has a name that is too long; rename it',
};

/** Turns a failed system call about a source into a LoaderError; passes others on. */
export function sourceIoError(error: unknown, path: string): unknown {
  const errno = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  if (errno === undefined || !('syscall' in (error as object))) return error;
  const code = codesByErrno[errno] ?? 'SOURCE_IO';
  const sentence = sentences[code] ?? `could not be read (${errno}); check the file system and try again`;
  return loaderError(code, `${shown(path)} ${sentence}.`, { cause: error });
}

/** The file is no longer what was resolved. */
export function sourceChanged(path: string): Error {
  return loaderError('SOURCE_CHANGED', `${shown(path)} changed while it was read; load it again when it is complete.`);
}

async function readExactly(handle: FileHandle, file: SourceFile, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const want = Math.min(length - done, limit('readBytesMax'));
    const { bytesRead } = await handle.read(buffer, done, want, offset + done);
    if (bytesRead === 0) throw sourceChanged(file.path);
    done += bytesRead;
  }
  return buffer;
}

async function checkUnchanged(handle: FileHandle, file: SourceFile): Promise<void> {
  const stat = await handle.stat({ bigint: true });
  const same =
    stat.isFile() && stat.ino === file.ino && stat.mtimeNs === file.mtimeNs && Number(stat.size) === file.size;
  if (!same) throw sourceChanged(file.path);
}

/**
 * Opens a resolved file, checks before and after that it is still the same, and closes it.
 * O_NONBLOCK: a FIFO put in its place must not hang us; O_NOFOLLOW: nor a link be followed.
 */
export async function withFile<T>(file: SourceFile, use: (bytes: ByteSource) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file.origin, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    await checkUnchanged(handle, file);
    const opened = handle;
    const read = (offset: number, length: number) => readExactly(opened, file, offset, length);
    const result = await use({ name: file.path, size: file.size, read });
    await checkUnchanged(handle, file);
    return result;
  } catch (error) {
    throw sourceIoError(error, file.path);
  } finally {
    await handle?.close();
  }
}
