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
import { type CopyItem, native } from '../native/index.ts';
import { DaxfsError, daxfsError } from './errors.ts';
import { type ImagePlan, planImage } from './image-plan.ts';
import { type ScanOptions, scanTree, type TreeEntry } from './image-tree.ts';

export interface ImageFileOptions extends ScanOptions {
  /** Bytes of file data done and to do, about ten times per second. */
  onProgress?: (done: number, total: number) => void;
  /** Called with the open descriptor of the finished image before it gets its name; what it throws discards the image. */
  check?: (fd: number) => void;
  /** Refuses an image of more than so many bytes. */
  sizeMax?: number;
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

function systemError(error: unknown, doing: string): DaxfsError {
  if (error instanceof DaxfsError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC') {
    return daxfsError('DAXFS_NO_SPACE', `No space left while ${doing}; free some or write elsewhere.`, {
      cause: error,
    });
  }
  return daxfsError('DAXFS_WRITE_FAILED', `Error while ${doing}: ${message}.`, { cause: error });
}

function copyError(error: unknown, plan: ImagePlan, out: string): DaxfsError {
  const { code, index, message } = error as NodeJS.ErrnoException & { index?: number };
  const path = index === undefined ? 'a file' : (plan.files.filter(isCopied)[index]?.path ?? 'a file');
  if (code === 'ENOSPC') return systemError(error, `writing ${out}`);
  if (code === 'ESTALE' || code === 'ENOENT') {
    return daxfsError('DAXFS_SOURCE_CHANGED', `${path} changed or went away while it was copied; run it again.`, {
      cause: error,
    });
  }
  return daxfsError('DAXFS_WRITE_FAILED', `${path} could not be copied: ${message}.`, { cause: error });
}

const isCopied = ({ origin }: ImagePlan['files'][number]) => 'path' in origin;

function copyItems(plan: ImagePlan): CopyItem[] {
  return plan.files.flatMap(({ origin, size, offset }) => ('path' in origin ? [{ ...origin, size, offset }] : []));
}

function writeAll(fd: number, bytes: Buffer, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}

async function copyFiles(fd: number, plan: ImagePlan, options: ImageFileOptions): Promise<void> {
  const items = copyItems(plan);
  if (items.length === 0) return;
  const total = items.reduce((sum, { size }) => sum + size, 0);
  const mapping = new native.Mapping(fd, 0, plan.totalSize, { write: true, huge: true });
  const job = native.startCopy(mapping, items, { targetIsZero: true });
  const timer = setInterval(() => options.onProgress?.(job.progress(), total), PROGRESS_MS);
  const cancel = () => job.cancel();
  options.signal?.addEventListener('abort', cancel, { once: true });
  try {
    await job.done;
    options.onProgress?.(total, total);
  } finally {
    clearInterval(timer);
    options.signal?.removeEventListener('abort', cancel);
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
  options.signal?.throwIfAborted();
  try {
    await copyFiles(fd, plan, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw copyError(error, plan, out);
  }
  try {
    fsyncSync(fd);
  } catch (error) {
    throw systemError(error, `writing ${out}`);
  }
}

function count(entries: readonly TreeEntry[], plan: ImagePlan): ImageSummary {
  const of = (type: TreeEntry['type']) => entries.reduce((n, entry) => n + (entry.type === type ? 1 : 0), 0);
  const { totalSize: bytes, inodeCount } = plan;
  return { bytes, inodeCount, files: of('file'), directories: of('directory'), symlinks: of('symlink') };
}

function scan(directory: string, options: ImageFileOptions): TreeEntry[] {
  try {
    return scanTree(directory, options);
  } catch (error) {
    if (error instanceof DaxfsError) throw error;
    const { message } = error as NodeJS.ErrnoException;
    throw daxfsError('DAXFS_BAD_TREE', `The tree cannot be read: ${message}.`, { cause: error });
  }
}

/** The image must not become a part of itself, nor replace what is not a file. */
function checkTarget(directory: string, out: string): void {
  const there = statSync(out, { throwIfNoEntry: false });
  if (there && !there.isFile()) {
    throw daxfsError('DAXFS_WRITE_FAILED', `${out} exists and is not a regular file; choose another name.`);
  }
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
 * Writes the static image of `directory` to the file `out`. `out` appears, or is replaced, only when the image is whole.
 * Holes of sparse files stay holes.
 * @throws DaxfsError DAXFS_BAD_TREE, DAXFS_SPECIAL_FILE, DAXFS_SOURCE_CHANGED, DAXFS_NO_SPACE, DAXFS_WRITE_FAILED
 */
export async function writeImageFile(
  directory: string,
  out: string,
  options: ImageFileOptions = {},
): Promise<ImageSummary> {
  const entries = scan(directory, options);
  checkTarget(directory, out);
  const plan = planImage(entries);
  if (options.sizeMax !== undefined && plan.totalSize > options.sizeMax) {
    throw daxfsError(
      'DAXFS_NO_SPACE',
      `The image needs ${plan.totalSize} bytes, the size given is ${options.sizeMax}.`,
    );
  }
  const temporary = join(dirname(out), `.${basename(out)}.${process.pid}-${randomBytes(4).toString('hex')}`);
  let fd: number;
  try {
    fd = openSync(temporary, 'wx+', 0o666);
  } catch (error) {
    throw systemError(error, `creating ${out}`);
  }
  try {
    await fill(fd, plan, out, options);
    options.check?.(fd);
    renameSync(temporary, out);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  } finally {
    closeSync(fd);
  }
  return count(entries, plan);
}
