/** Space for a region: is it there, and reserving it, so that no later store can end in SIGBUS. */
import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Mapping, native } from '../native/index.ts';
import type { Backing } from './backing.ts';
import { type DaxfsError, daxfsError } from './errors.ts';
import { cgroupLimit, memoryAvailable } from './memory-limits.ts';
import { formatBytes, type NumaPlacement } from './units.ts';

/** Reserved per call, so that an abort is noticed and progress is told. */
const stepBytes = 256 * 2 ** 20;

export interface ReserveOptions {
  onProgress?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** The memory behind these kinds is RAM of this machine, charged to whoever touches it first. */
const isMemory = ({ kind, mapAlignment }: Backing) => (kind === 'tmpfs' || kind === 'memfd') && mapAlignment === 4096;
const isHuge = ({ kind, mapAlignment }: Backing) => kind === 'hugetlbfs' || (kind === 'memfd' && mapAlignment > 4096);

function noSpace(message: string, neededBytes: number, freeBytes: number | null, cause?: unknown): DaxfsError {
  return daxfsError('DAXFS_NO_SPACE', message, { cause, extra: { neededBytes, freeBytes } });
}

function howToGetMore(backing: Backing): string {
  if (isHuge(backing)) return 'raise vm.nr_hugepages, or give a smaller --size';
  if (backing.kind === 'file') return 'give a smaller --size, or a --region on a larger disk';
  return 'give a smaller --size, or a larger mount (mount -o remount,size=…; docker run --shm-size; in Kubernetes an emptyDir of medium Memory)';
}

/** Where the space was to come from, for messages. */
function placeOf(backing: Backing): string {
  if (isHuge(backing)) return 'the pool of huge pages';
  return backing.path === null ? 'memory' : dirname(backing.path);
}

/**
 * Refuses a size that cannot be had, before anything is touched: too much tmpfs ends in the OOM killer, not in an error.
 * @throws DaxfsError DAXFS_NO_SPACE naming what is free and the flag
 */
export function checkSpace(backing: Backing, regionBytes: number): void {
  const needed = regionBytes - Math.min(backing.allocatedBytes, regionBytes);
  const refuse = (place: string, free: number, fix: string) => {
    const sentence = `The region needs ${formatBytes(needed)}, but ${place} has only ${formatBytes(free)} free; ${fix}.`;
    return noSpace(sentence, needed, free);
  };
  if (backing.freeBytes !== null && needed > backing.freeBytes) {
    throw refuse(placeOf(backing), backing.freeBytes, howToGetMore(backing));
  }
  if (!isMemory(backing)) return;
  const available = memoryAvailable();
  if (needed > available) throw refuse('this machine', available, 'give a smaller --size');
  const group = cgroupLimit();
  if (group && needed > group.freeBytes) {
    throw refuse(`the cgroup (${group.file})`, group.freeBytes, 'give a smaller --size, or raise its memory limit');
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/** A full tmpfs answers a populating madvise with EFAULT. */
const SHORT = new Set(['ENOSPC', 'ENOMEM', 'EDQUOT', 'EFAULT', 'EFBIG']);

/** Turns the kernel's refusal to place memory on a node into ours; other errors stay as they are. */
export function asBadPlacement(error: unknown, numa: NumaPlacement | undefined): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (!numa || syscall !== 'mbind') return error;
  const text = numa.mode === 'bind' ? `bind:${numa.node}` : numa.mode;
  return daxfsError(
    'DAXFS_BAD_BACKING',
    `The memory cannot be placed with --numa ${text} (${code}): name a node of /sys/devices/system/node/has_memory that this process may use.`,
    { cause: error },
  );
}

/** Turns the system's word for "nothing left" into ours; other errors stay as they are. */
export function asNoSpace(error: unknown, backing: Backing, regionBytes: number): unknown {
  if (!SHORT.has(codeOf(error))) return error;
  const sentence = `${placeOf(backing)} ran out of space (${codeOf(error)}) while the region of ${formatBytes(regionBytes)} was being reserved; ${howToGetMore(backing)}.`;
  return noSpace(sentence, regionBytes, backing.freeBytes, error);
}

/** For file systems that cannot reserve: real zeros. Only holes are written, so that bytes that are there stay. */
async function writeZeros(fd: number, offset: number, length: number): Promise<void> {
  const zeros = Buffer.alloc(Math.min(length, 8 * 2 ** 20));
  const handle = await open(`/proc/self/fd/${fd}`, 'r+');
  try {
    for (let at = offset; at < offset + length; at += zeros.length) {
      await handle.write(zeros, 0, Math.min(zeros.length, offset + length - at), at);
    }
  } finally {
    await handle.close();
  }
}

/** Blocks of a file on disk. Populating them would only read them in. */
async function reserveFile(fd: number, offset: number, length: number, fresh: boolean): Promise<void> {
  try {
    await native.fallocate(fd, offset, length);
  } catch (error) {
    if (codeOf(error) !== 'EOPNOTSUPP') throw error;
    if (fresh) await writeZeros(fd, offset, length);
  }
}

/** Pages of memory through an advised mapping: 2 MiB pages where allowed, which fallocate would never give. */
async function reserveMemory(mapping: Mapping, backing: Backing, offset: number, length: number): Promise<void> {
  try {
    await mapping.populate(offset, length);
  } catch (error) {
    // Before Linux 5.14 there is no populating madvise.
    if (codeOf(error) !== 'EINVAL') throw error;
    await native.fallocate(backing.fd, offset, length);
  }
}

/**
 * Gives every byte of [offset, offset + length) a page or a block of its own.
 * @param fresh the range holds nothing yet
 * @throws DaxfsError DAXFS_NO_SPACE; the signal's reason when aborted
 */
export async function reserve(
  mapping: Mapping,
  backing: Backing,
  range: { offset: number; length: number; fresh: boolean },
  { onProgress, signal }: ReserveOptions = {},
): Promise<void> {
  if (backing.kind === 'devdax') return;
  const { offset, length, fresh } = range;
  try {
    for (let done = 0; done < length; done += stepBytes) {
      signal?.throwIfAborted();
      const step = Math.min(stepBytes, length - done);
      if (backing.kind === 'file') await reserveFile(backing.fd, offset + done, step, fresh);
      else await reserveMemory(mapping, backing, offset + done, step);
      onProgress?.(done + step, length);
    }
  } catch (error) {
    throw asNoSpace(error, backing, offset + length);
  }
}

/** True when the file has holes: a store into one could find nothing left. */
export function hasHoles(backing: Backing, regionBytes: number): boolean {
  return backing.kind !== 'devdax' && fstatSync(backing.fd).blocks * 512 < regionBytes;
}
