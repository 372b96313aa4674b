/** The mapped windows: each one mmap and one ArrayBuffer, so that no two live buffers share an address. */
import { fstatSync } from 'node:fs';
import { type Mapping, native } from '../../native/index.ts';
import { workerError } from './errors.ts';
import type { Handle } from './handle.ts';
import type { Span } from './window-plan.ts';

interface Window extends Span {
  readonly mapping: Mapping;
  /** Where the mapping begins in the region. */
  readonly mapStart: number;
}

export class Windows {
  readonly #windows: Window[] = [];

  /**
   * Maps every span read-only; `fd` may be closed afterwards, the mappings keep its lock.
   * @throws DaxserveError WORKER_BAD_HANDLE the descriptor is smaller than the handle says, WORKER_MAP_FAILED
   */
  constructor(fd: number, handle: Handle, spans: readonly Span[]) {
    checkSize(fd, handle, spans);
    try {
      for (const span of spans) this.#windows.push(openWindow(fd, handle, span));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes [offset, offset + length) of the region, in as many pieces as they have windows. */
  parts(offset: number, length: number): Uint8Array[] {
    return this.#pieces(offset, length, ({ mapping, start, end, mapStart }, at, take) => {
      return new Uint8Array(mapping.window(start - mapStart, end - start), at - start, take);
    });
  }

  /**
   * As `parts`, each piece in an ArrayBuffer of its own length: V8 counts the length of a buffer as memory in use, and
   * collects garbage for 10 ms when a large one appears. Ranges asked for must be equal or apart, here and in `parts`.
   */
  ownParts(offset: number, length: number): Uint8Array[] {
    return this.#pieces(offset, length, ({ mapping, mapStart }, at, take) => {
      return new Uint8Array(mapping.window(at - mapStart, take));
    });
  }

  #pieces(
    offset: number,
    length: number,
    view: (window: Window, at: number, take: number) => Uint8Array,
  ): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (let index = this.#indexOf(offset); length > 0; index++) {
      const window = this.#windows[index];
      if (!window) throw new RangeError('bytes outside the mapped windows');
      const take = Math.min(length, window.end - offset);
      pieces.push(view(window, offset, take));
      offset += take;
      length -= take;
    }
    return pieces;
  }

  /** Unmaps; every view becomes empty. Idempotent. */
  close(): void {
    for (const window of this.#windows.splice(0)) window.mapping.close();
  }

  /** The last window that begins at or before `offset`. */
  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#windows.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.#windows[middle]!.start <= offset) low = middle;
      else high = middle;
    }
    return low;
  }
}

function openWindow(fd: number, handle: Handle, span: Span): Window {
  const { mapAlignment, regionSize } = handle;
  const mapStart = span.start - (span.start % mapAlignment);
  const mapEnd = Math.min(Math.ceil(span.end / mapAlignment) * mapAlignment, regionSize);
  try {
    return { ...span, mapStart, mapping: new native.Mapping(fd, mapStart, mapEnd - mapStart, {}) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw workerError('WORKER_MAP_FAILED', `The region could not be mapped (${reason}): check ulimit -v.`, error);
  }
}

function checkSize(fd: number, handle: Handle, spans: readonly Span[]): void {
  const stat = fstatSync(fd);
  const needed = spans.at(-1)?.end ?? 0;
  if (!stat.isFile() || stat.size >= Math.min(needed, handle.regionSize)) return;
  const message = `it needs ${needed} bytes, its descriptor has ${stat.size}`;
  throw workerError('WORKER_BAD_HANDLE', `The service sent a handle that cannot be used: ${message}.`);
}
