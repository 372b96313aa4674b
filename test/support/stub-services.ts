/** Canned model store, lease book and region for tests of status mapping; what a test does not set answers happily. */

import type { Services } from '../../server/lifecycle.ts';
import type { HostInfo, RegionInfo } from '../../server/schemas/region.ts';
import type { Handle, LeaseBook, Model, ModelStore } from '../../server/services.ts';

export const DIGEST = 'ab'.repeat(32);

export function model(changes: Partial<Model> = {}): Model {
  return {
    name: 'org/m',
    tag: 'latest',
    revision: null,
    digest: DIGEST,
    state: 'ready',
    placement: 'resident',
    format: 'safetensors',
    bytes: 4096,
    tensorCount: 1,
    progress: { phase: 'done', bytesDone: 4096, bytesTotal: 4096, bytesPerSecond: 0, etaSeconds: 0 },
    leases: 0,
    keep: false,
    createdAt: '2025-01-01T00:00:00.000Z',
    readyAt: '2025-01-01T00:00:01.000Z',
    lastAccessAt: null,
    loadSeconds: 1,
    phases: { copying: 1 },
    ...changes,
  };
}

export function handle(changes: Partial<Handle> = {}): Handle {
  return {
    id: 'h1',
    kind: 'mmap',
    model: 'org/m:latest',
    revision: null,
    digest: DIGEST,
    region: { uuid: '00000000-0000-0000-0000-000000000001', path: '/dev/shm/r', size: 1 << 30, mapAlignment: 2 << 20 },
    socket: '/run/daxserve/daxserve.sock',
    buffers: [
      {
        size: 1 << 30,
        files: [
          {
            path: 'model.safetensors',
            size: 4096,
            digest: '00'.repeat(16),
            extents: [{ fileOffset: 0, bufferOffset: 2 << 20, length: 4096 }],
          },
        ],
      },
    ],
    manifest: '.daxserve/manifest.json',
    expiresAt: '2025-01-01T00:01:00.000Z',
    ...changes,
  };
}

const REGION: RegionInfo = {
  uuid: '00000000-0000-0000-0000-000000000001',
  path: '/dev/shm/r',
  backing: 'tmpfs',
  size: 1 << 30,
  pageBytes: 4096,
  numa: 'default',
  mapAlignment: 4096,
  formatVersion: 1,
  createdAt: '2025-01-01T00:00:00.000Z',
  coherence: 'hardware',
  kernelMountable: false,
  readOnly: { strength: 'advisory', reason: 'a test' },
  areas: [{ area: 'chunks', offset: 0, size: 1 << 30, used: 2 << 20 }],
  capacities: { hosts: 15, contents: 1, names: 1, intents: 1 },
  chunkBytes: 2 << 20,
  freeBytes: 1 << 29,
  largestFreeBytes: 1 << 28,
  quarantinedBytes: 0,
};

const HOST: HostInfo = {
  row: 0,
  name: 'here',
  state: 'live',
  self: true,
  generation: 1,
  bootId: '00000000-0000-0000-0000-000000000002',
  pid: 1,
  attachedAt: '2025-01-01T00:00:00.000Z',
};

export interface StubServices extends Services {
  store: ModelStore;
  leases: LeaseBook;
}

/** Services that answer with the values above, changed by the overrides. */
export function stubServices(overrides: { store?: Partial<ModelStore>; leases?: Partial<LeaseBook> } = {}): Services {
  return {
    store: {
      load: async () => ({ outcome: 'hit', model: model() }),
      settled: async () => model(),
      list: (state) => [model()].filter((item) => state === undefined || item.state === state),
      get: async () => model({ files: [] }),
      getByDigest: async () => model({ files: [] }),
      tensors: async () => [],
      retarget: async () => model(),
      remove: async () => ({ outcome: 'freed', model: model() }),
      watch: () => () => {},
      onEvent: () => () => {},
      ...overrides.store,
    },
    leases: {
      reserve: async () => handle({ token: 'secret' }),
      attach: async () => ({ handle: handle({ expiresAt: null }), fds: [] }),
      attachReserved: async () => ({ handle: handle({ expiresAt: null }), fds: [] }),
      counts: () => ({ mmap: 1, dmabuf: 0 }),
      page: () => ({ items: [{ ...handle(), worker: null }] }),
      renew: () => handle(),
      release: async () => {},
      onDraining: () => () => {},
      ...overrides.leases,
    },
    region: { info: () => REGION, hosts: () => [HOST], overlay: async () => ({ usedBuckets: 3, poolUsedBytes: 4096 }) },
    fence: async (name) => ({ name, contents: 0, chunks: 0, names: 0, pins: 0 }),
  };
}
