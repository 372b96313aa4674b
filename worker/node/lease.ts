/** The lease: the open connection, its event lines, and the way back when the service restarts. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaxserveError } from './errors.ts';
import type { JsonObject } from './fields.ts';
import { covers, type Handle, parseHandle } from './handle.ts';
import { type Answer, closeAll, exchange, parseEvent } from './protocol.ts';

export type LeaseEvent = 'draining' | 'detached' | 'reattached';

export interface LeaseOptions {
  readonly path: string;
  readonly handle: Handle;
  /** The line that attaches again, by digest. */
  readonly request: JsonObject;
  readonly timeoutMs: number;
  readonly emit: (event: LeaseEvent) => void;
}

const EVENT_CHARACTERS_MAX = 2 ** 20;
/** The service is back and our content no longer has the name. */
const GONE_CODES = new Set(['MODEL_MISMATCH', 'MODEL_NOT_FOUND']);
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 10_000;

/** Owns the connection. Neither the socket nor the pauses keep the process alive. */
export class Lease {
  readonly #options: LeaseOptions;
  readonly #ending = new AbortController();
  #socket: Socket | undefined;
  #draining = false;

  constructor(fd: number, options: LeaseOptions) {
    this.#options = options;
    this.#listen(fd);
  }

  get attached(): boolean {
    return this.#socket !== undefined;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Ends the lease; resolves when the connection is closed. Idempotent. */
  close(): Promise<void> {
    this.#ending.abort();
    const socket = this.#socket;
    if (!socket) return Promise.resolve();
    this.#socket = undefined;
    return new Promise((resolve) => socket.once('close', () => resolve()).destroy());
  }

  #listen(fd: number): void {
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#socket = socket;
    socket.unref();
    socket.setEncoding('utf8');
    let pending = '';
    socket.on('data', (text: string) => {
      const lines = (pending + text).split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) this.#take(parseEvent(line));
      if (pending.length > EVENT_CHARACTERS_MAX) socket.destroy();
    });
    // 'close' follows and tells the rest.
    socket.on('error', () => {});
    socket.on('close', () => this.#lost(socket));
  }

  #take(event: string | undefined): void {
    if (event !== 'draining' || this.#draining) return;
    this.#draining = true;
    this.#options.emit('draining');
  }

  #lost(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    this.#options.emit('detached');
    void this.#comeBack();
  }

  /** Attaches again with growing pauses, until closed or there is nothing to come back to. */
  async #comeBack(): Promise<void> {
    const { path, request, timeoutMs } = this.#options;
    const { signal } = this.#ending;
    for (let pause = FIRST_PAUSE_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        await sleep(pause * (0.5 + Math.random() / 2), undefined, { signal, ref: false });
        return this.#accept(await exchange(path, request, { timeoutMs, signal }));
      } catch (error) {
        // Not back yet, or closed meanwhile; the loop's condition tells.
        if (error instanceof DaxserveError && GONE_CODES.has(error.code)) this.#take('draining');
      }
    }
  }

  #accept(answer: Answer): void {
    // The old mapping keeps the old descriptor's lock; the new descriptor is not needed.
    closeAll(answer.fds);
    if (this.#ending.signal.aborted || !this.#covered(answer.handle)) {
      closeSync(answer.socket);
      return;
    }
    this.#listen(answer.socket);
    this.#options.emit('reattached');
  }

  /** False when the content lies elsewhere now: a lease on that would guard bytes that nobody here reads. */
  #covered(raw: JsonObject): boolean {
    try {
      return covers(parseHandle(raw), this.#options.handle);
    } catch {
      return false;
    }
  }
}
