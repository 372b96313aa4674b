/** One worker's connection: a line in, a line with descriptors out, then a lease for as long as it stays open. */
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import { native } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Metrics } from '../metrics.ts';
import { jsonPieces } from '../paced-json.ts';
import { stopping, toDaxfsError } from '../problem.ts';
import type { GrantedHandle } from '../services.ts';
import { attach, type Peer } from './attach.ts';
import { parseRequest } from './request.ts';

export const LINE_BYTES_MAX = 64 * 1024;
const SEND_TRIES_MAX = 200;
const SEND_PAUSE_MS = 25;
/** A refused peer has this long to read why. */
const LINGER_MS = 1000;

export interface ConnectionDeps {
  lifecycle: Lifecycle;
  metrics: Metrics;
  logger: FastifyBaseLogger;
  /** A peer that has not sent its line by then is refused. */
  lineTimeoutMs: number;
}

/** The descriptor of a socket; Node has no public way to it. @throws when this Node hides it */
export function descriptorOf(socket: Socket): number {
  const { _handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  const fd = _handle?.fd;
  if (typeof fd !== 'number' || fd < 0) throw new Error('this Node.js does not tell the descriptor of a socket');
  return fd;
}

export class Connection {
  readonly #socket: Socket;
  readonly #peer: Peer;
  readonly #deps: ConnectionDeps;
  readonly #gone = new AbortController();
  readonly #deadline: NodeJS.Timeout;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #state: 'line' | 'working' | 'leased' | 'closing' = 'line';
  #leaseId: string | null = null;

  constructor(socket: Socket, peer: Peer, deps: ConnectionDeps) {
    this.#socket = socket;
    this.#peer = peer;
    this.#deps = deps;
    this.#deadline = setTimeout(
      () => this.refuse(serverError('SOCKET_IDLE', 'No line came in time; send one line right after connecting.')),
      deps.lineTimeoutMs,
    );
    socket.on('data', (bytes: Buffer) => this.#onData(bytes));
    socket.on('error', () => {}); // 'close' follows, and that is where a lost peer is handled
    socket.once('close', () => this.#onClose());
  }

  /** Id of the lease that this connection holds. */
  get leaseId(): string | null {
    return this.#leaseId;
  }

  /** Tells the worker that its model starts to drain. */
  sendDraining(): void {
    if (this.#state === 'leased') this.#socket.write('{"event":"draining"}\n');
  }

  /** One error line, then the end. */
  refuse(thrown: unknown): void {
    if (this.#state === 'closing') return;
    this.#state = 'closing';
    clearTimeout(this.#deadline);
    this.#gone.abort(thrown);
    const error = toDaxfsError(thrown);
    if (error.code === 'SERVER_INTERNAL') this.#deps.logger.error({ err: thrown }, 'socket.failed');
    const body = { ...error.extra, ok: false, code: error.code, error: error.message };
    this.#socket.end(`${JSON.stringify(body)}\n`);
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
  }

  /** Ends a lease without a word, as a lost service would; whoever still waits is told to come back. */
  close(): void {
    if (this.#state === 'leased') this.#cut();
    else this.refuse(stopping());
  }

  #cut(): void {
    this.#state = 'closing';
    this.#socket.destroy();
  }

  #onClose(): void {
    this.#state = 'closing';
    clearTimeout(this.#deadline);
    this.#gone.abort(new Error('the worker closed the connection'));
    this.#release();
  }

  #release(): void {
    const id = this.#leaseId;
    this.#leaseId = null;
    if (id === null) return;
    this.#deps.lifecycle
      .peek()
      ?.leases.release(id)
      // Released over HTTP, or with all others, meanwhile: nothing is left to do.
      .catch((error: unknown) => this.#deps.logger.debug({ err: error }, 'socket.release'));
  }

  #onData(bytes: Buffer): void {
    if (this.#state === 'closing') return;
    if (this.#state !== 'line') {
      this.refuse(serverError('SOCKET_BAD_LINE', 'A connection carries one request; open another one.'));
      return;
    }
    const end = bytes.indexOf(10);
    const lineBytes = this.#receivedBytes + (end < 0 ? bytes.length : end);
    if (lineBytes > LINE_BYTES_MAX) {
      this.refuse(serverError('SOCKET_LINE_TOO_LONG', `A line has at most ${LINE_BYTES_MAX} bytes.`));
      return;
    }
    this.#received.push(end < 0 ? bytes : bytes.subarray(0, end));
    this.#receivedBytes = lineBytes;
    if (end < 0) return;
    if (end + 1 < bytes.length)
      this.refuse(serverError('SOCKET_BAD_LINE', 'A connection carries one line; open another one.'));
    else void this.#onLine(Buffer.concat(this.#received));
    this.#received = [];
  }

  async #onLine(line: Buffer): Promise<void> {
    this.#state = 'working';
    clearTimeout(this.#deadline);
    try {
      const { lifecycle, metrics } = this.#deps;
      const request = parseRequest(line);
      const gone = AbortSignal.any([this.#gone.signal, lifecycle.endSignal]);
      const { granted, startedAt } = await attach(lifecycle.services, request, this.#peer, metrics, gone);
      await this.#hand(granted);
      metrics.observeAttach(granted.handle.kind, Number(process.hrtime.bigint() - startedAt) / 1e9);
    } catch (error) {
      this.refuse(error);
    }
  }

  /** Sends the handle; from here on the lease ends with the connection. */
  async #hand({ handle, fds }: GrantedHandle): Promise<void> {
    this.#leaseId = handle.id;
    try {
      if (this.#closed()) return this.#release();
      const { token: _, ...shown } = handle;
      let first = true;
      for await (const piece of jsonPieces({ ok: true, handle: shown }, '\n')) {
        if (first) await this.#send(piece, fds);
        else await this.#sendRest(piece);
        first = false;
        if (this.#closed()) break;
      }
      if (this.#state === 'working') this.#state = 'leased';
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  #closed(): boolean {
    return this.#state === 'closing' || this.#socket.destroyed;
  }

  /**
   * Descriptors ride on the first bytes, which go past Node's own queue: nothing of ours may be in it by then.
   * The rest of a long line follows through the queue.
   */
  async #send(data: Buffer, fds: number[]): Promise<void> {
    for (let tries = 0; tries < SEND_TRIES_MAX; tries++) {
      if (this.#closed()) return;
      if (this.#socket.writableLength === 0) {
        const sent = native.sendFds(descriptorOf(this.#socket), data, fds);
        if (sent >= 0) return this.#sendRest(data.subarray(sent));
      }
      await sleep(SEND_PAUSE_MS, undefined, { ref: false });
    }
    throw serverError('SOCKET_SLOW_PEER', 'The worker does not read its answer; connect again.');
  }

  async #sendRest(data: Buffer): Promise<void> {
    if (data.length === 0 || this.#closed()) return;
    // Half a line was sent, so an error line would only be garbage to the peer.
    const slow = setTimeout(() => this.#cut(), SEND_TRIES_MAX * SEND_PAUSE_MS).unref();
    await new Promise<void>((resolve) => this.#socket.write(data, () => resolve()));
    clearTimeout(slow);
  }
}
