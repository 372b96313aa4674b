/** Opening a region to check or to repair it: also one that is too damaged to be opened for use. */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { native } from '../../native/index.ts';
import { type Backing, type BackingRequest, openBacking } from '../backing.ts';
import { DaxfsError, daxfsError } from '../errors.ts';
import { lockDomain } from '../host-identity.ts';
import { HOST_STATE } from '../layout.ts';
import type { CreatedRegion } from '../region-create.ts';
import type { RegionHeader } from '../region-format.ts';
import { findBeating, hostRowOffset, readHostRows } from '../region-hosts.ts';
import { lockForRepair, lockInUse, releaseLocks } from '../region-locks.ts';
import { checkBuild, openRegionParts } from '../region-open.ts';
import { formatBytes, roundDown } from '../units.ts';
import { findHeader } from './anchors.ts';

export interface OpenedForCheck extends Omit<CreatedRegion, 'header'> {
  /** Null: the region cannot be found in these bytes; `refusal` says why. */
  header: RegionHeader | null;
  refusal: DaxfsError | null;
  close(): void;
}

/** Boot id of a row that no host ever wrote its identity into. */
export const nobody = '00'.repeat(16);

const nameOf = ({ path, fd }: BackingRequest) => path ?? `fd:${fd}`;

/** What opening for use says about bytes without a header; those that are no region at all are not to be checked. */
async function refusalOf(request: BackingRequest): Promise<DaxfsError> {
  try {
    const parts = await openRegionParts({ ...request, write: false });
    parts.mapping.close();
    closeSync(parts.backing.fd);
  } catch (error) {
    if (error instanceof DaxfsError) return error;
    throw error;
  }
  return daxfsError('DAXFS_CORRUPT', 'The registry header changed while it was read; check again.');
}

function tooShort(name: string, bytes: number, header: RegionHeader | null): DaxfsError {
  const needed = formatBytes(header?.geometry.regionBytes ?? 0);
  const message = `${name} is ${formatBytes(bytes)} long, but the region in it needs ${needed}; restore the file, or create the region again.`;
  return daxfsError('DAXFS_TRUNCATED', message);
}

const CHECKABLE = new Set(['DAXFS_CORRUPT', 'DAXFS_TRUNCATED', 'DAXFS_UNFINISHED', 'DAXFS_OTHER_LAYOUT']);

function mapAll({ fd, kind, sizeBytes, mapAlignment }: Backing, write: boolean) {
  const bytes = kind === 'file' ? sizeBytes : roundDown(sizeBytes, mapAlignment);
  if (bytes === 0) throw daxfsError('DAXFS_NOT_A_REGION', 'The file is empty; create a region in it first.');
  return new native.Mapping(fd, 0, bytes, { write });
}

/**
 * Maps a region as it is. For repair it is taken exclusively on this kernel first.
 * @throws DaxfsError DAXFS_IN_USE naming who is in the way, DAXFS_CREATING, DAXFS_NOT_A_REGION, DAXFS_NEWER_VERSION, ...
 */
export async function openForCheck(request: BackingRequest, repair: boolean): Promise<OpenedForCheck> {
  checkBuild();
  const backing = openBacking(request, { write: repair, create: false });
  try {
    if (!repair) lockInUse(backing.fd, nameOf(request));
    const mapping = mapAll(backing, repair);
    const found = findHeader(mapping);
    const header = found && found.geometry.regionBytes <= mapping.size ? found : null;
    if (repair) await takeExclusively(request, { backing, mapping, header });
    const truncated = found !== header ? tooShort(nameOf(request), mapping.size, found) : null;
    const refusal = truncated ?? (header === null && !repair ? await refusalOf(request) : null);
    if (refusal && !CHECKABLE.has(refusal.code)) throw refusal;
    const close = () => {
      // A registry object may keep the bytes mapped for a while, and with them the description that holds the locks.
      releaseLocks(backing.fd);
      mapping.close();
      closeSync(backing.fd);
    };
    return { backing, mapping, header, refusal, close };
  } catch (error) {
    closeSync(backing.fd);
    throw error;
  }
}

// ----------------------------------------------------------------------------------------- who is in the way

/** Processes that we may look at and that have the file open; never ourselves. */
function holdersOf({ path }: Backing): number[] {
  if (path === null) return [];
  const isOpenIn = (pid: string) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === path);
    } catch {
      return false;
    }
  };
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.filter(isOpenIn).map(Number);
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function inTheWay(name: string, who: string): DaxfsError {
  return daxfsError('DAXFS_IN_USE', `${name} cannot be repaired while ${who}; stop that first.`);
}

/** Host rows whose lock somebody holds: their process lives, wherever it has the region from. */
function lockedHosts({ backing, mapping, header }: Pick<OpenedForCheck, 'backing' | 'mapping' | 'header'>): string[] {
  if (header === null) return [];
  return readHostRows(mapping, header)
    .filter(({ index }) => native.ofdHeld(backing.fd, hostRowOffset(header, index), 1))
    .map(({ name, pid }) => `host ${JSON.stringify(name)} (process ${pid}) serves it`);
}

async function takeExclusively(
  request: BackingRequest,
  parts: Pick<OpenedForCheck, 'backing' | 'mapping' | 'header'>,
): Promise<void> {
  const { backing, mapping, header } = parts;
  const name = nameOf(request);
  const refuse = (who: string): never => {
    throw inTheWay(name, who);
  };
  const hosts = lockedHosts(parts);
  if (hosts[0] !== undefined) refuse(hosts.join(' and '));
  try {
    lockForRepair(backing.fd, name);
  } catch (error) {
    const pids = holdersOf(backing);
    if ((error as DaxfsError).code !== 'DAXFS_IN_USE' || pids.length === 0) throw error;
    refuse(`${pids.length === 1 ? 'process' : 'one of the processes'} ${pids.join(', ')} has it open`);
  }
  if (header === null) return;
  const own = lockDomain(backing).toString('hex');
  const rows = readHostRows(mapping, header);
  const foreign = rows.filter(({ state, bootId }) => state === HOST_STATE.LIVE && bootId !== own && bootId !== nobody);
  const beating = await findBeating(mapping, header, foreign);
  if (beating) refuse(`host ${JSON.stringify(beating.name)} of another kernel serves it`);
}
