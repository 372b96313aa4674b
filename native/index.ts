/**
 * The native addon, typed. TypeScript decides and validates before it calls; the addon asserts and moves bytes.
 * Failures of the system throw errors shaped as Node's own: `{ code: 'ENOSPC', errno, syscall }`.
 * Offsets and lengths are bytes, as numbers below 2^53.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** One mmap of a region or of a part of it. Use after `close()` throws. Not transferable between threads. */
export interface Mapping {
  readonly size: number;
  /** Copies bytes out. @throws RangeError outside the mapping */
  read(offset: number, length: number): Buffer;
  /** Copies bytes in. @throws RangeError outside the mapping; EACCES on a read-only mapping */
  write(offset: number, bytes: Uint8Array): void;
  /** Zeroes a range. */
  zero(offset: number, length: number): void;
  /** Acquire load of an aligned word. */
  load64(offset: number): bigint;
  /** Release store of an aligned word. */
  store64(offset: number, value: bigint): void;
  /** Sequentially consistent CAS; returns the word found (equal to `expected` on success). */
  cas64(offset: number, expected: bigint, desired: bigint): bigint;
  /** Faults pages in with two native threads (MADV_POPULATE_WRITE or _READ); rejects with ENOMEM/ENOSPC/EFAULT instead of SIGBUS. `onProgress` gets bytes done. */
  populate(offset: number, length: number, onProgress?: (bytesDone: number) => void): Promise<void>;
  /** memcmp on a native thread: true when equal. */
  equal(offsetA: number, offsetB: number, length: number): Promise<boolean>;
  /** XXH3-128 of a range (seed 0), 16 bytes big-endian (canonical), on a native thread. */
  digest(offset: number, length: number): Promise<Buffer>;
  /** XXH3-64 of a range (seed 0). */
  xxh3(offset: number, length: number): bigint;
  /** A zero-copy view of a range of at most 4 GiB; the same range gives the same object. Detached by `close()`. */
  window(offset: number, length: number): ArrayBuffer;
  /** Unmaps; detaches every window first. Idempotent. */
  close(): void;
}

export interface MapOptions {
  /** PROT_WRITE too. */
  write?: boolean;
  /** madvise(MADV_HUGEPAGE) before the first touch. */
  huge?: boolean;
  /** mbind: interleave over all nodes, or bind to one. */
  numa?: { mode: 'interleave' } | { mode: 'bind'; node: number };
}

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

export interface Received {
  data: Buffer;
  fds: number[];
}

/** One contiguous copy of a file into the mapping. */
export interface CopyItem {
  /** Opened O_RDONLY by a native thread; refused if it is a FIFO, socket or device. */
  path: string | Buffer;
  /** Expected size in bytes: another size fails the job with ESTALE. */
  size: number;
  /** Expected mtime in nanoseconds and inode; checked after opening and after the copy. */
  mtimeNs: bigint;
  ino: bigint;
  /** Where byte 0 of the file goes, in bytes from the start of the mapping. */
  offset: number;
}

export interface CopyResult {
  /** XXH3-128 of every item, 16 bytes big-endian (canonical), in the order of the items. */
  digests: Buffer[];
}

/** A running copy. */
export interface CopyJob {
  /** Settles once; rejects with `{ code, index }` naming the item: ESTALE changed source, ENOENT, EIO, ECANCELED... */
  readonly done: Promise<CopyResult>;
  /** Bytes copied so far. */
  progress(): number;
  /** Stops after the block in hand; `done` rejects with ECANCELED. */
  cancel(): void;
}

export interface CopyOptions {
  /** Native threads, default 2. */
  threads?: number;
  /** The target holds only zeroes: holes of sparse sources are skipped and stay holes. */
  targetIsZero?: boolean;
}

/** Who a host row belongs to. */
export interface HostIdentity {
  name: string;
  /** 16 bytes. */
  bootId: Buffer;
  pid: number;
  startTime: bigint;
}

/** A claimed or found content row. */
export interface ContentRef {
  index: number;
  generation: number;
}

export type ClaimResult =
  | (ContentRef & { outcome: 'claimed' | 'exists' })
  /** All rows are taken. */
  | { outcome: 'full' };

export type NameResult =
  | { outcome: 'set'; previous: ContentRef | null }
  /** The name points elsewhere than `expected`. */
  | { outcome: 'conflict'; current: ContentRef | null }
  | { outcome: 'full' }
  /** A live host was in the middle of the same bucket all the time (about a millisecond): try again. */
  | { outcome: 'busy' };

export interface ChunkStats {
  total: number;
  free: number;
  largestFreeRun: number;
  quarantined: number;
  /** Neither free nor quarantined. */
  used: number;
}

export interface Recovered {
  contents: number;
  chunks: number;
  names: number;
  /** Bits in the masks of contents. */
  pins: number;
}

/**
 * The lock-free protocols of the registry over one writable mapping (docs/FORMAT.md#registry). All calls are bounded
 * and may run concurrently in several processes; those that change rows need an attached host and throw
 * DAXFS_HOST_LOST when its generation is gone; all throw DAXFS_CLOSED after the mapping was closed.
 */
export interface Registry {
  /** Takes a FREE row, or in any state the row of a predecessor of the same name or of a host of this kernel. The caller holds the row's lock. @throws DAXFS_HOST_BUSY */
  attachHost(row: number, identity: HostIdentity): { generation: number };
  /** Starts the native heartbeat thread of the attached host. */
  startHeartbeat(intervalMs: number): void;
  /** Stops the heartbeat; the row becomes FREE, or LAPSED while claims or pins of it are left. */
  detachHost(): void;
  /** True while the attached generation is still in the row. */
  stillAttached(): boolean;

  /**
   * Claims a row for a source, or finds the row that already has it (CLAIMING, LOADING or READY). @param key 16 bytes
   * The use of the row found may be over when it is looked at: compare generations, then claim again.
   */
  claimContent(key: Buffer): ClaimResult;
  /** Writes the row's fields (layout `content_row` from `digest` on) and moves LOADING -> READY, our mask bit set when `pin`. */
  publishContent(ref: ContentRef, row: Buffer, pin: boolean): boolean;
  /** Frees the chunks of a claim of ours and the row: RESERVED/CLAIMING/LOADING -> FREEING -> FREE. */
  abandonContent(ref: ContentRef): void;
  /** Sets our mask bit while READY. False: no longer ready, or another generation. */
  pinContent(ref: ContentRef): boolean;
  /** Clears our mask bit. */
  unpinContent(ref: ContentRef): void;
  /** READY -> DRAINING. False when it was not READY. @param unpinned false also when another host pins it */
  drainContent(ref: ContentRef, unpinned: boolean): boolean;
  /** DRAINING with mask 0 -> FREEING -> FREE; the caller has proved that no lock is held. False when not possible now. */
  freeContent(ref: ContentRef): boolean;
  /** READY or DRAINING -> QUARANTINED. */
  quarantineContent(ref: ContentRef): boolean;
  /** A copy of the row, read consistently; null when FREE. */
  readContent(index: number): Buffer | null;
  /** What the `checksum` of a copied row has to be. */
  checksumContent(row: Buffer): bigint;
  /**
   * Ten words for every row that is not FREE, in the order of the rows: index, flags, then low and high half of word, sequence,
   * last_access_ms and bytes_done. A row whose stamp stays the same stays the same.
   */
  stampContents(): Uint32Array;
  /** The generation of the content that a name points at, and these ten words of its row into `stamp`; -1 when there is none. */
  stampName(name: string, stamp: Uint32Array): number;
  setBytesDone(ref: ContentRef, bytes: number): void;
  touchContent(index: number, nowMs: number): void;
  setKeep(ref: ContentRef, keep: boolean): boolean;

  /** Claims `count` contiguous free chunks for a content in LOADING claimed by us; first chunk or -1. */
  allocateRun(count: number, ref: ContentRef): number;
  chunkStats(): ChunkStats;
  readChunk(index: number): bigint;
  /** First chunk and count of every run that the allocator gave to a published content. */
  listRuns(ref: ContentRef): Uint32Array;

  /** Points a name at a content by one CAS; a target whose content is gone counts as nothing. `expected`: null = must not point anywhere, undefined = whatever. */
  setName(name: string, target: ContentRef | null, expected: ContentRef | null | undefined): NameResult;
  findName(name: string): ContentRef | null;
  /** Five words for every name that points at a content: its bucket, the content's index and generation, its hash (low, high). */
  listTargets(): Uint32Array;
  /** The name of that hash in a bucket that `listTargets` has told; '' when the bucket has another name by now. */
  readName(bucket: number, hashLow: number, hashHigh: number): string;

  /** A copy of every host row that is not FREE, with its index. */
  listHosts(): { index: number; row: Buffer }[];
  /** LIVE -> LAPSED for a host proved dead (its lock is free on this kernel). */
  lapseHost(row: number, generation: number): boolean;
  /**
   * Undoes the claims of dead generations of `row` (also of our own row): contents, chunks, names. Idempotent.
   * `proof`: 0 it is silent: what it may still be writing into is quarantined until a later call knows more; 1 it cannot
   * be running any more (its lock is free on this kernel); 2 nor can its workers (an operator's word): its pins go too.
   */
  recoverHost(row: number, proof: 0 | 1 | 2): Recovered;
  /** Clears the mask bit of a dead host from a content; the caller has proved that its workers are gone. */
  clearHostBit(index: number, row: number): void;
}

/** A file of an overlay. `size` of a directory is 0. */
export interface OverlayStat {
  ino: number;
  /** st_mode with type bits. */
  mode: number;
  uid: number;
  gid: number;
  size: number;
  nlink: number;
}

/** Where an overlay finds host and intent rows: bytes from the start of the mapping. */
export interface OverlayTables {
  hostsOffset: number;
  hostCount: number;
  intentsOffset: number;
  intentCount: number;
  /** 16 bytes: who sees our locks, as in host rows. */
  bootId: Buffer;
  /** A description of the region that holds no lock on a host row; duplicated. */
  fd: number;
}

/** Failures are what Linux calls them, negative: -2 is ENOENT. */
export type Errno = number;

/**
 * The files of a front (a region's, or those of an image with an overlay): docs/OVERLAY.md. Paths begin at its root. Every
 * call is bounded; results are values or a negative errno. Several processes of several hosts may work at once. Throws
 * DAXFS_CLOSED after `close` or after the mapping was closed. Calls that change something give -EROFS on a read-only mapping.
 */
export interface Overlay {
  facts(): {
    kind: 'private' | 'kernel';
    blockBytes: number;
    fileBytesMax: number;
    poolBytes: number;
    /** Handed out for the first time; a private front uses freed bytes again. */
    poolAllocated: number;
    bucketCount: number;
  };
  /** Buckets that are not free, counted on a native thread. */
  bucketsUsed(): Promise<number>;
  stat(path: string | Uint8Array, follow: boolean): OverlayStat | Errno;
  statInode(ino: number): OverlayStat | Errno;
  /** @param flags O_* of open(2) */
  open(path: string | Uint8Array, flags: number, mode: number, uid: number, gid: number): OverlayStat | Errno;
  mkdir(path: string | Uint8Array, mode: number, uid: number, gid: number): Errno;
  rmdir(path: string | Uint8Array): Errno;
  unlink(path: string | Uint8Array): Errno;
  /** On a native thread: a large file has many pages to free. */
  unlinkLater(path: string | Uint8Array): Promise<Errno>;
  rename(from: string | Uint8Array, to: string | Uint8Array): Errno;
  symlink(path: string | Uint8Array, target: string | Uint8Array, uid: number, gid: number): Errno;
  readlink(path: string | Uint8Array): Buffer | Errno;
  /** All names one after another, and for each: length of the name in bytes, mode, inode number. */
  readdir(ino: number): { names: Buffer; entries: Float64Array } | Errno;
  chmod(ino: number, mode: number): Errno;
  chown(ino: number, uid: number, gid: number): Errno;
  /** On a native thread: a large file has many pages to free. */
  truncate(ino: number, size: number): Promise<Errno>;
  truncateSync(ino: number, size: number): Errno;
  /** Finishes what proved-dead hosts left half done. @returns operations finished */
  recover(): number;
  /** @returns bytes read, fewer at the end of the file */
  readSync(ino: number, offset: number, bytes: Uint8Array): number;
  /** As `readSync`; -EAGAIN where it would have to read a source file or wait for somebody who does. */
  readCached(ino: number, offset: number, bytes: Uint8Array): number;
  /** Holds the block of a base file in its slot of the page cache. @returns the slot, or -EINVAL: it is not there */
  pinBlock(ino: number, offset: number): number;
  /** @returns bytes written: all of them */
  writeSync(ino: number, offset: number, bytes: Uint8Array): number;
  /** @returns where the bytes went */
  appendSync(ino: number, bytes: Uint8Array): number;
  /** As `readSync`, on a native thread; the bytes must not be touched meanwhile. */
  read(ino: number, offset: number, bytes: Uint8Array): Promise<number>;
  write(ino: number, offset: number, bytes: Uint8Array): Promise<number>;
  append(ino: number, bytes: Uint8Array): Promise<number>;
  /** Idempotent. Running jobs end by themselves. */
  close(): void;
}

/** What one process saw of a page cache since it opened it. */
export interface PageCacheFacts {
  /** Takes part: pins, fills, evicts. False: reads what it finds, and past the cache what it does not. */
  attached: boolean;
  hasSource: boolean;
  /** Digest of what the source files look like, as the cache's header keeps it: 16 hexadecimal digits, zeros without a source. */
  sourceStamp: string;
  slots: number;
  /** Pages found, and not found. */
  hits: number;
  misses: number;
  fills: number;
  fillErrors: number;
  evictions: number;
  pendingWaits: number;
  /** Reads past the cache: no slot could be had, or somebody else's fill took too long. */
  fallbacks: number;
  /** Fills of dead processes taken over. */
  takeovers: number;
  /** Blocks read from source files, and their bytes. */
  sourceReads: number;
  sourceBytes: number;
}

/**
 * The v8 page cache of a split or export image: docs/OVERLAY.md. After `open` an Overlay made with it reads through it.
 * Throws DAXFS_CLOSED before `open`, after `close` or after the mapping was closed.
 */
export interface PageCache {
  /**
   * Once, on a native thread. @param image its descriptor and who sees our locks (16 bytes): take part in the cache; null:
   * only read. @param source the backing file, or the exported directory (`tree`); null: what the cache does not have is
   * an error. Both are duplicated. @returns 0; -EINVAL no such cache, or an image of the other mode; -ESTALE the backing
   * file is too short; -EBUSY the source has changed and others still use pages of the old one
   */
  open(image: { fd: number; bootId: Buffer } | null, source: { fd: number; tree: boolean } | null): Promise<Errno>;
  facts(): PageCacheFacts;
  /** Fills free slots with the first pages of every file, in the order of inodes. */
  prewarm(): Promise<{ pages: number; wanted: number } | Errno>;
  /** Undoes what dead processes left: claims, pins, rows. @returns rows */
  recover(): number;
  /** The bytes of a slot that `Overlay.pinBlock` gave; the same slot gives the same bytes. */
  view(slot: number): ArrayBuffer;
  /** Undoes one pin; with the last one the bytes are detached. */
  unpin(slot: number): void;
  /** Detaches all bytes, leaves the cache. Idempotent. */
  close(): void;
}

/** One parameter of a mount: a flag, a string, or a descriptor. */
export type MountOption = { name: string } | { name: string; value: string } | { name: string; fd: number };

export interface Native {
  fingerprint: bigint;
  registryFormatVersion: number;

  /** XXH3-64 (seed 0) of bytes that were copied out. */
  xxh3(bytes: Uint8Array): bigint;

  Mapping: new (fd: number, offset: number, size: number, options: MapOptions) => Mapping;
  /** Reserves [offset, offset + length) of a file on a native thread; 4 KiB pages on a tmpfs that only advises huge ones. */
  fallocate(fd: number, offset: number, length: number): Promise<void>;

  /** OFD lock on [start, start+length): 'read', 'write' or 'unlock'. False when somebody else's lock conflicts. */
  ofdLock(fd: number, type: 'read' | 'write' | 'unlock', start: number, length: number): boolean;
  /** True when another description holds any lock on the range (F_OFD_GETLK against a write lock). */
  ofdHeld(fd: number, start: number, length: number): boolean;
  /** Detached read-only clone of the mount at `path` (open_tree + mount_setattr); the O_PATH descriptor of the file in it. @throws EPERM, ENOSYS... */
  cloneReadOnly(path: string): number;
  /** A fresh description of what `fd` shows (open of /proc/self/fd/N), O_CLOEXEC. */
  reopen(fd: number, write: boolean): number;

  /** Sends `data` with descriptors in one sendmsg; -1 when the socket would block. */
  sendFds(socket: number, data: Uint8Array, fds: number[]): number;
  peerCredentials(socket: number): PeerCredentials;
  /** Connects to a unix stream socket, close-on-exec, on a native thread. */
  connectUnix(path: string, timeoutMs: number): Promise<number>;
  /** Ends both directions of a socket: a pending `exchangeLine` on it rejects with ECONNRESET. The descriptor stays open. */
  shutDown(socket: number): void;
  /** Sends one line and reads up to the next newline (at most `maxBytes`), collecting descriptors; ETIMEDOUT, ECONNRESET, EMSGSIZE. */
  exchangeLine(socket: number, line: string, maxBytes: number, timeoutMs: number): Promise<Received>;

  /** Starts copying on native threads; hashes every file in the same pass. */
  startCopy(mapping: Mapping, items: CopyItem[], options: CopyOptions): CopyJob;

  Registry: new (mapping: Mapping, registryOffset: number) => Registry;

  /** @param tables null for an image. @param host null: no host row; then nothing of ours can be recovered by others. @param cache opened. @throws EINVAL */
  Overlay: new (
    mapping: Mapping,
    tables: OverlayTables | null,
    host: { index: number; generation: number } | null,
    cache?: PageCache | null,
  ) => Overlay;

  /** @param mapping of an image with base and page cache */
  PageCache: new (
    mapping: Mapping,
  ) => PageCache;

  /** Zeroed memory of an open DMA heap; its dma-buf, read-write, close-on-exec. @throws ENOTTY not a heap, ENOMEM... */
  dmaHeapAllocate(heap: number, length: number): Promise<number>;
  /** Brackets access of the CPU to a dma-buf: once before, once after with `end`. */
  dmaBufSync(fd: number, end: boolean): void;
  /** The dma-buf behind a daxfs mount; `fd` is a file or directory in it. @throws ENOENT mount of a physical range, ENOTTY */
  daxfsDmaBuf(fd: number): number;
  /** fsopen, fsconfig for each option, fsmount, move_mount. @throws ENODEV (fsopen): the kernel lacks the type; the text holds what the filesystem said */
  mountFilesystem(type: string, target: string, options: readonly MountOption[]): Promise<void>;
}

function addonPath(): string {
  const here = new URL('.', import.meta.url);
  const candidates = ['./build/daxserve.node', '../../native/build/daxserve.node'].map((p) =>
    fileURLToPath(new URL(p, here)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error('The native addon is not built: run "npm run setup" in the daxserve folder.');
  return found;
}

export const native: Native = createRequire(import.meta.url)(addonPath()) as Native;
