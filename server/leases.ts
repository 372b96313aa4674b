/** Leases: a worker's right to a content. The books are here; the kernel's locks decide about the memory. */
import { timingSafeEqual } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { closeSync } from 'node:fs';
import { type Content, daxfsError } from '../daxfs/index.ts';
import { parseModelName } from '../loaders/index.ts';
import type { ContentRef } from '../native/index.ts';
import { serverError } from './errors.ts';
import { type Ending, Expiry } from './expiry.ts';
import { type Page, type PageQuery, pageOfKeys } from './paging.ts';
import { stopping } from './problem.ts';
import { randomText } from './random-text.ts';
import type { GrantedHandle, Handle, HandleKind, HandleRequest, LeaseBook } from './services.ts';
import type { ContentView } from './store/content-views.ts';
import { rangesOf } from './store/holds.ts';
import type { RegionModelStore } from './store/model-store.ts';
import { sameRef } from './store/names.ts';
import type { StoreContext } from './store/store-context.ts';

export const ttlSecondsDefault = 60;
export const ttlSecondsMax = 3600;
/** The last handles that ended are remembered, at least so many, so that they answer 410 and not 404. */
const endedMin = 10_000;

interface Worker {
  pid: number;
  uid: number;
}

/** Small, as there may be many; what a handle shows besides is the same for all. */
interface Lease {
  readonly id: string;
  readonly token: string | null;
  /** `name:tag`. */
  readonly model: string;
  /** As it was when the lease began. */
  readonly content: Content;
  readonly buffers: Handle['buffers'];
  worker: Worker | null;
  /** Null once attached. */
  ending: Ending<Lease> | null;
  /** The worker was told that its model drains. */
  told: boolean;
}

export class RegionLeaseBook implements LeaseBook {
  readonly #context: StoreContext;
  readonly #store: RegionModelStore;
  readonly #leases = new Map<string, Lease>();
  readonly #expiry: Expiry<Lease>;
  /** Two halves, the older one forgotten at a time: taking the oldest out of one set would search it each time. */
  #ended = new Set<string>();
  #endedBefore = new Set<string>();
  readonly #draining = new EventEmitter().setMaxListeners(0);
  readonly #handlesMax: number;
  readonly #review: (ref: ContentRef) => void;
  readonly #unsubscribe: () => void;
  #closed = false;
  /** Where workers connect; shown in every handle. */
  socketPath: string | null = null;

  /** @param review called with the content of every lease that has ended, so that memory is freed at once */
  constructor(context: StoreContext, store: RegionModelStore, handlesMax: number, review: (ref: ContentRef) => void) {
    this.#context = context;
    this.#handlesMax = handlesMax;
    this.#store = store;
    this.#review = review;
    this.#expiry = new Expiry(context.now, (lease) => this.#expire(lease));
    this.#unsubscribe = store.onDraining((content) => this.#tellDraining(content));
  }

  async reserve(model: string, request: HandleRequest): Promise<Handle> {
    const token = randomText(32);
    const lease = await this.#open(model, request, token);
    this.#endIn(lease, request.ttlSeconds ?? ttlSecondsDefault);
    const handle = this.#handle(lease);
    handle.token = token;
    return handle;
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

  page(query: PageQuery): Page<Handle & { worker: Worker | null }> {
    return pageOfKeys(this.#leases.keys(), query, (id) => {
      const lease = this.#leases.get(id)!;
      return Object.assign(this.#handle(lease), { worker: lease.worker });
    });
  }

  counts(): Readonly<Record<HandleKind, number>> {
    return { mmap: this.#leases.size, dmabuf: 0 };
  }

  renew(id: string, ttlSeconds: number): Handle {
    const lease = this.#find(id);
    if (!lease.worker) this.#endIn(lease, ttlSeconds);
    return this.#handle(lease);
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
    this.#closed = true;
    this.#unsubscribe();
    for (const lease of [...this.#leases.values()]) this.#end(lease);
    this.#expiry.close();
  }

  async #open(model: string, request: HandleRequest, token: string | null): Promise<Lease> {
    if (request.kind === 'dmabuf') {
      throw serverError('SERVER_UNSUPPORTED', 'dma-buf handles are not built yet; ask for kind "mmap".');
    }
    if (this.#leases.size >= this.#handlesMax) throw tooMany(this.#handlesMax);
    const { full } = parseModelName(model);
    const content = this.#store.readyContent(full);
    checkWanted(full, content, request);
    // Held before anything is read: from here on the bytes stay.
    const { holds } = this.#context;
    if (!holds.extend(content) && !holds.acquire(content)) throw beingRemoved(full);
    try {
      const buffers = selectBuffers(await this.#context.views.view(content), request);
      if (this.#closed) throw stopping();
      this.#touch(content);
      const id = randomText(12);
      const lease: Lease = { id, token, model: full, content, buffers, worker: null, ending: null, told: false };
      this.#leases.set(id, lease);
      return lease;
    } catch (error) {
      this.#context.holds.release(content);
      this.#review(content);
      throw error;
    }
  }

  /** The last access to the second; a row that keeps still need not be decoded again. */
  #touch(content: Content): void {
    const now = this.#context.now();
    if (now - content.lastAccessMs >= 1000) this.#context.registry.touch(content.index, now);
  }

  /** As it is shown, without its token. */
  #handle({ id, model, content, buffers, ending }: Lease): Handle {
    const { uuid, path, sizeBytes, mapAlignment } = this.#context.region;
    return {
      id,
      kind: 'mmap',
      model,
      revision: content.revision,
      digest: content.digest!,
      region: { uuid, path, size: sizeBytes, mapAlignment },
      socket: this.socketPath,
      buffers,
      manifest: '.daxserve/manifest.json',
      expiresAt: ending?.at ?? null,
    };
  }

  #grant(lease: Lease, worker: Worker): GrantedHandle {
    if (this.#closed) throw stopping();
    try {
      const fd = this.#openLocked(lease);
      this.#stayOpen(lease);
      lease.worker = worker;
      return { handle: this.#handle(lease), fds: [fd] };
    } catch (error) {
      this.#end(lease);
      throw error;
    }
  }

  /**
   * A descriptor with locks on the content's ranges. Whoever frees looks first for pins, then for locks; so the lock comes
   * first here and our pin is looked at after it: one of us sees the other.
   */
  #openLocked({ content: ref, model }: Lease): number {
    const { region, registry } = this.#context;
    if (!registry.stillAttached()) throw hostLost();
    const content = this.#store.names.content(ref);
    if (!content || content.images.length === 0) throw beingRemoved(model);
    const fd = region.fence.openLease(rangesOf(region, content));
    const now = this.#store.names.content(ref);
    if (now && !now.corrupt && (now.mask & registry.hostBit) !== 0 && registry.stillAttached()) return fd;
    closeSync(fd);
    throw registry.stillAttached() ? beingRemoved(model) : hostLost();
  }

  #endIn(lease: Lease, ttlSeconds: number): void {
    this.#stayOpen(lease);
    lease.ending = this.#expiry.add(lease, Math.min(ttlSeconds, ttlSecondsMax) * 1000);
  }

  #stayOpen(lease: Lease): void {
    if (lease.ending) this.#expiry.remove(lease, lease.ending);
    lease.ending = null;
  }

  #expire(lease: Lease): void {
    lease.ending = null;
    this.#end(lease);
    this.#context.emit({ type: 'lease-expired' });
  }

  #find(id: string): Lease {
    const lease = this.#leases.get(id);
    if (lease) return lease;
    if (this.#ended.has(id) || this.#endedBefore.has(id))
      throw serverError('HANDLE_EXPIRED', 'The handle has expired or was released; ask for a new one.');
    throw serverError('HANDLE_NOT_FOUND', 'There is no such handle; ask for one with POST /models/{name}/handles.');
  }

  #end(lease: Lease): void {
    this.#stayOpen(lease);
    if (!this.#leases.delete(lease.id)) return;
    this.#remember(lease.id);
    this.#context.holds.release(lease.content);
    this.#review(lease.content);
  }

  #remember(id: string): void {
    if (this.#ended.size >= endedMin) {
      this.#endedBefore = this.#ended;
      this.#ended = new Set();
    }
    this.#ended.add(id);
  }

  #tellDraining(content: Content): void {
    for (const lease of this.#leases.values()) {
      if (lease.told || !sameRef(lease.content, content)) continue;
      lease.told = true;
      this.#draining.emit('draining', lease.id);
    }
  }
}

function tooMany(max: number): Error {
  return serverError('HANDLE_LIMIT', `${max} handles are held, which is the limit; release some, or raise --handles.`);
}

function hostLost(): Error {
  const text =
    'This service was taken for dead and may not touch the region any more; it attaches anew, ask again in a few seconds.';
  return daxfsError('DAXFS_HOST_LOST', text);
}

function beingRemoved(full: string): Error {
  return serverError('MODEL_NOT_READY', `${full} is being removed; load it again.`);
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
function selectBuffers(view: ContentView, { tensors, files }: HandleRequest): Handle['buffers'] {
  if (!tensors && !files) return view.buffers;
  const wanted = new Set<string>();
  for (const path of files ?? []) wanted.add(known(view.byPath.has(path), path));
  for (const name of tensors ?? []) wanted.add(view.fileOfTensor.get(known(view.fileOfTensor.has(name), name))!);
  const kept = view.files.filter((file) => wanted.has(file.path) || file.path === '.daxserve/manifest.json');
  return view.buffers.map(({ size }) => ({ size, files: kept }));
}

function known(found: boolean, name: string): string {
  if (!found)
    throw serverError(
      'TENSOR_NOT_FOUND',
      `The model has no tensor or file ${JSON.stringify(name)}; list them with GET /models/{name}/tensors.`,
    );
  return name;
}
