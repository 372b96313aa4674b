/** What the used buckets of an overlay lead to. One place decides it, for counting, listing and checking. */
import { typeOfMode } from './image.ts';
import { CONSTANTS } from './layout.ts';
import { direntKey, INODE_NUMBER_END } from './overlay-key.ts';
import { CHAIN_MAX, LIST_MAX, type OverlayReader, type StoredDirent } from './overlay-read.ts';
import type { BucketEntry } from './overlay-table.ts';

const INODE_SUFFIX = CONSTANTS.inodeKeySuffix.value;
const DIRLIST_SUFFIX = CONSTANTS.dirlistKeySuffix.value;

/** No inode is given this number or a larger one. */
const INODE_NUMBER_MAX = Number(INODE_NUMBER_END) - 1;

export type EntryKind = 'inode' | 'dirlist' | 'dirent' | 'page' | 'slot' | 'damaged';

export interface ClassifiedEntry extends BucketEntry {
  kind: EntryKind;
  /** Inode part of the key, and the part below; a dirent's key is a hash and has neither. */
  ino: number;
  low: number;
  /** Of a dirent, and of a slot that leads to a name of its directory. */
  dirent: StoredDirent | undefined;
}

/**
 * Tells entries apart by key and entry together. A key whose low 20 bits are 0xFFFFF names an inode and the entry says
 * type 1; 0xFFFFE names a directory list and the entry says type 4; a directory entry says type 3 and its parent and name
 * hash to the key. A data page has no type: it starts on a block, its inode number has been given out, and it is not a
 * directory entry. Bytes of a file can imitate a directory entry, hash included: then the directory's list decides.
 */
export class EntryClassifier {
  readonly #overlay: OverlayReader;
  #listed: Set<number> | undefined;
  readonly #modes = new Map<number, number>();

  constructor(overlay: OverlayReader) {
    this.#overlay = overlay;
  }

  classify(entry: BucketEntry): ClassifiedEntry {
    const ino = Number(entry.key >> 20n);
    const low = Number(entry.key & 0xfffffn);
    const dirent = this.#overlay.direntAt(entry.offset);
    const kind = this.#kind(entry, ino, low, dirent);
    const isNamed = kind === 'dirent' || (kind === 'slot' && dirent?.parent === ino);
    return { ...entry, kind, ino, low, dirent: isNamed ? dirent : undefined };
  }

  /** Every used bucket, classified. */
  *all(): Generator<ClassifiedEntry> {
    for (const entry of this.#overlay.buckets()) yield this.classify(entry);
  }

  #kind({ key, offset }: BucketEntry, ino: number, low: number, dirent: StoredDirent | undefined): EntryKind {
    const isPrivate = this.#overlay.place.kind === 'private';
    const isNumber = ino >= 1 && ino < INODE_NUMBER_MAX;
    if (low === INODE_SUFFIX && isNumber && this.#overlay.inodeAt(offset)) return 'inode';
    if (low === DIRLIST_SUFFIX && !isPrivate) {
      if (this.#overlay.dirlistAt(offset) !== undefined || this.#isDirectory(ino)) return 'dirlist';
    }
    const isPage = low < DIRLIST_SUFFIX && this.#mayBePage(ino, offset);
    const isName = dirent !== undefined && this.#hashesTo(dirent, key);
    if (isName && !(isPage && (isPrivate ? this.#isKnown(ino) : !this.#isListed(offset)))) return 'dirent';
    if (isPrivate && low < DIRLIST_SUFFIX) {
      if (this.#isDirectory(ino)) return 'slot';
      // What is left of a removed directory.
      if (dirent?.parent === ino && !this.#isKnown(ino)) return 'slot';
    }
    return isPage ? 'page' : 'damaged';
  }

  #hashesTo(dirent: StoredDirent, key: bigint): boolean {
    const isPrivate = this.#overlay.place.kind === 'private';
    // What is left of a removed name in the middle of a private front's chain.
    if (dirent.name.length === 0) return true;
    if (direntKey(BigInt(dirent.parent), dirent.name) === key) return true;
    // In a private front a name whose key was taken lies under the next one.
    return isPrivate && dirent.parent !== Number(key >> 20n) && this.#isSalted(dirent);
  }

  #isSalted({ parent, name, offset }: StoredDirent): boolean {
    try {
      return this.#overlay.name(parent, name)?.offset === offset;
    } catch {
      return false;
    }
  }

  #mayBePage(ino: number, offset: number): boolean {
    const { blockBytes, poolBytes, header } = this.#overlay.place;
    return offset % blockBytes === 0 && offset <= poolBytes - blockBytes && ino >= 1 && BigInt(ino) < header.next_ino;
  }

  #isDirectory(ino: number): boolean {
    return typeOfMode(this.#mode(ino)) === 'directory';
  }

  #isKnown(ino: number): boolean {
    return this.#mode(ino) !== 0;
  }

  /** 0: the overlay has no such inode. */
  #mode(ino: number): number {
    const known = this.#modes.get(ino);
    if (known !== undefined) return known;
    let mode = 0;
    try {
      mode = this.#overlay.inode(ino)?.mode ?? 0;
    } catch {
      // Damage of another entry, reported where that one is looked at.
    }
    this.#modes.set(ino, mode);
    return mode;
  }

  /** True when some directory lists the entry. */
  #isListed(offset: number): boolean {
    this.#listed ??= this.#listAll();
    return this.#listed.has(offset);
  }

  #listAll(): Set<number> {
    const listed = new Set<number>();
    const overlay = this.#overlay;
    for (const { key, offset } of overlay.buckets()) {
      if (Number(key & 0xfffffn) !== DIRLIST_SUFFIX) continue;
      const first = overlay.dirlistAt(offset);
      if (first === undefined) continue;
      try {
        for (const entry of overlay.follow(first, 'dirNext', LIST_MAX)) listed.add(entry.offset);
      } catch {
        // A damaged list ends early.
      }
    }
    return listed;
  }
}

/** Numbers of `daxfs-inspect overlay`. */
export interface OverlayCensus {
  bucketsUsed: number;
  bucketsFree: number;
  inodes: number;
  dataPages: number;
  /** Live names and tombstones, those further down the chains included. */
  dirents: number;
  tombstones: number;
  directoryLists: number;
  /** Private front: places in directories' listings. */
  directorySlots: number;
  /** Buckets that lead to nothing their key could mean, and chains that break off. */
  damaged: number;
}

function countChain(overlay: OverlayReader, head: StoredDirent, census: OverlayCensus): void {
  try {
    for (const { isTombstone } of overlay.follow(BigInt(head.offset), 'next', CHAIN_MAX)) {
      if (isTombstone) census.tombstones++;
      else census.dirents++;
    }
  } catch {
    census.damaged++;
  }
}

/** Counts everything in an overlay; the whole table is read. */
export function takeCensus(overlay: OverlayReader): OverlayCensus {
  const census: OverlayCensus = {
    bucketsUsed: 0,
    bucketsFree: 0,
    inodes: 0,
    dataPages: 0,
    dirents: 0,
    tombstones: 0,
    directoryLists: 0,
    directorySlots: 0,
    damaged: 0,
  };
  for (const { kind, dirent } of new EntryClassifier(overlay).all()) {
    census.bucketsUsed++;
    if (kind === 'inode') census.inodes++;
    else if (kind === 'page') census.dataPages++;
    else if (kind === 'dirlist') census.directoryLists++;
    else if (kind === 'slot') census.directorySlots++;
    else if (kind === 'damaged') census.damaged++;
    else countChain(overlay, dirent!, census);
  }
  census.bucketsFree = overlay.table.bucketsMax - census.bucketsUsed;
  return census;
}
