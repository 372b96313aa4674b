/**
 * Taking a row among the hosts of a region. On one kernel the lock on the row's first byte decides at once who is alive;
 * across kernels only the heartbeat speaks.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { HostIdentity } from '../native/index.ts';
import { encodeWord } from './codec.ts';
import { daxfsError } from './errors.ts';
import type { RangeLock } from './fence.ts';
import { lockDomain } from './host-identity.ts';
import { CONSTANTS, HOST_STATE, hostWord, NO_HOST } from './layout.ts';
import type { Region } from './region.ts';
import { findBeating, type HostRow, hostRowOffset, readHostRow, readHostRows } from './region-hosts.ts';

/** Cleaning up a row takes about this long. */
const retryMs = 20;

/** A row of ours; released by `release`, by the death of this process, by nothing else. */
export interface HostLock extends RangeLock {
  /** Row of the registry. */
  index: number;
}

/** A host as the registry lists it: what is needed to ask the kernel about it. */
export interface HostOnKernel {
  index: number;
  /** 16 bytes, or 32 hex digits, with or without hyphens. */
  bootId: Buffer | string;
}

const hexOf = (id: Buffer | string) =>
  typeof id === 'string' ? id.replaceAll('-', '').toLowerCase() : id.toString('hex');

/** True when the row's lock is held: its process lives on this kernel (in whatever PID namespace). */
export function isRowLocked(region: Region, index: number): boolean {
  return region.fence.isHeld(hostRowOffset(region.header, index), 1);
}

/** True when the host ran on this kernel and is gone. False says nothing: it may live, or live elsewhere. */
export function isHostDead(region: Region, host: HostOnKernel): boolean {
  return hexOf(host.bootId) === lockDomain(region).toString('hex') && !isRowLocked(region, host.index);
}

function lockRow(region: Region, index: number): HostLock | null {
  const lock = region.fence.tryWriteLock(hostRowOffset(region.header, index), 1);
  return lock && { ...lock, index };
}

function busy(row: HostRow, where: string): Error {
  return daxfsError(
    'DAXFS_HOST_BUSY',
    `Host id ${JSON.stringify(row.name)} is already serving this region: process ${row.pid} on ${where}; stop it, or give this service another name with --host-id.`,
    { extra: { pid: row.pid } },
  );
}

/** A survivor of this kernel that died while it cleaned up a row would keep its successor out: LIVE -> LAPSED. */
function markDeadRecoverer(region: Region, { state, byHost }: HostRow, own: string): void {
  if (state !== HOST_STATE.RECOVERING || byHost >= CONSTANTS.hostsMax.value) return;
  const by = readHostRow(region.mapping, region.header, byHost);
  if (by.state !== HOST_STATE.LIVE || by.bootId !== own || isRowLocked(region, byHost)) return;
  const wordOf = (of: number) =>
    encodeWord(hostWord, { state: of, generation: by.generation, by_host: NO_HOST, by_generation: 0 });
  region.mapping.cas64(hostRowOffset(region.header, byHost), wordOf(HOST_STATE.LIVE), wordOf(HOST_STATE.LAPSED));
}

/** Rows that carry our name. Same kernel: the lock decides. Another one: it is us before a reboot, unless it still beats. */
async function takeOwnRow(region: Region, rows: HostRow[], own: string): Promise<HostLock | null> {
  for (const row of rows) markDeadRecoverer(region, row, own);
  const here = rows.find((row) => row.bootId === own);
  if (here) {
    const lock = lockRow(region, here.index);
    if (!lock) throw busy(here, 'this machine');
    return lock;
  }
  const beating = await findBeating(
    region.mapping,
    region.header,
    rows.filter((row) => row.state === HOST_STATE.LIVE),
  );
  if (beating) throw busy(beating, 'another kernel');
  return rows[0] ? lockRow(region, rows[0].index) : null;
}

/** The first row that is free in the registry and on this kernel. */
function takeFreeRow(region: Region, rows: HostRow[]): HostLock | null {
  for (const row of rows) {
    if (row.state !== HOST_STATE.FREE) continue;
    const lock = lockRow(region, row.index);
    if (lock) return lock;
  }
  return null;
}

/** A host of this kernel that died: its row serves again once its claims are undone, which attaching does. */
function takeDeadRow(region: Region, rows: HostRow[], own: string): HostLock | null {
  for (const row of rows) {
    const lock = row.bootId === own ? lockRow(region, row.index) : null;
    if (lock) return lock;
  }
  return null;
}

/**
 * While it is held no host of this kernel attaches; null while one does. Whoever clears up after a dead host holds it, so
 * that the row does not come to life meanwhile.
 */
export function tryLockAttaching(region: Region): RangeLock | null {
  const { registryOffset, stateOffset } = region.header.geometry;
  return region.fence.tryWriteLock(registryOffset + stateOffset, 1);
}

/** Attaching processes of one kernel go one after the other, so that no two of them pick rows for one name. */
async function lockAttaching(region: Region): Promise<RangeLock> {
  for (;;) {
    const lock = tryLockAttaching(region);
    if (lock) return lock;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * Takes a row for this identity: its predecessor's on this kernel at once, else a free one. `attach` is called while other
 * attaching processes of this kernel wait: it writes the identity into the row (Registry.attachHost).
 * @throws DaxfsError DAXFS_HOST_BUSY naming the process, DAXFS_HOSTS_FULL
 */
export async function takeHostRow(
  region: Region,
  identity: HostIdentity,
  attach: (index: number) => void = () => undefined,
): Promise<HostLock> {
  const own = lockDomain(region).toString('hex');
  const attaching = await lockAttaching(region);
  try {
    for (let tries = 0; ; tries++) {
      const lock = await chooseRow(region, identity, own);
      if (attachOrRelease(lock, attach, tries < CONSTANTS.hostsMax.value)) return lock;
      await sleep(retryMs);
    }
  } finally {
    attaching.release();
  }
}

async function chooseRow(region: Region, { name }: HostIdentity, own: string): Promise<HostLock> {
  const rows = readHostRows(region.mapping, region.header);
  const named = rows.filter((row) => row.state !== HOST_STATE.FREE && row.name === name);
  const lock = (await takeOwnRow(region, named, own)) ?? takeFreeRow(region, rows) ?? takeDeadRow(region, rows, own);
  if (lock) return lock;
  throw daxfsError(
    'DAXFS_HOSTS_FULL',
    `All ${rows.length} host rows of the region are taken; remove one that is gone with "daxserve hosts fence NAME --yes".`,
  );
}

/** False when a host of another kernel was quicker to take that row, or cleans it up, which only attaching finds out. */
function attachOrRelease(lock: HostLock, attach: (index: number) => void, again: boolean): boolean {
  try {
    attach(lock.index);
    return true;
  } catch (error) {
    lock.release();
    if (again && (error as NodeJS.ErrnoException).code === 'DAXFS_HOST_BUSY') return false;
    throw error;
  }
}
