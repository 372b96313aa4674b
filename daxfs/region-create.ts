/** Creating and deleting regions: under a lock, space first, the magic last. */
import { closeSync, existsSync, fchmodSync, fstatSync, ftruncateSync, readSync, unlinkSync } from 'node:fs';
import { setImmediate as breathe } from 'node:timers/promises';
import { type Mapping, native } from '../native/index.ts';
import { type Backing, type BackingRequest, isSameFile, openBacking } from './backing.ts';
import { daxfsError } from './errors.ts';
import { CONSTANTS } from './layout.ts';
import {
  type Coherence,
  classifyFront,
  type FrontState,
  newHeader,
  publish,
  type RegionHeader,
  unpublish,
  writeMetadata,
  writeUnfinishedMark,
} from './region-format.ts';
import { refuseForeignHosts } from './region-hosts.ts';
import { type Capacities, type Geometry, planGeometry } from './region-layout.ts';
import { keepInUse, lockCreation, lockEverything, tryLockCreation } from './region-locks.ts';
import { asBadPlacement, asNoSpace, checkSpace, type ReserveOptions, reserve } from './region-space.ts';
import { formatBytes, type NumaPlacement, roundDown, roundUp } from './units.ts';

const blockBytes = CONSTANTS.blockBytes.value;
const chunkBytes = CONSTANTS.chunkBytes.value;

export interface CreateOptions extends BackingRequest, ReserveOptions {
  /** Bytes; rounded up to the page of the backing. A device may leave it out, and a file that has its size already. */
  size?: number | undefined;
  /** A plain v8 front that kernels may mount; default false. */
  kernelMountable?: boolean | undefined;
  /** Pool of the front's overlay in bytes. */
  overlayBytes?: number | undefined;
  /** Buckets of the overlay, a power of two. */
  bucketCount?: number | undefined;
  capacities?: Partial<Capacities> | undefined;
  coherence?: Coherence | undefined;
  heartbeat?: { intervalMs: number; limitMs: number } | undefined;
  numa?: NumaPlacement | undefined;
  /** `never` leaves out MADV_HUGEPAGE; default `auto`. */
  huge?: 'auto' | 'never' | undefined;
  /** Replaces a region that nobody uses. */
  force?: boolean | undefined;
}

/** What creation hands to the region: open, mapped, marked as in use. */
export interface CreatedRegion {
  backing: Backing;
  mapping: Mapping;
  header: RegionHeader;
}

const nameOf = ({ path, fd }: BackingRequest) => path ?? `fd:${fd}`;

/** What lies in the backing now. */
export function probeFront(backing: Backing): FrontState {
  if (backing.sizeBytes === 0) return 'blank';
  if (backing.sizeBytes < blockBytes) return 'foreign';
  const first = new native.Mapping(backing.fd, 0, backing.mapAlignment, {});
  try {
    const state = classifyFront(first.read(0, blockBytes));
    return state === 'blank' && !endsBlank(backing) ? 'foreign' : state;
  } finally {
    first.close();
  }
}

/** A foreign file may begin with zeros; one that ends with them too is taken as blank. */
function endsBlank({ kind, fd, sizeBytes }: Backing): boolean {
  if (kind !== 'file') return true;
  const block = Buffer.alloc(blockBytes);
  readSync(fd, block, 0, blockBytes, sizeBytes - blockBytes);
  return block.every((byte) => byte === 0);
}

/** @throws DaxfsError DAXFS_ALREADY_CREATED, DAXFS_NOT_A_REGION */
function refuseOccupied(state: FrontState, { kind }: Backing, name: string, force: boolean): void {
  if (state === 'blank' || state === 'unfinished') return;
  if (state === 'region') {
    if (force) return;
    throw daxfsError(
      'DAXFS_ALREADY_CREATED',
      `There is a region at ${name} already; open it, give --force to replace it, or delete it with "daxserve region delete".`,
    );
  }
  if (kind === 'devdax' && force) return;
  const fix = kind === 'devdax' ? 'give --force to overwrite the device' : 'remove it, or give another path';
  throw daxfsError('DAXFS_NOT_A_REGION', `${name} holds something else than a region; ${fix}.`);
}

/** @throws DaxfsError DAXFS_NO_SPACE when the device is smaller */
function fitDevice({ path, sizeBytes }: Backing, asked: number): number {
  if (asked <= sizeBytes) return asked;
  throw daxfsError(
    'DAXFS_NO_SPACE',
    `The region needs ${formatBytes(asked)}, but ${path ?? 'the device'} has only ${formatBytes(sizeBytes)}; give a smaller --size, or none to take all of it.`,
    { extra: { neededBytes: asked, freeBytes: sizeBytes } },
  );
}

/** @throws DaxfsError DAXFS_BAD_SIZE when no size is given and the backing has none, DAXFS_NO_SPACE */
function decideSize(backing: Backing, asked: number | undefined): number {
  const unit = Math.max(backing.mapAlignment, chunkBytes);
  if (backing.kind === 'devdax') return roundDown(fitDevice(backing, asked ?? backing.sizeBytes), unit);
  if (asked !== undefined) return roundUp(asked, unit);
  if (backing.sizeBytes > 0) return roundDown(backing.sizeBytes, unit);
  throw daxfsError('DAXFS_BAD_SIZE', 'A new region needs a size; give --size, for example --size 8G.');
}

function setLength({ fd, kind, path }: Backing, bytes: number): void {
  if (kind === 'devdax') return;
  try {
    fchmodSync(fd, 0o600);
    // Anything but the new size would be a hole or a rest of something older.
    ftruncateSync(fd, 0);
    ftruncateSync(fd, bytes);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      `${path ?? 'The memfd'} cannot be given its mode and size (${code}); it must be our own and not sealed.`,
      { cause: error },
    );
  }
}

function mapAll(backing: Backing, bytes: number, { huge, numa }: CreateOptions): Mapping {
  try {
    return new native.Mapping(backing.fd, 0, bytes, { write: true, huge: huge !== 'never', ...(numa && { numa }) });
  } catch (error) {
    // hugetlbfs reserves its pages at mmap.
    throw asNoSpace(asBadPlacement(error, numa), backing, bytes);
  }
}

/** Zeroes front and registry in steps, so that the event loop breathes. */
async function zeroMetadata(mapping: Mapping, { chunksOffset, tailOffset }: Geometry): Promise<void> {
  const step = 8 * 2 ** 20;
  // The first block keeps the mark of an unfinished creation until the very end.
  for (let at = blockBytes; at < chunksOffset; at += step) {
    mapping.zero(at, Math.min(step, chunksOffset - at));
    await breathe();
  }
  mapping.zero(roundDown(tailOffset, blockBytes), blockBytes);
}

async function fill(mapping: Mapping, backing: Backing, header: RegionHeader, options: CreateOptions): Promise<void> {
  const { regionBytes } = header.geometry;
  await reserve(mapping, backing, { offset: 0, length: backing.mapAlignment, fresh: true });
  mapping.zero(0, blockBytes);
  writeUnfinishedMark(mapping, header);
  await reserve(mapping, backing, { offset: 0, length: regionBytes, fresh: true }, options);
  await zeroMetadata(mapping, header.geometry);
  options.signal?.throwIfAborted();
  writeMetadata(mapping, header);
  if (!publish(mapping, header)) {
    throw daxfsError('DAXFS_IN_USE', 'Another kernel wrote to the region while it was being created; create it again.');
  }
}

/** Takes the old region out of use. @throws DaxfsError DAXFS_IN_USE when hosts of another kernel live in it */
async function retire(backing: Backing, name: string): Promise<void> {
  const old = new native.Mapping(backing.fd, 0, backing.sizeBytes, { write: true });
  try {
    await refuseForeignHosts(old, backing, name);
    unpublish(old);
  } finally {
    old.close();
  }
}

/** Gives back what a failed creation took. */
function rollBack(backing: Backing, existed: boolean): void {
  if (backing.kind === 'devdax') return;
  ftruncateSync(backing.fd, 0);
  if (!existed && backing.path !== null && isSameFile(backing.path, backing.fd)) unlinkSync(backing.path);
}

function planHeader(backing: Backing, options: CreateOptions): RegionHeader {
  const { overlayBytes, bucketCount, capacities, heartbeat = { intervalMs: 500, limitMs: 5000 } } = options;
  const geometry = planGeometry({
    regionBytes: decideSize(backing, options.size),
    ...(overlayBytes !== undefined && { overlayBytes }),
    ...(bucketCount !== undefined && { bucketCount }),
    ...(capacities && { capacities }),
  });
  return newHeader(geometry, {
    kernelMountable: options.kernelMountable ?? false,
    coherence: options.coherence ?? 'hardware',
    heartbeatIntervalMs: heartbeat.intervalMs,
    heartbeatLimitMs: heartbeat.limitMs,
  });
}

async function build(opened: Backing, existed: boolean, options: CreateOptions): Promise<CreatedRegion> {
  const name = nameOf(options);
  lockCreation(opened.fd, name);
  if (opened.path !== null && !isSameFile(opened.path, opened.fd)) {
    throw daxfsError('DAXFS_CREATING', `${name} was replaced by another process; try again.`);
  }
  // Another process may have created the region between our open and the lock: its size is looked at again.
  const backing = refreshed(opened);
  const state = probeFront(backing);
  refuseOccupied(state, backing, name, options.force ?? false);
  lockEverything(backing.fd, name);
  const header = planHeader(backing, options);
  checkSpace(backing, header.geometry.regionBytes);
  if (state === 'region') await retire(backing, name);
  let mapping: Mapping | undefined;
  try {
    setLength(backing, header.geometry.regionBytes);
    mapping = mapAll(backing, header.geometry.regionBytes, options);
    await fill(mapping, backing, header, options);
    keepInUse(backing.fd);
    return { backing: refreshed(backing), mapping, header };
  } catch (error) {
    mapping?.close();
    rollBack(backing, existed);
    throw error;
  }
}

function refreshed(backing: Backing): Backing {
  if (backing.kind === 'devdax') return backing;
  const { size, blocks } = fstatSync(backing.fd);
  return { ...backing, sizeBytes: size, allocatedBytes: blocks * 512 };
}

/** @throws DaxfsError; leaves nothing behind when it fails, and something that `create` replaces when it is killed */
export async function createRegion(options: CreateOptions): Promise<CreatedRegion> {
  const existed = options.path !== undefined && existsSync(options.path);
  const backing = openBacking(options, { write: true, create: true });
  try {
    return await build(backing, existed, options);
  } catch (error) {
    // A refusal before the first write: an empty file that only this call made goes away again.
    if (!existed && backing.path !== null && backing.sizeBytes === 0) removeIfEmpty(backing);
    closeSync(backing.fd);
    throw error;
  }
}

/** Under the lock: an empty file that another process is about to make its region of is not ours to remove. */
function removeIfEmpty({ path, fd }: Backing): void {
  if (path === null || !tryLockCreation(fd)) return;
  if (isSameFile(path, fd) && fstatSync(fd).size === 0) unlinkSync(path);
}

/**
 * Deletes a region that nobody uses: the file goes, a device or a memfd loses its superblock.
 * @throws DaxfsError DAXFS_NO_REGION, DAXFS_NOT_A_REGION, DAXFS_IN_USE, DAXFS_CREATING
 */
export async function deleteRegion(request: BackingRequest): Promise<void> {
  const name = nameOf(request);
  const backing = openBacking(request, { write: true, create: false });
  try {
    lockCreation(backing.fd, name);
    const state = probeFront(backing);
    if (state !== 'region' && state !== 'unfinished') {
      throw daxfsError('DAXFS_NOT_A_REGION', `${name} is no region; remove it yourself if you are sure.`);
    }
    lockEverything(backing.fd, name);
    if (state === 'region') await retire(backing, name);
    if (backing.kind === 'devdax') clearDevice(backing);
    else rollBack(backing, backing.kind === 'memfd');
  } finally {
    closeSync(backing.fd);
  }
}

function clearDevice({ fd, mapAlignment }: Backing): void {
  const first = new native.Mapping(fd, 0, mapAlignment, { write: true });
  first.zero(0, blockBytes);
  first.close();
}
