/** Reports as people read them: one `name: value` per line under a heading. */
import { formatBytes } from '../units.ts';
import type { OverlayReport, StatusReport } from './report.ts';

type Line = [name: string, value: string | number];

function section(title: string, lines: readonly Line[] | null): string {
  if (lines === null) return `${title}: none\n`;
  const width = Math.max(...lines.map(([name]) => name.length)) + 1;
  return `${title}\n${lines.map(([name, value]) => `  ${`${name}:`.padEnd(width)} ${value}\n`).join('')}`;
}

const size = (bytes: number) => (bytes < 1024 ? `${bytes} bytes` : `${bytes} (${formatBytes(bytes)})`);
const at = (offset: number) => `0x${offset.toString(16)}`;

function overlayLines(overlay: NonNullable<StatusReport['overlay']>): Line[] {
  return [
    ['offset', at(overlay.offset)],
    ['size', size(overlay.size)],
    ['buckets', `${overlay.bucketCount} (shift ${overlay.bucketShift})`],
    ['pool size', size(overlay.poolSize)],
    ['allocated', `${size(overlay.poolAllocated)}, ${overlay.poolPercent} %`],
    ['next inode', overlay.nextInode],
  ];
}

function pageCacheLines(cache: NonNullable<StatusReport['pageCache']>): Line[] {
  return [
    ['offset', at(cache.offset)],
    ['size', size(cache.size)],
    ['slots', `${cache.slots} (hash shift ${cache.hashShift})`],
    ['pending', cache.pendingCount],
    ['slot states', `${cache.valid} valid, ${cache.free} free, ${cache.pending} pending`],
    ...(cache.damaged > 0 ? [['damaged slots', cache.damaged] as Line] : []),
    ['occupancy', `${cache.occupancyPercent} %`],
    ['evict hand', cache.evictHand],
    ['hot ref bits', cache.hot],
    ['pinned', `${cache.pinned} slots, ${cache.pins} pins`],
    ['users', cache.users],
    ['hits', `${cache.counters.hits}, ${cache.counters.misses} misses`],
    ['fills', `${cache.counters.fills}, ${cache.counters.fillErrors} failed, ${cache.counters.takeovers} taken over`],
    ['evictions', cache.counters.evictions],
    ['waits', `${cache.counters.pendingWaits}, ${cache.counters.fallbacks} reads past the cache`],
    ['source reads', `${cache.counters.sourceReads}, ${size(cache.counters.sourceBytes)}`],
  ];
}

export function statusText({ format, base, overlay, pageCache, region }: StatusReport): string {
  const kind = format.front === 'private' ? ' (private front of a daxserve region)' : '';
  const parts = [
    section('Format', [
      ['magic', format.magic],
      ['version', `${format.version}${kind}`],
      ['block size', format.blockSize],
      ['total size', size(format.totalSize)],
    ]),
    section(
      'Base image',
      base && [
        ['offset', at(base.offset)],
        ['size', size(base.size)],
        ['inodes', base.inodeCount],
        ['root inode', base.rootInode],
        ['inode offset', at(base.inodeOffset)],
        ['data offset', at(base.dataOffset)],
      ],
    ),
    section('Overlay', overlay && overlayLines(overlay)),
    section('Page cache', pageCache && pageCacheLines(pageCache)),
  ];
  if (region) {
    parts.push(
      section('Region', [
        ['uuid', region.uuid],
        ['size', size(region.size)],
        ['registry', `${at(region.registryOffset)}, ${size(region.registrySize)}`],
      ]),
    );
  }
  return parts.join('');
}

export function overlayText({ header, poolPercent, bucketCount, entries }: OverlayReport): string {
  const list = (first: number | null) => (first === null ? 'empty' : `starts at ${at(first)}`);
  return [
    section('Overlay header', [
      ['magic', header.magic],
      ['version', header.version],
      ['bucket offset', at(header.bucketOffset)],
      ['pool offset', at(header.poolOffset)],
      ['pool size', size(header.poolSize)],
      ['allocated', `${size(header.poolAllocated)}, ${poolPercent} %`],
      ['next inode', header.nextInode],
      ['free inodes', list(header.freeInode)],
      ['free pages', list(header.freeData)],
      ['free names', list(header.freeDirent)],
    ]),
    section('Buckets', [
      ['count', bucketCount],
      ['used', entries.bucketsUsed],
      ['free', entries.bucketsFree],
    ]),
    section('Entries', [
      ['inodes', entries.inodes],
      ['data pages', entries.dataPages],
      ['names', entries.dirents],
      ['tombstones', entries.tombstones],
      ['directory lists', entries.directoryLists],
      ...(entries.directorySlots > 0 ? [['directory slots', entries.directorySlots] as Line] : []),
      ...(entries.damaged > 0 ? [['damaged', entries.damaged] as Line] : []),
    ]),
  ].join('');
}
