/** An open overlay: refuses use after `close`, knows its running jobs, moves small transfers at once and large ones elsewhere. */
import type { Overlay } from '../../native/index.ts';
import { daxfsError } from '../errors.ts';
import { EAGAIN, EBUSY } from './fs-error.ts';

/** A copy of this size costs less than a thread. */
const inlineBytesMax = 64 * 1024;
const triesMax = 4;

export class Front {
  readonly kind: 'private' | 'kernel';
  readonly blockBytes: number;
  readonly fileBytesMax: number;
  readonly #overlay: Overlay;
  readonly #jobs = new Set<Promise<unknown>>();
  #closed = false;

  constructor(overlay: Overlay) {
    this.#overlay = overlay;
    ({ kind: this.kind, blockBytes: this.blockBytes, fileBytesMax: this.fileBytesMax } = overlay.facts());
  }

  /** @throws DaxfsError DAXFS_CLOSED */
  get overlay(): Overlay {
    if (this.#closed) throw daxfsError('DAXFS_CLOSED', 'The region is closed; open it again.');
    return this.#overlay;
  }

  /** Runs a change; one that meets a dead host's half-done work finishes that first. */
  change<T>(work: (overlay: Overlay) => T | number): T | number {
    let result = work(this.overlay);
    for (let tries = 1; tries < triesMax && (result === EBUSY || result === EAGAIN); tries += 1) {
      this.overlay.recover();
      result = work(this.overlay);
    }
    return result;
  }

  async read(ino: number, offset: number, bytes: Uint8Array): Promise<number> {
    if (bytes.length <= inlineBytesMax) return this.overlay.readSync(ino, offset, bytes);
    return this.#track(this.overlay.read(ino, offset, bytes));
  }

  async write(ino: number, offset: number, bytes: Uint8Array): Promise<number> {
    if (bytes.length <= inlineBytesMax) return this.overlay.writeSync(ino, offset, bytes);
    return this.#track(this.overlay.write(ino, offset, bytes));
  }

  /** @returns where the bytes went, or a negative errno */
  async append(ino: number, bytes: Uint8Array): Promise<number> {
    if (bytes.length <= inlineBytesMax) return this.overlay.appendSync(ino, bytes);
    return this.#track(this.overlay.append(ino, bytes));
  }

  truncate(ino: number, size: number): Promise<number> {
    return this.#track(this.overlay.truncate(ino, size));
  }

  /** Resolves when no job touches the memory any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#jobs);
    this.#overlay.close();
  }

  async #track<T>(job: Promise<T>): Promise<T> {
    this.#jobs.add(job);
    try {
      return await job;
    } finally {
      this.#jobs.delete(job);
    }
  }
}
