/** Repairs of what stands alone: anchors, counters, host rows, intents, headers of the front. */
import type { Mapping } from '../../native/index.ts';
import { encode, encodeWord, offsetOf } from '../codec.ts';
import {
  CONSTANTS,
  contentRow,
  HOST_STATE,
  hostRow,
  hostWord,
  intentRow,
  intentWord,
  NO_HOST,
  overlayHeader,
  registryState,
} from '../layout.ts';
import type { RegionHeader } from '../region-format.ts';
import { anchorsOf } from './anchors.ts';
import type { Seen } from './findings.ts';
import { changeWord, findingsOf, foreignHosts, type RepairContext } from './repair-context.ts';

/** Writes what belongs there over what differs; the word that makes the bytes a region goes last. */
export function repairAnchors(mapping: Mapping, header: RegionHeader, step: (text: string) => void): void {
  for (const { code, index, offset, expected } of anchorsOf(header)) {
    if (mapping.read(offset, expected.length).equals(expected)) continue;
    mapping.write(offset + 8, expected.subarray(8));
    mapping.store64(offset, expected.readBigUInt64LE(0));
    step(`${code} ${index} written again from the sound copy`);
  }
}

/** Words of host rows that stand in the way of attaching. Runs before there is a registry. */
export function repairHostWords(mapping: Mapping, findings: readonly Seen[], step: (text: string) => void): void {
  for (const { code, where } of findings) {
    if (code === 'HOST_RESERVED') {
      const at = offsetOf(hostRow, 'reserved');
      mapping.zero(where.offset + at, hostRow.size - at);
    } else if (code === 'HOST_STATE' || code === 'HOST_RECOVERER') {
      const word = mapping.load64(where.offset);
      const generation = Number((word >> 3n) & 0xffffn);
      const lapsed = { state: HOST_STATE.LAPSED, generation, by_host: NO_HOST };
      if (!changeWord(mapping, where.offset, word, encodeWord(hostWord, lapsed))) continue;
    } else continue;
    step(`${code} of host row ${where.index} mended`);
  }
}

/** Undoes what dead hosts claimed, in every row but ours; a silent host of another kernel is treated as one that may be paused. */
export function recoverHosts(context: RepairContext): void {
  const { registry, tables, step } = context;
  const foreign = new Set(foreignHosts(context).map(({ index }) => index));
  for (let index = 0; index < CONSTANTS.hostsMax.value; index++) {
    if (index === registry.hostIndex) continue;
    const generation = tables.hosts.find((row) => row.index === index)?.bits.generation ?? 0;
    const lapsed = registry.lapse({ index, generation });
    const { contents, chunks, names } = registry.recover(index, foreign.has(index) ? 'lapsed' : 'dead');
    if (lapsed || contents + chunks + names > 0)
      step(`host row ${index} recovered: ${contents} contents, ${chunks} chunks, ${names} names`);
  }
}

/** A row that keeps pins keeps its identity; one whose name is no text gets another. */
export function repairHostNames(context: RepairContext): void {
  for (const { where } of findingsOf(context, 'HOST_NAME')) {
    const name = Buffer.from(`row-${where.index}`);
    const bytes = Buffer.alloc(64);
    name.copy(bytes);
    const { mapping } = context.region;
    mapping.write(where.offset + offsetOf(hostRow, 'name'), bytes);
    mapping.write(where.offset + offsetOf(hostRow, 'name_len'), encode32(name.length));
    context.step(`host row ${where.index} named ${name}`);
  }
}

export function encode32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function repairState({ region, step, findings }: RepairContext): void {
  for (const { code, where } of findings) {
    if (code === 'STATE_COUNTER') region.mapping.store64(where.offset, 0n);
    else if (code === 'STATE_RESERVED')
      region.mapping.zero(where.offset, registryState.size - offsetOf(registryState, 'reserved'));
    else continue;
    step(`${code} at byte ${where.offset} zeroed`);
  }
}

/** An intent that cannot be understood cannot be finished: the row is free again, its operation stays where it was. */
export function repairIntents(context: RepairContext): void {
  const { mapping } = context.region;
  for (const { where, code } of findingsOf(context, 'INTENT_RESERVED')) {
    const at = offsetOf(intentRow, 'reserved');
    mapping.zero(where.offset + at, intentRow.size - at);
    context.step(`${code} of intent row ${where.index} zeroed`);
  }
  for (const { where, code } of findingsOf(context, 'INTENT_STATE', 'INTENT_KIND', 'INTENT_OWNER')) {
    const word = mapping.load64(where.offset);
    const free = encodeWord(intentWord, { sequence: Number(word >> 28n) });
    if (changeWord(mapping, where.offset, word, free)) context.step(`${code}: intent row ${where.index} freed`);
  }
}

/** The fields of the overlay's header that never change after creation. */
export function repairFront(context: RepairContext): void {
  const { overlayOffset, poolOffset, poolBytes } = context.tables.header.geometry;
  if (findingsOf(context, 'FRONT_OVERLAY_HEADER').length === 0) return;
  const { mapping } = context.region;
  const before = mapping.read(overlayOffset, overlayHeader.size);
  const fixed = {
    magic: CONSTANTS.overlayMagic.value,
    version: CONSTANTS.overlayVersion.value,
    bucket_offset: BigInt(overlayHeader.size),
    pool_offset: BigInt(poolOffset),
    pool_size: BigInt(poolBytes),
    reserved: Buffer.alloc(overlayHeader.size - offsetOf(overlayHeader, 'reserved')),
  };
  const after = encode(overlayHeader, fixed, Buffer.from(before));
  if (after.equals(before)) return;
  mapping.write(overlayOffset, after);
  context.step('fixed fields of the overlay header written again');
}

/** Fields beside a content's word that carry nothing. */
export function repairContentFields(context: RepairContext): void {
  const { mapping } = context.region;
  for (const { where } of findingsOf(context, 'CONTENT_RESERVED')) {
    const at = offsetOf(contentRow, 'reserved');
    mapping.zero(where.offset + at, contentRow.size - at);
    context.step(`CONTENT_RESERVED of content ${where.index} zeroed`);
  }
  for (const { where } of findingsOf(context, 'CONTENT_FLAGS')) {
    const at = where.offset + offsetOf(contentRow, 'flags');
    mapping.write(at, encode32(mapping.read(at, 4).readUInt32LE(0) & 1));
    context.step(`CONTENT_FLAGS of content ${where.index} cleared`);
  }
}
