/** Opens the registry of a region as one host: model store, lease book and the sweep that gives memory back. */
import { EventEmitter } from 'node:events';
import { hostIdentity, type Region, Registry, takeHostRow } from '../../daxfs/index.ts';
import type { SourcePolicy } from '../../loaders/index.ts';
import { RegionLeaseBook } from '../leases.ts';
import type { StoreEvent } from '../services.ts';
import { ContentViews } from './content-views.ts';
import { Holds } from './holds.ts';
import { RegionModelStore } from './model-store.ts';
import { Reaper } from './reaper.ts';
import type { StoreContext, StoreLog } from './store-context.ts';

export interface OpenStoreOptions {
  region: Region;
  /** Name of this instance among the hosts of the region; default the host name. */
  hostId?: string;
  sources: SourcePolicy;
  evict: boolean;
  log: StoreLog;
  now?: () => number;
}

export interface OpenedStore {
  registry: Registry;
  store: RegionModelStore;
  leases: RegionLeaseBook;
  /** Cancels loads, ends leases in the books, leaves the host row. Weights stay. */
  close(): Promise<void>;
}

/** @throws DaxfsError DAXFS_HOST_BUSY when this host id is serving the region already */
export async function openStore(options: OpenStoreOptions): Promise<OpenedStore> {
  const { region, sources, evict, log, now = Date.now } = options;
  const registry = new Registry(region);
  const identity = hostIdentity(options.hostId, region);
  const row = await takeHostRow(region, identity, (index) => {
    const { recovered } = registry.attach(index, identity);
    log.info({ event: 'host.attached', host: identity.name, row: index, ...recovered }, 'attached to the region');
  });
  const events = new EventEmitter();
  const emit = (event: StoreEvent) => void events.emit('event', event);
  const holds = new Holds(region, registry);
  const views = new ContentViews(region);
  const context: StoreContext = { region, registry, holds, views, sources, evict, log, now, emit };
  const store = new RegionModelStore(context, events);
  const reaper = new Reaper(context);
  const leases = new RegionLeaseBook(context, store, () => reaper.soon());
  reaper.sweep();
  reaper.start();
  const close = async () => {
    await store.close();
    leases.close();
    reaper.stop();
    reaper.sweep();
    registry.detach();
    row.release();
  };
  return { registry, store, leases, close };
}
