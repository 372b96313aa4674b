/**
 * Reads an overlay by its bytes alone: table, inodes, names, pages. Read-only and bounded: every offset is checked, every
 * walk has an end, so hostile or changing bytes give errors or wrong answers, never a wild read or an endless loop.
 */
import type { ByteSource } from './byte-source.ts';
import { decode, type FieldName, offsetOf } from './codec.ts';
import { daxfsError } from './errors.ts';
import type { Superblock } from './image.ts';
import { CONSTANTS, overlayDirent, overlayDirlist, overlayHeader, overlayInode, superblock } from './layout.ts';
import { direntKey, dirlistKey, INODE_NUMBER_END, inodeKey, pageKey } from './overlay-key.ts';
import { type BucketEntry, badOverlay, type OverlayPlace, OverlayTable, placeOverlay } from './overlay-table.ts';

export const ENTRY_TYPE = { inode: 1, dirent: 3, dirlist: 4 } as const;
/** `next`, `dir_next` and `first` with this value lead nowhere. */
export const NOWHERE = 0xffff_ffff_ffff_ffffn;
export const CHAIN_MAX = 1024;
export const LIST_MAX = 2 ** 20;
/** Names of one key in a private front: 2 are a chance of 2^-63. */
const SALTS_MAX = 64;
const TOMBSTONE = 1;
const COLLIDED = 2;
const DYING = 1;

export interface StoredInode {
  mode: number;
  uid: number;
  gid: number;
  size: bigint;
  /** Kernel-mountable fronts only; 0 in a private one. */
  nlink: number;
  /** Private: pages of the base file that still show through. */
  basePages: number | undefined;
  /** Private: removed. */
  isDying: boolean;
  /** As they are stored. Private: 1 dying, 2 being cut off, of a directory from bit 8 on the intent row that closes it. */
  flags: number;
}

export interface StoredDirent {
  /** In the pool. */
  offset: number;
  isTombstone: boolean;
  /** Private: a name with an equal key may follow under the next salt. */
  isCollided: boolean;
  /** As they are stored. */
  flags: number;
  parent: number;
  ino: number;
  mode: number;
  name: Buffer;
  /** A zero byte follows the name. */
  isTerminated: boolean;
  next: bigint;
  dirNext: bigint;
}

/** Offsets of free-list words and links: 48 bits, all ones = empty. */
export const freeListOffset = (word: bigint): bigint => word & 0xffff_ffff_ffffn;

/** One overlay. Methods throw DaxfsError DAXFS_BAD_IMAGE with the byte where a rule broke. */
export class OverlayReader {
  readonly place: OverlayPlace;
  readonly table: OverlayTable;
  readonly #source: ByteSource;
  /** Steps along chains and lists that are left. */
  #steps = Number.POSITIVE_INFINITY;

  constructor(source: ByteSource, head: Superblock) {
    this.#source = source;
    this.place = placeOverlay(source, head);
    this.table = new OverlayTable(source, this.place);
  }

  /**
   * For one pass over everything: reads the whole table into memory, and from now on all walks together may take as many
   * steps as sound bytes could need (lists that share their entries would multiply).
   * @param names of the base that are looked up, too
   */
  prepareForAll(names = 0): void {
    this.table.load();
    this.#steps = 8 * (Math.ceil(this.place.poolBytes / overlayDirent.size) + names + CHAIN_MAX);
  }

  /** Bytes of a pool entry; undefined where it is not whole, or not aligned as every entry is. */
  entry(offset: number, length: number): Buffer | undefined {
    const { poolAt, poolBytes } = this.place;
    if (offset % 8 !== 0 || offset > poolBytes - length) return undefined;
    return this.#source.read(poolAt + offset, length);
  }

  /** A word of the header as it is now. */
  headerWord(field: FieldName<typeof overlayHeader>): bigint {
    const { bucketsAt, header } = this.place;
    const at = bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, field);
    return this.#source.read(at, 8).readBigUInt64LE(0);
  }

  /** Every used bucket, in order. */
  buckets(): Generator<BucketEntry> {
    return this.table.buckets();
  }

  /** Pool offset behind a key. */
  find(key: bigint): number | undefined {
    return this.table.find(key);
  }

  inode(ino: number): StoredInode | undefined {
    const offset = this.find(inodeKey(BigInt(ino)));
    if (offset === undefined) return undefined;
    return this.inodeAt(offset) ?? badOverlay(`the entry of inode ${ino} is none`, this.place.poolAt + offset);
  }

  /** The inode entry at a pool offset; undefined when it is none. */
  inodeAt(offset: number): StoredInode | undefined {
    const bytes = this.entry(offset, overlayInode.size);
    if (!bytes) return undefined;
    const { type, mode, uid, gid, size, nlink, flags } = decode(overlayInode, bytes);
    const isPrivate = this.place.kind === 'private';
    if ((isPrivate ? type & 0xff : type) !== ENTRY_TYPE.inode) return undefined;
    return {
      mode,
      uid,
      gid,
      size,
      nlink: isPrivate ? 0 : nlink,
      basePages: isPrivate ? nlink : undefined,
      isDying: isPrivate && (flags & DYING) !== 0,
      flags,
    };
  }

  /** The directory entry at a pool offset; undefined when it is none. Its hash is not looked at. */
  direntAt(offset: number): StoredDirent | undefined {
    const bytes = this.entry(offset, overlayDirent.size);
    if (!bytes) return undefined;
    const raw = decode(overlayDirent, bytes);
    const isTombstone = (raw.flags & TOMBSTONE) !== 0;
    const isNameless = this.place.kind === 'private' && isTombstone && raw.name_len === 0;
    if (raw.type !== ENTRY_TYPE.dirent || raw.name_len > CONSTANTS.nameBytesMax.value) return undefined;
    if (raw.name_len === 0 && !isNameless) return undefined;
    if (raw.parent_ino >= INODE_NUMBER_END || raw.child_ino >= INODE_NUMBER_END) return undefined;
    return {
      offset,
      isTombstone,
      isCollided: (raw.flags & COLLIDED) !== 0 && this.place.kind === 'private',
      flags: raw.flags,
      parent: Number(raw.parent_ino),
      ino: Number(raw.child_ino),
      mode: raw.child_mode,
      name: raw.name.subarray(0, raw.name_len),
      isTerminated: raw.name[raw.name_len] === 0,
      next: raw.next,
      dirNext: raw.dir_next,
    };
  }

  /** First entry of a directory's list; undefined when the offset holds no list head. Kernel-mountable fronts only. */
  dirlistAt(offset: number): bigint | undefined {
    const bytes = this.entry(offset, overlayDirlist.size);
    if (!bytes) return undefined;
    const { type, first } = decode(overlayDirlist, bytes);
    return type === ENTRY_TYPE.dirlist ? first : undefined;
  }

  /** What the overlay says of a name; undefined: nothing, the base decides. */
  name(dir: number, name: Buffer): StoredDirent | undefined {
    return this.place.kind === 'kernel' ? this.#chained(dir, name) : this.#salted(dir, name);
  }

  /** Every entry that a directory lists, tombstones included. */
  *list(dir: number): Generator<StoredDirent> {
    if (this.place.kind === 'kernel') yield* this.#dirlist(dir);
    else yield* this.#slots(dir);
  }

  /** Bytes of a data page; undefined: the overlay has none. @param page 0 .. pageIndexMax */
  page(ino: number, page: number): Buffer | undefined {
    if (page > CONSTANTS.pageIndexMax.value) return undefined;
    const offset = this.find(pageKey(BigInt(ino), BigInt(page)));
    if (offset === undefined) return undefined;
    const { blockBytes, poolAt } = this.place;
    const bytes = offset % blockBytes === 0 ? this.entry(offset, blockBytes) : undefined;
    return bytes ?? badOverlay(`page ${page} of inode ${ino} lies outside the pool`, poolAt + offset);
  }

  /** Follows a chain or a list from an entry on. @param link which of its offsets leads on */
  *follow(first: bigint, link: 'next' | 'dirNext', max: number): Generator<StoredDirent> {
    let at = first;
    for (let steps = 0; at !== NOWHERE; steps++) {
      const entry = at <= BigInt(this.place.poolBytes) ? this.direntAt(Number(at)) : undefined;
      if (!entry) badOverlay(`a list leads to ${at}, where no name is`, this.place.poolAt);
      if (steps >= max || this.#steps-- <= 0)
        badOverlay('a list of names does not end', this.place.poolAt + Number(at));
      yield entry;
      at = entry[link];
    }
  }

  #chained(dir: number, name: Buffer): StoredDirent | undefined {
    const offset = this.find(direntKey(BigInt(dir), name));
    if (offset === undefined) return undefined;
    for (const entry of this.follow(BigInt(offset), 'next', CHAIN_MAX)) {
      if (entry.parent === dir && entry.name.equals(name)) return entry;
    }
    return undefined;
  }

  #salted(dir: number, name: Buffer): StoredDirent | undefined {
    const salted = [name];
    for (let salt = 0; salt < SALTS_MAX && this.#steps-- > 0; salt++) {
      const offset = this.find(direntKey(BigInt(dir), Buffer.concat(salted)));
      if (offset === undefined) return undefined;
      const entry = this.direntAt(offset) ?? badOverlay('a name is none', this.place.poolAt + offset);
      if (entry.parent === dir && entry.name.equals(name)) return entry;
      if (!entry.isCollided) return undefined;
      salted.push(Buffer.alloc(1));
    }
    return undefined;
  }

  *#dirlist(dir: number): Generator<StoredDirent> {
    const offset = this.find(dirlistKey(BigInt(dir)));
    if (offset === undefined) return;
    const first = this.dirlistAt(offset);
    if (first === undefined) badOverlay(`the list head of directory ${dir} is none`, this.place.poolAt + offset);
    for (const entry of this.follow(first, 'dirNext', LIST_MAX)) if (entry.parent === dir) yield entry;
  }

  /** Slot i of a directory is the key of its "page i"; it counts only if the table agrees. */
  *#slots(dir: number): Generator<StoredDirent> {
    const stored = this.inode(dir);
    const slots = stored ? Math.min(Number(stored.size), CONSTANTS.pageIndexMax.value + 1) : 0;
    for (let slot = 0; slot < slots && this.#steps-- > 0; slot++) {
      const offset = this.find(pageKey(BigInt(dir), BigInt(slot)));
      const listed = offset === undefined ? undefined : this.direntAt(offset);
      if (!listed || listed.parent !== dir) continue;
      const entry = this.name(dir, listed.name);
      if (entry && !entry.isTombstone && entry.dirNext === BigInt(slot)) yield entry;
    }
  }
}

/** The superblock of a source, magic checked; nothing else. @throws DaxfsError DAXFS_BAD_IMAGE */
export function readSuperblock(source: ByteSource): Superblock {
  const isLong = source.size >= superblock.size;
  const head = isLong ? decode(superblock, source.read(0, superblock.size)) : undefined;
  if (head?.magic === CONSTANTS.superblockMagic.value) return head;
  throw daxfsError('DAXFS_BAD_IMAGE', 'There is no DAXFS superblock; give the start of an image or of a region.', {
    offset: 0,
  });
}
