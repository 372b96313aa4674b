/** Region, registry, store and leases, opened in this order and closed in the reverse one. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { FastifyBaseLogger } from 'fastify';
import { chooseDefault } from '../daxfs/default-backing.ts';
import { memoryAvailable } from '../daxfs/memory-limits.ts';
import { Region } from '../daxfs/region.ts';
import { parseNuma, parseSize } from '../daxfs/units.ts';
import type { Config } from './config.ts';
import type { Services } from './lifecycle.ts';
import { regionView } from './region-view.ts';
import type { StoreEvent } from './services.ts';
import { openStore } from './store/open-store.ts';

export interface OpenedServices {
  services: Services;
  /** A new region was made; else one was adopted with what it held. */
  created: boolean;
  /** Why this memory, and what would be faster; null when the region was named. */
  choice: { why: string; faster: string | null } | null;
  /** Ends loads and leases in the books and lets go of the region. What it holds stays. */
  close(): Promise<void>;
}

export interface OpenOptions {
  config: Config;
  /** Where the hub cache is looked for when no source root is given. */
  env: NodeJS.ProcessEnv;
  logger: FastifyBaseLogger;
  clock: () => number;
  /** Where workers attach; shown in handles. */
  socketPath: string;
  onEvent: (event: StoreEvent) => void;
  /** Bytes reserved while a region is being created. */
  onReserve?: (done: number, total: number) => void;
  /** Told once when another host has taken us for dead: close, and open again. */
  onLost: () => void;
  signal: AbortSignal;
}

/** Places for sources when none are given: hub cache, home, and where the service was started. */
export function sourceRoots(config: Config, env: NodeJS.ProcessEnv): string[] {
  if (config.sourceRoot.length > 0) return [...config.sourceRoot];
  const home = homedir();
  const hub =
    env.HF_HUB_CACHE ?? join(env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(home, '.cache'), 'huggingface'), 'hub');
  return [hub, home, process.cwd()];
}

/** Those given that are not there: nothing can be loaded from below them. */
export function missingRoots({ sourceRoot }: Config): string[] {
  return sourceRoot.filter((root) => !existsSync(root));
}

async function openRegion({ config, onReserve, signal }: OpenOptions) {
  const size = config.size === undefined ? undefined : parseSize(config.size, memoryAvailable());
  const chosen = config.region === undefined ? chooseDefault(size) : null;
  const opened = await Region.openOrCreate({
    path: config.region ?? chosen?.path,
    size: size ?? chosen?.sizeBytes,
    onMismatch: config.onMismatch,
    kernelMountable: config.kernelMountable,
    coherence: config.coherence,
    overlayBytes: config.overlay === undefined ? undefined : parseSize(config.overlay),
    numa: config.numa === undefined ? undefined : parseNuma(config.numa),
    onProgress: onReserve,
    signal,
  });
  return { ...opened, choice: chosen && { why: chosen.why, faster: chosen.faster } };
}

/** @throws DaxfsError that says why the region cannot be created or adopted */
export async function openServices(options: OpenOptions): Promise<OpenedServices> {
  const { region, created, choice } = await openRegion(options);
  const { config, env, logger, clock, socketPath, onEvent, onLost } = options;
  try {
    const opened = await openStore({
      region,
      ...(config.hostId !== undefined && { hostId: config.hostId }),
      sources: { roots: sourceRoots(config, env) },
      evict: config.evict,
      ...(config.deadAfter !== undefined && { deadAfterMs: config.deadAfter * 1000 }),
      handlesMax: config.handles,
      onEvent,
      onLost,
      log: logger,
      now: clock,
    });
    const { registry, store, leases, fence } = opened;
    leases.socketPath = socketPath;
    const close = async () => {
      await opened.close();
      region.close();
    };
    return { services: { store, leases, region: regionView(region, registry), fence }, created, choice, close };
  } catch (error) {
    region.close();
    throw error;
  }
}
