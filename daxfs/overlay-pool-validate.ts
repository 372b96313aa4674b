/** Checks whose each byte of an overlay's pool is: entries, members of free lists, and what belongs to nothing. */
import { offsetOf } from './codec.ts';
import type { FreeListField, FrontFindings } from './front-rules.ts';
import { overlayDirent, overlayHeader, overlayInode } from './layout.ts';
import { freeListOffset, type OverlayReader } from './overlay-read.ts';
import type { Gap, PoolOwnership } from './pool-ownership.ts';

/** What a free list says when it is empty, and a link at its end. */
export const LIST_END = freeListOffset(-1n);

/** Entries of a private front lie on multiples of 16, for their bucket holds no finer offset; of a v8 front on 8. */
export const entryAlign = (isPrivate: boolean): number => (isPrivate ? 16 : 8);

/** Bytes of the members of each list. */
export function memberBytes(field: FreeListField, blockBytes: number): number {
  if (field === 'free_data') return blockBytes;
  return field === 'free_inode' ? overlayInode.size : overlayDirent.size;
}

/** Walks that others disturbed are begun again so many times. */
const walksMax = 8;

interface Broken {
  /** Byte of the word that leads astray. */
  at: number;
  detail: string;
  /** The last member before it; undefined: the head. */
  last: number | undefined;
}

interface Walk {
  members: number[];
  broken: Broken | undefined;
}

/** One walk along a list. Bounded by the members that fit the pool. */
function walk(overlay: OverlayReader, field: FreeListField, head: bigint): Walk {
  const { header, bucketsAt, poolAt, blockBytes, kind } = overlay.place;
  const length = memberBytes(field, blockBytes);
  const unit = field === 'free_data' ? blockBytes : entryAlign(kind === 'private');
  const members: number[] = [];
  const seen = new Set<number>();
  let at = freeListOffset(head);
  // Of the word that leads on: what it leads to may lie anywhere.
  let wordAt = bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, field);
  while (at !== LIST_END) {
    const offset = Number(at);
    const bytes = offset % unit === 0 ? overlay.entry(offset, length) : undefined;
    const last = members.at(-1);
    if (!bytes) return { members, broken: { at: wordAt, detail: `${field} leads to ${at}`, last } };
    if (seen.has(offset)) return { members, broken: { at: wordAt, detail: `${field} comes back to ${at}`, last } };
    members.push(offset);
    seen.add(offset);
    wordAt = poolAt + offset;
    const link = bytes.readBigUInt64LE(0);
    // In a link all ones are the end, and so is what a head says when it is empty.
    at = link >= LIST_END ? LIST_END : link;
  }
  return { members, broken: undefined };
}

/** A walk during which nobody took or gave; undefined where there is no such moment. */
function steadyWalk(overlay: OverlayReader, field: FreeListField): (Walk & { head: bigint }) | undefined {
  for (let tries = 0; tries < walksMax; tries++) {
    const head = overlay.headerWord(field);
    const done = walk(overlay, field, head);
    // Generations make the word unique.
    if (overlay.headerWord(field) === head) return { ...done, head };
  }
  return undefined;
}

/** Adds every member of a list to the pool, and what is wrong with the list. */
export function checkFreeList(
  overlay: OverlayReader,
  field: FreeListField,
  pool: PoolOwnership,
  findings: FrontFindings,
): void {
  const done = steadyWalk(overlay, field);
  if (!done) return;
  const length = memberBytes(field, overlay.place.blockBytes);
  const evidence = `${field} ${done.head}`;
  for (const offset of done.members) {
    pool.add({ offset, length, owner: `${field} entry ${offset}`, field, evidence });
  }
  const { broken } = done;
  if (!broken) return;
  const subject = broken.last === undefined ? { field } : { field, entry: broken.last };
  findings.add('FREE_LIST', broken.at, broken.detail, subject, evidence);
}

const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);

/** Bytes skipped to align a page were never written. */
function isAlignment(overlay: OverlayReader, { from, to, endsAtPage }: Gap): boolean {
  const { blockBytes } = overlay.place;
  if (!endsAtPage || to - from >= blockBytes) return false;
  const bytes = overlay.entry(from, to - from);
  return bytes !== undefined && isZero(bytes);
}

/** Adds the bytes that were handed out and belong to nothing. REQUIRES: nobody is at work. */
export function checkGaps(overlay: OverlayReader, gaps: readonly Gap[], findings: FrontFindings): void {
  const { poolAt, kind } = overlay.place;
  const rule = kind === 'private' ? 'POOL_LOST' : 'POOL_SPENT';
  for (const gap of gaps) {
    const { from, to } = gap;
    if (to - from < overlayInode.size || isAlignment(overlay, gap)) continue;
    findings.add(rule, poolAt + from, `${to - from} bytes from ${from}`, { from, to });
  }
}
