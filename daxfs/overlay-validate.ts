/** Checks what an overlay holds: buckets, inodes, pages, and by its parts names, lists and whose each byte of the pool is. */
import type { BaseTree } from './base-tree.ts';
import { decodeWord, offsetOf } from './codec.ts';
import type { FrontFindings, FrontRule } from './front-rules.ts';
import { type FrontWork, isRunning } from './front-work.ts';
import { typeOfMode } from './image.ts';
import { binWord, bucket, CONSTANTS, overlayDirlist, overlayHeader, overlayInode } from './layout.ts';
import { isBinWord } from './overlay-bins.ts';
import { type ClassifiedEntry, EntryClassifier } from './overlay-census.ts';
import { decodePrivateValue, INODE_NUMBER_END, PRIVATE_VALUE_STATE } from './overlay-key.ts';
import { OverlayNames } from './overlay-names-validate.ts';
import { checkFreeList, checkGaps } from './overlay-pool-validate.ts';
import type { OverlayReader, StoredInode } from './overlay-read.ts';
import type { BucketWord } from './overlay-table.ts';
import { PoolOwnership, type PoolUse } from './pool-ownership.ts';

export interface OverlayCheckParts {
  overlay: OverlayReader;
  base: BaseTree;
  work: FrontWork;
  findings: FrontFindings;
}

/** Every entry is a multiple of this long. */
const ENTRY_UNIT = 16n;
const LINK_BYTES_MAX = 4095;
const PAGES_MAX = CONSTANTS.pageIndexMax.value + 1;
const DYING = 1;
const TRUNCATING = 2;
const hex = (key: bigint) => `0x${key.toString(16)}`;

/** Bits of an inode's flags that mean something; the rest is 0. */
function areFlagsSound(inode: StoredInode, isPrivate: boolean, isBase: boolean): boolean {
  const { flags, mode } = inode;
  const type = typeOfMode(mode);
  if (!isPrivate) return type === 'directory' || flags === 0;
  const isCut = (flags & TRUNCATING) !== 0;
  if (type === 'directory') return (flags & 0xfe) === 0 && ((flags & DYING) !== 0 || flags === 0);
  if ((flags & DYING) !== 0 && !isBase) return false;
  // A removed base file remembers how many pages there are to free.
  return (flags & 0xffc) === 0 && (isCut || (flags & DYING) !== 0 || flags >>> 12 === 0);
}

class OverlayCheck {
  readonly #parts: OverlayCheckParts;
  readonly #pool = new PoolOwnership();
  readonly #names: OverlayNames;
  readonly #inodes = new Map<number, StoredInode & { evidence: string; at: number }>();
  /** Pages of no inode that could be found. */
  readonly #stray: ClassifiedEntry[] = [];
  readonly #isPrivate: boolean;

  constructor(parts: OverlayCheckParts) {
    this.#parts = parts;
    this.#isPrivate = parts.overlay.place.kind === 'private';
    this.#names = new OverlayNames(parts, this.#pool);
  }

  run(): PoolUse {
    const { overlay, findings, work } = this.#parts;
    this.#table();
    this.#bins();
    for (const entry of new EntryClassifier(overlay).all()) this.#entry(entry);
    this.#names.lists();
    this.#numbers();
    this.#named();
    this.#names.tree();
    this.#strayPages();
    for (const field of ['free_inode', 'free_data', 'free_dirent'] as const)
      checkFreeList(overlay, field, this.#pool, findings);
    const { poolAt, header, blockBytes, bucketsAt } = overlay.place;
    const pointerAt = bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, 'pool_alloc');
    // One behind the pool is told with the header.
    const isInside = header.pool_alloc <= BigInt(overlay.place.poolBytes);
    const isBetween = header.pool_alloc % ENTRY_UNIT === 0n || !isInside;
    findings.expect(isBetween, 'POOL_POINTER', pointerAt, `${header.pool_alloc} is no multiple of ${ENTRY_UNIT}`);
    const use = this.#pool.check(findings, poolAt, header.pool_alloc, blockBytes);
    // Where something is damaged, what seems to belong to nothing may belong to that.
    if (!work.isQuiet || findings.hasDamage) return use;
    this.#leftovers();
    if (isInside) checkGaps(overlay, use.gaps, findings);
    return use;
  }

  #bucketAt(index: number): number {
    return this.#parts.overlay.place.bucketsAt + index * bucket.size;
  }

  /** Every key once, and where a search finds it. */
  #table(): void {
    const { overlay, findings } = this.#parts;
    const seen = new Map<bigint, { index: number; value: bigint; distance: number }>();
    for (const word of overlay.table.words()) {
      const { index, value, distance, isReachable } = word;
      const at = this.#bucketAt(index);
      const key = word.word >> 1n;
      const isUsed = (word.word & 1n) === 1n;
      if (!findings.expect(isUsed, 'BUCKET_WORD', at, hex(word.word), { index }, `${value}`)) continue;
      if (!this.#isLive(word, at)) continue;
      const behind = `key ${hex(key)}, ${distance} behind its home`;
      findings.expect(isReachable, 'BUCKET_UNREACHABLE', at, behind, { index }, `${value}`);
      const other = seen.get(key);
      if (other) {
        // The search stops at the nearer one.
        const far = other.distance > distance ? other.index : index;
        const detail = `key ${hex(key)} in buckets ${other.index} and ${index}`;
        findings.add('BUCKET_TWICE', this.#bucketAt(far), detail, { index: far }, `${value} ${other.value}`);
      }
      if (!other || distance < other.distance) seen.set(key, { index, value, distance });
    }
  }

  /** The last insertion that a bin's word names went into a bucket. */
  #bins(): void {
    const { overlay, findings } = this.#parts;
    for (const { index, word, beside } of overlay.table.binWords()) {
      const { bucket: named = 0, used } = decodeWord(binWord, word);
      const isSound = beside === 0n && (used === 0 || (named < overlay.place.bucketCount && !isBinWord(named)));
      const detail = `cell ${index}: ${hex(word)}, beside it ${hex(beside)}`;
      findings.expect(isSound, 'BIN_WORD', this.#bucketAt(index), detail, { index }, `${word}`);
    }
  }

  #isLive({ index, value }: BucketWord, at: number): boolean {
    const { overlay, findings, work } = this.#parts;
    if (!this.#isPrivate) return true;
    const { state } = decodePrivateValue(value);
    const { TENTATIVE, LIVE } = PRIVATE_VALUE_STATE;
    findings.expect(state <= LIVE, 'BUCKET_STATE', at, `bucket ${index}: state ${state}`, { index }, `${value}`);
    if (state === TENTATIVE && work.isQuiet) findings.add('BUCKET_TENTATIVE', at, `bucket ${index}`, { index });
    return overlay.table.offsetOf(value) !== undefined;
  }

  #entry(entry: ClassifiedEntry): void {
    const { kind, index, key, offset, value } = entry;
    const at = this.#bucketAt(index);
    if (kind === 'damaged') {
      const detail = `key ${hex(key)}, entry ${offset}`;
      this.#parts.findings.add('BUCKET_ENTRY', at, detail, { index }, `${value}`);
    } else if (kind === 'inode') this.#inode(entry);
    else if (kind === 'dirlist') this.#dirlist(entry);
    else if (kind === 'dirent') this.#names.chain(entry);
    else if (kind === 'slot') this.#names.slot(entry);
    else this.#page(entry);
  }

  #inode({ ino, offset, index, value }: ClassifiedEntry): void {
    const { overlay, findings, base } = this.#parts;
    const at = overlay.place.poolAt + offset;
    const inode = overlay.inodeAt(offset);
    // Another host has just given the inode another entry.
    if (!inode) return;
    const evidence = `${value}`;
    const subject = { ino, entry: offset, index };
    const { mode, size, flags, nlink, basePages = 0 } = inode;
    this.#inodes.set(ino, { ...inode, evidence, at });
    this.#pool.add({ offset, length: overlayInode.size, owner: `inode ${ino}`, evidence });
    const shown = `inode ${ino}: mode 0o${mode.toString(8)}, ${size} bytes`;
    findings.expect(this.#isPossible(ino, inode), 'INODE_FIELDS', at, shown, subject, evidence);
    const isSound = areFlagsSound(inode, this.#isPrivate, base.has(ino));
    findings.expect(isSound, 'INODE_FLAGS', at, `inode ${ino}: 0x${flags.toString(16)}`, subject, evidence);
    const links = typeOfMode(mode) === 'directory' ? 2 : 1;
    const isLinked = this.#isPrivate || base.has(ino) || nlink === links;
    findings.expect(isLinked, 'INODE_LINKS', at, `inode ${ino}: ${nlink} links`, subject, evidence);
    const shows = `inode ${ino}: ${basePages} pages of the base`;
    // A directory shows none, whatever its creator wrote there.
    const isWithin = typeOfMode(mode) === 'directory' || basePages <= base.pages(ino);
    findings.expect(isWithin, 'INODE_BASE', at, shows, subject, evidence);
  }

  #isPossible(ino: number, { mode, size }: StoredInode): boolean {
    const type = typeOfMode(mode);
    if (type === 'other') return false;
    if (type === 'directory') return !this.#isPrivate || size <= BigInt(PAGES_MAX);
    const sizeMax = type === 'symlink' ? LINK_BYTES_MAX : PAGES_MAX * this.#parts.overlay.place.blockBytes;
    return size <= BigInt(sizeMax) || this.#parts.base.has(ino);
  }

  #dirlist(entry: ClassifiedEntry): void {
    const { ino, offset, value } = entry;
    const owner = `list of directory ${ino}`;
    const isHead = this.#parts.overlay.dirlistAt(offset) !== undefined;
    if (isHead) this.#pool.add({ offset, length: overlayDirlist.size, owner, evidence: `${value}` });
    this.#names.list(entry);
  }

  #page(entry: ClassifiedEntry): void {
    const { ino, low, offset, value } = entry;
    const length = this.#parts.overlay.place.blockBytes;
    this.#pool.add({ offset, length, owner: `page ${low} of inode ${ino}`, evidence: `${value}` });
    const mode = this.#names.mode(ino);
    // An inode of no type is told as that.
    if (mode === 0 || typeOfMode(mode) === 'directory') this.#stray.push(entry);
  }

  /** Inode numbers were given out once each, and there are more. */
  #numbers(): void {
    const { overlay, findings, base } = this.#parts;
    const { header, bucketsAt } = overlay.place;
    const at = bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, 'next_ino');
    const isNumber = header.next_ino > BigInt(base.inodeCount) && header.next_ino < INODE_NUMBER_END - 1n;
    findings.expect(isNumber, 'INODE_NUMBER_NEXT', at, `${header.next_ino}`);
    for (const [ino, inode] of this.#inodes) {
      const isOut = ino >= 1 && BigInt(ino) < header.next_ino;
      const detail = `inode ${ino}, next is ${header.next_ino}`;
      findings.expect(isOut, 'INODE_NUMBER_UNUSED', inode.at, detail, { ino }, inode.evidence);
    }
  }

  /** Inodes by the names that lead to them. */
  #named(): void {
    const { findings, base, work } = this.#parts;
    const root = typeOfMode(this.#names.mode(base.rootIno)) === 'directory';
    findings.expect(root, 'ROOT_MISSING', this.#parts.overlay.place.bucketsAt, `inode ${base.rootIno}`);
    for (const [ino, { mode, flags, evidence, at }] of this.#inodes) {
      const isHeld = ino === base.rootIno || this.#names.isNamed(ino);
      if (typeOfMode(mode) !== 'directory' || flags === 0 || !isHeld) continue;
      const row = this.#isPrivate ? flags >>> 8 : flags >>> 1;
      const detail = `directory ${ino}, intent row ${row}`;
      findings.expect(isRunning(work, row), 'INODE_CLOSED', at, detail, { ino }, evidence);
    }
  }

  #strayPages(): void {
    const { findings } = this.#parts;
    for (const { ino, low, index, value } of this.#stray) {
      const isLost = !this.#isPrivate || this.#names.isNamed(ino) || this.#names.mode(ino) !== 0;
      const subject = { ino, index };
      const detail = `page ${low} of inode ${ino}`;
      if (isLost) findings.add('PAGE_ORPHAN', this.#bucketAt(index), detail, subject, `${value}`);
    }
  }

  /** What a crash may leave in a private front. */
  #leftovers(): void {
    const add = (rule: FrontRule, at: number, detail: string, subject: { ino?: number; index?: number }) =>
      this.#parts.findings.add(rule, at, detail, subject);
    if (!this.#isPrivate) return;
    const { base, overlay } = this.#parts;
    for (const { ino, low, index } of this.#stray)
      add('PAGE_REMOVED', this.#bucketAt(index), `page ${low} of inode ${ino}`, { ino, index });
    for (const [ino, { flags, mode, at }] of this.#inodes) {
      const isFile = typeOfMode(mode) === 'file';
      if (isFile && (flags & TRUNCATING) !== 0) add('INODE_TRUNCATING', at, `inode ${ino}`, { ino });
      const isHeld = ino === base.rootIno || base.has(ino) || this.#names.isNamed(ino);
      if (!isHeld) add('INODE_ORPHAN', at, `inode ${ino}`, { ino });
    }
    for (const { kind, ino, low, index } of new EntryClassifier(overlay).all()) {
      if (kind !== 'page') continue;
      const inode = this.#inodes.get(ino);
      const isBehind = inode && BigInt(low) * BigInt(overlay.place.blockBytes) >= inode.size;
      if (isBehind && (inode.flags & TRUNCATING) === 0)
        add('PAGE_BEYOND', this.#bucketAt(index), `page ${low} of inode ${ino}, ${inode.size} bytes`, { ino, index });
    }
    this.#names.staleSlots();
  }
}

/**
 * Adds what is wrong with the contents of an overlay.
 * @returns whose the bytes of the pool are
 * @throws what reading the source throws
 */
export function checkOverlay(parts: OverlayCheckParts): PoolUse {
  return new OverlayCheck(parts).run();
}
