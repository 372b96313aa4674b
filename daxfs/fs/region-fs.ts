/** Files of a region with promises. Large transfers run on native threads; the rest is done at once. */
import { constants } from 'node:fs';
import { open as openHost } from 'node:fs/promises';
import { argumentError, bytesOf, flagsOf, modeOf, optionsOf, type PathLike } from './arguments.ts';
import { type ReadFileOptions, RegionFileHandle, readWhole, type WriteFileOptions } from './file-handle.ts';
import { count, fsError } from './fs-error.ts';
import type { OpenFile } from './open-file.ts';
import { type MakeDirectoryOptions, type ReadDirectoryOptions, RegionFsSync } from './region-fs-sync.ts';
import type { RegionDirent, RegionStats } from './stats.ts';

export interface RemoveOptions {
  recursive?: boolean | undefined;
  /** What does not exist is no error. */
  force?: boolean | undefined;
}

const { O_TRUNC, COPYFILE_EXCL } = constants;
/** Bytes in flight of a copy. */
const copyBytes = 4 * 2 ** 20;

type Sized = Pick<OpenFile, 'read' | 'write'>;

/** Copies until the source ends. */
async function copyBytesOf(from: Pick<Sized, 'read'>, to: Pick<Sized, 'write'>): Promise<void> {
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
  async stat(path: PathLike): Promise<RegionStats> {
    return this.statSync(path);
  }

  async lstat(path: PathLike): Promise<RegionStats> {
    return this.lstatSync(path);
  }

  async access(path: PathLike, mode?: number): Promise<void> {
    this.accessSync(path, mode);
  }

  readdir(
    path: PathLike,
    options: ReadDirectoryOptions & { withFileTypes: true; encoding: 'buffer' },
  ): Promise<RegionDirent<Buffer>[]>;
  readdir(path: PathLike, options: ReadDirectoryOptions & { withFileTypes: true }): Promise<RegionDirent[]>;
  readdir(path: PathLike, options: (ReadDirectoryOptions & { encoding: 'buffer' }) | 'buffer'): Promise<Buffer[]>;
  readdir(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | null): Promise<string[]>;
  async readdir(path: PathLike, options?: ReadDirectoryOptions | BufferEncoding | 'buffer' | null): Promise<unknown> {
    return this.readdirSync(path, options as ReadDirectoryOptions);
  }

  async mkdir(path: PathLike, options?: MakeDirectoryOptions | number | string): Promise<string | undefined> {
    return this.mkdirSync(path, options);
  }

  async rmdir(path: PathLike): Promise<void> {
    this.rmdirSync(path);
  }

  async unlink(path: PathLike): Promise<void> {
    this.unlinkSync(path);
  }

  async rename(from: PathLike, to: PathLike): Promise<void> {
    this.renameSync(from, to);
  }

  async symlink(target: PathLike, path: PathLike): Promise<void> {
    this.symlinkSync(target, path);
  }

  async readlink(path: PathLike): Promise<string> {
    return this.readlinkSync(path);
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
  async open(path: PathLike, flags: string | number = 'r', mode?: number | string): Promise<RegionFileHandle> {
    return new RegionFileHandle(await this.#open(path, flagsOf(flags), mode));
  }

  readFile(path: PathLike, options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(path: PathLike, options?: ReadFileOptions & { encoding?: null }): Promise<Buffer>;
  async readFile(path: PathLike, options?: ReadFileOptions | BufferEncoding): Promise<string | Buffer> {
    const { encoding, flag } = optionsOf(options);
    const bytes = await this.#with(path, flagsOf(flag ?? 'r'), undefined, readWhole);
    return encoding ? bytes.toString(encoding) : bytes;
  }

  async writeFile(
    path: PathLike,
    data: string | Uint8Array,
    options?: WriteFileOptions | BufferEncoding,
  ): Promise<void> {
    const { encoding, mode, flag } = optionsOf(options);
    const bytes = bytesOf(data, encoding);
    await this.#with(path, flagsOf(flag ?? 'w'), mode, async (file) => {
      if (bytes.length > 0) await file.write(0, bytes);
    });
  }

  /** Appends of all processes lie one after another. */
  async appendFile(
    path: PathLike,
    data: string | Uint8Array,
    options?: WriteFileOptions | BufferEncoding,
  ): Promise<void> {
    await this.writeFile(path, data, { flag: 'a', ...optionsOf(options) });
  }

  async truncate(path: PathLike, length = 0): Promise<void> {
    await this.#with(path, flagsOf('r+'), undefined, (file) => file.truncate(Math.max(0, length)));
  }

  /** Within the region; the source may lie under /models. @param mode COPYFILE_EXCL refuses an existing target */
  async copyFile(from: PathLike, to: PathLike, mode = 0): Promise<void> {
    await this.#with(from, flagsOf('r'), undefined, (source) => this.#copyTo(source, to, mode, source.stat().mode));
  }

  /** Copies a file of the host's file system into the region; permissions too. */
  async importFile(hostPath: string, path: PathLike, mode = 0): Promise<void> {
    const host = await openHost(hostPath, 'r');
    try {
      const read = async (at: number, bytes: Uint8Array) => (await host.read(bytes, 0, bytes.length, at)).bytesRead;
      await this.#copyTo({ read }, path, mode, (await host.stat()).mode);
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
              done += (await host.write(bytes, done, bytes.length - done, at! + done)).bytesWritten;
            }
          },
        });
      } finally {
        await host.close();
      }
    });
  }

  /** Files and, with `recursive`, directories with all that is in them; what others put in meanwhile is removed too. */
  async rm(path: PathLike, { recursive = false, force = false }: RemoveOptions = {}): Promise<void> {
    const stat = this.lstatSync(path, { throwIfNoEntry: false });
    if (!stat) {
      if (force) return;
      throw fsError('ENOENT', 'rm', path);
    }
    if (!stat.isDirectory()) return this.unlinkSync(path);
    if (!recursive) {
      throw argumentError('ERR_FS_EISDIR', `Path is a directory: rm returned EISDIR (is a directory) ${path}`);
    }
    await this.#removeTree(path);
  }

  async #removeTree(path: PathLike): Promise<void> {
    for (;;) {
      for (const entry of this.readdirSync(path, { withFileTypes: true, encoding: 'buffer' })) {
        const below = Buffer.concat([Buffer.from(path), Buffer.from('/'), entry.name]);
        if (entry.isDirectory()) await this.#removeTree(below);
        else this.#ignoreMissing(() => this.unlinkSync(below));
      }
      const done = this.#ignoreMissing(() => this.rmdirSync(path));
      if (done) return;
    }
  }

  /** False: somebody has put something in. */
  #ignoreMissing(remove: () => void): boolean {
    try {
      remove();
      return true;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === 'ENOENT') return true;
      if (code === 'ENOTEMPTY') return false;
      throw error;
    }
  }

  async #copyTo(source: Pick<Sized, 'read'>, to: PathLike, mode: number, bits: number): Promise<void> {
    const flags = flagsOf((mode & COPYFILE_EXCL) === 0 ? 'w' : 'wx');
    await this.#with(to, flags, bits & 0o7777, (target) => copyBytesOf(source, target));
  }

  /** A large file is emptied on a native thread. */
  async #open(path: PathLike, flags: number, mode?: number | string): Promise<OpenFile> {
    const truncates = (flags & O_TRUNC) !== 0 && this.viewOf(path) === null;
    const file = this.openSync(path, truncates ? flags & ~O_TRUNC : flags, modeOf(mode, 0o666));
    if (truncates && file.stat().size > 0) count(await this.front.truncate(file.stat().ino, 0), 'open', path);
    return file;
  }

  async #with<T>(
    path: PathLike,
    flags: number,
    mode: number | string | undefined,
    work: (file: OpenFile) => Promise<T>,
  ): Promise<T> {
    const file = await this.#open(path, flags, mode);
    try {
      return await work(file);
    } finally {
      file.close();
    }
  }
}
