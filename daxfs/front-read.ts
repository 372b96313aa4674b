/**
 * A filesystem as its bytes say it is: overlay over base image, page cache over backing files. Read-only; trusts no byte.
 * The rules are those of the format, except that a base name which was removed and made again is listed once.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { ByteSource } from './byte-source.ts';
import { daxfsError } from './errors.ts';
import { Image, type ImageInode, type InodeType, type Superblock, typeOfMode } from './image.ts';
import { CONSTANTS } from './layout.ts';
import { OverlayReader, readSuperblock, type StoredInode } from './overlay-read.ts';
import { badOverlay } from './overlay-table.ts';
import { PageCacheReader } from './page-cache-read.ts';
import { pageTag } from './page-cache-word.ts';

export interface FrontInode {
  ino: number;
  type: InodeType;
  mode: number;
  uid: number;
  gid: number;
  /** Bytes; of a directory: without meaning. */
  size: number;
  /** Pages of the base file, from the first on, that show where the overlay has none. */
  basePages: number;
  base: ImageInode | undefined;
  stored: StoredInode | undefined;
}

export interface FrontName {
  name: Buffer;
  ino: number;
  from: 'base' | 'overlay';
}

/** Where one page of a file is read from. */
export type PagePlace = 'overlay' | 'page cache' | 'backing' | 'base' | 'hole';

/** Files behind the page cache, for what it does not hold. */
export interface BackingFiles {
  /** One block of a base file, zero behind its end. @param path of the file in the tree */
  read(node: FrontInode, page: number, path: string): Buffer;
}

const LINK_BYTES_MAX = 4095;
const PAGES_MAX = CONSTANTS.pageIndexMax.value + 1;

export class FrontReader {
  readonly superblock: Superblock;
  readonly blockBytes: number;
  readonly image: Image | undefined;
  readonly overlay: OverlayReader | undefined;
  readonly pageCache: PageCacheReader | undefined;
  readonly #source: ByteSource;
  readonly #backing: BackingFiles | undefined;

  /** @throws DaxfsError DAXFS_BAD_IMAGE */
  constructor(source: ByteSource, backing?: BackingFiles) {
    this.#source = source;
    this.#backing = backing;
    this.superblock = readSuperblock(source);
    const { base_offset, overlay_offset, pcache_offset, block_size: block } = this.superblock;
    if (block < 4096 || block > 65536 || (block & (block - 1)) !== 0) badOverlay(`its block size is ${block}`, 8);
    this.blockBytes = block;
    this.image = base_offset === 0n ? undefined : new Image(source);
    this.overlay = overlay_offset === 0n ? undefined : new OverlayReader(source, this.superblock);
    this.pageCache = pcache_offset === 0n ? undefined : new PageCacheReader(source, this.superblock);
    if (!this.image && !this.overlay) badOverlay('there is neither a base image nor an overlay', 24);
  }

  get rootIno(): number {
    return this.superblock.root_inode;
  }

  /** Undefined: no such inode. */
  inode(ino: number): FrontInode | undefined {
    const stored = this.overlay?.inode(ino);
    const base = this.#base(ino);
    const source = stored ?? base;
    if (!source) return undefined;
    const type = typeOfMode(source.mode);
    if (stored?.isDying && type !== 'directory') return undefined;
    const { mode, uid, gid } = source;
    const basePages = stored?.basePages ?? Math.ceil((base?.size ?? 0) / this.blockBytes);
    const size = this.#size(ino, source.size, type, base);
    return { ino, type, mode, uid, gid, size, basePages, base, stored };
  }

  /** What a name of a directory leads to. */
  child(directory: FrontInode, name: Buffer): number | undefined {
    const stored = this.overlay?.name(directory.ino, name);
    if (stored) return stored.isTombstone ? undefined : stored.ino;
    return directory.base?.type === 'directory' ? this.image!.child(directory.base, name)?.ino : undefined;
  }

  /** The inode at a path; links are not followed. @throws DaxfsError DAXFS_NO_ENTRY */
  lookup(path: string): FrontInode {
    let node = this.inode(this.rootIno);
    for (const part of path.split('/').filter((text) => text !== '')) {
      const ino = node?.type === 'directory' ? this.child(node, Buffer.from(part)) : undefined;
      node = ino === undefined ? undefined : this.inode(ino);
    }
    if (!node) throw daxfsError('DAXFS_NO_ENTRY', `There is no ${path} in it; list what there is with "tree".`);
    return node;
  }

  /** The live names of a directory: those of the base that still show, then the overlay's. */
  *names(directory: FrontInode): Generator<FrontName> {
    const shown = new Set<string>();
    const { base, ino } = directory;
    if (base?.type === 'directory') {
      for (const entry of this.image!.entries(base)) {
        const stored = this.overlay?.name(ino, entry.name);
        if (stored?.isTombstone) continue;
        shown.add(entry.name.toString('latin1'));
        yield { name: entry.name, ino: stored?.ino ?? entry.ino, from: stored ? 'overlay' : 'base' };
      }
    }
    for (const entry of this.overlay?.list(ino) ?? []) {
      if (entry.isTombstone || shown.has(entry.name.toString('latin1'))) continue;
      shown.add(entry.name.toString('latin1'));
      yield { name: entry.name, ino: entry.ino, from: 'overlay' };
    }
  }

  /** One block of a file or link. @param path of the file, for a backing directory and for messages */
  page(node: FrontInode, page: number, path: string): { place: PagePlace; bytes: Buffer } {
    const { ino, base, basePages } = node;
    const stored = this.overlay?.page(ino, page);
    if (stored) return { place: 'overlay', bytes: stored };
    if (!base || page >= basePages) return { place: 'hole', bytes: Buffer.alloc(this.blockBytes) };
    if (node.type !== 'file' || !this.pageCache) return { place: 'base', bytes: this.#baseBlock(base, page) };
    const cached = this.pageCache.page(this.tag(base, page));
    if (cached) return { place: 'page cache', bytes: cached };
    if (this.#backing) return { place: 'backing', bytes: this.#backing.read(node, page, path) };
    throw daxfsError(
      'DAXFS_WRONG_TYPE',
      `Bytes of ${path} are in a backing file and not in the page cache; name it with --backing FILE, or the exported tree with --export DIR.`,
    );
  }

  /** Tag of a page of a base file in split or export mode. */
  tag(base: ImageInode, page: number): bigint {
    return pageTag(base.ino, Math.floor(base.dataOffset / this.blockBytes) + page);
  }

  /** The bytes of a file, page by page; holes as zeros. */
  *content(node: FrontInode, path: string): Generator<Buffer> {
    if (node.type !== 'file') throw daxfsError('DAXFS_WRONG_TYPE', `${path} is not a regular file.`);
    for (let page = 0; page * this.blockBytes < node.size; page++) {
      yield this.page(node, page, path).bytes.subarray(0, node.size - page * this.blockBytes);
    }
  }

  /** Target of a symbolic link. */
  link(node: FrontInode, path: string): Buffer {
    if (node.type !== 'symlink') throw daxfsError('DAXFS_WRONG_TYPE', `${path} is not a symbolic link.`);
    return this.page(node, 0, path).bytes.subarray(0, node.size);
  }

  #base(ino: number): ImageInode | undefined {
    if (!this.image || ino < 1 || ino > this.image.inodeCount) return undefined;
    const base = this.image.inode(ino);
    return base.type === 'other' ? undefined : base;
  }

  /** Sizes that no writer could have made would make reading endless. */
  #size(ino: number, size: bigint | number, type: InodeType, base: ImageInode | undefined): number {
    if (type === 'directory') return 0;
    const max = type === 'symlink' ? LINK_BYTES_MAX : Math.max(PAGES_MAX * this.blockBytes, base?.size ?? 0);
    if (size > max) badOverlay(`inode ${ino} has ${size} bytes, ${max} are possible`, 0);
    return Number(size);
  }

  #baseBlock({ ino, dataOffset, size }: ImageInode, page: number): Buffer {
    const start = page * this.blockBytes;
    const at = Number(this.superblock.base_offset) + dataOffset + start;
    const there = Math.min(this.blockBytes, size - start);
    if (at + there > this.#source.size) badOverlay(`the data of inode ${ino} ends behind the last byte`, at);
    const block = Buffer.alloc(this.blockBytes);
    this.#source.read(at, there).copy(block);
    return block;
  }
}

function readBlock(path: string, from: number, length: number, blockBytes: number): Buffer {
  const block = Buffer.alloc(blockBytes);
  const fd = openSync(path, 'r');
  try {
    for (let done = 0; done < length; ) {
      const got = readSync(fd, block, done, length - done, from + done);
      if (got === 0) break;
      done += got;
    }
  } finally {
    closeSync(fd);
  }
  return block;
}

/** The backing file of split mode. */
export function backingFile(file: string, blockBytes: number): BackingFiles {
  const read = ({ base }: FrontInode, page: number) => {
    const start = page * blockBytes;
    return readBlock(file, base!.dataOffset + start, Math.min(blockBytes, base!.size - start), blockBytes);
  };
  return { read };
}

/** The exported tree of export mode. */
export function exportedTree(directory: string, blockBytes: number): BackingFiles {
  const read = ({ base }: FrontInode, page: number, path: string) => {
    const start = page * blockBytes;
    return readBlock(join(directory, path), start, Math.min(blockBytes, base!.size - start), blockBytes);
  };
  return { read };
}
