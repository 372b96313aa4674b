/** Who we are among the hosts of a region. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { HostIdentity } from '../native/index.ts';

/** 16 bytes that name this run of this kernel. */
export function bootId(): Buffer {
  return Buffer.from(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').replaceAll('-', '').trim(), 'hex');
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

/** @param name default: the machine's name */
export function hostIdentity(name: string = hostname()): HostIdentity {
  const bytes = Buffer.from(name.normalize('NFC'), 'utf8');
  if (bytes.length === 0 || bytes.length > nameBytesMax) {
    throw new RangeError(`A host id has 1 to ${nameBytesMax} bytes; give another with --host-id.`);
  }
  return { name: bytes.toString('utf8'), bootId: bootId(), pid: process.pid, startTime: startTime() };
}
