/** What all calls on paths need: where a path leads, open files, attributes, changes. */
import { constants } from 'node:fs';
import type { Overlay } from '../../native/index.ts';
import { checkPath, type PathLike, textOf as text } from './arguments.ts';
import type { Front } from './front.ts';
import { count, ENOENT, fsError, value } from './fs-error.ts';
import { MODELS, type ModelsView } from './models-view.ts';
import { type OpenFile, OverlayFile } from './open-file.ts';
import { flagsAgain, lookAgainMax } from './replaced.ts';
import { RegionStats } from './stats.ts';

const { O_CREAT, O_TRUNC, O_WRONLY, O_RDWR } = constants;

/** Nothing of it is for callers. */
export class RegionFsCore {
  protected readonly front: Front;
  protected readonly models: ModelsView | null;

  /** @param models null: an image, which has no registry */
  constructor(front: Front, models: ModelsView | null) {
    this.front = front;
    this.models = models;
  }

  /** @param flags O_* bits */
  protected openSync(path: PathLike, flags: number, mode = 0o666): OpenFile {
    const parts = this.viewOf(path);
    if (parts) return this.#openModel(parts, path, flags);
    const [uid, gid] = this.ids();
    const bits = mode & ~process.umask();
    const opened = this.front.change((overlay) => overlay.open(path, flags, bits, uid, gid));
    return new OverlayFile(this.front, text(path), value(opened, 'open', path).ino, flags);
  }

  /** The parts below /models, where the path leads there; also checks the path and that the region is open. */
  protected viewOf(path: PathLike): string[] | null {
    checkPath(path);
    this.front.checkOpen();
    if (!this.models) return null;
    const parts: string[] = [];
    for (const part of text(path).split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '' && part !== '.') parts.push(part);
    }
    return parts[0] === MODELS ? parts.slice(1) : null;
  }

  /** @throws FsError EROFS under /models */
  protected changing(path: PathLike, syscall: string, dest?: PathLike): void {
    if (this.viewOf(path)) throw fsError('EROFS', syscall, path, dest);
  }

  #openModel(parts: string[], path: PathLike, flags: number): OpenFile {
    if ((flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) !== 0) throw fsError('EROFS', 'open', path);
    return this.models!.open(parts, text(path));
  }

  /** @returns undefined where nothing is, with `throwIfNoEntry` false */
  protected statAt(path: PathLike, follow: boolean, syscall: string, throwIfNoEntry = true): RegionStats | undefined {
    const parts = this.viewOf(path);
    if (parts) return this.#statModel(parts, path, syscall, throwIfNoEntry);
    const found = this.front.overlay.stat(path, follow);
    if (found === ENOENT && !throwIfNoEntry) return undefined;
    return new RegionStats(value(found, syscall, path), this.front.blockBytes);
  }

  #statModel(parts: string[], path: PathLike, syscall: string, throwIfNoEntry: boolean): RegionStats | undefined {
    try {
      return this.models!.stat(parts, syscall, text(path));
    } catch (error) {
      if (throwIfNoEntry || (error as { code?: string }).code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  /** Work on the inode that the path leads to. */
  protected changeAt(
    path: PathLike,
    follow: boolean,
    syscall: string,
    work: (overlay: Overlay, ino: number) => number,
  ): void {
    this.changing(path, syscall);
    for (let tries = 1; ; tries += 1) {
      const { ino } = this.statAt(path, follow, syscall)!;
      const done = this.front.change((overlay) => work(overlay, ino));
      if (done === ENOENT && tries < lookAgainMax) continue;
      count(done, syscall, path);
      return;
    }
  }

  /** Work that is done over when another file takes the name meanwhile. */
  protected wholeSync<T>(path: PathLike, flags: number, mode: number | undefined, work: (file: OpenFile) => T): T {
    let how = flags;
    for (let tries = 1; ; tries += 1) {
      const file = this.openSync(path, how, mode);
      try {
        return work(file);
      } catch (error) {
        how = flagsAgain(error, how, tries);
      } finally {
        file.close();
      }
    }
  }

  /** Who makes a file: its owner and group. */
  protected ids(): [number, number] {
    return [process.geteuid!(), process.getegid!()];
  }
}
