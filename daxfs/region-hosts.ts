/** Host rows as creation, deletion and attach see them: who is on another kernel, and is it alive. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mapping } from '../native/index.ts';
import type { Backing } from './backing.ts';
import { decode, decodeWord } from './codec.ts';
import { DaxfsError, daxfsError } from './errors.ts';
import { lockDomain } from './host-identity.ts';
import { CONSTANTS, HOST_STATE, hostRow, hostWord, NO_HOST } from './layout.ts';
import { type RegionHeader, readHeader } from './region-format.ts';

export interface HostRow {
  index: number;
  /** Value of HOST_STATE. */
  state: number;
  generation: number;
  /** While it is recovering: the row of the host at work. */
  byHost: number;
  name: string;
  /** 32 hex digits. */
  bootId: string;
  pid: number;
  heartbeat: bigint;
}

/** Byte offset of a host row; its first byte is the range of its lock. */
export function hostRowOffset({ geometry }: RegionHeader, index: number): number {
  return geometry.registryOffset + geometry.hostsOffset + index * hostRow.size;
}

/** A host row as it is now. Its words change under us; the name is good while the state stays. */
export function readHostRow(mapping: Mapping, header: RegionHeader, index: number): HostRow {
  const row = decode(hostRow, mapping.read(hostRowOffset(header, index), hostRow.size));
  const word = decodeWord(hostWord, row.word);
  return {
    index,
    state: word.state ?? HOST_STATE.FREE,
    generation: word.generation ?? 0,
    byHost: word.by_host ?? NO_HOST,
    name: row.name.subarray(0, Math.min(row.name_len, row.name.length)).toString('utf8'),
    bootId: row.boot_id.toString('hex'),
    pid: row.pid,
    heartbeat: row.heartbeat,
  };
}

export function readHostRows(mapping: Mapping, header: RegionHeader): HostRow[] {
  return Array.from({ length: CONSTANTS.hostsMax.value }, (_, index) => readHostRow(mapping, header, index));
}

/**
 * The rows of which the heartbeat moves while we watch, for the region's limit. Across kernels nothing else speaks.
 * @returns the first that does, or null
 */
export async function findBeating(mapping: Mapping, header: RegionHeader, rows: HostRow[]): Promise<HostRow | null> {
  if (rows.length === 0) return null;
  const { heartbeatLimitMs, heartbeatIntervalMs } = header;
  let lookedAt = performance.now();
  for (let watchedMs = 0; ; ) {
    const moved = rows.find((row) => readHostRow(mapping, header, row.index).heartbeat !== row.heartbeat);
    if (moved) return moved;
    if (watchedMs >= heartbeatLimitMs) return null;
    await sleep(Math.max(1, heartbeatIntervalMs / 2));
    // A pause of our own says nothing: the others may have been paused with us.
    watchedMs += Math.min(performance.now() - lookedAt, heartbeatIntervalMs);
    lookedAt = performance.now();
  }
}

/** @throws DaxfsError DAXFS_IN_USE when a host of another kernel still beats. A region that cannot be read has no hosts. */
export async function refuseForeignHosts(mapping: Mapping, backing: Backing, name: string): Promise<void> {
  let header: RegionHeader;
  try {
    header = readHeader(mapping, name, backing.sizeBytes);
  } catch (error) {
    if (error instanceof DaxfsError) return;
    throw error;
  }
  const own = lockDomain(backing).toString('hex');
  const foreign = readHostRows(mapping, header).filter((row) => row.state === HOST_STATE.LIVE && row.bootId !== own);
  const beating = await findBeating(mapping, header, foreign);
  if (!beating) return;
  throw daxfsError(
    'DAXFS_IN_USE',
    `${name} is in use by host ${JSON.stringify(beating.name)} on another kernel; stop that service first.`,
  );
}
