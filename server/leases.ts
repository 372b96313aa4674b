/** Leases: a worker's right to a content. The books are here; the kernel's locks decide about the memory. */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Content } from '../daxfs/index.ts';
import { parseModelName } from '../loaders/index.ts';
import type { ContentRef } from '../native/index.ts';
import { serverError } from './errors.ts';
import type { GrantedHandle, Handle, HandleFile, HandleRequest, LeaseBook } from './services.ts';
import type { ContentView } from './store/content-views.ts';
import { rangesOf } from './store/holds.ts';
import type { RegionModelStore } from './store/model-store.ts';
import type { StoreContext } from './store/store-context.ts';

export const ttlSecondsDefault = 60;
export const ttlSecondsMax = 3600;
/** Ended handles remembered, so that they answer 410 and not 404. */
const endedMax = 10_000;

interface Worker {
  pid: number;
  uid: number;
}

interface Lease {
  readonly handle: Handle;
  readonly token: string | null;
  readonly ref: ContentRef;
  worker: Worker | null;
  timer: NodeJS.Timeout | undefined;
}

export class RegionLeaseBook implements LeaseBook {
  readonly #context: StoreContext;
  readonly #store: RegionModelStore;
  readonly #leases = new Map<string, Lease>();
  readonly #ended = new Set<string>();
  readonly #draining = new EventEmitter().setMaxListeners(0);
  readonly #settle: () => void;
  readonly #unsubscribe: () => void;
  /** Where workers connect; shown in every handle. */
  socketPath: string | null = null;

  /** @param settle called after every release, so that memory is freed at once */
  constructor(context: StoreContext, store: RegionModelStore, settle: () => void) {
    this.#context = context;
    this.#store = store;
    this.#settle = settle;
    this.#unsubscribe = store.onDraining((content) => this.#tellDraining(content));
  }

  async reserve(model: string, request: HandleRequest): Promise<Handle> {
    const ttlSeconds = request.ttlSeconds ?? ttlSecondsDefault;
    const lease = await this.#open(model, request, randomBytes(32).toString('base64url'));
    lease.handle.expiresAt = this.#expiry(lease, ttlSeconds);
    return { ...lease.handle, token: lease.token! };
  }

  async attach(model: string, request: HandleRequest, worker: Worker): Promise<GrantedHandle> {
    return this.#grant(await this.#open(model, request, null), worker);
  }

  async attachReserved(id: string, token: string, worker: Worker): Promise<GrantedHandle> {
    const lease = this.#find(id);
    if (!lease.token || !sameToken(lease.token, token)) {
      throw serverError('HANDLE_BAD_TOKEN', 'The token does not belong to this handle; use the one from POST handles.');
    }
    if (lease.worker)
      throw serverError('HANDLE_ATTACHED', 'The handle is attached already; ask for one handle per worker.');
    return this.#grant(lease, worker);
  }

  list(): (Handle & { worker: Worker | null })[] {
    return [...this.#leases.values()].map(({ handle, worker }) => ({ ...handle, worker }));
  }

  /** Handles by kind, for metrics. */
  get count(): number {
    return this.#leases.size;
  }

  renew(id: string, ttlSeconds: number): Handle {
    const lease = this.#find(id);
    if (!lease.worker) lease.handle.expiresAt = this.#expiry(lease, ttlSeconds);
    return lease.handle;
  }

  async release(id: string): Promise<void> {
    this.#end(this.#find(id));
  }

  onDraining(listener: (handleId: string) => void): () => void {
    this.#draining.on('draining', listener);
    return () => void this.#draining.off('draining', listener);
  }

  /** Forgets every lease; the kernel's locks go on guarding what workers have mapped. */
  close(): void {
    this.#unsubscribe();
    for (const lease of [...this.#leases.values()]) this.#end(lease);
  }

  async #open(model: string, request: HandleRequest, token: string | null): Promise<Lease> {
    if (request.kind === 'dmabuf') {
      throw serverError('SERVER_UNSUPPORTED', 'dma-buf handles are not built yet; ask for kind "mmap".');
    }
    const { full } = parseModelName(model);
    const content = this.#store.readyContent(full);
    checkWanted(full, content, request);
    const files = selectFiles(await this.#context.views.view(content), request);
    if (!this.#context.holds.acquire(content)) {
      throw serverError('MODEL_NOT_READY', `${full} is being removed; load it again.`);
    }
    this.#context.registry.touch(content.index, this.#context.now());
    const ref = { index: content.index, generation: content.generation };
    const lease: Lease = { handle: this.#handle(full, content, files), token, ref, worker: null, timer: undefined };
    this.#leases.set(lease.handle.id, lease);
    return lease;
  }

  #handle(full: string, content: Content, files: HandleFile[]): Handle {
    const { uuid, path, sizeBytes, mapAlignment } = this.#context.region;
    return {
      id: randomBytes(12).toString('base64url'),
      kind: 'mmap',
      model: full,
      revision: content.revision,
      digest: content.digest!,
      region: { uuid, path, size: sizeBytes, mapAlignment },
      socket: this.socketPath,
      buffers: [{ size: sizeBytes, files }],
      manifest: '.daxserve/manifest.json',
      expiresAt: null,
    };
  }

  #grant(lease: Lease, worker: Worker): GrantedHandle {
    const content = this.#store.names.content(lease.ref);
    if (!content) throw serverError('MODEL_NOT_READY', `${lease.handle.model} is being removed; load it again.`);
    try {
      const fd = this.#context.region.fence.openLease(rangesOf(this.#context.region, content));
      clearTimeout(lease.timer);
      lease.worker = worker;
      lease.handle.expiresAt = null;
      return { handle: lease.handle, fds: [fd] };
    } catch (error) {
      this.#end(lease);
      throw error;
    }
  }

  #expiry(lease: Lease, ttlSeconds: number): string {
    const ttlMs = Math.min(ttlSeconds, ttlSecondsMax) * 1000;
    clearTimeout(lease.timer);
    lease.timer = setTimeout(() => {
      this.#end(lease);
      this.#context.emit({ type: 'lease-expired' });
    }, ttlMs).unref();
    return new Date(this.#context.now() + ttlMs).toISOString();
  }

  #find(id: string): Lease {
    const lease = this.#leases.get(id);
    if (lease) return lease;
    if (this.#ended.has(id))
      throw serverError('HANDLE_EXPIRED', 'The handle has expired or was released; ask for a new one.');
    throw serverError('HANDLE_NOT_FOUND', 'There is no such handle; ask for one with POST /models/{name}/handles.');
  }

  #end(lease: Lease): void {
    clearTimeout(lease.timer);
    if (!this.#leases.delete(lease.handle.id)) return;
    this.#ended.add(lease.handle.id);
    if (this.#ended.size > endedMax) this.#ended.delete(this.#ended.values().next().value!);
    this.#context.holds.release(lease.ref);
    this.#settle();
  }

  #tellDraining({ index, generation }: Content): void {
    for (const { ref, handle } of this.#leases.values()) {
      if (ref.index === index && ref.generation === generation) this.#draining.emit('draining', handle.id);
    }
  }
}

function sameToken(expected: string, given: string): boolean {
  const a = Buffer.from(expected);
  const b = Buffer.from(given);
  return a.length === b.length && timingSafeEqual(a, b);
}

function checkWanted(full: string, content: Content, { digest, revision }: HandleRequest): void {
  if (digest !== undefined && digest.replace(/^sha256:/, '') !== content.digest) {
    throw serverError('MODEL_MISMATCH', `${full} has the digest ${content.digest}, not the one asked for.`);
  }
  if (revision !== undefined && revision !== content.revision) {
    throw serverError('MODEL_MISMATCH', `${full} has the revision ${content.revision ?? '(none)'}, not ${revision}.`);
  }
}

/** The files that hold what was asked for, the manifest always among them. */
function selectFiles(view: ContentView, { tensors, files }: HandleRequest): HandleFile[] {
  if (!tensors && !files) return [...view.files];
  const wanted = new Set<string>();
  for (const path of files ?? []) wanted.add(known(view.byPath.has(path), path));
  for (const name of tensors ?? []) wanted.add(view.fileOfTensor.get(known(view.fileOfTensor.has(name), name))!);
  return view.files.filter((file) => wanted.has(file.path) || file.path === '.daxserve/manifest.json');
}

function known(found: boolean, name: string): string {
  if (!found)
    throw serverError(
      'TENSOR_NOT_FOUND',
      `The model has no tensor or file ${JSON.stringify(name)}; list them with GET /models/{name}/tensors.`,
    );
  return name;
}
