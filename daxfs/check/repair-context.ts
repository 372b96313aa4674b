/** What every repair works with: the region taken exclusively, the tables as they are, and who still maps bytes. */
import type { Mapping } from '../../native/index.ts';
import { decodeWord, offsetOf } from '../codec.ts';
import { CONSTANTS, chunkWord, HOST_STATE, hostRow } from '../layout.ts';
import type { Region } from '../region.ts';
import type { Registry } from '../registry.ts';
import type { CheckCode, Seen } from './findings.ts';
import { nobody } from './open-check.ts';
import type { ContentEntry, Row, Tables } from './tables.ts';

export interface RepairContext {
  region: Region;
  /** Attached as a host of its own. */
  registry: Registry;
  /** That host. */
  self: { index: number; generation: number };
  tables: Tables;
  findings: readonly Seen[];
  /** 32 hex digits. */
  ownBootId: string;
  /** Says what has just been changed. */
  step(text: string): void;
  /** Says what stays as it is, and why. */
  keep(text: string): void;
}

/** Findings of some codes, in the order in which they were found. */
export function findingsOf({ findings }: RepairContext, ...codes: CheckCode[]): Seen[] {
  return findings.filter(({ code }) => codes.includes(code));
}

/** One word from exactly what was seen to something else. False when it is another already: a repair before this one did it. */
export function changeWord(mapping: Mapping, offset: number, from: bigint, to: bigint): boolean {
  return from !== to && mapping.cas64(offset, from, to) === from;
}

const bootIdOf = (row: Row) =>
  row.bytes.toString('hex', offsetOf(hostRow, 'boot_id'), offsetOf(hostRow, 'boot_id') + 16);

/** Rows of other kernels that nobody proved dead: their workers may map anything, and no lock of this kernel tells. */
export function foreignHosts({ tables, ownBootId }: Pick<RepairContext, 'tables' | 'ownBootId'>): Row[] {
  const isForeign = (bootId: string) => bootId !== ownBootId && bootId !== nobody;
  return tables.hosts.filter((row) => row.bits.state !== HOST_STATE.FREE && isForeign(bootIdOf(row)));
}

/** True while anybody on this kernel keeps a lock on the chunk. */
export function isChunkLocked({ region }: RepairContext, chunk: number): boolean {
  return region.fence.isHeld(region.chunkOffset(chunk), CONSTANTS.chunkBytes.value);
}

/** Chunks of a content, by the chunk words, whatever its row says, and by its images where they can be followed. */
function chunksOf({ tables }: RepairContext, entry: ContentEntry): number[] {
  const chunks = new Set<number>();
  for (let chunk = 0; chunk < tables.header.geometry.chunkCount; chunk++) {
    const word = tables.words.readBigUInt64LE(chunk * 8);
    if (word !== 0n && decodeWord(chunkWord, word).content === entry.index) chunks.add(chunk);
  }
  for (const { firstChunk, chunkCount } of entry.content.images) {
    for (let chunk = firstChunk; chunk < firstChunk + chunkCount; chunk++) chunks.add(chunk);
  }
  return [...chunks];
}

/** True while somebody may map bytes of a content: then it is never freed. */
export function isContentHeld(context: RepairContext, entry: ContentEntry): boolean {
  const mask = entry.bits.mask ?? 0;
  if (foreignHosts(context).some(({ index }) => (mask & (1 << index)) !== 0 || entry.broken !== undefined)) return true;
  return chunksOf(context, entry).some((chunk) => isChunkLocked(context, chunk));
}
