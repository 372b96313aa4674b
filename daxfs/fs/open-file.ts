/** An open file of the region, as the calls of a handle need it: in the overlay, or read-only in an image. */
import { constants } from 'node:fs';
import type { Front } from './front.ts';
import { count, fsError, value } from './fs-error.ts';
import { RegionStats } from './stats.ts';

/** Counts and offsets in bytes. Failures are thrown as FsError. */
export interface OpenFile {
  readonly path: string;
  readonly ino: number;
  stat(): RegionStats;
  read(position: number, bytes: Uint8Array): Promise<number>;
  readSync(position: number, bytes: Uint8Array): number;
  /** All bytes or none acknowledged; at the end when the file was opened with O_APPEND. @returns where they end */
  write(position: number, bytes: Uint8Array): Promise<number>;
  writeSync(position: number, bytes: Uint8Array): void;
  truncate(size: number): Promise<void>;
  truncateSync(size: number): void;
  chmod(mode: number): void;
  chown(uid: number, gid: number): void;
  close(): void;
}

const { O_ACCMODE = 3, O_RDONLY, O_WRONLY, O_APPEND } = constants as typeof constants & { O_ACCMODE?: number };

/** Knows the file by its inode number: a rename does not matter to it; after unlink see FS.md#limits. */
export class OverlayFile implements OpenFile {
  readonly path: string;
  readonly #front: Front;
  readonly ino: number;
  readonly #canRead: boolean;
  readonly #canWrite: boolean;
  readonly #appends: boolean;

  constructor(front: Front, path: string, ino: number, flags: number) {
    this.#front = front;
    this.path = path;
    this.ino = ino;
    this.#canRead = (flags & O_ACCMODE) !== O_WRONLY;
    this.#canWrite = (flags & O_ACCMODE) !== O_RDONLY;
    this.#appends = (flags & O_APPEND) !== 0;
  }

  stat(): RegionStats {
    return new RegionStats(value(this.#front.overlay.statInode(this.ino), 'fstat'), this.#front.blockBytes);
  }

  async read(position: number, bytes: Uint8Array): Promise<number> {
    this.#check(this.#canRead, 'read');
    return count(await this.#front.read(this.ino, position, bytes), 'read');
  }

  readSync(position: number, bytes: Uint8Array): number {
    this.#check(this.#canRead, 'read');
    return count(this.#front.overlay.readSync(this.ino, position, bytes), 'read');
  }

  async write(position: number, bytes: Uint8Array): Promise<number> {
    this.#check(this.#canWrite, 'write');
    const front = this.#front;
    if (this.#appends) return count(await front.append(this.ino, bytes), 'write') + bytes.length;
    count(await front.write(this.ino, position, bytes), 'write');
    return position + bytes.length;
  }

  writeSync(position: number, bytes: Uint8Array): void {
    this.#check(this.#canWrite, 'write');
    const { overlay } = this.#front;
    count(this.#appends ? overlay.appendSync(this.ino, bytes) : overlay.writeSync(this.ino, position, bytes), 'write');
  }

  async truncate(size: number): Promise<void> {
    if (!this.#canWrite) throw fsError('EINVAL', 'ftruncate');
    count(await this.#front.truncate(this.ino, size), 'ftruncate');
  }

  truncateSync(size: number): void {
    if (!this.#canWrite) throw fsError('EINVAL', 'ftruncate');
    count(
      this.#front.change((overlay) => overlay.truncateSync(this.ino, size)),
      'ftruncate',
    );
  }

  chmod(mode: number): void {
    count(
      this.#front.change((overlay) => overlay.chmod(this.ino, mode)),
      'fchmod',
    );
  }

  chown(uid: number, gid: number): void {
    count(
      this.#front.change((overlay) => overlay.chown(this.ino, uid, gid)),
      'fchown',
    );
  }

  close(): void {}

  #check(allowed: boolean, syscall: string): void {
    if (!allowed) throw fsError('EBADF', syscall);
  }
}
