/** The worker socket: connect, one JSON line, one JSON line back with descriptors. */
import { closeSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { native, type Received } from '../../native/index.ts';
import { DaxserveError, type WorkerErrorCode, workerError } from './errors.ts';
import { isObject, type JsonObject } from './fields.ts';

/** A granted handle. The caller owns the socket (the lease) and the descriptors. */
export interface Answer {
  readonly socket: number;
  readonly handle: JsonObject;
  readonly fds: readonly number[];
}

export interface ExchangeOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Longest answer taken: a handle that lists a million files. */
const ANSWER_BYTES_MAX = 64 * 2 ** 20;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;
const RETRY_CODES = new Set(['WORKER_NO_SERVICE', 'WORKER_LOST', 'SERVER_STARTING', 'SERVER_STOPPING']);

/** `$DAXSERVE_SOCKET`, else the system's socket if it exists, else the user's. */
export function defaultSocketPath(env: NodeJS.ProcessEnv = process.env): string {
  if (env.DAXSERVE_SOCKET) return env.DAXSERVE_SOCKET;
  const system = '/run/daxserve/daxserve.sock';
  const runtime = env.XDG_RUNTIME_DIR;
  return existsSync(system) || !runtime ? system : join(runtime, 'daxserve', 'daxserve.sock');
}

/** One request and its answer. @throws DaxserveError; the signal's reason when aborted */
export async function exchange(path: string, request: JsonObject, options: ExchangeOptions): Promise<Answer> {
  const { timeoutMs, signal } = options;
  signal?.throwIfAborted();
  const socket = await connect(path, timeoutMs);
  const stop = () => native.shutDown(socket);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    const received = await talk(socket, JSON.stringify(request), timeoutMs);
    return accept(socket, received, signal);
  } catch (error) {
    closeSync(socket);
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** `exchange`, tried again for `waitSeconds` while the service is not there yet or restarts. */
export async function exchangeWaiting(
  path: string,
  request: JsonObject,
  waitSeconds: number,
  options: ExchangeOptions,
): Promise<Answer> {
  const deadline = performance.now() + waitSeconds * 1000;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const leftMs = Math.max(0, deadline - performance.now());
    const waiting = waitSeconds > 0 ? { wait: true, timeoutSeconds: Math.max(leftMs, 1) / 1000 } : {};
    try {
      return await exchange(path, { ...request, ...waiting }, { ...options, timeoutMs: options.timeoutMs + leftMs });
    } catch (error) {
      const again = error instanceof DaxserveError && RETRY_CODES.has(error.code);
      if (!again || performance.now() + pause >= deadline) throw error;
    }
    await sleep(pause, undefined, { signal: options.signal }).catch(() => options.signal?.throwIfAborted());
  }
}

/** The name of an event line, or undefined for anything that is not one. */
export function parseEvent(line: string): string | undefined {
  const value = parseJson(line);
  return isObject(value) && typeof value.event === 'string' ? value.event : undefined;
}

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}

async function connect(path: string, timeoutMs: number): Promise<number> {
  try {
    return await native.connectUnix(path, Math.ceil(timeoutMs));
  } catch (error) {
    throw workerError('WORKER_NO_SERVICE', unreachable(path, errnoOf(error)), error);
  }
}

function unreachable(path: string, errno: string): string {
  if (errno === 'EACCES' || errno === 'EPERM') {
    return `This user may not open the worker socket ${path}: ask for --allow-uid or --socket-group on the service.`;
  }
  return `No daxserve service answers on ${path} (${errno}): start one, or set DAXSERVE_SOCKET to its socket.`;
}

const TALK_ERRORS: Readonly<Record<string, { code: WorkerErrorCode; message: string }>> = {
  ETIMEDOUT: {
    code: 'WORKER_TIMEOUT',
    message: 'The service did not answer in time: give a longer timeoutMs, or wait for a loading model.',
  },
  EMSGSIZE: { code: 'WORKER_BAD_ANSWER', message: `The service answered with more than ${ANSWER_BYTES_MAX} bytes.` },
  EMFILE: {
    code: 'WORKER_BAD_ANSWER',
    message: 'The service sent more descriptors than this process has room for: check ulimit -n.',
  },
};

async function talk(socket: number, line: string, timeoutMs: number): Promise<Received> {
  try {
    return await native.exchangeLine(socket, line, ANSWER_BYTES_MAX, Math.ceil(timeoutMs));
  } catch (error) {
    const errno = errnoOf(error);
    const known = TALK_ERRORS[errno];
    if (known) throw workerError(known.code, known.message, error);
    throw workerError('WORKER_LOST', `The connection to the service broke (${errno}): try again.`, error);
  }
}

function accept(socket: number, received: Received, signal: AbortSignal | undefined): Answer {
  try {
    signal?.throwIfAborted();
    return { socket, handle: parseAnswer(received.data), fds: received.fds };
  } catch (error) {
    closeAll(received.fds);
    throw error;
  }
}

function parseAnswer(data: Uint8Array): JsonObject {
  const answer = parseJson(decode(data));
  if (!isObject(answer)) {
    throw workerError('WORKER_BAD_ANSWER', "The service's answer is not a JSON object: is this daxserve's socket?");
  }
  if (answer.ok === true && isObject(answer.handle)) return answer.handle;
  if (answer.ok === false && typeof answer.code === 'string') {
    throw new DaxserveError(answer.code, typeof answer.error === 'string' ? answer.error : 'The service refused.');
  }
  const message = "The service's answer is neither a handle nor an error: is this daxserve's socket?";
  throw workerError('WORKER_BAD_ANSWER', message);
}

function decode(data: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(data);
  } catch {
    return '';
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
