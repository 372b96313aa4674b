/** What a region lies on: recognised from the descriptor itself, never from the path's spelling. */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statfsSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { native } from '../native/index.ts';
import { daxfsError } from './errors.ts';
import { CONSTANTS } from './layout.ts';
import { freeHugeBytes } from './memory-limits.ts';
import { formatBytes } from './units.ts';

export type BackingKind = 'tmpfs' | 'hugetlbfs' | 'file' | 'devdax' | 'memfd';

/** An open backing. The caller closes `fd`. */
export interface Backing {
  kind: BackingKind;
  /** A description of our own, read-write unless opened for reading only. */
  fd: number;
  /** Absolute path with links resolved; null for a memfd. */
  path: string | null;
  /** Offsets and lengths of a mapping are multiples of this: 4096, the huge page, or the device's alignment. */
  mapAlignment: number;
  /** Bytes it has now: the file's size, or the device's. */
  sizeBytes: number;
  /** Bytes of it that have memory or disk behind them already. */
  allocatedBytes: number;
  /** Bytes that its file system or pool can still give; null where that is no question (device-dax). */
  freeBytes: number | null;
}

const TMPFS_MAGIC = 0x01021994;
const HUGETLBFS_MAGIC = 0x958458f6;
const pageBytes = CONSTANTS.blockBytes.value;

/** Geometry of a device-dax character device, from its folder in sysfs. @throws DaxfsError DAXFS_BAD_BACKING */
export function readDaxGeometry(device: string): { sizeBytes: number; alignment: number } {
  const read = (name: string) => {
    try {
      return Number(readFileSync(join(device, name), 'utf8').trim());
    } catch {
      return Number.NaN;
    }
  };
  const sizeBytes = read('size');
  // Kernels before 5.10 have the alignment on the region above the device; 2 MiB is their default.
  const own = read('align');
  const alignment = Number.isNaN(own) ? 2 * 2 ** 20 : own;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || alignment < pageBytes || Math.log2(alignment) % 1 !== 0) {
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      `${basename(device)} does not state a size and an alignment in sysfs; is it configured as device-dax (daxctl list)?`,
    );
  }
  return { sizeBytes: sizeBytes - (sizeBytes % alignment), alignment };
}

/** Folder in sysfs of a character device, if it is device-dax; else null. */
function daxFolder(rdev: number, sysRoot = '/sys'): string | null {
  // The kernel's encoding of a device number in stat: 12 bits of major, 20 of minor.
  const major = ((rdev >>> 8) & 0xfff) >>> 0;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    const folder = realpathSync(join(sysRoot, 'dev/char', `${major}:${minor}`));
    return basename(realpathSync(join(folder, 'subsystem'))) === 'dax' ? folder : null;
  } catch {
    return null;
  }
}

function devdaxBacking(fd: number, path: string, stat: Stats): Backing {
  const folder = daxFolder(stat.rdev);
  if (!folder) {
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      `${path} is a device, but not device-dax; give a file, a device-dax device such as /dev/dax0.0, or fd:N.`,
    );
  }
  const { sizeBytes, alignment } = readDaxGeometry(folder);
  return { kind: 'devdax', fd, path, mapAlignment: alignment, sizeBytes, allocatedBytes: sizeBytes, freeBytes: null };
}

/** In a folder that others may write to, somebody could have put a file of their own there, to read what we store. */
function refuseForeignOwner(path: string, stat: Stats): void {
  const self = process.geteuid?.();
  if (stat.uid === self) return;
  throw daxfsError(
    'DAXFS_BAD_BACKING',
    `${path} belongs to user ${stat.uid}, not to this one (${self}); a region must be owned by the service that writes it.`,
  );
}

function fileBacking(fd: number, path: string | null, stat: Stats): Backing {
  const system = statfsSync(`/proc/self/fd/${fd}`);
  const allocatedBytes = stat.blocks * 512;
  const common = { fd, path, sizeBytes: stat.size, allocatedBytes };
  const available = system.bavail * system.bsize;
  if (system.type === HUGETLBFS_MAGIC) {
    const pool = freeHugeBytes(system.bsize);
    // A mount without a size of its own counts nothing: then only the pool speaks.
    const freeBytes = system.blocks > 0 ? Math.min(available, pool) : pool;
    return { ...common, kind: path === null ? 'memfd' : 'hugetlbfs', mapAlignment: system.bsize, freeBytes };
  }
  const plain = { ...common, mapAlignment: pageBytes };
  if (path === null) return { ...plain, kind: 'memfd', freeBytes: null };
  // A tmpfs without a limit says 0 blocks.
  const freeBytes = system.type === TMPFS_MAGIC && system.blocks === 0 ? null : available;
  return { ...plain, kind: system.type === TMPFS_MAGIC ? 'tmpfs' : 'file', freeBytes };
}

function recognise(fd: number, path: string | null): Backing {
  const stat = fstatSync(fd);
  if (stat.isCharacterDevice()) return devdaxBacking(fd, path ?? `fd:${fd}`, stat);
  if (stat.isFile()) return fileBacking(fd, path, stat);
  const what = stat.isDirectory()
    ? 'a directory'
    : stat.isBlockDevice()
      ? 'a block device'
      : 'neither a file nor a device';
  throw daxfsError(
    'DAXFS_BAD_BACKING',
    `${path ?? 'The descriptor'} is ${what}; a region lies in a file, on a device-dax device, or in a memfd.`,
  );
}

export interface BackingRequest {
  /** A path, or `fd:N` for a descriptor that this process inherited. */
  path?: string | undefined;
  fd?: number | undefined;
}

/** `fd:N` as a number; null for a real path. */
export function descriptorOf({ path, fd }: BackingRequest): number | null {
  if (fd !== undefined) return fd;
  const match = /^fd:(\d+)$/.exec(path ?? '');
  return match ? Number(match[1]) : null;
}

/** A memfd has no place; any other descriptor is named by its link. */
function pathOfDescriptor(fd: number): string | null {
  const link = readlinkSync(`/proc/self/fd/${fd}`);
  return link.startsWith('/') && !link.startsWith('/memfd:') && !link.endsWith(' (deleted)') ? link : null;
}

const describe = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

function openDescriptor(given: number, write: boolean): Backing {
  let fd: number;
  try {
    // A fresh description: whoever gave us the descriptor may share it, and locks belong to descriptions.
    fd = native.reopen(given, write);
  } catch (error) {
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      `Descriptor ${given} cannot be opened (${describe(error)}); pass one that is open, inherited and readable and writable by this user.`,
      { cause: error },
    );
  }
  return closingOnError(fd, () => recognise(fd, pathOfDescriptor(fd)));
}

function closingOnError<T>(fd: number, body: () => T): T {
  try {
    return body();
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A device that is not there must not become a file among the devices. */
function refuseMissingDevice(path: string): void {
  const folder = dirname(resolve(path));
  if (existsSync(path) || !existsSync(folder) || realpathSync(folder) !== '/dev') return;
  throw daxfsError(
    'DAXFS_NO_REGION',
    `There is no device ${path}; name one that "daxctl list" shows as device-dax, or a file elsewhere.`,
  );
}

function openPath(path: string, write: boolean, create: boolean): Backing {
  if (create) refuseMissingDevice(path);
  const flags = (write ? constants.O_RDWR : constants.O_RDONLY) | (create ? constants.O_CREAT : 0);
  let fd: number;
  try {
    // Non-blocking: a FIFO must be refused, not waited for.
    fd = openSync(path, flags | constants.O_NONBLOCK, 0o600);
  } catch (error) {
    throw openFailure(path, error);
  }
  return closingOnError(fd, () => {
    const backing = recognise(fd, realpathSync(path));
    if (write && backing.kind !== 'devdax') refuseForeignOwner(path, fstatSync(fd));
    return backing;
  });
}

function openFailure(path: string, error: unknown): Error {
  const code = describe(error);
  if (code === 'ENOENT') {
    return daxfsError('DAXFS_NO_REGION', `There is no region at ${path}; create one with "daxserve region create".`, {
      cause: error,
    });
  }
  const fix = code === 'EISDIR' ? 'name a file in it' : 'give a path that this user may read and write';
  return daxfsError('DAXFS_BAD_BACKING', `${path} cannot be opened (${code}); ${fix}.`, { cause: error });
}

/**
 * Opens and recognises a backing.
 * @param access `write` needs O_RDWR; `create` makes an empty file where there is none
 * @throws DaxfsError DAXFS_NO_REGION, DAXFS_BAD_BACKING
 */
export function openBacking(request: BackingRequest, access: { write: boolean; create: boolean }): Backing {
  const given = descriptorOf(request);
  if (given !== null) return openDescriptor(given, access.write);
  if (!request.path)
    throw daxfsError('DAXFS_BAD_BACKING', 'No region is named; give --region PATH, a device, or fd:N.');
  return openPath(request.path, access.write, access.create);
}

/** True when `path` still names the file behind `fd`. */
export function isSameFile(path: string, fd: number): boolean {
  try {
    const [a, b] = [statSync(path), fstatSync(fd)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}

/** One line for people: kind and place. */
export function describeBacking({ kind, path, sizeBytes }: Backing): string {
  return `${path ?? 'a memfd'} (${kind}, ${formatBytes(sizeBytes)})`;
}
