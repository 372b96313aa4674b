/** Checks what an overlay holds: buckets, chains, lists, free lists, and whose each byte of the pool is. */
import { offsetOf } from './codec.ts';
import { DaxfsError } from './errors.ts';
import type { FrontFindings, FrontRule } from './front-rules.ts';
import { isValidName, typeOfMode } from './image.ts';
import { bucket, CONSTANTS, overlayDirent, overlayDirlist, overlayHeader, overlayInode } from './layout.ts';
import { type ClassifiedEntry, EntryClassifier } from './overlay-census.ts';
import { direntKey } from './overlay-key.ts';
import { CHAIN_MAX, freeListOffset, LIST_MAX, type OverlayReader, type StoredDirent } from './overlay-read.ts';
import { PoolOwnership } from './pool-ownership.ts';

/** What the base beneath says of an inode: its mode, 0 where there is none. */
export type BaseMode = (ino: number) => number;

const LIST_END = freeListOffset(-1n);
const LINK_BYTES_MAX = 4095;
const hex = (key: bigint) => `0x${key.toString(16)}`;

class OverlayCheck {
  readonly #overlay: OverlayReader;
  readonly #baseMode: BaseMode;
  readonly #findings: FrontFindings;
  readonly #pool = new PoolOwnership();
  readonly #modes = new Map<number, number>();
  /** Entries found on chains, live ones: offset and what to say. */
  readonly #names = new Map<number, StoredDirent>();
  readonly #listed = new Set<number>();
  readonly #slots: ClassifiedEntry[] = [];

  constructor(overlay: OverlayReader, baseMode: BaseMode, findings: FrontFindings) {
    this.#overlay = overlay;
    this.#baseMode = baseMode;
    this.#findings = findings;
  }

  run(): number {
    this.#table();
    for (const entry of new EntryClassifier(this.#overlay).all()) this.#entry(entry);
    this.#lists();
    this.#freeList('free_inode', overlayInode.size);
    this.#freeList('free_data', this.#overlay.place.blockBytes);
    this.#freeList('free_dirent', overlayDirent.size);
    const { poolAt, header } = this.#overlay.place;
    return this.#pool.check(this.#findings, poolAt, header.pool_alloc);
  }

  /** Adds what a walk throws, in place of throwing it. */
  #caught(rule: FrontRule, offset: number, walk: () => void): void {
    try {
      walk();
    } catch (error) {
      if (!(error instanceof DaxfsError)) throw error;
      this.#findings.add(rule, error.offset ?? offset, error.message);
    }
  }

  #bucketAt(index: number): number {
    return this.#overlay.place.bucketsAt + index * bucket.size;
  }

  /** Every key once, and where a search finds it. */
  #table(): void {
    const { table } = this.#overlay;
    const seen = new Map<bigint, number>();
    for (const { index, word, value, distance, isReachable } of table.words()) {
      const at = this.#bucketAt(index);
      const key = word >> 1n;
      if (!this.#findings.expect((word & 1n) === 1n, 'BUCKET_WORD', at, hex(word))) continue;
      if (table.offsetOf(value) === undefined) continue;
      this.#findings.expect(isReachable, 'BUCKET_UNREACHABLE', at, `key ${hex(key)}, ${distance} behind its home`);
      const other = seen.get(key);
      this.#findings.expect(other === undefined, 'BUCKET_TWICE', at, `key ${hex(key)} also in bucket ${other}`);
      seen.set(key, index);
    }
  }

  #entry(entry: ClassifiedEntry): void {
    const { kind, index, key, offset, ino } = entry;
    if (kind === 'damaged')
      this.#findings.add('BUCKET_ENTRY', this.#bucketAt(index), `key ${hex(key)}, entry ${offset}`);
    else if (kind === 'inode') this.#inode(entry);
    else if (kind === 'dirlist') this.#dirlist(entry);
    else if (kind === 'dirent') this.#chain(entry);
    else if (kind === 'slot') this.#slots.push(entry);
    else {
      this.#pool.add(offset, this.#overlay.place.blockBytes, `page ${entry.low} of inode ${ino}`);
      const known = this.#mode(ino) !== 0;
      this.#findings.expect(known, 'PAGE_ORPHAN', this.#bucketAt(index), `page ${entry.low} of inode ${ino}`);
    }
  }

  #mode(ino: number): number {
    const known = this.#modes.get(ino);
    if (known !== undefined) return known;
    let mode = 0;
    try {
      mode = this.#overlay.inode(ino)?.mode ?? this.#baseMode(ino);
    } catch {
      // Reported with its own bucket.
    }
    this.#modes.set(ino, mode);
    return mode;
  }

  #inode({ ino, offset }: ClassifiedEntry): void {
    const { poolAt, header, blockBytes } = this.#overlay.place;
    const at = poolAt + offset;
    const { mode, size } = this.#overlay.inodeAt(offset)!;
    this.#pool.add(offset, overlayInode.size, `inode ${ino}`);
    const used = ino >= 1 && BigInt(ino) < header.next_ino;
    this.#findings.expect(used, 'INODE_NUMBER_UNUSED', at, `inode ${ino}, next is ${header.next_ino}`);
    const type = typeOfMode(mode);
    const sizeMax = type === 'symlink' ? LINK_BYTES_MAX : (CONSTANTS.pageIndexMax.value + 1) * blockBytes;
    const ok = type !== 'other' && (size <= BigInt(sizeMax) || this.#baseMode(ino) !== 0);
    this.#findings.expect(ok, 'INODE_FIELDS', at, `inode ${ino}: mode 0o${mode.toString(8)}, ${size} bytes`);
  }

  #dirlist({ ino, offset }: ClassifiedEntry): void {
    const at = this.#overlay.place.poolAt + offset;
    this.#pool.add(offset, overlayDirlist.size, `list of directory ${ino}`);
    const walked = new Set<number>();
    this.#caught('LIST_CHAIN', at, () => {
      for (const entry of this.#overlay.follow(this.#overlay.dirlistAt(offset)!, 'dirNext', LIST_MAX)) {
        const where = this.#overlay.place.poolAt + entry.offset;
        if (!this.#findings.expect(!walked.has(entry.offset), 'LIST_CHAIN', where, `list of ${ino} comes back`)) return;
        this.#findings.expect(entry.parent === ino, 'LIST_PARENT', where, `list of ${ino}, name of ${entry.parent}`);
        if (!this.#findings.expect(!this.#listed.has(entry.offset), 'LIST_TWICE', where, `list of ${ino}`)) return;
        walked.add(entry.offset);
        this.#listed.add(entry.offset);
      }
    });
  }

  #chain({ key, offset, dirent }: ClassifiedEntry): void {
    const { poolAt, kind } = this.#overlay.place;
    const seen = new Set<string>();
    const walked = new Set<number>();
    this.#caught('NAME_CHAIN', poolAt + offset, () => {
      if (kind === 'private') this.#name(dirent!, seen);
      else {
        for (const entry of this.#overlay.follow(BigInt(offset), 'next', CHAIN_MAX)) {
          const isNew = !walked.has(entry.offset);
          if (!this.#findings.expect(isNew, 'NAME_CHAIN', poolAt + entry.offset, 'the chain comes back')) return;
          walked.add(entry.offset);
          const own = direntKey(BigInt(entry.parent), entry.name);
          this.#findings.expect(own === key, 'NAME_HASH', poolAt + entry.offset, `${hex(own)} under ${hex(key)}`);
          this.#name(entry, seen);
        }
      }
    });
  }

  #name(entry: StoredDirent, seen: Set<string>): void {
    const { offset, parent, ino, mode, name, isTombstone } = entry;
    const at = this.#overlay.place.poolAt + offset;
    const shown = `${JSON.stringify(name.toString('latin1'))} of directory ${parent}`;
    this.#pool.add(offset, overlayDirent.size, `name ${shown}`);
    if (name.length === 0) return;
    const id = `${parent}/${name.toString('latin1')}`;
    this.#findings.expect(!seen.has(id), 'NAME_TWICE', at, shown);
    seen.add(id);
    this.#findings.expect(isValidName(name), 'NAME_INVALID', at, shown);
    this.#findings.expect(typeOfMode(this.#mode(parent)) === 'directory', 'NAME_PARENT', at, shown);
    if (isTombstone) return;
    this.#names.set(offset, entry);
    const child = this.#mode(ino);
    const fits = child !== 0 && typeOfMode(child) === typeOfMode(mode);
    this.#findings.expect(fits, 'NAME_CHILD', at, `${shown}: inode ${ino}, mode 0o${mode.toString(8)}`);
  }

  /** Every live name is listed by its directory; every slot of a private front leads to what the table says. */
  #lists(): void {
    const { poolAt } = this.#overlay.place;
    for (const { offset, dirent, index } of this.#slots) {
      this.#listed.add(offset);
      const ok = this.#names.get(offset)?.dirNext === dirent!.dirNext;
      this.#findings.expect(ok, 'SLOT_STALE', this.#bucketAt(index), `entry ${offset}`);
    }
    for (const [offset, { name, parent }] of this.#names) {
      const shown = `${JSON.stringify(name.toString('latin1'))} of directory ${parent}`;
      this.#findings.expect(this.#listed.has(offset), 'NAME_UNLISTED', poolAt + offset, shown);
    }
  }

  #freeList(field: 'free_inode' | 'free_data' | 'free_dirent', length: number): void {
    const { header, bucketsAt, poolAt, poolBytes, blockBytes } = this.#overlay.place;
    const unit = field === 'free_data' ? blockBytes : 8;
    let at = freeListOffset(header[field]);
    // Of the word that leads on: what it leads to may lie anywhere.
    let wordAt = bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, field);
    for (let steps = 0; at !== LIST_END; steps++) {
      const offset = Number(at);
      const bytes =
        offset % unit === 0 && steps <= poolBytes / length ? this.#overlay.entry(offset, length) : undefined;
      if (!this.#findings.expect(bytes !== undefined, 'FREE_LIST', wordAt, `${field} leads to ${at}`)) return;
      this.#pool.add(offset, length, `${field} entry ${offset}`);
      wordAt = poolAt + offset;
      const link = bytes!.readBigUInt64LE(0);
      // In a link all ones are the end, and so is what a head says when it is empty.
      at = link >= LIST_END ? LIST_END : link;
    }
  }
}

/**
 * Adds what is wrong with the contents of an overlay.
 * @returns bytes of the pool that something owns
 * @throws what reading the source throws
 */
export function checkOverlay(overlay: OverlayReader, baseMode: BaseMode, findings: FrontFindings): number {
  return new OverlayCheck(overlay, baseMode, findings).run();
}
