/** Reads a DAXFS v8 base image: inodes, directories, links and where file data lies. Trusts no byte of it. */
import { constants } from 'node:fs';
import type { ByteSource } from './byte-source.ts';
import { type Decoded, decode, offsetOf } from './codec.ts';
import { daxfsError } from './errors.ts';
import { CONSTANTS, dirent, inode, superblock } from './layout.ts';

export type InodeType = 'file' | 'directory' | 'symlink' | 'other';

export interface ImageInode {
  ino: number;
  type: InodeType;
  /** st_mode with type bits. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes; of a link: its target; of a directory: entries * 271. */
  size: number;
  nlink: number;
  /** From the start of the base image. */
  dataOffset: number;
}

export interface ImageDirent {
  name: Buffer;
  ino: number;
  mode: number;
}

/** A name below the root with its inode. */
export interface WalkedName {
  path: Buffer;
  node: ImageInode;
}

/** Where bytes lie, from the start of the source. */
export interface Extent {
  offset: number;
  length: number;
}

export type Superblock = Decoded<typeof superblock>;

const STRIDE = CONSTANTS.direntStride.value;
const SIZE_UNIT = CONSTANTS.direntSizeUnit.value;
/** Entries read at once. */
const BATCH = 256;
/** The kernel takes no longer target (PATH_MAX with its NUL). */
const LINK_BYTES_MAX = 4095;
const DIRENT_NAME = offsetOf(dirent, 'name');
const SLASH = Buffer.from('/');

function bad(message: string, offset: number): never {
  throw daxfsError('DAXFS_BAD_IMAGE', `The image is damaged or not a DAXFS image: ${message} (at byte ${offset}).`, {
    offset,
  });
}

function toNumber(value: bigint, what: string, offset: number): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) bad(`${what} is too large`, offset);
  return Number(value);
}

/** Type of an inode by its st_mode. */
export function typeOfMode(mode: number): InodeType {
  const bits = mode & constants.S_IFMT;
  if (bits === constants.S_IFREG) return 'file';
  if (bits === constants.S_IFDIR) return 'directory';
  return bits === constants.S_IFLNK ? 'symlink' : 'other';
}

/** Geometry of the base image, checked against the source. */
interface Base {
  offset: number;
  end: number;
  table: number;
  inodeCount: number;
  root: number;
}

function checkHead(head: Superblock): void {
  const { superblockMagic, superblockVersion, privateFrontBit, blockBytes } = CONSTANTS;
  if (head.magic !== superblockMagic.value) bad('its magic number is wrong', offsetOf(superblock, 'magic'));
  // A private front may lie over a base.
  const version = head.overlay_offset === 0n ? head.version : head.version & ~privateFrontBit.value;
  if (version !== superblockVersion.value) {
    bad(`its version is ${head.version}, this reader knows 8`, offsetOf(superblock, 'version'));
  }
  const block = head.block_size;
  if (block < blockBytes.value || block > 65536 || (block & (block - 1)) !== 0) {
    bad(`its block size is ${block}`, offsetOf(superblock, 'block_size'));
  }
}

function readBase(head: Superblock, source: ByteSource): Base {
  const field = (name: 'base_offset' | 'base_size' | 'inode_offset') =>
    toNumber(head[name], name, offsetOf(superblock, name));
  const offset = field('base_offset');
  const size = field('base_size');
  if (offset === 0) bad('it has no base image', offsetOf(superblock, 'base_offset'));
  if (size > source.size - offset) bad('the base image ends behind the last byte', offsetOf(superblock, 'base_size'));
  const tableOffset = field('inode_offset');
  const { inode_count: inodeCount, root_inode: root } = head;
  if (tableOffset > size || inodeCount * inode.size > size - tableOffset) {
    bad('the inode table ends behind the base image', offsetOf(superblock, 'inode_count'));
  }
  if (root < 1 || root > inodeCount) bad(`the root inode is ${root}`, offsetOf(superblock, 'root_inode'));
  return { offset, end: offset + size, table: offset + tableOffset, inodeCount, root };
}

/**
 * A base image, read in place. Every method throws DaxfsError DAXFS_BAD_IMAGE with the byte where a rule broke; loops
 * are bounded by the size of the image. Names are bytes.
 */
export class Image {
  readonly superblock: Superblock;
  readonly #source: ByteSource;
  readonly #base: Base;

  constructor(source: ByteSource) {
    if (source.size < superblock.size) bad('it is shorter than a superblock', 0);
    this.#source = source;
    this.superblock = decode(superblock, source.read(0, superblock.size));
    checkHead(this.superblock);
    this.#base = readBase(this.superblock, source);
  }

  get inodeCount(): number {
    return this.#base.inodeCount;
  }

  /** The root directory. */
  root(): ImageInode {
    return this.inode(this.#base.root);
  }

  inode(ino: number): ImageInode {
    const { table, inodeCount } = this.#base;
    if (!Number.isInteger(ino) || ino < 1 || ino > inodeCount) bad(`there is no inode ${ino}`, table);
    const at = table + (ino - 1) * inode.size;
    const raw = decode(inode, this.#source.read(at, inode.size));
    const size = toNumber(raw.size, 'the size', at + offsetOf(inode, 'size'));
    const dataOffset = toNumber(raw.data_offset, 'the data offset', at + offsetOf(inode, 'data_offset'));
    const { mode, uid, gid, nlink } = raw;
    return { ino, type: typeOfMode(mode), mode, uid, gid, size, nlink, dataOffset };
  }

  /** Where the bytes of a regular file lie. @throws DAXFS_WRONG_TYPE for anything else, and where they are in a backing file */
  extent(node: ImageInode): Extent {
    if (node.type !== 'file') throw daxfsError('DAXFS_WRONG_TYPE', `Inode ${node.ino} is not a regular file.`);
    if (this.superblock.pcache_offset !== 0n) {
      throw daxfsError(
        'DAXFS_WRONG_TYPE',
        'The image keeps file data in a backing file; read it through the page cache.',
      );
    }
    return node.size === 0 ? { offset: this.#base.offset, length: 0 } : this.#extent(node, node.size);
  }

  /** A copy of a regular file's bytes. For large files use `extent`. */
  readFile(node: ImageInode): Buffer {
    const { offset, length } = this.extent(node);
    return this.#source.read(offset, length);
  }

  /** Target of a symbolic link, without NUL. */
  readLink(node: ImageInode): Buffer {
    if (node.type !== 'symlink') throw daxfsError('DAXFS_WRONG_TYPE', `Inode ${node.ino} is not a symbolic link.`);
    if (node.size > LINK_BYTES_MAX) bad(`link ${node.ino} has a target of ${node.size} bytes`, this.#base.table);
    const { offset } = this.#extent(node, node.size + 1);
    const bytes = this.#source.read(offset, node.size + 1);
    if (bytes.indexOf(0) !== node.size) bad(`link ${node.ino} does not end with its only NUL`, offset);
    return bytes.subarray(0, node.size);
  }

  /** The names of a directory in stored order. */
  *entries(node: ImageInode): Generator<ImageDirent> {
    if (node.type !== 'directory') throw daxfsError('DAXFS_WRONG_TYPE', `Inode ${node.ino} is not a directory.`);
    if (node.size === 0) return;
    if (node.size % SIZE_UNIT !== 0) bad(`directory ${node.ino} has an odd size`, this.#base.table);
    const { offset } = this.#extent(node, node.size);
    const count = node.size / SIZE_UNIT;
    for (let first = 0; first < count; first += BATCH) {
      yield* this.#batch(offset + first * STRIDE, Math.min(BATCH, count - first));
    }
  }

  /** The inode at a path (`/`-separated, no leading slash needed). Links are not followed. @throws DAXFS_NO_ENTRY */
  lookup(path: string | Buffer): ImageInode {
    let node = this.root();
    for (const part of splitPath(Buffer.from(path))) {
      const child = node.type === 'directory' ? this.child(node, part) : undefined;
      if (!child) throw daxfsError('DAXFS_NO_ENTRY', `There is no ${path.toString()} in the image.`);
      node = child;
    }
    return node;
  }

  /** The inode of one name of a directory. */
  child(node: ImageInode, name: Buffer): ImageInode | undefined {
    for (const entry of this.entries(node)) if (entry.name.equals(name)) return this.inode(entry.ino);
    return undefined;
  }

  /** Every name below the root, parents first. A directory that is reached twice is damage, so this ends. */
  *walk(): Generator<WalkedName> {
    const seen = new Set<number>();
    const open: Iterator<WalkedName>[] = [];
    let bytes = 0;
    let next: WalkedName | undefined = { path: Buffer.alloc(0), node: this.root() };
    while (next) {
      yield next;
      const { node } = next;
      if (node.type === 'directory') {
        if (seen.has(node.ino)) bad(`directory ${node.ino} is reached twice`, this.#base.table);
        seen.add(node.ino);
        bytes += node.size;
        // Directories that share their entries would multiply; sound ones fit the base image together.
        if (bytes > this.#base.end) bad('its directories are larger than the image', this.#base.table);
        open.push(this.#children(next));
      }
      next = nextOf(open);
    }
  }

  *#children({ path, node }: WalkedName): Generator<WalkedName> {
    for (const { name, ino } of this.entries(node)) {
      yield { path: path.length === 0 ? name : Buffer.concat([path, SLASH, name]), node: this.inode(ino) };
    }
  }

  #extent(node: ImageInode, length: number): Extent {
    const { offset, end } = this.#base;
    const at = offset + node.dataOffset;
    if (at > end || length > end - at)
      bad(`the data of inode ${node.ino} ends behind the base image`, this.#base.table);
    return { offset: at, length };
  }

  /**
   * Upstream reserves 271 bytes per entry but stores them every 272, so the last ones may reach behind the reservation
   * and, in the last object, their zero tail may be cut off.
   */
  #batch(at: number, count: number): ImageDirent[] {
    const bytes = Buffer.alloc(count * STRIDE);
    const there = Math.min(bytes.length, this.#source.size - at);
    if (there > 0) this.#source.read(at, there).copy(bytes);
    return Array.from({ length: count }, (_, i) => this.#dirent(bytes, i * STRIDE, at));
  }

  #dirent(bytes: Buffer, start: number, at: number): ImageDirent {
    const length = bytes.readUInt16LE(start + offsetOf(dirent, 'name_len'));
    if (length < 1 || length > CONSTANTS.nameBytesMax.value) bad(`a name has ${length} bytes`, at + start);
    const name = Buffer.from(bytes.subarray(start + DIRENT_NAME, start + DIRENT_NAME + length));
    if (!isValidName(name)) bad('a name is not allowed', at + start);
    const ino = bytes.readUInt32LE(start + offsetOf(dirent, 'ino'));
    if (ino < 1 || ino > this.#base.inodeCount) bad(`a name points to inode ${ino}`, at + start);
    return { name, ino, mode: bytes.readUInt32LE(start + offsetOf(dirent, 'mode')) };
  }
}

/** The next name of the innermost directory that has one left. */
function nextOf(open: Iterator<WalkedName>[]): WalkedName | undefined {
  for (let last = open.at(-1); last; last = open.at(-1)) {
    const { done, value } = last.next();
    if (!done) return value;
    open.pop();
  }
  return undefined;
}

/** No '/', no NUL, not "." or "..". */
export function isValidName(name: Buffer): boolean {
  if (name.includes(0x2f) || name.includes(0)) return false;
  return !(name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)));
}

function splitPath(path: Buffer): Buffer[] {
  return path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '')
    .map((part) => Buffer.from(part, 'latin1'));
}
