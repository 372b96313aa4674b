/** What the HTTP layer, the worker socket and the metrics see of the model store and the lease book. */
import type { TensorInfo } from '../loaders/index.ts';
import type { Page, PageQuery } from './paging.ts';

export type ModelState = 'loading' | 'ready' | 'failed' | 'cancelled' | 'draining' | 'quarantined';
export type Placement = 'resident' | 'cached';
export type HandleKind = 'mmap' | 'dmabuf';

/** A load, as asked for. `source` is a path or URL as the user wrote it. */
export interface LoadRequest {
  source: string;
  name?: string;
  revision?: string;
  placement?: Placement;
  /** Read the bytes back from the region and compare digests before publishing. */
  verify?: boolean;
  keep?: boolean;
  include?: string[];
  exclude?: string[];
}

export interface Progress {
  /** waiting: for its turn, or for another host that loads the same source. */
  phase: 'resolving' | 'waiting' | 'scanning' | 'allocating' | 'copying' | 'verifying' | 'publishing' | 'done';
  bytesDone: number;
  bytesTotal: number;
  bytesPerSecond: number;
  etaSeconds: number | null;
}

export interface ModelFile {
  path: string;
  size: number;
  /** XXH3-128, 32 hex digits. */
  digest: string;
}

/** Why a load failed; the same members as the problem document that it becomes. */
export interface LoadFailure {
  code: string;
  detail: string;
  /** Byte of the file at which a rule broke. */
  offset?: number;
  /** Further members, such as what is free. */
  extra?: Record<string, unknown>;
}

/** A name with its content (or with its load in this service). Times are RFC 3339. */
export interface Model {
  name: string;
  tag: string;
  revision: string | null;
  digest: string | null;
  state: ModelState;
  placement: Placement;
  format: string | null;
  bytes: number;
  tensorCount: number;
  /** Absent in lists. */
  files?: ModelFile[];
  progress: Progress;
  leases: number;
  keep: boolean;
  createdAt: string;
  readyAt: string | null;
  lastAccessAt: string | null;
  loadSeconds: number | null;
  /** Seconds by phase; empty for what an earlier service loaded. */
  phases: Record<string, number>;
  error?: LoadFailure;
}

/** What the store tells whoever counts (metrics, log). Seconds and bytes. */
export type StoreEvent =
  | { type: 'phase'; phase: string; seconds: number }
  | { type: 'loaded'; scheme: string; bytes: number }
  | { type: 'load-failed'; reason: string }
  | { type: 'evicted'; bytes: number }
  | { type: 'recovered'; kind: 'content' | 'chunk' | 'name' | 'host-bit'; count: number }
  /** A load that read back other bytes than it wrote, or a row of the content table. */
  | { type: 'checksum-failed' }
  | { type: 'lease-expired' };

export type LoadOutcome = 'hit' | 'joined' | 'miss';

/** The models of the region. Names are given and taken as `name[:tag]`; the tag defaults to `latest`. */
export interface ModelStore {
  /** Starts, joins or finds. Resolves as soon as the outcome is known (not when loaded). */
  load(request: LoadRequest): Promise<{ outcome: LoadOutcome; model: Model }>;
  /** Settles when the model leaves `loading`; rejects on `signal`. */
  settled(name: string, signal?: AbortSignal): Promise<Model>;
  list(state?: ModelState): Model[];
  get(name: string): Promise<Model>;
  getByDigest(digest: string): Promise<Model>;
  tensors(name: string): Promise<TensorInfo[]>;
  /** PUT /models/{name}: the name moves to that content at once. */
  retarget(name: string, digest: string): Promise<Model>;
  /** `freed` -> 204, `draining`/`cancelling` -> 202. */
  remove(
    name: string,
    options: { drain: boolean },
  ): Promise<{ outcome: 'freed' | 'draining' | 'cancelling'; model: Model }>;
  /** Calls back with the model at every change (at most 10 per second while loading) until unsubscribed. */
  watch(name: string, listener: (model: Model) => void): () => void;
  onEvent(listener: (event: StoreEvent) => void): () => void;
}

export interface HandleRequest {
  kind?: HandleKind;
  /** Only the files that hold these tensors. */
  tensors?: string[];
  files?: string[];
  revision?: string;
  digest?: string;
  ttlSeconds?: number;
}

export interface HandleFile extends ModelFile {
  extents: { fileOffset: number; bufferOffset: number; length: number }[];
}

/** Where the bytes are (design 5.2). `token` only in the answer that creates it. */
export interface Handle {
  id: string;
  token?: string;
  kind: HandleKind;
  model: string;
  revision: string | null;
  digest: string;
  region: { uuid: string; path: string | null; size: number; mapAlignment: number };
  socket: string | null;
  /** The same array in every handle to a whole content. */
  buffers: { size: number; files: HandleFile[] }[];
  manifest: '.daxserve/manifest.json';
  expiresAt: string | null;
}

/** A handle with the descriptors that go with it; the caller closes them after sending. */
export interface GrantedHandle {
  handle: Handle;
  fds: number[];
}

export interface LeaseBook {
  /** POST handles: a lease without a connection; ends at its TTL unless attached. */
  reserve(model: string, request: HandleRequest): Promise<Handle>;
  /** Socket attach of a model: lease, lock and descriptor at once. `worker` is named in listings. */
  attach(model: string, request: HandleRequest, worker: { pid: number; uid: number }): Promise<GrantedHandle>;
  /** Socket attach of a reserved handle. */
  attachReserved(id: string, token: string, worker: { pid: number; uid: number }): Promise<GrantedHandle>;
  /** Leases held now. Costs nothing, however many there are. */
  counts(): Readonly<Record<HandleKind, number>>;
  /** A page of the leases held now, by id. Costs what the page holds, but for a look at each id. */
  page(query: PageQuery): Page<Handle & { worker: { pid: number; uid: number } | null }>;
  renew(id: string, ttlSeconds: number): Handle;
  /** Ends the lease in the books; the kernel's lock decides about the memory. */
  release(id: string): Promise<void>;
  /** Tells when a lease's model starts to drain. */
  onDraining(listener: (handleId: string) => void): () => void;
}
