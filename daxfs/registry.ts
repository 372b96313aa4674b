/** The registry of a region: who is attached, which contents lie where, what their names are. Rows come decoded and checked. */
import {
  type ChunkStats,
  type ClaimResult,
  type ContentRef,
  type HostIdentity,
  type Mapping,
  type NameResult,
  native,
  type Recovered,
} from '../native/index.ts';
import { decode, decodeWord, shownTime } from './codec.ts';
import { type Content, type ContentFields, decodeContent, encodeContent } from './content-row.ts';
import { DAXFS_ERRORS, daxfsError } from './errors.ts';
import { CHUNK_STATE, CONSTANTS, chunkWord, HOST_STATE, hostRow, hostWord, NO_HOST } from './layout.ts';
import type { RegionHeader } from './region-format.ts';
import { ContentList, type NamedContent, NameList } from './registry-lists.ts';

export type { Content, ContentFields, ContentImage, ContentState } from './content-row.ts';
export type HostState = 'live' | 'lapsed' | 'recovering';

/** A decoded host row. */
export interface Host {
  index: number;
  generation: number;
  state: HostState;
  name: string;
  /** 32 hex digits. */
  bootId: string;
  pid: number;
  /** Clock ticks since boot. */
  startTime: bigint;
  heartbeat: bigint;
  /** Unix milliseconds. */
  attachedAtMs: number;
}

export type ChunkState = 'free' | 'claimed' | 'used' | 'pending' | 'valid' | 'quarantined' | 'unknown';

/** A decoded chunk word. */
export interface Chunk {
  state: ChunkState;
  /** The owning content's row; of a free chunk 0. */
  content: number;
  /** Bit i: host row i pins the block (valid). */
  mask: number;
  /** Claimed, pending, quarantined: the host at work. */
  host: { index: number; generation: number } | null;
  /** Used: the low 16 bits of the content's generation. */
  contentGeneration: number | null;
}

/** What is known of a host whose leavings are undone, as the native side numbers it. */
const DEATH_PROOF = { lapsed: 0, dead: 1, gone: 2 } as const;
export type DeathProof = keyof typeof DEATH_PROOF;

/** The part of a Region that the registry lives in. */
export interface RegistryHome {
  readonly mapping: Mapping;
  readonly header: RegionHeader;
}

const CHUNK_STATES = Object.entries(CHUNK_STATE)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name.toLowerCase() as ChunkState);

function decodeChunk(word: bigint): Chunk {
  const { state = 0, content = 0, mask = 0, host = 0, host_generation: generation = 0 } = decodeWord(chunkWord, word);
  const name = CHUNK_STATES[state] ?? 'unknown';
  const named = name === 'claimed' || name === 'pending' || name === 'quarantined';
  return {
    state: word !== 0n && name === 'free' ? 'unknown' : name,
    content,
    mask,
    host: named && host !== NO_HOST ? { index: host, generation } : null,
    contentGeneration: name === 'used' ? generation : null,
  };
}

const BUSY_TRIES = 3;

/** The addon's failures carry our codes but not our class. */
function asDaxfsError(error: unknown): unknown {
  const { code, message } = error as { code?: string; message: string };
  if (code !== undefined && code in DAXFS_ERRORS) {
    return daxfsError(code as keyof typeof DAXFS_ERRORS, message, { cause: error });
  }
  return error;
}

function hostState(state: number | undefined): HostState {
  if (state === HOST_STATE.LIVE) return 'live';
  return state === HOST_STATE.RECOVERING ? 'recovering' : 'lapsed';
}

function decodeHost(index: number, bytes: Buffer): Host {
  const row = decode(hostRow, bytes);
  const word = decodeWord(hostWord, row.word);
  return {
    index,
    generation: word.generation ?? 0,
    state: hostState(word.state),
    name: row.name.subarray(0, Math.min(row.name_len, row.name.length)).toString('utf8'),
    bootId: row.boot_id.toString('hex'),
    pid: row.pid,
    startTime: row.start_time,
    heartbeat: row.heartbeat,
    attachedAtMs: shownTime(row.attached_at_ms),
  };
}

/**
 * One service's view of a registry. Reading needs no attached host; what changes rows does.
 * Every call throws DAXFS_CLOSED after the region was closed, and those that change rows DAXFS_HOST_LOST when another host
 * took this one for dead.
 */
export class Registry {
  readonly imagesPerContentMax: number = CONSTANTS.imagesPerContentMax.value;
  readonly #native: InstanceType<typeof native.Registry>;
  readonly #header: RegionHeader;
  readonly #contents: ContentList;
  readonly #names: NameList;
  #hostIndex = -1;

  constructor({ mapping, header }: RegistryHome) {
    this.#header = header;
    this.#native = this.#call(() => new native.Registry(mapping, header.geometry.registryOffset));
    this.#contents = new ContentList(this.#native, (index) => this.#decode(index));
    this.#names = new NameList(this.#native);
  }

  /** Our row, or -1. */
  get hostIndex(): number {
    return this.#hostIndex;
  }

  /** Our bit in a content's mask; 0 when not attached. */
  get hostBit(): number {
    return this.#hostIndex < 0 ? 0 : 1 << this.#hostIndex;
  }

  // ------------------------------------------------------------------------------------------------------- hosts

  /**
   * Takes a row, starts the heartbeat and undoes what dead predecessors in it left unfinished. Their pins stay until
   * `unpin`. The caller holds the row's lock (`takeHostRow`).
   * @throws DaxfsError DAXFS_HOST_BUSY when the row is another host's
   */
  attach(index: number, identity: HostIdentity): { generation: number; recovered: Recovered } {
    return this.#call(() => {
      const { generation } = this.#native.attachHost(index, identity);
      this.#hostIndex = index;
      this.#native.startHeartbeat(this.#header.heartbeatIntervalMs);
      return { generation, recovered: this.#native.recoverHost(index, DEATH_PROOF.dead) };
    });
  }

  /** Stops the heartbeat and leaves the row: free, or lapsed while pins of ours are left. Idempotent. */
  detach(): void {
    if (this.#hostIndex < 0) return;
    this.#hostIndex = -1;
    this.#call(() => this.#native.detachHost());
  }

  /** False when another host took us for dead: stop touching the region and attach anew. */
  stillAttached(): boolean {
    return this.#call(() => this.#native.stillAttached());
  }

  /** Rows that are not free. */
  hosts(): Host[] {
    return this.#call(() => this.#native.listHosts().map(({ index, row }) => decodeHost(index, row)));
  }

  /** LIVE -> LAPSED for exactly this attach of a host. */
  lapse(host: Pick<Host, 'index' | 'generation'>): boolean {
    return this.#call(() => this.#native.lapseHost(host.index, host.generation));
  }

  /**
   * Undoes what dead generations of a row claimed; the row is free again when no pin is left. Idempotent.
   * @param proof `lapsed`: it may be paused, and what it may still write into is quarantined; `dead`: it cannot be running;
   * `gone`: nor can its workers, and its pins are cleared
   */
  recover(index: number, proof: DeathProof = 'dead'): Recovered {
    return this.#call(() => this.#native.recoverHost(index, DEATH_PROOF[proof]));
  }

  /** Clears the pin of a host whose workers are proved gone. */
  clearHostBit(contentIndex: number, hostIndex: number): void {
    this.#call(() => this.#native.clearHostBit(contentIndex, hostIndex));
  }

  // ------------------------------------------------------------------------------------------------------ contents

  /** @param key 16 bytes. The row of `exists` may have passed on when it is looked at: compare generations, claim again. */
  claim(key: Buffer): ClaimResult {
    return this.#call(() => this.#native.claimContent(key));
  }

  /** LOADING -> READY. False: the claim was lost, or an image lies in chunks that are not the content's. */
  publish(ref: ContentRef, fields: ContentFields, pin = false): boolean {
    const row = encodeContent(fields);
    return this.#call(() => this.#native.publishContent(ref, row, pin));
  }

  /** Undoes a claim of ours and frees its chunks; nothing writes into them any more. */
  abandon(ref: ContentRef): void {
    this.#call(() => this.#native.abandonContent(ref));
  }

  pin(ref: ContentRef): boolean {
    return this.#call(() => this.#native.pinContent(ref));
  }

  unpin(ref: ContentRef): void {
    this.#call(() => this.#native.unpinContent(ref));
  }

  /** READY -> DRAINING: no new pins. @param unpinned only when no other host pins it, decided by the same CAS */
  drain(ref: ContentRef, { unpinned = false } = {}): boolean {
    return this.#call(() => this.#native.drainContent(ref, unpinned));
  }

  /** Frees a draining or quarantined content that nobody pins; the caller has proved that no lock is held on its bytes. */
  free(ref: ContentRef): boolean {
    return this.#call(() => this.#native.freeContent(ref));
  }

  quarantine(ref: ContentRef): boolean {
    return this.#call(() => this.#native.quarantineContent(ref));
  }

  /** Undefined when the row is free. */
  content(index: number): Content | undefined {
    return this.#call(() => this.#decode(index));
  }

  /** What a name points at. A row whose words have not changed is not checked again: damage since then stays unseen. */
  recentNamed(name: string): Content | undefined {
    return this.#call(() => this.#contents.named(name));
  }

  /** All rows that are not free. Costs little when called again: the same array and objects while nothing has changed. */
  contents(): readonly Content[] {
    return this.#call(() => this.#contents.read());
  }

  setBytesDone(ref: ContentRef, bytes: number): void {
    this.#call(() => this.#native.setBytesDone(ref, bytes));
  }

  touch(index: number, nowMs: number): void {
    this.#call(() => this.#native.touchContent(index, nowMs));
  }

  setKeep(ref: ContentRef, keep: boolean): boolean {
    return this.#call(() => this.#native.setKeep(ref, keep));
  }

  // -------------------------------------------------------------------------------------------------------- chunks

  /** First of `count` contiguous chunks for a content that we load, or -1. */
  allocateRun(count: number, ref: ContentRef): number {
    return this.#call(() => this.#native.allocateRun(count, ref));
  }

  /** The chunks of a published content as the allocator knows them, whatever its row says. */
  runsOf(ref: ContentRef): { firstChunk: number; chunkCount: number }[] {
    const runs = this.#call(() => this.#native.listRuns(ref));
    return Array.from({ length: runs.length / 2 }, (_, i) => ({
      firstChunk: runs[2 * i]!,
      chunkCount: runs[2 * i + 1]!,
    }));
  }

  /** Counts chunks by walking their words. */
  chunkStats(): ChunkStats {
    return this.#call(() => this.#native.chunkStats());
  }

  /** One chunk word, decoded. @throws RangeError outside the region's chunks */
  chunk(index: number): Chunk {
    return decodeChunk(this.#call(() => this.#native.readChunk(index)));
  }

  // --------------------------------------------------------------------------------------------------------- names

  /** Points a name at a content (null: at nothing) if it points at `expected` now (undefined: whatever). */
  setName(name: string, target: ContentRef | null, expected?: ContentRef | null): NameResult {
    return this.#call(() => {
      let result = this.#native.setName(name, target, expected);
      for (let tries = 1; result.outcome === 'busy' && tries < BUSY_TRIES; tries += 1) {
        result = this.#native.setName(name, target, expected);
      }
      return result;
    });
  }

  findName(name: string): ContentRef | null {
    return this.#call(() => this.#native.findName(name));
  }

  /** Every name that points at a content, sorted. The same array while nothing has changed. */
  names(): readonly NamedContent[] {
    return this.#call(() => this.#names.read());
  }

  #decode(index: number): Content | undefined {
    const row = this.#native.readContent(index);
    if (row === null) return undefined;
    return decodeContent(index, row, this.#native.checksumContent(row), this.#header.geometry.chunkCount);
  }

  #call<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw asDaxfsError(error);
    }
  }
}
