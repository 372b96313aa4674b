/** Mounts what was made, through the kernel's daxfs module. */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { type MountOption, native } from '../../native/index.ts';
import { type DaxfsError, daxfsError } from '../errors.ts';
import type { Request } from './options.ts';
import type { Memory } from './target.ts';

const FILESYSTEM = 'daxfs';

type Mountable = Pick<Memory, 'source' | 'bytes'>;

/** Before anything is written. @throws DaxfsError DAXFS_MOUNT_FAILED */
export function checkMountable({ mountpoint }: Request, { source }: Mountable): void {
  if (mountpoint === undefined) return;
  if ('reason' in source) {
    throw daxfsError('DAXFS_MOUNT_FAILED', `It cannot be mounted: ${source.reason}; use a device-dax device or -H.`);
  }
  if (statSync(mountpoint, { throwIfNoEntry: false })?.isDirectory()) return;
  throw daxfsError('DAXFS_MOUNT_FAILED', `The mount point ${mountpoint} is not a directory; make it first.`);
}

function placeOptions({ source, bytes }: Mountable): MountOption[] {
  if ('dmaBuf' in source) return [{ name: 'dmabuf', fd: source.dmaBuf }];
  if ('reason' in source) throw new TypeError(source.reason);
  // The kernel's parser takes no K, M or G.
  return [
    { name: 'phys', value: `0x${source.physical.toString(16)}` },
    { name: 'size', value: `${bytes}` },
  ];
}

/** REQUIRES: checkMountable has passed. */
export function mountOptions(request: Request, memory: Mountable): MountOption[] {
  const place = placeOptions(memory);
  // A tree without bytes has no backing file.
  if (request.mode === 'split' && existsSync(request.backing!))
    place.push({ name: 'backing', value: realpathSync(request.backing!) });
  if (request.mode === 'export') place.push({ name: 'export', value: realpathSync(request.directory!) });
  if (request.validate) place.push({ name: 'validate' });
  return place;
}

function mountError(error: unknown, mountpoint: string): DaxfsError {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  const details = { cause: error };
  if (code === 'ENODEV' && syscall === 'fsopen') {
    return daxfsError(
      'DAXFS_MOUNT_FAILED',
      `This kernel has no file system "daxfs": load its module (modprobe daxfs), then run this again.`,
      details,
    );
  }
  if (code === 'EPERM' || code === 'EACCES') {
    return daxfsError('DAXFS_MOUNT_FAILED', `Mounting on ${mountpoint} is not permitted; run as root.`, details);
  }
  return daxfsError('DAXFS_MOUNT_FAILED', `Mounting on ${mountpoint} failed: ${message}.`, details);
}

/** @throws DaxfsError DAXFS_MOUNT_FAILED */
export async function mountImage(request: Request, memory: Mountable): Promise<void> {
  const options = mountOptions(request, memory);
  try {
    await native.mountFilesystem(FILESYSTEM, request.mountpoint!, options);
  } catch (error) {
    throw mountError(error, request.mountpoint!);
  }
}
