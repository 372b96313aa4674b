/** Attributes and directory entries in the words of node:fs. The format keeps no times, so there are none here. */
import { constants } from 'node:fs';
import type { OverlayStat } from '../../native/index.ts';

const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK } = constants;

/** As fs.Stats, without times. `size` of a directory is 0. */
export class RegionStats {
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blksize: number;
  /** Of 512 bytes, as if there were no holes. */
  readonly blocks: number;

  constructor({ ino, mode, nlink, uid, gid, size }: OverlayStat, blockBytes: number) {
    this.ino = ino;
    this.mode = mode;
    this.nlink = nlink;
    this.uid = uid;
    this.gid = gid;
    this.size = size;
    this.blksize = blockBytes;
    this.blocks = Math.ceil(size / blockBytes) * (blockBytes / 512);
  }

  isFile(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }
  isDirectory(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }
  isSymbolicLink(): boolean {
    return (this.mode & S_IFMT) === S_IFLNK;
  }
  isBlockDevice(): boolean {
    return false;
  }
  isCharacterDevice(): boolean {
    return false;
  }
  isFIFO(): boolean {
    return false;
  }
  isSocket(): boolean {
    return false;
  }
}

/** As fs.Dirent. */
export class RegionDirent<Name extends string | Buffer = string> {
  readonly name: Name;
  readonly parentPath: string;
  /** As `parentPath`; the older name. */
  readonly path: string;
  readonly #mode: number;

  constructor(name: Name, parentPath: string, mode: number) {
    this.name = name;
    this.parentPath = parentPath;
    this.path = parentPath;
    this.#mode = mode;
  }

  isFile(): boolean {
    return (this.#mode & S_IFMT) === S_IFREG;
  }
  isDirectory(): boolean {
    return (this.#mode & S_IFMT) === S_IFDIR;
  }
  isSymbolicLink(): boolean {
    return (this.#mode & S_IFMT) === S_IFLNK;
  }
  isBlockDevice(): boolean {
    return false;
  }
  isCharacterDevice(): boolean {
    return false;
  }
  isFIFO(): boolean {
    return false;
  }
  isSocket(): boolean {
    return false;
  }
}
