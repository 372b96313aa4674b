/** What the HTTP layer and the metrics see of the region. */
import { FrontUse, type PoolUse } from '../daxfs/front-use.ts';
import type { Region } from '../daxfs/region.ts';
import type { Registry } from '../daxfs/registry.ts';
import type { HostInfo, RegionInfo } from './schemas/region.ts';

/** No call takes locks, or more of the event loop than one walk over the chunk words. */
export interface RegionView {
  info(): RegionInfo;
  hosts(): HostInfo[];
  /** As FrontUse says; undefined where the front is damaged. */
  overlay(): Promise<{ usedBuckets: number | undefined; poolUsedBytes: number | undefined }>;
}

/** 32 hex digits as people write a UUID. */
function hyphenated(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function areasOf(
  { front, registry, chunks }: ReturnType<Region['info']>,
  pool: PoolUse | undefined,
  usedChunks: number,
): RegionInfo['areas'] {
  // Table and headers are used from the start.
  const used = pool && { used: front.sizeBytes - pool.bytes + pool.usedBytes };
  return [
    { area: 'front', offset: front.offset, size: front.sizeBytes, ...used },
    { area: 'registry', offset: registry.offset, size: registry.sizeBytes },
    {
      area: 'chunks',
      offset: chunks.offset,
      size: chunks.count * chunks.chunkBytes,
      used: usedChunks * chunks.chunkBytes,
    },
  ];
}

/** The view of an open region. Needs no attached host. */
export function regionView(region: Region, registry: Registry): RegionView {
  const front = new FrontUse(region);
  return {
    overlay: async () => ({ poolUsedBytes: front.pool()?.usedBytes, usedBuckets: await front.bucketsUsed() }),
    info: () => {
      const facts = region.info();
      const { chunkBytes } = facts.chunks;
      const { total, free, largestFreeRun, quarantined } = registry.chunkStats();
      return {
        uuid: facts.uuid,
        path: facts.path,
        backing: facts.backing,
        size: facts.sizeBytes,
        pageBytes: facts.pageBytes,
        numa: facts.numa,
        mapAlignment: facts.mapAlignment,
        formatVersion: facts.formatVersion,
        createdAt: new Date(facts.createdAtMs).toISOString(),
        coherence: facts.coherence,
        kernelMountable: facts.kernelMountable,
        readOnly: facts.readOnly,
        areas: areasOf(facts, front.pool(), total - free),
        capacities: facts.capacities,
        chunkBytes,
        freeBytes: free * chunkBytes,
        largestFreeBytes: largestFreeRun * chunkBytes,
        quarantinedBytes: quarantined * chunkBytes,
      };
    },
    hosts: () =>
      registry.hosts().map(({ index, name, state, generation, bootId, pid, attachedAtMs }) => ({
        row: index,
        name,
        state,
        self: index === registry.hostIndex,
        generation,
        bootId: hyphenated(bootId),
        pid,
        attachedAt: new Date(attachedAtMs).toISOString(),
      })),
  };
}
