/** The front of an image: the same rules as of a region's. Who uses its page cache stands in the cache's header. */
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../../native/index.ts';
import { mappingSource } from '../byte-source.ts';
import { offsetOf } from '../codec.ts';
import { DaxfsError } from '../errors.ts';
import { validateFront } from '../front-validate.ts';
import type { FrontWork } from '../front-work.ts';
import { lockDomain } from '../host-identity.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS, pageCacheHeader, pageCacheUser } from '../layout.ts';
import { frontKind } from '../overlay-table.ts';
import { isInUse } from '../region-locks.ts';
import { addFrontFindings, findingsMax } from './check-front.ts';
import { confirmed, FindingList, type Seen } from './findings.ts';
import type { OpenedImage } from './open-image.ts';
import { mendFront } from './repair-front.ts';

/** Looks after the first at an image that others have open, and the pause before each. */
const looksMax = 4;
const pauseMs = 60;

const TAKEN = 1n;

/** A process in the header of the page cache. */
interface User {
  generation: number;
  /** Of this kernel, and its lock is gone. */
  isDead: boolean;
  /** Of another kernel: nobody can tell. */
  isForeign: boolean;
}

function userAt({ mapping, backing, head }: OpenedImage, index: number): User | null {
  const at = Number(head.pcache_offset) + offsetOf(pageCacheHeader, 'users') + index * pageCacheUser.size;
  if (head.pcache_offset === 0n || index >= CONSTANTS.hostsMax.value || at + pageCacheUser.size > mapping.size)
    return null;
  const word = mapping.load64(at);
  if ((word & TAKEN) === 0n) return null;
  const boot = (lockDomain(backing).readUInt32LE(0) | 1) >>> 0;
  const isForeign = Number(word >> 32n) !== boot;
  const isDead = !isForeign && !native.ofdHeld(backing.fd, at, 1);
  return { generation: Number((word >> 16n) & 0xffffn), isDead, isForeign };
}

function workOf(image: OpenedImage): FrontWork {
  const isQuiet = image.isExclusive || !isInUse(image.backing.fd);
  const host: FrontWork['host'] = (index, generation) => {
    const user = userAt(image, index);
    const isIts = user !== null && (generation === null || user.generation === generation) && !user.isDead;
    return isIts ? 'live' : 'gone';
  };
  return { isQuiet, rows: null, entries: new Set(), host };
}

function look(image: OpenedImage): FindingList {
  const { mapping, head } = image;
  const found = new FindingList();
  const source = mappingSource(mapping, 0, mapping.size);
  const cacheAt = head.pcache_offset === 0n ? mapping.size : Number(head.pcache_offset);
  const whereOf = (offset: number, index = 0) => ({
    struct: offset < cacheAt ? ('overlay' as const) : ('page_cache' as const),
    index,
    offset,
  });
  const read = (offset: number, length: number) => {
    const at = Math.min(offset, mapping.size);
    return mapping.read(at, Math.min(length, mapping.size - at));
  };
  for (const { rule, offset, detail } of validateImage(source).findings) {
    const code =
      rule === 'OVERLAY_HEADER'
        ? 'FRONT_OVERLAY_HEADER'
        : rule === 'PCACHE_HEADER'
          ? 'FRONT_CACHE_HEADER'
          : 'IMAGE_FORMAT';
    const where = code === 'IMAGE_FORMAT' ? { struct: 'image' as const, index: 0, offset } : whereOf(offset);
    found.add(code, where, `${rule}: ${detail}; make the image again.`, detail);
  }
  const work = workOf(image);
  const options = { kind: frontKind(head.version), work, findingsMax };
  // Counter and slots are two words: while others fill they are never looked at together.
  const contents = validateFront(source, options).findings.filter(
    ({ rule }) => rule !== 'CACHE_PENDING' || work.isQuiet,
  );
  addFrontFindings(contents, { whereOf, read, unsettled: false }, found);
  return found;
}

/** What every look saw, on the same words. An image has one part that repair mends: its front. */
export async function lookAtImage(image: OpenedImage): Promise<Seen[]> {
  let findings: readonly Seen[] = look(image).list;
  for (let more = 0; more < looksMax && findings.length > 0 && !image.isExclusive; more++) {
    await sleep(pauseMs);
    findings = confirmed(findings, look(image).list);
  }
  return findings.map((finding) => ({ ...finding, repairable: finding.repairable && isOfContents(finding) }));
}

const isOfContents = ({ code }: Seen) =>
  code !== 'IMAGE_FORMAT' && code !== 'FRONT_OVERLAY_HEADER' && code !== 'FRONT_CACHE_HEADER';

/** Mends the front of an image that this process has to itself. */
export function mendImage(image: OpenedImage, step: (text: string) => void): void {
  const { mapping, head } = image;
  const mayLive = (host: number) => userAt(image, host)?.isForeign === true;
  const settle = (ino: number) => {
    try {
      const overlay = new native.Overlay(mapping, null, null);
      overlay.readSync(ino, 0, Buffer.alloc(1));
      overlay.close();
    } catch (error) {
      // Superblock and header do not fit each other: that is told.
      if (error instanceof DaxfsError && error.code === 'DAXFS_CLOSED') throw error;
    }
  };
  const source = mappingSource(mapping, 0, mapping.size);
  mendFront({ mapping, source, kind: frontKind(head.version), work: workOf(image), mayLive, settle, step });
}
