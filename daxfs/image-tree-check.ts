/** The rules about inodes, directories and data of a base image. Work and memory are bounded by the image's own size. */
import { constants } from 'node:fs';
import type { ByteSource } from './byte-source.ts';
import { offsetOf } from './codec.ts';
import { type InodeType, typeOfMode } from './image.ts';
import type { Findings } from './image-rules.ts';
import { CONSTANTS, dirent, inode } from './layout.ts';

/** Where the base image lies, already checked: offsets from the start of the source. */
export interface BaseGeometry {
  offset: number;
  end: number;
  table: number;
  inodeCount: number;
  root: number;
  block: number;
  hasPageCache: boolean;
}

interface InodeCheck {
  ino: number;
  /** Of the inode in the source. */
  at: number;
  type: InodeType;
  size: number;
  /** Of its data, from the start of the source. */
  data: number;
}

const STRIDE = CONSTANTS.direntStride.value;
const SIZE_UNIT = CONSTANTS.direntSizeUnit.value;
const LINK_BYTES_MAX = 4095;
const BATCH = 1024;

const INODE = {
  ino: offsetOf(inode, 'ino'),
  mode: offsetOf(inode, 'mode'),
  size: offsetOf(inode, 'size'),
  dataOffset: offsetOf(inode, 'data_offset'),
  nlink: offsetOf(inode, 'nlink'),
  reserved: offsetOf(inode, 'reserved'),
};
const DIRENT = {
  ino: offsetOf(dirent, 'ino'),
  mode: offsetOf(dirent, 'mode'),
  nameLength: offsetOf(dirent, 'name_len'),
  reserved: offsetOf(dirent, 'reserved'),
  name: offsetOf(dirent, 'name'),
};

const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);

class TreeCheck {
  readonly #source: ByteSource;
  readonly #base: BaseGeometry;
  readonly #findings: Findings;
  /** st_mode by inode index; 0 where the inode could not be used. */
  readonly #modes: Uint32Array;
  /** Names that lead to each inode. */
  readonly #names: Uint32Array;
  readonly #directories: InodeCheck[] = [];
  readonly #nlinks: Uint32Array;
  /** [start, end) of the data of each inode that has some, and its number. */
  readonly #extents: { start: number; end: number; ino: number }[] = [];
  /** Directory that first named each directory. */
  readonly #parents: Uint32Array;

  constructor(source: ByteSource, base: BaseGeometry, findings: Findings) {
    this.#source = source;
    this.#base = base;
    this.#findings = findings;
    this.#modes = new Uint32Array(base.inodeCount);
    this.#names = new Uint32Array(base.inodeCount);
    this.#nlinks = new Uint32Array(base.inodeCount);
    this.#parents = new Uint32Array(base.inodeCount);
  }

  run(): void {
    const { inodeCount, root, table } = this.#base;
    for (let first = 0; first < inodeCount; first += BATCH) {
      const count = Math.min(BATCH, inodeCount - first);
      const bytes = this.#source.read(table + first * inode.size, count * inode.size);
      for (let i = 0; i < count; i++) this.#inode(first + i + 1, bytes.subarray(i * inode.size, (i + 1) * inode.size));
    }
    this.#extents.push({ start: table, end: table + inodeCount * inode.size, ino: 0 });
    const isDirectory = typeOfMode(this.#modes[root - 1]!) === 'directory';
    this.#findings.expect(isDirectory, 'ROOT_INODE', this.#at(root), 'the root is not a directory');
    this.#allDirectories();
    this.#reach();
    this.#overlaps();
  }

  #at(ino: number): number {
    return this.#base.table + (ino - 1) * inode.size;
  }

  #inode(ino: number, bytes: Buffer): void {
    const f = this.#findings;
    const at = this.#at(ino);
    const stored = bytes.readUInt32LE(INODE.ino);
    const mode = bytes.readUInt32LE(INODE.mode);
    f.expect(stored === ino, 'INODE_NUMBER', at + INODE.ino, `${stored}, expected ${ino}`);
    f.expect(isZero(bytes.subarray(INODE.reserved)), 'INODE_RESERVED', at + INODE.reserved, `inode ${ino}`);
    const type = typeOfMode(mode);
    if (!f.expect(type !== 'other', 'INODE_TYPE', at + INODE.mode, `inode ${ino}: mode 0o${mode.toString(8)}`)) return;
    f.expect((mode & ~(constants.S_IFMT | 0o7777)) === 0, 'INODE_MODE', at + INODE.mode, `0o${mode.toString(8)}`);
    const nlink = bytes.readUInt32LE(INODE.nlink);
    this.#modes[ino - 1] = mode;
    this.#nlinks[ino - 1] = nlink;
    this.#data(ino, at, type, bytes.readBigUInt64LE(INODE.size), bytes.readBigUInt64LE(INODE.dataOffset));
  }

  #data(ino: number, at: number, type: InodeType, size: bigint, dataOffset: bigint): void {
    const f = this.#findings;
    const room = BigInt(this.#base.end - this.#base.offset);
    if (type === 'symlink') {
      f.expect(size >= 1n && size <= BigInt(LINK_BYTES_MAX), 'SYMLINK_LENGTH', at + INODE.size, `${size} bytes`);
    }
    if (type === 'directory') {
      const ok = size % BigInt(SIZE_UNIT) === 0n;
      if (!f.expect(ok, 'DIRECTORY_SIZE', at + INODE.size, `inode ${ino}: ${size} bytes`)) return;
    }
    if (type === 'file' && this.#base.hasPageCache) {
      this.#backed(at, size, dataOffset);
      return;
    }
    if (size === 0n) {
      f.expect(dataOffset <= room, 'EMPTY_DATA', at + INODE.dataOffset, `inode ${ino}: ${dataOffset}`);
      return;
    }
    const detail = `inode ${ino}: ${size} bytes at ${dataOffset} of ${room}`;
    if (!f.expect(dataOffset + size <= room, 'DATA_RANGE', at + INODE.dataOffset, detail)) return;
    const data = this.#base.offset + Number(dataOffset);
    f.expect(data % this.#base.block === 0, 'DATA_ALIGNMENT', at + INODE.dataOffset, detail);
    const found = { ino, at, type, size: Number(size), data };
    if (type === 'directory') this.#directories.push(found);
    else this.#extents.push({ start: data, end: data + found.size + (type === 'symlink' ? 1 : 0), ino });
    if (type === 'symlink') this.#link(found);
  }

  /** A file of split or export mode: its pages are named by cache tags. */
  #backed(at: number, size: bigint, dataOffset: bigint): void {
    if (size === 0n) return;
    const last = dataOffset + size - 1n;
    const ok = last < 1n << 64n && last / BigInt(this.#base.block) <= BigInt(CONSTANTS.pageIndexMax.value);
    this.#findings.expect(ok, 'DATA_PAGE', at + INODE.dataOffset, `last byte ${last} of the backing file`);
  }

  #link({ size, data }: InodeCheck): void {
    if (size > LINK_BYTES_MAX) return;
    const there = Math.min(size + 1, this.#base.end - data);
    const ok = there === size + 1 && this.#source.read(data, there).indexOf(0) === size;
    this.#findings.expect(ok, 'SYMLINK_NUL', data + size, `${size} bytes and a NUL`);
  }

  /** Sound directories fit the base image together; those that share bytes would cost their product in time. */
  #allDirectories(): void {
    let room = this.#base.end - this.#base.offset;
    for (const directory of this.#directories) {
      room -= directory.size;
      if (!this.#findings.expect(room >= 0, 'DATA_OVERLAP', directory.at, 'directories larger than the image')) return;
      this.#directory(directory);
    }
  }

  #directory(node: InodeCheck): void {
    const count = node.size / SIZE_UNIT;
    const names = new Set<string>();
    let end = node.data;
    for (let first = 0; first < count; first += BATCH) {
      const from = node.data + first * STRIDE;
      const bytes = Buffer.alloc(Math.min(BATCH, count - first) * STRIDE);
      // Upstream's reservation is shorter than its entries: the last ones may be cut off at the end of the image.
      const there = Math.max(0, Math.min(bytes.length, this.#source.size - from));
      if (there > 0) this.#source.read(from, there).copy(bytes);
      for (let at = 0; at < bytes.length; at += STRIDE) {
        end = this.#dirent(node, bytes.subarray(at, at + STRIDE), from + at, names);
      }
    }
    this.#extents.push({ start: node.data, end, ino: node.ino });
  }

  /** Checks one entry; returns where its meaningful bytes end. */
  #dirent(parent: InodeCheck, bytes: Buffer, at: number, names: Set<string>): number {
    const f = this.#findings;
    const length = bytes.readUInt16LE(DIRENT.nameLength);
    const lengthOk = length >= 1 && length <= CONSTANTS.nameBytesMax.value;
    if (!f.expect(lengthOk, 'DIRENT_NAME_LENGTH', at + DIRENT.nameLength, `${length}`)) return at + DIRENT.name;
    const end = at + DIRENT.name + length;
    if (!f.expect(end <= this.#base.end, 'DIRENT_TRUNCATED', at, `directory ${parent.ino}`)) return at;
    this.#name(bytes.subarray(DIRENT.name, DIRENT.name + length).toString('latin1'), at, names);
    // Behind the 271 bytes per entry that upstream reserves, the padding belongs to the next object.
    const reserved = bytes.subarray(DIRENT.name + length, Math.max(0, parent.data + parent.size - at));
    const clean = isZero(bytes.subarray(DIRENT.reserved, DIRENT.name)) && isZero(reserved);
    f.expect(clean, 'DIRENT_RESERVED', at, `directory ${parent.ino}`);
    this.#target(parent, bytes.readUInt32LE(DIRENT.ino), bytes.readUInt32LE(DIRENT.mode), at);
    return end;
  }

  #name(name: string, at: number, names: Set<string>): void {
    const f = this.#findings;
    const shown = JSON.stringify(name);
    f.expect(!name.includes('/') && name !== '.' && name !== '..', 'DIRENT_NAME', at + DIRENT.name, shown);
    f.expect(!name.includes('\0'), 'DIRENT_NUL', at + DIRENT.name, shown);
    f.expect(!names.has(name), 'DIRENT_DUPLICATE', at + DIRENT.name, shown);
    names.add(name);
  }

  #target(parent: InodeCheck, ino: number, mode: number, at: number): void {
    const f = this.#findings;
    const known = ino >= 1 && ino <= this.#base.inodeCount;
    if (!f.expect(known, 'DIRENT_INO', at + DIRENT.ino, `${ino} of ${this.#base.inodeCount}`)) return;
    const found = this.#modes[ino - 1]!;
    this.#names[ino - 1]!++;
    f.expect(mode === found, 'DIRENT_MODE', at + DIRENT.mode, `0o${mode.toString(8)}, inode 0o${found.toString(8)}`);
    if (typeOfMode(found) !== 'directory') return;
    const first = this.#names[ino - 1] === 1 && ino !== this.#base.root;
    f.expect(first, 'DIRECTORY_TWICE', at + DIRENT.ino, `directory ${ino}`);
    if (first) this.#parents[ino - 1] = parent.ino;
  }

  /** Every inode has a name on a path from the root (a ring of directories has names, but none), and enough links. */
  #reach(): void {
    const { inodeCount, root } = this.#base;
    const f = this.#findings;
    const reached = new Uint8Array(inodeCount);
    reached[root - 1] = 1;
    for (let ino = 1; ino <= inodeCount; ino++) {
      const mode = this.#modes[ino - 1]!;
      if (mode === 0) continue;
      const type = typeOfMode(mode);
      const names = this.#names[ino - 1]!;
      const ok = ino === root || (type === 'directory' ? this.#leadsToRoot(ino, reached) : names > 0);
      f.expect(ok, 'INODE_UNREACHABLE', this.#at(ino), `inode ${ino}`);
      const links = type === 'directory' ? 1 : Math.max(1, names);
      f.expect(
        this.#nlinks[ino - 1]! >= links,
        'INODE_NLINK',
        this.#at(ino) + INODE.nlink,
        `inode ${ino}: ${names} names`,
      );
    }
  }

  /** Follows the parents; `reached` remembers 1 = leads to the root, 2 = does not or is being followed. */
  #leadsToRoot(ino: number, reached: Uint8Array): boolean {
    const path: number[] = [];
    let at = ino;
    while (at !== 0 && reached[at - 1] === 0) {
      path.push(at);
      reached[at - 1] = 2;
      at = this.#parents[at - 1]!;
    }
    const ok = at !== 0 && reached[at - 1] === 1;
    for (const step of path) reached[step - 1] = ok ? 1 : 2;
    return ok;
  }

  /** Two objects in one place: one of them has lost its bytes (for a directory: the trap of 271 and 272). */
  #overlaps(): void {
    this.#extents.sort((a, b) => a.start - b.start || a.end - b.end);
    let last = { start: 0, end: 0, ino: 0 };
    for (const extent of this.#extents) {
      const owner = extent.ino === 0 ? 'the inode table' : `inode ${extent.ino}`;
      const detail = `${owner} and ${last.ino === 0 ? 'the inode table' : `inode ${last.ino}`}`;
      this.#findings.expect(extent.start >= last.end, 'DATA_OVERLAP', extent.start, detail);
      if (extent.end > last.end) last = extent;
    }
  }
}

/** Adds what is wrong with the tree of a base image. */
export function checkTree(source: ByteSource, base: BaseGeometry, findings: Findings): void {
  new TreeCheck(source, base, findings).run();
}
