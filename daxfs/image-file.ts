/** Writes a directory tree into an image file: planned, copied by native threads, renamed into place when it is whole. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import { type CopyItem, type Mapping, native } from '../native/index.ts';
import { DaxfsError, daxfsError } from './errors.ts';
import { type ImagePlan, type PlannedFile, planImage } from './image-plan.ts';
import { type ScanOptions, scanTree, type TreeEntry } from './image-tree.ts';

export interface ImageFileOptions extends ScanOptions {
  /** Bytes of file data done and to do, about ten times per second. */
  onProgress?: (done: number, total: number) => void;
  /** Called with the open descriptor of the finished image before it gets its name; what it throws discards the image. */
  check?: (fd: number) => void;
  /** Refuses an image of more than so many bytes. */
  sizeMax?: number;
  /** Default 4096. */
  blockBytes?: number;
  signal?: AbortSignal;
}

export interface ImageSummary {
  /** Of the image file. */
  bytes: number;
  inodeCount: number;
  files: number;
  directories: number;
  symlinks: number;
}

const PROGRESS_MS = 100;

/** What a system call's failure means to the user. @param doing what was going on */
export function systemError(error: unknown, doing: string): DaxfsError {
  if (error instanceof DaxfsError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC') {
    return daxfsError('DAXFS_NO_SPACE', `No space left while ${doing}; free some or write elsewhere.`, {
      cause: error,
    });
  }
  return daxfsError('DAXFS_WRITE_FAILED', `Error while ${doing}: ${message}.`, { cause: error });
}

function copyError(error: unknown, files: readonly PlannedFile[], out: string): DaxfsError {
  const { code, index, message } = error as NodeJS.ErrnoException & { index?: number };
  const path = index === undefined ? 'a file' : (files.filter(isCopied)[index]?.path ?? 'a file');
  if (code === 'ENOSPC') return systemError(error, `writing ${out}`);
  if (code === 'ESTALE' || code === 'ENOENT') {
    return daxfsError('DAXFS_SOURCE_CHANGED', `${path} changed or went away while it was copied; run it again.`, {
      cause: error,
    });
  }
  return daxfsError('DAXFS_WRITE_FAILED', `${path} could not be copied: ${message}.`, { cause: error });
}

const isCopied = ({ origin }: PlannedFile) => 'path' in origin;

const copyItems = (files: readonly PlannedFile[]): CopyItem[] =>
  files.flatMap(({ origin, size, offset }) => ('path' in origin ? [{ ...origin, size, offset }] : []));

export function writeAll(fd: number, bytes: Buffer, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}

type CopyOptions = Pick<ImageFileOptions, 'onProgress' | 'signal'>;

/**
 * Copies the files that have a path to their places in a mapping that holds only zeroes there.
 * @param out name of the target, for messages
 * @throws DaxfsError DAXFS_SOURCE_CHANGED, DAXFS_NO_SPACE, DAXFS_WRITE_FAILED; what the signal aborts with
 */
export async function copyInto(
  mapping: Mapping,
  files: readonly PlannedFile[],
  out: string,
  options: CopyOptions,
): Promise<void> {
  const items = copyItems(files);
  const total = items.reduce((sum, { size }) => sum + size, 0);
  const job = native.startCopy(mapping, items, { targetIsZero: true });
  const timer = setInterval(() => options.onProgress?.(job.progress(), total), PROGRESS_MS);
  const cancel = () => job.cancel();
  options.signal?.addEventListener('abort', cancel, { once: true });
  try {
    await job.done;
    options.onProgress?.(total, total);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw copyError(error, files, out);
  } finally {
    clearInterval(timer);
    options.signal?.removeEventListener('abort', cancel);
  }
}

/** As `copyInto`, into a fresh file of `size` bytes. */
export async function copyIntoFile(
  fd: number,
  size: number,
  files: readonly PlannedFile[],
  out: string,
  options: CopyOptions,
): Promise<void> {
  options.signal?.throwIfAborted();
  if (!files.some(isCopied)) return;
  const mapping = new native.Mapping(fd, 0, size, { write: true, huge: true });
  try {
    await copyInto(mapping, files, out, options);
  } finally {
    mapping.close();
  }
}

async function fill(fd: number, plan: ImagePlan, out: string, options: ImageFileOptions): Promise<void> {
  try {
    ftruncateSync(fd, plan.totalSize);
    for (const { offset, bytes } of plan.metadata) writeAll(fd, bytes, offset);
  } catch (error) {
    throw systemError(error, `writing ${out}`);
  }
  await copyIntoFile(fd, plan.totalSize, plan.files, out, options);
  try {
    fsyncSync(fd);
  } catch (error) {
    throw systemError(error, `writing ${out}`);
  }
}

/** What is in a planned tree. */
export function countTree(entries: readonly TreeEntry[], plan: ImagePlan): ImageSummary {
  const of = (type: TreeEntry['type']) => entries.reduce((n, entry) => n + (entry.type === type ? 1 : 0), 0);
  const { totalSize: bytes, inodeCount } = plan;
  return { bytes, inodeCount, files: of('file'), directories: of('directory'), symlinks: of('symlink') };
}

/** `scanTree` with the errors of reading worded. @throws DaxfsError DAXFS_BAD_TREE, DAXFS_SPECIAL_FILE */
export function readTree(directory: string, options: ScanOptions): TreeEntry[] {
  try {
    return scanTree(directory, options);
  } catch (error) {
    if (error instanceof DaxfsError) throw error;
    const { message } = error as NodeJS.ErrnoException;
    throw daxfsError('DAXFS_BAD_TREE', `The tree cannot be read: ${message}.`, { cause: error });
  }
}

/** The image must not become a part of itself. */
function checkOutside(directory: string, out: string): void {
  let inside: string;
  try {
    inside = relative(realpathSync(directory), realpathSync(dirname(out)));
  } catch (error) {
    throw daxfsError('DAXFS_WRITE_FAILED', `${(error as Error).message}.`, { cause: error });
  }
  if (inside === '' || !(inside === '..' || inside.startsWith(`..${sep}`))) {
    throw daxfsError('DAXFS_WRITE_FAILED', `${out} lies inside ${directory}; write the image outside of the tree.`);
  }
}

/**
 * Writes a file under another name and renames it when `write` is done; what it throws removes the file.
 * @param directory a tree that must not hold `out`, if any
 * @throws DaxfsError DAXFS_WRITE_FAILED, DAXFS_NO_SPACE
 */
export async function replaceFile(
  out: string,
  directory: string | undefined,
  write: (fd: number) => Promise<void>,
): Promise<void> {
  const there = statSync(out, { throwIfNoEntry: false });
  if (there && !there.isFile()) {
    throw daxfsError('DAXFS_WRITE_FAILED', `${out} exists and is not a regular file; choose another name.`);
  }
  if (directory !== undefined) checkOutside(directory, out);
  const temporary = join(dirname(out), `.${basename(out)}.${process.pid}-${randomBytes(4).toString('hex')}`);
  let fd: number;
  try {
    fd = openSync(temporary, 'wx+', 0o666);
  } catch (error) {
    throw systemError(error, `creating ${out}`);
  }
  try {
    await write(fd);
    renameSync(temporary, out);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes the static image of `directory` to the file `out`. `out` appears, or is replaced, only when the image is whole.
 * Holes of sparse files stay holes.
 * @throws DaxfsError DAXFS_BAD_TREE, DAXFS_SPECIAL_FILE, DAXFS_SOURCE_CHANGED, DAXFS_NO_SPACE, DAXFS_WRITE_FAILED
 */
export async function writeImageFile(
  directory: string,
  out: string,
  options: ImageFileOptions = {},
): Promise<ImageSummary> {
  const entries = readTree(directory, options);
  const plan = planImage(entries, options.blockBytes === undefined ? {} : { blockBytes: options.blockBytes });
  if (options.sizeMax !== undefined && plan.totalSize > options.sizeMax) {
    throw daxfsError(
      'DAXFS_NO_SPACE',
      `The image needs ${plan.totalSize} bytes, the size given is ${options.sizeMax}.`,
    );
  }
  await replaceFile(out, directory, async (fd) => {
    await fill(fd, plan, out, options);
    options.check?.(fd);
  });
  return countTree(entries, plan);
}
