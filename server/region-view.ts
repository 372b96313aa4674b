/** What the HTTP layer and the metrics see of the region. */
import type { Region } from '../daxfs/region.ts';
import type { Registry } from '../daxfs/registry.ts';
import type { HostInfo, RegionInfo } from './schemas/region.ts';

/** Both calls are cheap: no locks, at most one walk over the chunk words. */
export interface RegionView {
  info(): RegionInfo;
  hosts(): HostInfo[];
}

/** 32 hex digits as people write a UUID. */
function hyphenated(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function areasOf(facts: ReturnType<Region['info']>, usedChunks: number): RegionInfo['areas'] {
  const { front, registry, chunks } = facts;
  return [
    { area: 'front', offset: front.offset, size: front.sizeBytes },
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
  return {
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
        areas: areasOf(facts, total - free),
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
