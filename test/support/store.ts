/** A real region in shared memory with an open store on it, inside the test process. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Region } from '../../daxfs/index.ts';
import { resolveSource } from '../../loaders/index.ts';
import type { StoreEvent } from '../../server/services.ts';
import { type OpenedStore, openStore } from '../../server/store/open-store.ts';
import { matrices, writeSafetensors } from './models.ts';
import { until } from './until.ts';

const MiB = 2 ** 20;

export interface TestStoreOptions {
  handlesMax?: number;
  mib?: number;
  /** Rows for contents. */
  contents?: number;
  evict?: boolean;
  deadAfterMs?: number;
  now?: () => number;
  /** Milliseconds. */
  heartbeat?: { intervalMs: number; limitMs: number };
}

export class TestStore {
  readonly dir = mkdtempSync(join(tmpdir(), 'daxserve-store-'));
  readonly path = `/dev/shm/daxserve-store-${process.pid}-${randomBytes(6).toString('hex')}`;
  readonly events: StoreEvent[] = [];
  region!: Region;
  opened!: OpenedStore;

  readonly #given: TestStoreOptions;

  private constructor(given: TestStoreOptions) {
    this.#given = given;
  }

  static async open(options: TestStoreOptions = {}): Promise<TestStore> {
    const made = new TestStore(options);
    made.region = await Region.create({
      path: made.path,
      size: (options.mib ?? 64) * MiB,
      heartbeat: options.heartbeat,
      ...(options.contents !== undefined && { capacities: { contents: options.contents } }),
    });
    await made.#open();
    return made;
  }

  /** A second service on the same region, in this process. */
  async second(hostId: string): Promise<OpenedStore> {
    return openStore({ ...this.#options(), region: await Region.open({ path: this.path }), hostId });
  }

  /** Closes and opens again, as a restart of the service does. */
  async restart(): Promise<void> {
    await this.opened.close();
    this.region.close();
    this.region = await Region.open({ path: this.path });
    await this.#open();
  }

  /** Claims `source` for a host: its loads wait until the returned function gives the claim back. */
  async claim(source: string, { registry } = this.opened): Promise<() => void> {
    const claim = registry.claim((await resolveSource(source, { roots: [this.dir] })).key);
    if (claim.outcome !== 'claimed') throw new Error(`the claim is ${claim.outcome}`);
    return () => registry.abandon(claim);
  }

  /** Resolves when the service has looked over its region `count` times more; every fourth look is for lost names, too. */
  async sweeps(count: number, { registry } = this.opened): Promise<void> {
    const look = registry.stillAttached;
    let seen = 0;
    // What each look of the background begins with; the rest of it follows in the same turn.
    registry.stillAttached = () => {
      seen += 1;
      return look.call(registry);
    };
    await until(() => seen >= count, `${count} sweeps`);
    registry.stillAttached = look;
  }

  /** Writes a safetensors model of `mib` MiB into the directory. @returns its path */
  model(name: string, mib: number, seed = 1): string {
    const path = join(this.dir, `${name}.safetensors`);
    writeSafetensors(path, matrices(4, mib * MiB), seed);
    return path;
  }

  get store(): OpenedStore['store'] {
    return this.opened.store;
  }

  get leases(): OpenedStore['leases'] {
    return this.opened.leases;
  }

  freeChunks(): number {
    return this.opened.registry.chunkStats().free;
  }

  async dispose(): Promise<void> {
    await this.opened.close();
    this.region.close();
    rmSync(this.path, { force: true });
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #open(): Promise<void> {
    this.opened = await openStore({ ...this.#options(), hostId: 'first' });
    this.opened.store.onEvent((event) => this.events.push(event));
  }

  #options() {
    const { evict = false, now, handlesMax, deadAfterMs } = this.#given;
    const quiet = () => undefined;
    const log = { info: quiet, warn: quiet, error: quiet };
    return {
      region: this.region,
      sources: { roots: [this.dir] },
      evict,
      log,
      ...(now && { now }),
      ...(handlesMax && { handlesMax }),
      ...(deadAfterMs && { deadAfterMs }),
    };
  }
}
