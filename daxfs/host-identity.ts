/** Who we are among the hosts of a region. */
import { createHash } from 'node:crypto';
import { fstatSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { HostIdentity } from '../native/index.ts';

/** 16 bytes that name this run of this kernel. */
export function bootId(): Buffer {
  return Buffer.from(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').replaceAll('-', '').trim(), 'hex');
}

/**
 * 16 bytes that name everybody who sees our locks: the kernel. Locks on a device belong to its node, and containers may have
 * nodes of their own for one device; hosts on different nodes can't see each other's locks and count as different kernels.
 */
export function lockDomain({ fd, kind }: { fd: number; kind: string }): Buffer {
  if (kind !== 'devdax') return bootId();
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return createHash('sha256').update(bootId()).update(`${dev}:${ino}`).digest().subarray(0, 16);
}

/** Start of a process in clock ticks since boot: with the pid it names the process for good. */
export function startTime(pid: number | 'self' = 'self'): bigint {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command in parentheses may hold spaces; the 20th field after it is the start time.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return BigInt(fields[19] ?? 0);
}

/** A host name is 1 to 64 bytes. */
const nameBytesMax = 64;

/**
 * @param name default: the machine's name
 * @param region the region to attach to: decides whose locks we see
 */
export function hostIdentity(name: string = hostname(), region?: { fd: number; kind: string }): HostIdentity {
  const bytes = Buffer.from(name.normalize('NFC'), 'utf8');
  if (bytes.length === 0 || bytes.length > nameBytesMax) {
    throw new RangeError(`A host id has 1 to ${nameBytesMax} bytes; give another with --host-id.`);
  }
  return {
    name: bytes.toString('utf8'),
    bootId: region ? lockDomain(region) : bootId(),
    pid: process.pid,
    startTime: startTime(),
  };
}
