/** One call to work with the files of a region, or of an image with an overlay. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { native, type OverlayTables } from '../native/index.ts';
import { DaxfsError } from './errors.ts';
import { Front } from './fs/front.ts';
import { ModelsView } from './fs/models-view.ts';
import { RegionFs } from './fs/region-fs.ts';
import { type HostLock, takeHostRow } from './host.ts';
import { hostIdentity, lockDomain } from './host-identity.ts';
import { type ImageSourceOptions, refuseSource } from './image-cache.ts';
import { type ImageFacts, openImageFront } from './image-front.ts';
import { CONSTANTS } from './layout.ts';
import { Region, type RegionFacts } from './region.ts';
import { Registry } from './registry.ts';

export interface OpenRegionOptions extends ImageSourceOptions {
  /** Default false: nothing is changed, no rights to change are needed, and no host row. */
  write?: boolean | undefined;
  /** Create the region where there is none; implies `write`. */
  create?: boolean | undefined;
  /** Bytes of a new region. */
  size?: number | undefined;
  /** For a new region: a plain v8 front that kernels may mount. */
  kernelMountable?: boolean | undefined;
  /** For a new region: bytes for files written here; default a 64th of the region, at most 64 MiB. */
  overlayBytes?: number | undefined;
  /** Name among the hosts of the region; default one that nobody else has. */
  hostId?: string | undefined;
}

/** How often a page cache is looked through for what dead processes left. */
const recoverImageMs = 5000;

/** What `openRegion` gives. */
export interface OpenedRegion extends AsyncDisposable {
  readonly fs: RegionFs;
  /** The region behind it; null for an image. */
  readonly region: Region | null;
  info(): RegionFacts | ImageFacts;
  /** Finishes what hosts that died left half done; happens by itself, too. @returns operations finished */
  recover(): number;
  /** Waits for running transfers, then lets go. Idempotent. */
  close(): Promise<void>;
}

/** A name that no other process has: each writer is a host of its own. */
function ownName(): string {
  return `${hostname().slice(0, 32)}-${process.pid}-${randomBytes(4).toString('hex')}`;
}

/** What the native overlay needs of the registry beside it. */
export function tablesOf(region: Region): OverlayTables {
  const { registryOffset, hostsOffset, intentsOffset, intents } = region.header.geometry;
  return {
    hostsOffset: registryOffset + hostsOffset,
    hostCount: CONSTANTS.hostsMax.value,
    intentsOffset: registryOffset + intentsOffset,
    intentCount: intents,
    bootId: lockDomain(region),
    fd: region.fd,
  };
}

interface Attached {
  lock: HostLock;
  host: { index: number; generation: number };
}

async function attach(region: Region, registry: Registry, name: string): Promise<Attached> {
  const identity = hostIdentity(name, region);
  let generation = 0;
  const lock = await takeHostRow(region, identity, (index) => {
    ({ generation } = registry.attach(index, identity));
  });
  return { lock, host: { index: lock.index, generation } };
}

async function openFront(region: Region, { write, create, hostId }: OpenRegionOptions): Promise<OpenedRegion> {
  const registry = new Registry(region);
  const attached = write || create ? await attach(region, registry, hostId ?? ownName()) : null;
  const leave = () => {
    registry.detach();
    attached?.lock.release();
  };
  try {
    const overlay = new native.Overlay(region.mapping, tablesOf(region), attached?.host ?? null);
    const front = new Front(overlay);
    const models = new ModelsView(region, registry);
    const close = async () => {
      await front.close();
      models.close();
      leave();
      region.close();
    };
    return opened(front, models, region, () => region.info(), close, region.header.heartbeatLimitMs);
  } catch (error) {
    leave();
    throw error;
  }
}

/** @param recoverMs how often dead hosts are looked for; 0: there are no hosts */
function opened(
  front: Front,
  models: ModelsView | null,
  region: Region | null,
  info: () => RegionFacts | ImageFacts,
  release: () => Promise<void>,
  recoverMs: number,
): OpenedRegion {
  const recover = () => front.recover();
  recover();
  const timer = recoverMs > 0 ? setInterval(recover, recoverMs).unref() : undefined;
  let closing: Promise<void> | undefined;
  const close = () => {
    clearInterval(timer);
    closing ??= release();
    return closing;
  };
  return { fs: new RegionFs(front, models), region, info, recover, close, [Symbol.asyncDispose]: close };
}

async function openFound(path: string, options: OpenRegionOptions): Promise<Region> {
  const { write = false, create = false, size, kernelMountable, overlayBytes } = options;
  if (!create) return Region.open({ path, write });
  const { region } = await Region.openOrCreate({ path, size, kernelMountable, overlayBytes });
  return region;
}

/**
 * Opens the files of a region. Any number of processes may write at once; each takes a host row (a region has 15).
 * A DAXFS image with an overlay is opened as well: its base is shared and stays as it is, writes go to the overlay.
 * @throws DaxfsError DAXFS_NO_REGION, DAXFS_NOT_A_REGION, DAXFS_HOSTS_FULL, DAXFS_HOST_BUSY (hostId), ...
 */
export async function openRegion(path: string, options: OpenRegionOptions = {}): Promise<OpenedRegion> {
  let region: Region;
  try {
    region = await openFound(path, options);
  } catch (error) {
    const image =
      error instanceof DaxfsError && error.code === 'DAXFS_NOT_A_REGION' ? await openImageFront(path, options) : null;
    if (!image) throw error;
    return opened(image.front, null, null, image.info, image.close, image.front.cache ? recoverImageMs : 0);
  }
  try {
    refuseSource(path, options);
    return await openFront(region, options);
  } catch (error) {
    region.close();
    throw error;
  }
}
