/** Files of a region: the calls that are cheap enough to be synchronous. Names, options and errors are those of node:fs. */
import { constants } from 'node:fs';
import {
  type Bytes,
  bytesOf,
  checkPath,
  type Data,
  encodingOf,
  flagsOf,
  idOf,
  lengthOf,
  modeOf,
  optionsOf,
  type PathLike,
  textOf as text,
  wholeOf,
} from './arguments.ts';
import { type ReadFileOptions, readWholeSync, type WriteFileOptions } from './file-handle.ts';
import { count, ENOENT, fsError, value } from './fs-error.ts';
import { makeDirectories, makeTemporary } from './make-directories.ts';
import { MODELS } from './models-view.ts';
import { type PinnedBlock, pinBlock } from './pinned-block.ts';
import { realPath } from './real-path.ts';
import { RegionFsCore } from './region-fs-core.ts';
import { type RemoveOptions, removeSync } from './remove-tree.ts';
import { lookAgainMax } from './replaced.ts';
import {
  type BigInts,
  type NumberOptions,
  type Numbers,
  type RegionBigIntStats,
  RegionDirent,
  type RegionStats,
  statsAs,
} from './stats.ts';

export interface StatOptions extends NumberOptions {
  /** Default true; false: undefined instead of ENOENT. Of the calls without promises alone. */
  throwIfNoEntry?: boolean | undefined;
}

interface Throws {
  throwIfNoEntry?: true | undefined;
}

export interface MakeDirectoryOptions {
  recursive?: boolean | undefined;
  mode?: number | string | undefined;
}

export interface ReadDirectoryOptions {
  withFileTypes?: boolean | undefined;
  recursive?: boolean | undefined;
  encoding?: BufferEncoding | 'buffer' | null | undefined;
}

export interface NameOptions {
  encoding?: BufferEncoding | 'buffer' | null | undefined;
}

export interface TextNames {
  encoding?: BufferEncoding | null | undefined;
}

export interface NamesAlone {
  withFileTypes?: false | undefined;
}

/** Of mkdir without `recursive`. */
export type OneDirectoryOptions =
  | (MakeDirectoryOptions & { recursive?: false | undefined })
  | number
  | string
  | null
  | undefined;

export type Listing = string[] | Buffer[] | RegionDirent[] | RegionDirent<Buffer>[];

/** One name of a directory. */
interface Listed {
  /** From the directory that was asked for. */
  path: Buffer;
  name: Buffer;
  parent: string;
  mode: number;
}

const { W_OK, S_IFDIR, S_IFMT } = constants;
/** mkdir(2) makes no directory that hands on its group, unless its parent does. */
const MKDIR_BITS = 0o1777;
const SLASH = Buffer.from('/');

const nameEncoding = (options: NameOptions | BufferEncoding | 'buffer' | null | undefined) =>
  encodingOf(typeof options === 'string' ? options : options?.encoding);
const isDirectoryMode = (mode: number) => (mode & S_IFMT) === S_IFDIR;
const within = (parent: string, name: Buffer) =>
  `${parent === '' || parent.endsWith('/') ? parent : `${parent}/`}${name}`;

export class RegionFsSync extends RegionFsCore {
  /** @throws FsError ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG */
  statSync(path: PathLike, options?: StatOptions & Numbers & Throws): RegionStats;
  statSync(path: PathLike, options: StatOptions & BigInts & Throws): RegionBigIntStats;
  statSync(path: PathLike, options: StatOptions & Numbers): RegionStats | undefined;
  statSync(path: PathLike, options: StatOptions & BigInts): RegionBigIntStats | undefined;
  statSync(path: PathLike, options?: StatOptions): RegionStats | RegionBigIntStats | undefined;
  statSync(path: PathLike, { throwIfNoEntry, bigint }: StatOptions = {}): RegionStats | RegionBigIntStats | undefined {
    const found = this.statAt(path, true, 'stat', throwIfNoEntry);
    return found && statsAs(found, bigint);
  }

  /** As statSync; of a symbolic link itself. */
  lstatSync(path: PathLike, options?: StatOptions & Numbers & Throws): RegionStats;
  lstatSync(path: PathLike, options: StatOptions & BigInts & Throws): RegionBigIntStats;
  lstatSync(path: PathLike, options: StatOptions & Numbers): RegionStats | undefined;
  lstatSync(path: PathLike, options: StatOptions & BigInts): RegionBigIntStats | undefined;
  lstatSync(path: PathLike, options?: StatOptions): RegionStats | RegionBigIntStats | undefined;
  lstatSync(path: PathLike, { throwIfNoEntry, bigint }: StatOptions = {}): RegionStats | RegionBigIntStats | undefined {
    const found = this.statAt(path, false, 'lstat', throwIfNoEntry);
    return found && statsAs(found, bigint);
  }

  existsSync(path: PathLike): boolean {
    try {
      return this.statSync(path, { throwIfNoEntry: false }) !== undefined;
    } catch (error) {
      if ((error as { code?: string }).code === 'DAXFS_CLOSED') throw error;
      return false;
    }
  }

  /** Permission bits are kept, not enforced: what exists is accessible; writing is refused in read-only places. */
  accessSync(path: PathLike, mode: number = constants.F_OK): void {
    wholeOf(mode ?? constants.F_OK, 'mode', 0, 7);
    this.statAt(path, true, 'access');
    const parts = this.viewOf(path);
    if ((mode & W_OK) !== 0 && parts) throw fsError('EROFS', 'access', path);
  }

  readdirSync(
    path: PathLike,
    options: ReadDirectoryOptions & { withFileTypes: true; encoding: 'buffer' },
  ): RegionDirent<Buffer>[];
  readdirSync(path: PathLike, options: ReadDirectoryOptions & TextNames & { withFileTypes: true }): RegionDirent[];
  readdirSync(
    path: PathLike,
    options: (ReadDirectoryOptions & NamesAlone & { encoding: 'buffer' }) | 'buffer',
  ): Buffer[];
  readdirSync(
    path: PathLike,
    options?: (ReadDirectoryOptions & TextNames & NamesAlone) | BufferEncoding | null,
  ): string[];
  readdirSync(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | 'buffer' | null): Listing;
  readdirSync(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | 'buffer' | null): Listing {
    const given = typeof options === 'string' ? { encoding: options } : ((options ?? {}) as ReadDirectoryOptions);
    const { withFileTypes, recursive } = given;
    const encoding = encodingOf(given.encoding);
    const listed = this.#list(checkPath(path), recursive ?? false);
    if (encoding === 'buffer') {
      return withFileTypes
        ? listed.map(({ name, parent, mode }) => new RegionDirent(name, parent, mode))
        : listed.map((entry) => entry.path);
    }
    const decode = (name: Buffer) => name.toString(encoding ?? 'utf8');
    return withFileTypes
      ? listed.map(({ name, parent, mode }) => new RegionDirent(decode(name), parent, mode))
      : listed.map((entry) => decode(entry.path));
  }

  /** @returns with `recursive`: the first directory made, if any */
  mkdirSync(path: PathLike, options: MakeDirectoryOptions & { recursive: true }): string | undefined;
  mkdirSync(path: PathLike, options?: OneDirectoryOptions): void;
  mkdirSync(path: PathLike, options?: MakeDirectoryOptions | number | string | null): string | undefined;
  mkdirSync(path: PathLike, options?: MakeDirectoryOptions | number | string | null): string | undefined {
    const { recursive, mode } = typeof options === 'object' ? (options ?? {}) : { recursive: false, mode: options };
    const bits = modeOf(mode, 0o777) & MKDIR_BITS & ~process.umask();
    if (recursive) return makeDirectories(this, text(checkPath(path)), bits);
    this.#mkdir(path, bits);
    return undefined;
  }

  /** A directory of its own: of all hosts, no other gets this one. @returns its path, the prefix and six letters */
  mkdtempSync(prefix: PathLike, options: (NameOptions & { encoding: 'buffer' }) | 'buffer'): Buffer;
  mkdtempSync(prefix: PathLike, options?: TextNames | BufferEncoding | null): string;
  mkdtempSync(prefix: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): string | Buffer;
  mkdtempSync(prefix: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): string | Buffer {
    const encoding = nameEncoding(options);
    const path = makeTemporary(this, checkPath(prefix, 'prefix'));
    return encoding === 'buffer' ? path : path.toString(encoding);
  }

  rmdirSync(path: PathLike): void {
    this.changing(path, 'rmdir');
    count(
      this.front.change((overlay) => overlay.rmdir(path)),
      'rmdir',
      path,
    );
  }

  unlinkSync(path: PathLike): void {
    this.changing(path, 'unlink');
    count(
      this.front.change((overlay) => overlay.unlink(path)),
      'unlink',
      path,
    );
  }

  /** For small trees; `rm` frees the pages of large files on native threads. */
  rmSync(path: PathLike, options?: RemoveOptions): void {
    removeSync(this, path, options);
  }

  /** Others see the old name, both names or the new name; never neither. */
  renameSync(from: PathLike, to: PathLike): void {
    this.changing(from, 'rename', to);
    this.changing(to, 'rename', to);
    count(
      this.front.change((overlay) => overlay.rename(from, to)),
      'rename',
      from,
      to,
    );
  }

  /** @param _type means something on Windows alone */
  symlinkSync(target: PathLike, path: PathLike, _type?: string | null): void {
    checkPath(target, 'target');
    this.changing(path, 'symlink');
    const [uid, gid] = this.ids();
    count(
      this.front.change((overlay) => overlay.symlink(path, target, uid, gid)),
      'symlink',
      target,
      path,
    );
  }

  readlinkSync(path: PathLike, options: (NameOptions & { encoding: 'buffer' }) | 'buffer'): Buffer;
  readlinkSync(path: PathLike, options?: TextNames | BufferEncoding | null): string;
  readlinkSync(path: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): string | Buffer;
  readlinkSync(path: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): string | Buffer {
    const encoding = nameEncoding(options);
    const parts = this.viewOf(path);
    if (parts) {
      this.models!.stat(parts, 'readlink', text(path));
      throw fsError('EINVAL', 'readlink', path);
    }
    const target = value(this.front.overlay.readlink(path), 'readlink', path);
    return encoding === 'buffer' ? target : target.toString(encoding);
  }

  /** The path without links and dots; it begins with a slash. */
  realpathSync(path: PathLike): string {
    return realPath(this, path);
  }

  chmodSync(path: PathLike, mode: number | string): void {
    const bits = modeOf(mode);
    this.changeAt(path, true, 'chmod', (overlay, ino) => overlay.chmod(ino, bits));
  }

  chownSync(path: PathLike, uid: number, gid: number): void {
    const [owner, group] = [idOf(uid, 'uid'), idOf(gid, 'gid')];
    this.changeAt(path, true, 'chown', (overlay, ino) => overlay.chown(ino, owner, group));
  }

  lchownSync(path: PathLike, uid: number, gid: number): void {
    const [owner, group] = [idOf(uid, 'uid'), idOf(gid, 'gid')];
    this.changeAt(path, false, 'lchown', (overlay, ino) => overlay.chown(ino, owner, group));
  }

  /** For small files; `readFile` reads large ones on a native thread. */
  readFileSync(path: PathLike, options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding): string;
  readFileSync(path: PathLike, options?: (ReadFileOptions & { encoding?: null | undefined }) | null): Bytes;
  readFileSync(path: PathLike, options?: ReadFileOptions | BufferEncoding | null): string | Bytes;
  readFileSync(path: PathLike, options?: ReadFileOptions | BufferEncoding | null): string | Bytes {
    const { encoding, flag } = optionsOf(options);
    const known = encodingOf(encoding);
    const bytes = this.wholeSync(path, flagsOf(flag), undefined, readWholeSync);
    return known ? bytes.toString(known) : bytes;
  }

  /** For small files. */
  writeFileSync(path: PathLike, data: Data, options?: WriteFileOptions | BufferEncoding | null): void {
    const { encoding, mode, flag } = optionsOf(options);
    const bytes = bytesOf(data, encoding);
    this.wholeSync(path, flagsOf(flag, 'w'), modeOf(mode, 0o666), (file) => {
      if (bytes.length > 0) file.writeSync(0, bytes);
    });
  }

  appendFileSync(path: PathLike, data: Data, options?: WriteFileOptions | BufferEncoding | null): void {
    this.writeFileSync(path, data, { flag: 'a', ...optionsOf(options) });
  }

  /** For small files, too: all pages that go are freed at once. */
  truncateSync(path: PathLike, length = 0): void {
    this.wholeSync(path, flagsOf('r+'), undefined, (file) => file.truncateSync(lengthOf(length)));
  }

  /**
   * The bytes of a file where they lie, without a copy: files under /models only, for these never change. Pages of the
   * overlay are replaced and used again while others write, so they are copied: `readFile`. Do not write into it.
   * @returns valid until the region is closed (then its length is 0); at most 4 GiB
   * @throws FsError EINVAL elsewhere than under /models, ENOENT, EISDIR
   */
  readFileView(path: PathLike): Buffer {
    const parts = this.viewOf(path);
    if (parts) return this.models!.window(parts, text(path));
    this.statAt(path, true, 'open');
    throw fsError('EINVAL', 'view', path);
  }

  /**
   * A block of a file of a split or export image where it lies in the page cache: no copy, until it is released.
   * @param position any byte of the block
   * @throws FsError EINVAL where it does not lie there, ENOENT, EISDIR, ESTALE
   */
  pinSync(path: PathLike, position = 0): PinnedBlock {
    const file = this.openSync(path, constants.O_RDONLY);
    return pinBlock(this.front, file.stat(), position, text(path));
  }

  #mkdir(path: PathLike, bits: number): void {
    this.changing(path, 'mkdir');
    const [uid, gid] = this.ids();
    count(
      this.front.change((overlay) => overlay.mkdir(path, bits, uid, gid)),
      'mkdir',
      path,
    );
  }

  #list(path: PathLike, recursive: boolean): Listed[] {
    const open: { path: PathLike; below: Buffer }[] = [{ path, below: Buffer.alloc(0) }];
    const listed: Listed[] = [];
    for (let next = open.shift(); next; next = open.shift()) {
      const parent = text(next.path);
      for (const { name, mode } of this.#names(next.path)) {
        const at = next.below.length === 0 ? name : Buffer.concat([next.below, SLASH, name]);
        listed.push({ path: at, name, parent, mode });
        if (recursive && isDirectoryMode(mode)) open.push({ path: Buffer.from(within(parent, name)), below: at });
      }
    }
    return listed;
  }

  #names(path: PathLike): { name: Buffer; mode: number }[] {
    const parts = this.viewOf(path);
    if (parts)
      return this.models!.readdir(parts, text(path)).map(({ name, mode }) => ({ name: Buffer.from(name), mode }));
    const { overlay } = this.front;
    let directory = value(overlay.stat(path, true), 'scandir', path);
    let found = overlay.readdir(directory.ino);
    for (let tries = 1; found === ENOENT && tries < lookAgainMax; tries += 1) {
      directory = value(overlay.stat(path, true), 'scandir', path);
      found = overlay.readdir(directory.ino);
    }
    const { names, entries } = value(found, 'scandir', path);
    const list: { name: Buffer; mode: number }[] = [];
    for (let i = 0, at = 0; i < entries.length; at += entries[i]!, i += 3) {
      list.push({ name: names.subarray(at, at + entries[i]!), mode: entries[i + 1]! });
    }
    return this.models && directory.ino === this.#rootIno() ? this.#withModels(list) : list;
  }

  #rootIno(): number {
    return value(this.front.overlay.stat('/', true), 'stat', '/').ino;
  }

  #withModels(list: { name: Buffer; mode: number }[]) {
    const own = list.filter(({ name }) => name.toString() !== MODELS);
    return [...own, { name: Buffer.from(MODELS), mode: S_IFDIR | 0o555 }];
  }
}
