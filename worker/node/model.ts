/** The attached model: tensors and files as zero-copy views of the shared memory. */
import { EventEmitter } from 'node:events';
import { type TypedArray, typedArray } from './dtype.ts';
import { workerError } from './errors.ts';
import { type FileInfo, type Handle, locate, MANIFEST_PATH } from './handle.ts';
import type { Lease, LeaseEvent } from './lease.ts';
import type { Manifest, TensorInfo } from './manifest.ts';
import type { Windows } from './windows.ts';

/** The bytes of one tensor. Never write to them: the mapping is read-only and a store ends the process with SIGSEGV. */
export interface Tensor {
  readonly dtype: string;
  /** Row-major. */
  readonly shape: readonly number[];
  /** All bytes in order, each part at most 4 GiB; one part unless the tensor is larger. */
  readonly parts: readonly Uint8Array[];
  /** All bytes. @throws DaxserveError WORKER_NOT_CONTIGUOUS above 4 GiB: use `parts` */
  readonly bytes: Uint8Array;
  /** The same bytes as numbers; null where JavaScript has no array for the type (BF16, F8, quantised), where they are
   *  not aligned for it, and above 4 GiB. */
  readonly array: TypedArray | null;
}

type Events = Record<LeaseEvent, []>;

/** What `attach` hands over. */
export interface ModelParts {
  readonly handle: Handle;
  readonly manifest: Manifest;
  readonly fileWindows: Windows;
  readonly tensorWindows: Windows;
}

/**
 * A lease on one model and its mapping. Close it, or let `await using` do so: a forgotten one stays attached until
 * the process ends. Events: `draining` (the content is being replaced or removed), `detached` (the service went away;
 * the views stay valid), `reattached` (it is back and knows of this lease).
 */
export class Model extends EventEmitter<Events> {
  readonly #parts: ModelParts;
  readonly #lease: Lease;
  #closed = false;

  constructor(parts: ModelParts, openLease: (emit: (event: LeaseEvent) => void) => Lease) {
    super();
    this.#parts = parts;
    this.#lease = openLease((event) => this.emit(event));
  }

  /** `name:tag`. */
  get name(): string {
    return this.#parts.handle.model;
  }

  /** Names the content: equal digests are equal files. */
  get digest(): string {
    return this.#parts.handle.digest;
  }

  /** The source's own version word, a commit for instance. */
  get revision(): string | null {
    return this.#parts.handle.revision;
  }

  /** `safetensors`, `gguf` or `files`. */
  get format(): string {
    return this.#parts.manifest.format;
  }

  /** What the model's format carries beside tensors. */
  get metadata(): Readonly<Record<string, unknown>> {
    return this.#parts.manifest.metadata;
  }

  /** The attached tensors by name, in the manifest's order. */
  get tensors(): ReadonlyMap<string, TensorInfo> {
    return this.#parts.manifest.tensors;
  }

  /** The attached files by path. */
  get files(): ReadonlyMap<string, FileInfo> {
    const files = [...this.#parts.handle.files.values()].filter((file) => file.path !== MANIFEST_PATH);
    return new Map(files.map(({ path, size, digest }) => [path, { path, size, digest }]));
  }

  /** True while the service knows of this lease; the bytes do not depend on it. */
  get attached(): boolean {
    return this.#lease.attached;
  }

  get draining(): boolean {
    return this.#lease.draining;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @throws DaxserveError WORKER_NO_TENSOR, WORKER_CLOSED, WORKER_BAD_MANIFEST, WORKER_NOT_CONTIGUOUS */
  tensor(name: string): Tensor {
    const info = this.tensors.get(name);
    if (!info) throw workerError('WORKER_NO_TENSOR', `There is no tensor "${name}" in ${this.name}: see tensors.`);
    const { dtype, shape, length } = info;
    const address = this.#locate(info.file, info.offset, length);
    const parts = length === 0 ? empty() : this.#parts.tensorWindows.ownParts(address, length);
    return {
      dtype,
      shape,
      parts,
      get bytes() {
        return onePart(parts, `Tensor "${name}"`);
      },
      get array() {
        const [part, ...others] = parts;
        return part && others.length === 0 ? typedArray(dtype, part, address) : null;
      },
    };
  }

  /** A whole file of at most 4 GiB. @throws DaxserveError WORKER_NO_FILE, WORKER_CLOSED, WORKER_NOT_CONTIGUOUS */
  file(path: string): Uint8Array {
    return onePart(this.fileParts(path), `File "${path}"`);
  }

  /** A whole file of any size, in order, each part at most 4 GiB. */
  fileParts(path: string): Uint8Array[] {
    const size = this.#parts.handle.files.get(path)?.size ?? 0;
    const address = this.#locate(path, 0, size);
    return size === 0 ? empty() : this.#parts.fileWindows.parts(address, size);
  }

  /**
   * Ends the lease and unmaps: views have length 0 at once. Resolves when the connection is closed. Idempotent.
   */
  close(): Promise<void> {
    this.#closed = true;
    this.#parts.tensorWindows.close();
    this.#parts.fileWindows.close();
    return this.#lease.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Where bytes of a file begin in the region. */
  #locate(path: string, offset: number, length: number): number {
    if (this.#closed) throw workerError('WORKER_CLOSED', `The model ${this.name} is closed: attach it again.`);
    const file = this.#parts.handle.files.get(path);
    if (!file) throw workerError('WORKER_NO_FILE', `There is no file "${path}" among the attached files: see files.`);
    return length === 0 ? 0 : locate(file, offset, length);
  }
}

const empty = () => [new Uint8Array(0)];

function onePart(parts: readonly Uint8Array[], what: string): Uint8Array {
  const [part, ...others] = parts;
  if (part && others.length === 0) return part;
  const message = `${what} does not fit one Uint8Array of 4 GiB: use its parts.`;
  throw workerError('WORKER_NOT_CONTIGUOUS', message);
}
