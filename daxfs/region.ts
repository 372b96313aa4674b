/** One open region: its facts, its mapping, its fence. */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mapping } from '../native/index.ts';
import type { Backing, BackingKind } from './backing.ts';
import { DaxfsError, daxfsError } from './errors.ts';
import { Fence, type ReadOnlyStrength } from './fence.ts';
import { CONSTANTS } from './layout.ts';
import { numaPolicyOf, pagesOf } from './page-size.ts';
import { type CreatedRegion, type CreateOptions, createRegion } from './region-create.ts';
import type { Coherence, RegionHeader } from './region-format.ts';
import type { Capacities } from './region-layout.ts';
import { checkBuild, type OpenOptions, openRegionParts } from './region-open.ts';

/** What is in force; sizes and offsets in bytes. */
export interface RegionFacts {
  uuid: string;
  /** Null for a memfd. */
  path: string | null;
  backing: BackingKind;
  sizeBytes: number;
  formatVersion: number;
  createdAtMs: number;
  kernelMountable: boolean;
  coherence: Coherence;
  heartbeat: { intervalMs: number; limitMs: number };
  /** Pages behind what this process has mapped and touched. */
  pageBytes: number;
  mapAlignment: number;
  /** As the kernel words it: `default`, `interleave:0-1`, `bind:0`; null where it does not say. */
  numa: string | null;
  readOnly: { strength: ReadOnlyStrength; reason: string | null };
  capacities: Capacities & { hosts: number };
  front: { offset: number; sizeBytes: number; poolBytes: number; bucketCount: number };
  registry: { offset: number; sizeBytes: number };
  chunks: { offset: number; count: number; chunkBytes: number };
}

export interface OpenOrCreateOptions extends CreateOptions {
  /** What to do with a region of another format or a damaged one; default `fail`. */
  onMismatch?: 'fail' | 'recreate' | undefined;
}

const MISMATCH = new Set(['DAXFS_NEWER_VERSION', 'DAXFS_OTHER_LAYOUT', 'DAXFS_TRUNCATED', 'DAXFS_CORRUPT']);
const MISSING = new Set(['DAXFS_NO_REGION', 'DAXFS_UNFINISHED']);
const creatingPollMs = 50;

/** Touched at opening, so that the kernel can tell which pages are in force. */
const sampleBytes = 4 * 2 ** 20;

const codeOf = (error: unknown) => (error instanceof DaxfsError ? error.code : '');

/** Opened by `Region.open`, `Region.create`, `Region.openOrCreate`. Use after `close` throws DAXFS_CLOSED. */
export class Region {
  /** The whole region. Registry and images are reached through it. */
  readonly mapping: Mapping;
  readonly header: RegionHeader;
  readonly fence: Fence;
  readonly chunkBytes: number = CONSTANTS.chunkBytes.value;
  readonly #backing: Backing;
  #pageBytes: number = CONSTANTS.blockBytes.value;
  #numa: string | null = null;
  #closed = false;

  private constructor({ backing, mapping, header }: CreatedRegion) {
    this.mapping = mapping;
    this.header = header;
    this.#backing = backing;
    this.fence = new Fence(backing.fd, backing.kind);
  }

  /** Opens a region that exists. @throws DaxfsError, one code per reason */
  static async open(options: OpenOptions): Promise<Region> {
    return Region.#from(await openRegionParts(options));
  }

  /** Creates a region and opens it. @throws DaxfsError DAXFS_ALREADY_CREATED, DAXFS_NO_SPACE, DAXFS_TOO_SMALL, ... */
  static async create(options: CreateOptions): Promise<Region> {
    checkBuild();
    return Region.#from(await createRegion(options));
  }

  /** Opens the region, or creates it where there is none; waits while another process creates it. */
  static async openOrCreate(options: OpenOrCreateOptions): Promise<{ region: Region; created: boolean }> {
    for (;;) {
      options.signal?.throwIfAborted();
      const made = await Region.#tryEither(options);
      if (made) return made;
      await sleep(creatingPollMs, undefined, options.signal ? { signal: options.signal } : {});
    }
  }

  /** A region over parts that the caller opened and locked itself; `close` closes them. */
  static over(parts: CreatedRegion): Region {
    return new Region(parts);
  }

  static async #tryEither(options: OpenOrCreateOptions): Promise<{ region: Region; created: boolean } | null> {
    const { numa, signal, path, fd } = options;
    try {
      return { region: await Region.open({ path, fd, numa, signal }), created: false };
    } catch (error) {
      const code = codeOf(error);
      if (code === 'DAXFS_CREATING') return null;
      const replace = MISMATCH.has(code) && options.onMismatch === 'recreate';
      if (!replace && !MISSING.has(code)) throw error;
      return Region.#createUnlessRaced({ ...options, force: replace });
    }
  }

  /** Null when another process was quicker: then there is something to open. */
  static async #createUnlessRaced(options: CreateOptions): Promise<{ region: Region; created: boolean } | null> {
    try {
      return { region: await Region.create(options), created: true };
    } catch (error) {
      if (codeOf(error) === 'DAXFS_CREATING' || (codeOf(error) === 'DAXFS_ALREADY_CREATED' && !options.force))
        return null;
      throw error;
    }
  }

  static async #from(parts: CreatedRegion): Promise<Region> {
    let region: Region;
    try {
      region = new Region(parts);
    } catch (error) {
      parts.mapping.close();
      closeSync(parts.backing.fd);
      throw error;
    }
    await region.#lookAtPages();
    return region;
  }

  get uuid(): string {
    return this.header.uuid;
  }

  get path(): string | null {
    return this.#backing.path;
  }

  get kind(): BackingKind {
    return this.#backing.kind;
  }

  get sizeBytes(): number {
    return this.header.geometry.regionBytes;
  }

  /** Offsets and lengths of a worker's mapping are multiples of this many bytes. */
  get mapAlignment(): number {
    return this.#backing.mapAlignment;
  }

  /** Where `native.Registry` starts. */
  get registryOffset(): number {
    return this.header.geometry.registryOffset;
  }

  get chunkCount(): number {
    return this.header.geometry.chunkCount;
  }

  /** The region's own description: for fstat and for fresh descriptions. Never passed on, never locked by others. */
  get fd(): number {
    this.#checkOpen();
    return this.#backing.fd;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes from the start of the region to a chunk. @throws RangeError outside the chunk area */
  chunkOffset(index: number): number {
    const { chunksOffset, chunkCount } = this.header.geometry;
    if (!Number.isInteger(index) || index < 0 || index >= chunkCount) {
      throw new RangeError(`chunk ${index} is outside 0..${chunkCount - 1}`);
    }
    return chunksOffset + index * this.chunkBytes;
  }

  info(): RegionFacts {
    this.#checkOpen();
    const { geometry, heartbeatIntervalMs, heartbeatLimitMs, ...facts } = this.header;
    const { contents, names, intents, poolBytes, bucketCount, registryOffset, chunksOffset } = geometry;
    return {
      ...facts,
      path: this.path,
      backing: this.kind,
      sizeBytes: this.sizeBytes,
      heartbeat: { intervalMs: heartbeatIntervalMs, limitMs: heartbeatLimitMs },
      pageBytes: this.#pageBytes,
      mapAlignment: this.mapAlignment,
      numa: this.#numa,
      readOnly: { strength: this.fence.strength, reason: this.fence.reason },
      capacities: { contents, names, intents, hosts: CONSTANTS.hostsMax.value },
      front: { offset: 0, sizeBytes: registryOffset, poolBytes, bucketCount },
      registry: { offset: registryOffset, sizeBytes: chunksOffset - registryOffset },
      chunks: { offset: chunksOffset, count: this.chunkCount, chunkBytes: this.chunkBytes },
    };
  }

  /** Unmaps and lets go; leases and what workers have mapped live on. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.fence.close();
    this.mapping.close();
    closeSync(this.#backing.fd);
  }

  async #lookAtPages(): Promise<void> {
    const { chunksOffset, chunkCount } = this.header.geometry;
    const length = Math.min(sampleBytes, chunkCount * this.chunkBytes);
    // Of a file on disk nothing is read in just to look at it; a device may refuse, and its pages are its alignment.
    if (this.kind !== 'file') await this.mapping.populate(chunksOffset, length).catch(() => undefined);
    if (this.#closed) return;
    this.#pageBytes = pagesOf(this.#backing.fd)?.pageBytes ?? this.mapAlignment;
    this.#numa = numaPolicyOf(this.path);
  }

  #checkOpen(): void {
    if (this.#closed) throw daxfsError('DAXFS_CLOSED', 'The region is closed; open it again.');
  }
}
