/**
 * The fence: who may still see bytes of a region on this kernel, and that nobody can write them who should not.
 * Each lease is a fresh read-only description with read locks on its ranges. The lock lives as long as any mapping or copy
 * of that description, whoever holds it, and goes with the last of them; a write lock on the range proves that none is left.
 */
import { closeSync } from 'node:fs';
import { native } from '../native/index.ts';
import type { BackingKind } from './backing.ts';
import { daxfsError } from './errors.ts';

export interface ByteRange {
  /** Bytes from the start of the region. */
  offset: number;
  length: number;
}

/** A range that nobody else can lease while this lives. */
export interface RangeLock extends Disposable {
  release(): void;
}

/** `enforced`: the kernel refuses a worker that reopens its descriptor for writing, root included. */
export type ReadOnlyStrength = 'enforced' | 'advisory';

interface ReadOnlySource {
  /** A description from which fresh read-only ones are made. */
  fd: number;
  strength: ReadOnlyStrength;
  reason: string | null;
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'EUNKNOWN';

const ADVISORY = 'advisory for root and same-uid workers';

function whyNotCloned(code: string): string {
  if (code === 'EPERM') return `${ADVISORY}: a read-only mount clone needs CAP_SYS_ADMIN`;
  if (code === 'ENOSYS') return `${ADVISORY}: the kernel is older than 5.12 and cannot clone a mount read-only`;
  return `${ADVISORY}: the mount of the region cannot be cloned read-only here (${code})`;
}

/**
 * A description opened through a read-only clone of the region's mount. The clone itself is let go at once: it then
 * belongs to no mount namespace, so that not even root can make it writable again.
 */
function openThroughClone(regionFd: number): number {
  const tree = native.cloneReadOnly(`/proc/self/fd/${regionFd}`);
  try {
    return native.reopen(tree, false);
  } finally {
    closeSync(tree);
  }
}

function openReadOnlySource(regionFd: number, kind: BackingKind): ReadOnlySource {
  const plain = (reason: string): ReadOnlySource => ({
    fd: native.reopen(regionFd, false),
    strength: 'advisory',
    reason,
  });
  if (kind === 'memfd') return plain(`${ADVISORY}: a memfd lies on no mount that could be cloned`);
  if (kind === 'devdax') return plain(`${ADVISORY}: a read-only mount does not bind root on a device node`);
  try {
    return { fd: openThroughClone(regionFd), strength: 'enforced', reason: null };
  } catch (error) {
    return plain(whyNotCloned(codeOf(error)));
  }
}

/** Locks and read-only descriptors of one open region. All calls return at once. */
export class Fence {
  readonly strength: ReadOnlyStrength;
  /** Why it is only advisory; null when it is enforced. */
  readonly reason: string | null;
  readonly #regionFd: number;
  readonly #source: ReadOnlySource;
  #closed = false;

  /** @param regionFd the region's own description; must outlive the fence, which does not close it */
  constructor(regionFd: number, kind: BackingKind) {
    this.#regionFd = regionFd;
    this.#source = openReadOnlySource(regionFd, kind);
    this.strength = this.#source.strength;
    this.reason = this.#source.reason;
  }

  /**
   * A fresh read-only description of the region that holds read locks on the ranges. The caller sends it and closes its copy.
   * @throws DaxfsError DAXFS_IN_USE when a range is just being reused, DAXFS_CLOSED
   */
  openLease(ranges: readonly ByteRange[]): number {
    this.#checkOpen();
    const fd = native.reopen(this.#source.fd, false);
    try {
      for (const range of ranges) this.#lockForReading(fd, range);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** True while any description on this kernel but the region's own holds a lock on a byte of the range. */
  isHeld(offset: number, length: number): boolean {
    this.#checkOpen();
    return native.ofdHeld(this.#regionFd, offset, length);
  }

  /** Takes the range for writing, so that no lease on it can begin; null while one exists. */
  tryWriteLock(offset: number, length: number): RangeLock | null {
    this.#checkOpen();
    const fd = native.reopen(this.#regionFd, true);
    if (!native.ofdLock(fd, 'write', offset, length)) {
      closeSync(fd);
      return null;
    }
    return closingLock(fd);
  }

  /** Idempotent. Leases live on: their descriptions are not ours. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#source.fd);
  }

  #lockForReading(fd: number, { offset, length }: ByteRange): void {
    if (native.ofdLock(fd, 'read', offset, length)) return;
    throw daxfsError('DAXFS_IN_USE', 'The bytes are being reused for something else; look the model up again.');
  }

  #checkOpen(): void {
    if (this.#closed) throw daxfsError('DAXFS_CLOSED', 'The region is closed; open it again.');
  }
}

/** The lock goes with its description, which nothing else shares. */
function closingLock(fd: number): RangeLock {
  let held = true;
  const release = () => {
    if (held) closeSync(fd);
    held = false;
  };
  return { release, [Symbol.dispose]: release };
}
