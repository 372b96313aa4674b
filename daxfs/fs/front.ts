/** An open overlay: refuses use after `close`, knows its running jobs, moves small transfers at once and large ones elsewhere. */
import type { Overlay, PageCache } from '../../native/index.ts';
import { daxfsError } from '../errors.ts';
import { EAGAIN, EBUSY } from './fs-error.ts';

/** A copy of this size costs less than a thread. */
const inlineBytesMax = 64 * 1024;
const triesMax = 4;

const closed = () => daxfsError('DAXFS_CLOSED', 'The region is closed; open it again.');

export class Front {
  readonly kind: 'private' | 'kernel';
  readonly blockBytes: number;
  readonly fileBytesMax: number;
  readonly #overlay: Overlay;
  readonly #cache: PageCache | null;
  readonly #jobs = new Set<Promise<unknown>>();
  #closing = false;
  #closed = false;

  /** @param cache of a split or export image; closed with the front */
  constructor(overlay: Overlay, cache: PageCache | null = null) {
    this.#overlay = overlay;
    this.#cache = cache;
    ({ kind: this.kind, blockBytes: this.blockBytes, fileBytesMax: this.fileBytesMax } = overlay.facts());
  }

  /** @throws DaxfsError DAXFS_CLOSED */
  get overlay(): Overlay {
    if (this.#closed) throw closed();
    return this.#overlay;
  }

  /** Null where all bytes are in the image. @throws DaxfsError DAXFS_CLOSED */
  get cache(): PageCache | null {
    if (this.#closed) throw closed();
    return this.#cache;
  }

  /** Finishes what dead hosts left half done. @returns operations finished */
  recover(): number {
    return this.overlay.recover() + (this.#cache?.recover() ?? 0);
  }

  /** @throws DaxfsError DAXFS_CLOSED from the moment at which closing began */
  checkOpen(): void {
    if (this.#closing) throw closed();
  }

  /** An operation of several steps: closing waits for its end. */
  run<T>(work: () => Promise<T>): Promise<T> {
    this.checkOpen();
    return this.#track(work());
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
    const done = bytes.length <= inlineBytesMax ? this.overlay.readCached(ino, offset, bytes) : EAGAIN;
    return done === EAGAIN ? this.#track(this.overlay.read(ino, offset, bytes)) : done;
  }

  async write(ino: number, offset: number, bytes: Uint8Array): Promise<number> {
    if (this.#isInline(bytes)) return this.overlay.writeSync(ino, offset, bytes);
    return this.#track(this.overlay.write(ino, offset, bytes));
  }

  /** @returns where the bytes went, or a negative errno */
  async append(ino: number, bytes: Uint8Array): Promise<number> {
    if (this.#isInline(bytes)) return this.overlay.appendSync(ino, bytes);
    return this.#track(this.overlay.append(ino, bytes));
  }

  unlink(path: string | Uint8Array): Promise<number> {
    return this.#track(this.overlay.unlinkLater(path));
  }

  truncate(ino: number, size: number): Promise<number> {
    return this.#track(this.overlay.truncate(ino, size));
  }

  /** Resolves when nothing that has begun touches the memory any more. */
  async close(): Promise<void> {
    this.#closing = true;
    while (this.#jobs.size > 0) await Promise.allSettled(this.#jobs);
    this.#closed = true;
    this.#overlay.close();
    this.#cache?.close();
  }

  /** A write to a part of a base page may have to read a source file first. */
  #isInline(bytes: Uint8Array): boolean {
    return bytes.length <= inlineBytesMax && this.#cache === null;
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
