/** Attributes and directory entries in the words of node:fs. The format keeps no times, so there are none here. */
import { constants } from 'node:fs';
import type { OverlayStat } from '../../native/index.ts';

const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK } = constants;

export interface NumberOptions {
  /** Default false. True: all numbers are bigints. */
  bigint?: boolean | undefined;
}
export interface Numbers {
  bigint?: false | undefined;
}
export interface BigInts {
  bigint: true;
}

/** What a mode says about a file. */
abstract class FileKind {
  readonly #mode: number;

  constructor(mode: number) {
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

abstract class StatsBase<Count extends number | bigint> extends FileKind {
  readonly ino: Count;
  readonly mode: Count;
  readonly nlink: Count;
  readonly uid: Count;
  readonly gid: Count;
  readonly size: Count;
  readonly blksize: Count;
  /** Of 512 bytes, as if there were no holes. */
  readonly blocks: Count;

  constructor(stat: OverlayStat, blockBytes: number, count: (value: number) => Count) {
    super(stat.mode);
    this.ino = count(stat.ino);
    this.mode = count(stat.mode);
    this.nlink = count(stat.nlink);
    this.uid = count(stat.uid);
    this.gid = count(stat.gid);
    this.size = count(stat.size);
    this.blksize = count(blockBytes);
    this.blocks = count(Math.ceil(stat.size / blockBytes) * (blockBytes / 512));
  }
}

/** As fs.Stats, without times. `size` of a directory is 0. */
export class RegionStats extends StatsBase<number> {
  constructor(stat: OverlayStat, blockBytes: number) {
    super(stat, blockBytes, Number);
  }
}

/** As fs.BigIntStats, without times. */
export class RegionBigIntStats extends StatsBase<bigint> {
  constructor(stat: OverlayStat, blockBytes: number) {
    super(stat, blockBytes, BigInt);
  }
}

export const statsAs = (stats: RegionStats, bigint = false): RegionStats | RegionBigIntStats =>
  bigint ? new RegionBigIntStats(stats, stats.blksize) : stats;

/** As fs.Dirent. */
export class RegionDirent<Name extends string | Buffer = string> extends FileKind {
  readonly name: Name;
  readonly parentPath: string;
  /** As `parentPath`; the older name. */
  readonly path: string;

  constructor(name: Name, parentPath: string, mode: number) {
    super(mode);
    this.name = name;
    this.parentPath = parentPath;
    this.path = parentPath;
  }
}
