/** Opens the registry of a region as one host: model store, lease book and the sweep that gives memory back. */
import { EventEmitter } from 'node:events';
import { hostIdentity, type Region, Registry, takeHostRow } from '../../daxfs/index.ts';
import type { SourcePolicy } from '../../loaders/index.ts';
import { RegionLeaseBook } from '../leases.ts';
import type { StoreEvent } from '../services.ts';
import { ContentViews } from './content-views.ts';
import { Damage } from './damage.ts';
import { type Fenced, fenceHost } from './fencing.ts';
import { Gate } from './gate.ts';
import { Holds } from './holds.ts';
import { RegionModelStore } from './model-store.ts';
import { Reaper } from './reaper.ts';
import { emitRecovered } from './recovered.ts';
import type { StoreContext, StoreLog } from './store-context.ts';

export interface OpenStoreOptions {
  region: Region;
  /** Name of this instance among the hosts of the region; default the host name. */
  hostId?: string;
  sources: SourcePolicy;
  evict: boolean;
  /** As in StoreContext; default: never. */
  deadAfterMs?: number;
  log: StoreLog;
  /** Leases at most; default 65,536. */
  handlesMax?: number;
  /** Told of everything from attaching on. */
  onEvent?: (event: StoreEvent) => void;
  /** Told once when another host has taken us for dead: nothing here may touch the region any more. */
  onLost?: () => void;
  now?: () => number;
}

/** Each load has two native threads; more at a time only make each other slower. */
const loadsMax = 8;

export interface OpenedStore {
  registry: Registry;
  store: RegionModelStore;
  leases: RegionLeaseBook;
  /** As fenceHost. */
  fence(name: string): Promise<Fenced>;
  /** Cancels loads, ends leases in the books, leaves the host row. Weights stay. */
  close(): Promise<void>;
}

/** @throws DaxfsError DAXFS_HOST_BUSY when this host id is serving the region already */
export async function openStore(options: OpenStoreOptions): Promise<OpenedStore> {
  const { region, sources, evict, deadAfterMs = Number.POSITIVE_INFINITY, log, now = Date.now } = options;
  const events = new EventEmitter();
  const emit = (event: StoreEvent) => void events.emit('event', event);
  if (options.onEvent) events.on('event', options.onEvent);
  const registry = new Registry(region);
  const identity = hostIdentity(options.hostId, region);
  const lock = await takeHostRow(region, identity, (index) => {
    const { recovered } = registry.attach(index, identity);
    emitRecovered(emit, recovered);
    log.info({ event: 'host.attached', host: identity.name, row: index, ...recovered }, 'attached to the region');
  });
  try {
    const holds = new Holds(region, registry);
    const views = new ContentViews(region, holds);
    const gate = new Gate(loadsMax);
    const damage = new Damage({ emit, log });
    const told = { damage, log, emit, now };
    const context: StoreContext = { region, registry, holds, views, gate, sources, evict, deadAfterMs, ...told };
    const store = new RegionModelStore(context, events);
    const reaper = new Reaper(context, {
      onDraining: (content) => store.tellDraining(content),
      onLost: options.onLost ?? (() => {}),
    });
    const leases = new RegionLeaseBook(context, store, options.handlesMax ?? 65_536, (ref) => reaper.review(ref));
    reaper.start();
    const close = async () => {
      await store.close();
      leases.close();
      reaper.stop();
      // A second close, after the region was closed, has nothing to sweep.
      if (!region.closed && registry.stillAttached()) reaper.sweepSafely();
      registry.detach();
      lock.release();
    };
    return { registry, store, leases, fence: (name) => fenceHost(context, name), close };
  } catch (error) {
    registry.detach();
    lock.release();
    throw error;
  }
}
