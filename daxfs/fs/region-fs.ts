/** Files of a region with promises. Large transfers run on native threads; the rest is done at once. */
import { constants } from 'node:fs';
import { open as openHost } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import {
  type Bytes,
  bytesOf,
  checkAborted,
  type Data,
  type DataParts,
  encodingOf,
  flagsOf,
  isParts,
  lengthOf,
  modeOf,
  optionsOf,
  type PathLike,
  textOf,
  wholeOf,
} from './arguments.ts';
import { type CopyTreeOptions, copyTree } from './copy-tree.ts';
import { RegionDir } from './directory.ts';
import { type ReadFileOptions, RegionFileHandle, readWhole, type WriteFileOptions, writeWhole } from './file-handle.ts';
import { count, ENOENT, type FsError, fsError } from './fs-error.ts';
import type { OpenFile } from './open-file.ts';
import {
  type Listing,
  type MakeDirectoryOptions,
  type NameOptions,
  type NamesAlone,
  type OneDirectoryOptions,
  type ReadDirectoryOptions,
  RegionFsSync,
  type TextNames,
} from './region-fs-sync.ts';
import { type RemoveOptions, remove } from './remove-tree.ts';
import { flagsAgain, lookAgainMax } from './replaced.ts';
import type { BigInts, NumberOptions, Numbers, RegionBigIntStats, RegionDirent, RegionStats } from './stats.ts';
import { type ReadStreamOptions, readStream, type WriteStreamOptions, writeStream } from './streams.ts';

const { O_TRUNC, O_WRONLY, O_CREAT, O_EXCL, COPYFILE_EXCL } = constants;
/** Bytes in flight of a copy. */
const copyBytes = 4 * 2 ** 20;
/** Freeing the pages of a larger file would hold up the event loop. */
const unlinkBytesMax = 2 ** 24;

type Work<T> = (file: OpenFile) => Promise<T>;
type CopiedStat = Pick<RegionStats, 'ino' | 'mode' | 'isDirectory'>;

/** Copies until the source ends. */
async function copyBytesOf(
  from: Pick<OpenFile, 'read'>,
  to: { write(at: number, bytes: Uint8Array): Promise<unknown> },
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(copyBytes);
  for (let at = 0; ; ) {
    const got = await from.read(at, buffer);
    if (got === 0) return;
    await to.write(at, buffer.subarray(0, got));
    at += got;
  }
}

/**
 * The files of a region, or of an image with an overlay. Every call may run in several processes at once (docs/FS.md).
 * Rejects or throws FsError (as node:fs), and DaxfsError DAXFS_CLOSED after the region was closed.
 */
export class RegionFs extends RegionFsSync {
  stat(path: PathLike, options?: Numbers): Promise<RegionStats>;
  stat(path: PathLike, options: BigInts): Promise<RegionBigIntStats>;
  stat(path: PathLike, options?: NumberOptions): Promise<RegionStats | RegionBigIntStats>;
  async stat(path: PathLike, { bigint }: NumberOptions = {}): Promise<RegionStats | RegionBigIntStats> {
    return this.statSync(path, { bigint })!;
  }

  lstat(path: PathLike, options?: Numbers): Promise<RegionStats>;
  lstat(path: PathLike, options: BigInts): Promise<RegionBigIntStats>;
  lstat(path: PathLike, options?: NumberOptions): Promise<RegionStats | RegionBigIntStats>;
  async lstat(path: PathLike, { bigint }: NumberOptions = {}): Promise<RegionStats | RegionBigIntStats> {
    return this.lstatSync(path, { bigint })!;
  }

  async access(path: PathLike, mode?: number): Promise<void> {
    this.accessSync(path, mode);
  }

  readdir(
    path: PathLike,
    options: ReadDirectoryOptions & { withFileTypes: true; encoding: 'buffer' },
  ): Promise<RegionDirent<Buffer>[]>;
  readdir(path: PathLike, options: ReadDirectoryOptions & TextNames & { withFileTypes: true }): Promise<RegionDirent[]>;
  readdir(
    path: PathLike,
    options: (ReadDirectoryOptions & NamesAlone & { encoding: 'buffer' }) | 'buffer',
  ): Promise<Buffer[]>;
  readdir(
    path: PathLike,
    options?: (ReadDirectoryOptions & TextNames & NamesAlone) | BufferEncoding | null,
  ): Promise<string[]>;
  readdir(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | 'buffer' | null): Promise<Listing>;
  async readdir(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | 'buffer' | null): Promise<Listing> {
    return this.readdirSync(path, options);
  }

  mkdir(path: PathLike, options: MakeDirectoryOptions & { recursive: true }): Promise<string | undefined>;
  mkdir(path: PathLike, options?: OneDirectoryOptions): Promise<void>;
  mkdir(path: PathLike, options?: MakeDirectoryOptions | number | string | null): Promise<string | undefined>;
  async mkdir(path: PathLike, options?: MakeDirectoryOptions | number | string | null): Promise<unknown> {
    return this.mkdirSync(path, options);
  }

  mkdtemp(prefix: PathLike, options: (NameOptions & { encoding: 'buffer' }) | 'buffer'): Promise<Buffer>;
  mkdtemp(prefix: PathLike, options?: TextNames | BufferEncoding | null): Promise<string>;
  mkdtemp(prefix: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer>;
  async mkdtemp(prefix: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer> {
    return this.mkdtempSync(prefix, options);
  }

  async rmdir(path: PathLike): Promise<void> {
    this.rmdirSync(path);
  }

  async unlink(path: PathLike): Promise<void> {
    const found = this.viewOf(path) ? 0 : this.front.overlay.stat(path, false);
    if (typeof found === 'number' || found.size <= unlinkBytesMax) this.unlinkSync(path);
    else count(await this.front.unlink(path), 'unlink', path);
  }

  async rename(from: PathLike, to: PathLike): Promise<void> {
    this.renameSync(from, to);
  }

  async symlink(target: PathLike, path: PathLike, _type?: string | null): Promise<void> {
    this.symlinkSync(target, path);
  }

  readlink(path: PathLike, options: (NameOptions & { encoding: 'buffer' }) | 'buffer'): Promise<Buffer>;
  readlink(path: PathLike, options?: TextNames | BufferEncoding | null): Promise<string>;
  readlink(path: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer>;
  async readlink(path: PathLike, options?: NameOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer> {
    return this.readlinkSync(path, options);
  }

  async realpath(path: PathLike): Promise<string> {
    return this.realpathSync(path);
  }

  /** The names are those of this moment. */
  async opendir(path: PathLike, options?: { recursive?: boolean | undefined }): Promise<RegionDir> {
    return new RegionDir(textOf(path), this.readdirSync(path, { ...options, withFileTypes: true }));
  }

  createReadStream(path: PathLike, given?: ReadStreamOptions | BufferEncoding | null): Readable {
    const options = optionsOf(given);
    return readStream(() => this.open(path, options.flags ?? 'r'), options);
  }

  createWriteStream(path: PathLike, given?: WriteStreamOptions | BufferEncoding | null): Writable {
    const options = optionsOf(given);
    return writeStream(() => this.open(path, options.flags ?? 'w', options.mode), options);
  }

  /** Within the region, as fs.promises.cp: files, links, and with `recursive` directories. */
  async cp(from: PathLike, to: PathLike, options: CopyTreeOptions = {}): Promise<void> {
    await copyTree(this, textOf(from), textOf(to), options);
  }

  async chmod(path: PathLike, mode: number | string): Promise<void> {
    this.chmodSync(path, mode);
  }

  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    this.chownSync(path, uid, gid);
  }

  async lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    this.lchownSync(path, uid, gid);
  }

  /** @param flags as fs.open: 'r', 'r+', 'w', 'wx', 'a', ... or O_* bits. `wx` is exclusive among all hosts */
  async open(path: PathLike, flags?: string | number | null, mode?: number | string | null): Promise<RegionFileHandle> {
    return new RegionFileHandle(await this.#open(path, flagsOf(flags), mode));
  }

  readFile(path: PathLike, options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(path: PathLike, options?: (ReadFileOptions & { encoding?: null | undefined }) | null): Promise<Bytes>;
  readFile(path: PathLike, options?: ReadFileOptions | BufferEncoding | null): Promise<string | Bytes>;
  async readFile(path: PathLike, options?: ReadFileOptions | BufferEncoding | null): Promise<string | Bytes> {
    const { encoding, flag, signal } = optionsOf(options);
    const known = encodingOf(encoding);
    checkAborted(signal);
    const bytes = await this.#whole(path, flagsOf(flag), undefined, (file) => readWhole(file, signal));
    return known ? bytes.toString(known) : bytes;
  }

  /** Parts of an iterable are written as they come, as through a handle. */
  async writeFile(
    path: PathLike,
    data: Data | DataParts,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    const { encoding, mode, flag, signal } = optionsOf(options);
    if (isParts(data)) return this.#writeParts(path, data, { encoding, mode, flag, signal });
    const bytes = bytesOf(data, encoding);
    checkAborted(signal);
    await this.#whole(path, flagsOf(flag, 'w'), mode, (file) => writeWhole(file, 0, bytes, signal));
  }

  /** Appends of all processes lie one after another. */
  async appendFile(
    path: PathLike,
    data: Data | DataParts,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    await this.writeFile(path, data, { flag: 'a', ...optionsOf(options) });
  }

  async truncate(path: PathLike, length = 0): Promise<void> {
    await this.#whole(path, flagsOf('r+'), undefined, (file) => file.truncate(lengthOf(length)));
  }

  /**
   * Within the region; the source may lie under /models. The target gets the source's permissions.
   * @param mode COPYFILE_EXCL refuses an existing target
   */
  async copyFile(from: PathLike, to: PathLike, mode = 0): Promise<void> {
    wholeOf(mode, 'mode', 0, 7);
    try {
      await this.#with(from, flagsOf('r'), undefined, (source) => this.#copyTo(source, to, mode, source.stat()));
    } catch (error) {
      const { errno } = error as Partial<FsError>;
      throw errno === undefined ? error : fsError(errno, 'copyfile', from, to);
    }
  }

  /** Copies a file of the host's file system into the region; permissions too. */
  async importFile(hostPath: string, path: PathLike, mode = 0): Promise<void> {
    const host = await openHost(hostPath, 'r');
    try {
      const read = async (at: number, bytes: Uint8Array) => (await host.read(bytes, 0, bytes.length, at)).bytesRead;
      const { mode: bits } = await host.stat();
      await this.#copyTo({ read }, path, mode, { mode: bits, ino: -1, isDirectory: () => false });
    } finally {
      await host.close();
    }
  }

  /** Copies a file of the region to the host's file system; permissions too. */
  async exportFile(path: PathLike, hostPath: string, mode = 0): Promise<void> {
    await this.#with(path, flagsOf('r'), undefined, async (source) => {
      const flags = (mode & COPYFILE_EXCL) === 0 ? 'w' : 'wx';
      const host = await openHost(hostPath, flags, source.stat().mode & 0o777);
      try {
        await copyBytesOf(source, {
          write: async (at, bytes) => {
            for (let done = 0; done < bytes.length; ) {
              done += (await host.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
            }
          },
        });
      } finally {
        await host.close();
      }
    });
  }

  /** Files and, with `recursive`, directories with all that is in them, also what others put in meanwhile. */
  rm(path: PathLike, options?: RemoveOptions): Promise<void> {
    return remove(this, path, options);
  }

  /** Nobody knows how long the parts take, and they come once: neither tracked by `close` nor done over. */
  async #writeParts(path: PathLike, parts: DataParts, options: WriteFileOptions): Promise<void> {
    encodingOf(options.encoding);
    checkAborted(options.signal);
    const handle = await this.open(path, options.flag ?? 'w', options.mode);
    try {
      await handle.writeFile(parts, options);
    } finally {
      await handle.close();
    }
  }

  /** Nothing happens when both are one file. */
  async #copyTo(source: Pick<OpenFile, 'read'>, to: PathLike, mode: number, stat: CopiedStat): Promise<void> {
    if (stat.isDirectory()) throw fsError('EISDIR', 'copyfile', to);
    const exclusive = (mode & COPYFILE_EXCL) === 0 ? 0 : O_EXCL;
    await this.#with(to, O_WRONLY | O_CREAT | exclusive, stat.mode & 0o777, async (target) => {
      if (target.stat().ino === stat.ino) return;
      target.chmod(stat.mode & 0o7777);
      await target.truncate(0);
      await copyBytesOf(source, target);
    });
  }

  /** A large file is emptied on a native thread. */
  async #open(path: PathLike, flags: number, mode?: number | string | null): Promise<OpenFile> {
    const bits = modeOf(mode, 0o666);
    if ((flags & O_TRUNC) === 0 || this.viewOf(path) !== null) return this.openSync(path, flags, bits);
    for (let tries = 1; ; tries += 1) {
      const file = this.openSync(path, flags & ~O_TRUNC, bits);
      const { ino } = file;
      const found = this.front.overlay.statInode(ino);
      const error = typeof found === 'number' ? found : found.size > 0 ? await this.front.truncate(ino, 0) : 0;
      if (error === ENOENT && (flags & O_EXCL) === 0 && tries < lookAgainMax) continue;
      count(error, 'open', path);
      return file;
    }
  }

  async #with<T>(path: PathLike, flags: number, mode: number | undefined, work: Work<T>): Promise<T> {
    return this.front.run(() => this.#use(path, flags, mode, work));
  }

  /** As `#with`, for work that may be done over when another file takes the name meanwhile. */
  async #whole<T>(path: PathLike, flags: number, mode: number | string | null | undefined, work: Work<T>): Promise<T> {
    return this.front.run(async () => {
      let how = flags;
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.#use(path, how, mode, work);
        } catch (error) {
          how = flagsAgain(error, how, tries);
        }
      }
    });
  }

  async #use<T>(path: PathLike, flags: number, mode: number | string | null | undefined, work: Work<T>): Promise<T> {
    const file = await this.#open(path, flags, mode);
    try {
      return await work(file);
    } finally {
      file.close();
    }
  }
}
