/**
 * Locks on the superblock's first bytes, by which processes of one kernel keep creation, use and deletion apart.
 *   byte 0, write: a creation or deletion is under way
 *   byte 1, read: the region is open here
 * Creation and deletion take every byte for writing: no region is open, no lease lives, no host row is held.
 */
import { native } from '../native/index.ts';
import { daxfsError } from './errors.ts';

const CREATION = 0;
const IN_USE = 1;
/** To the end of any file: offsets stay below 2^63, lengths here below 2^53. */
const ALL_BYTES = Number.MAX_SAFE_INTEGER;

const inUse = (name: string) =>
  daxfsError(
    'DAXFS_IN_USE',
    `${name} is in use: a service has it open, or a worker still maps bytes of it; stop them first ("daxserve handles" and "fuser" tell which).`,
  );

/** True while another description creates or deletes. */
export function isBeingCreated(fd: number): boolean {
  return native.ofdHeld(fd, CREATION, 1);
}

/** True while another description has it open here. */
export function isInUse(fd: number): boolean {
  return native.ofdHeld(fd, IN_USE, 1);
}

/** Marks a creation or deletion as ours. False while another description is at it. */
export function tryLockCreation(fd: number): boolean {
  return native.ofdLock(fd, 'write', CREATION, 1);
}

/** @throws DaxfsError DAXFS_CREATING when another process is at it */
export function lockCreation(fd: number, name: string): void {
  if (tryLockCreation(fd)) return;
  throw daxfsError('DAXFS_CREATING', `${name} is being created by another process; wait until it is done.`);
}

/** @throws DaxfsError DAXFS_IN_USE. REQUIRES: lockCreation */
export function lockEverything(fd: number, name: string): void {
  if (!native.ofdLock(fd, 'write', IN_USE, ALL_BYTES - IN_USE)) throw inUse(name);
}

/** For repair: nobody has the region open, creates or deletes; workers may still map what they hold. @throws as the two above */
export function lockForRepair(fd: number, name: string): void {
  lockCreation(fd, name);
  if (!native.ofdLock(fd, 'write', IN_USE, 1)) throw inUse(name);
}

/** From creator to user, without a moment in which somebody else could delete. */
export function keepInUse(fd: number): void {
  native.ofdLock(fd, 'read', IN_USE, 1);
  native.ofdLock(fd, 'unlock', IN_USE + 1, ALL_BYTES - IN_USE - 1);
  native.ofdLock(fd, 'unlock', CREATION, 1);
}

/** Marks the region as open. @throws DaxfsError DAXFS_CREATING while somebody creates over it or deletes it */
export function lockInUse(fd: number, name: string): void {
  if (native.ofdLock(fd, 'read', IN_USE, 1)) return;
  throw daxfsError('DAXFS_CREATING', `${name} is being created or deleted by another process; wait until it is done.`);
}

/** Lets go of whatever this description locked here. */
export function releaseLocks(fd: number): void {
  native.ofdLock(fd, 'unlock', CREATION, IN_USE + 1);
}
