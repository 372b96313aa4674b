/** Opening a region: recognise, check, map. Nothing in it is trusted before `readHeader` has passed it. */
import { closeSync } from 'node:fs';
import { type Mapping, native } from '../native/index.ts';
import { type Backing, type BackingRequest, isSameFile, openBacking } from './backing.ts';
import { decode } from './codec.ts';
import { type DaxfsError, daxfsError } from './errors.ts';
import { LOCATOR_MAGIC, locator } from './layout.ts';
import { type CreatedRegion, probeFront } from './region-create.ts';
import { type FrontState, fingerprint, readHeader } from './region-format.ts';
import { isBeingCreated, lockInUse } from './region-locks.ts';
import { asBadPlacement, checkSpace, hasHoles, reserve } from './region-space.ts';
import { formatBytes, type NumaPlacement, roundDown } from './units.ts';

export interface OpenOptions extends BackingRequest {
  /** Default true. A region opened for reading only changes nothing and needs no rights to. */
  write?: boolean | undefined;
  numa?: NumaPlacement | undefined;
  signal?: AbortSignal | undefined;
}

const nameOf = ({ path, fd }: BackingRequest) => path ?? `fd:${fd}`;

/** @throws DaxfsError DAXFS_STALE_BUILD when the addon was compiled from another layout than this code */
export function checkBuild(): void {
  if (native.fingerprint === fingerprint) return;
  throw daxfsError(
    'DAXFS_STALE_BUILD',
    'The native addon was built from another layout than this code; run "npm run setup" in the daxserve folder.',
  );
}

/** Does the copy of the locator at the end still name a region? Then its beginning was damaged. */
function hasTailLocator({ fd, kind, sizeBytes, mapAlignment }: Backing): boolean {
  const start = roundDown(sizeBytes - 1, mapAlignment);
  if (kind === 'devdax' || start + locator.size > sizeBytes) return false;
  const tail = new native.Mapping(fd, start, sizeBytes - start, {});
  try {
    return decode(locator, tail.read(sizeBytes - start - locator.size, locator.size)).magic === LOCATOR_MAGIC;
  } finally {
    tail.close();
  }
}

/** Why something that is not a finished region is refused, with the fix. */
function refusal(state: Exclude<FrontState, 'region'>, backing: Backing, name: string): DaxfsError {
  if (state === 'image') {
    return daxfsError(
      'DAXFS_NOT_A_REGION',
      `${name} is a DAXFS image without a registry; read it with "daxfs-inspect tree -f ${name}", or give a region's path.`,
    );
  }
  if (state === 'foreign') return refuseForeign(backing, name);
  if (isBeingCreated(backing.fd)) {
    return daxfsError('DAXFS_CREATING', `${name} is being created by another process; wait until it is done.`);
  }
  const how = state === 'blank' ? 'is blank' : 'was left unfinished: its creation was interrupted';
  return daxfsError('DAXFS_UNFINISHED', `${name} ${how}; create it with "daxserve region create --region ${name}".`);
}

function refuseForeign(backing: Backing, name: string): DaxfsError {
  if (backing.sizeBytes > 4096 && hasTailLocator(backing)) {
    return daxfsError(
      'DAXFS_CORRUPT',
      `${name}: the superblock of the region is damaged; recreate it with --on-mismatch recreate.`,
    );
  }
  return daxfsError(
    'DAXFS_NOT_A_REGION',
    `${name} (${formatBytes(backing.sizeBytes)}) is not a daxserve region; give the path of one, or create one with "daxserve region create".`,
  );
}

function mapBacking(backing: Backing, { write = true, numa }: OpenOptions): Mapping {
  const bytes = backing.kind === 'file' ? backing.sizeBytes : roundDown(backing.sizeBytes, backing.mapAlignment);
  try {
    return new native.Mapping(backing.fd, 0, bytes, { write, huge: true, ...(numa && { numa }) });
  } catch (error) {
    throw asBadPlacement(error, numa);
  }
}

/** A file that was copied may have lost its reservation; without it a store could end in SIGBUS. */
async function fillHoles(backing: Backing, mapping: Mapping, options: OpenOptions, regionBytes: number): Promise<void> {
  if (options.write === false || !hasHoles(backing, regionBytes)) return;
  checkSpace(backing, regionBytes);
  await reserve(mapping, backing, { offset: 0, length: regionBytes, fresh: false }, { signal: options.signal });
}

async function adopt(backing: Backing, options: OpenOptions): Promise<CreatedRegion> {
  const name = nameOf(options);
  const state = probeFront(backing);
  if (state !== 'region') throw refusal(state, backing, name);
  lockInUse(backing.fd, name);
  if (backing.path !== null && !isSameFile(backing.path, backing.fd)) {
    throw daxfsError('DAXFS_NO_REGION', `The region at ${name} has just been deleted; create one.`);
  }
  const mapping = mapBacking(backing, options);
  try {
    const header = readHeader(mapping, name, backing.sizeBytes);
    await fillHoles(backing, mapping, options, header.geometry.regionBytes);
    return { backing, mapping, header };
  } catch (error) {
    mapping.close();
    throw error;
  }
}

/** @throws DaxfsError DAXFS_NO_REGION, _CREATING, _UNFINISHED, _NOT_A_REGION, _NEWER_VERSION, _OTHER_LAYOUT, _TRUNCATED, _CORRUPT, _NO_SPACE */
export async function openRegionParts(options: OpenOptions): Promise<CreatedRegion> {
  checkBuild();
  const backing = openBacking(options, { write: options.write ?? true, create: false });
  try {
    return await adopt(backing, options);
  } catch (error) {
    closeSync(backing.fd);
    throw error;
  }
}
