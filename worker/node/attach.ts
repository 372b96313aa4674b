/** The entry points: attach by name, or by a handle that somebody reserved over HTTP. */
import { closeSync } from 'node:fs';
import { workerError } from './errors.ts';
import type { JsonObject } from './fields.ts';
import { type Handle, locate, MANIFEST_PATH, parseHandle } from './handle.ts';
import { Lease } from './lease.ts';
import { type Manifest, parseManifest } from './manifest.ts';
import { Model, type ModelParts } from './model.ts';
import { type Answer, closeAll, defaultSocketPath, exchange, exchangeWaiting } from './protocol.ts';
import { planWindows } from './window-plan.ts';
import { Windows } from './windows.ts';

export interface AttachHandleOptions {
  /** Path of the worker socket; default `$DAXSERVE_SOCKET`, `/run/daxserve/daxserve.sock` if it exists, else
   *  `$XDG_RUNTIME_DIR/daxserve/daxserve.sock`. */
  socket?: string;
  /** Milliseconds to wait for an answer, on top of `wait`; default 10,000. */
  timeoutMs?: number;
  /** Gives up; `attach` rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface AttachOptions extends AttachHandleOptions {
  /** Seconds to wait for the service to be there and for the model to become ready; true = 600; default: do not wait. */
  wait?: boolean | number;
  /** Loads the model from here when the service does not know it; combine with `wait`. */
  source?: string;
  /** Only the files that hold these tensors, and only these names in `tensors`. */
  tensors?: readonly string[];
  /** Only these files. */
  files?: readonly string[];
  /** Refuse another revision. */
  revision?: string;
  /** Refuse another content. */
  digest?: string;
}

const WAIT_SECONDS = 600;
const TIMEOUT_MS = 10_000;
/** What one poll of the operating system can wait. */
const WAIT_SECONDS_MAX = 1_000_000;

/**
 * Attaches to a model that the service holds and maps its bytes; the time does not depend on its size.
 * @param model `name[:tag]`
 * @throws DaxserveError with the service's code (MODEL_NOT_FOUND, MODEL_NOT_READY, ...) or one of WORKER_ERRORS
 */
export async function attach(model: string, options: AttachOptions = {}): Promise<Model> {
  const { socket, timeoutMs = TIMEOUT_MS, signal, wait = false, ...rest } = options;
  const waitSeconds = wait === true ? WAIT_SECONDS : Number(wait);
  checkTimes(waitSeconds, timeoutMs);
  const path = socket ?? defaultSocketPath();
  const request = { v: 1, op: 'attach', model, ...rest };
  const answer = await exchangeWaiting(path, request, waitSeconds, { timeoutMs, signal });
  return openModel(answer, { path, timeoutMs, tensors: options.tensors, files: options.files });
}

/**
 * Attaches to a handle made by `POST /models/{name}/handles`, before its TTL ends. Takes each handle once.
 * @param token from the answer that created the handle
 * @throws DaxserveError HANDLE_NOT_FOUND, HANDLE_EXPIRED, HANDLE_BAD_TOKEN, HANDLE_ATTACHED or one of WORKER_ERRORS
 */
export async function attachHandle(id: string, token: string, options: AttachHandleOptions = {}): Promise<Model> {
  const { socket, timeoutMs = TIMEOUT_MS, signal } = options;
  checkTimes(0, timeoutMs);
  const path = socket ?? defaultSocketPath();
  const answer = await exchange(path, { v: 1, op: 'attach', handle: id, token }, { timeoutMs, signal });
  return openModel(answer, { path, timeoutMs });
}

interface OpenOptions {
  path: string;
  timeoutMs: number;
  tensors?: readonly string[] | undefined;
  files?: readonly string[] | undefined;
}

function checkTimes(waitSeconds: number, timeoutMs: number): void {
  if (
    !(waitSeconds >= 0 && waitSeconds <= WAIT_SECONDS_MAX) ||
    !(timeoutMs > 0 && timeoutMs <= 1000 * WAIT_SECONDS_MAX)
  )
    throw workerError('WORKER_BAD_ARGUMENT', 'wait is 0 to 1,000,000 seconds, timeoutMs above 0 and at most 1e9.');
}

/** Maps what an answer granted. Owns the answer: closes everything on failure. */
function openModel(answer: Answer, options: OpenOptions): Model {
  const { path, timeoutMs } = options;
  let parts: ModelParts;
  try {
    parts = mapParts(answer, options.tensors);
  } catch (error) {
    closeSync(answer.socket);
    throw error;
  } finally {
    closeAll(answer.fds);
  }
  const { handle } = parts;
  const chosen = {
    ...(options.tensors && { tensors: options.tensors }),
    ...(options.files && { files: options.files }),
  };
  const request: JsonObject = { v: 1, op: 'attach', model: handle.model, digest: handle.digest, ...chosen };
  return new Model(parts, (emit) => new Lease(answer.socket, { path, handle, request, timeoutMs, emit }));
}

function mapParts(answer: Answer, wanted: readonly string[] | undefined): ModelParts {
  const [fd, ...others] = answer.fds;
  if (fd === undefined || others.length > 0) {
    throw workerError('WORKER_BAD_HANDLE', `The service sent ${answer.fds.length} descriptors instead of one.`);
  }
  const handle = parseHandle(answer.handle);
  const manifest = chosenTensors(readManifest(fd, handle), handle, wanted);
  const spans = planWindows(handle.files.values(), manifest.tensors.values());
  const fileWindows = new Windows(fd, handle, spans);
  try {
    // Mapped a second time, so that a buffer of a tensor never shares an address with one of its file.
    return { handle, manifest, fileWindows, tensorWindows: new Windows(fd, handle, spans) };
  } catch (error) {
    fileWindows.close();
    throw error;
  }
}

/** Read through a window of its own: the other windows are planned from what it says. */
function readManifest(fd: number, handle: Handle): Manifest {
  const file = handle.files.get(MANIFEST_PATH);
  if (!file) throw workerError('WORKER_BAD_HANDLE', `The service sent a handle without ${MANIFEST_PATH}.`);
  const start = file.size === 0 ? 0 : locate(file, 0, file.size);
  const windows = new Windows(fd, handle, planWindows([file], []));
  try {
    return parseManifest(windows.parts(start, file.size).map(decode).join(''));
  } finally {
    windows.close();
  }
}

const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function chosenTensors(manifest: Manifest, handle: Handle, wanted: readonly string[] | undefined): Manifest {
  const names = wanted && new Set(wanted);
  const kept = [...manifest.tensors].filter(([name, { file }]) => handle.files.has(file) && (names?.has(name) ?? true));
  return { ...manifest, tensors: new Map(kept) };
}
