/** The registry's tables as one look at them: rows copied out, words taken apart. Reads only, through any mapping. */
import { type Mapping, native } from '../../native/index.ts';
import { decodeWord, offsetOf } from '../codec.ts';
import { type BrokenRule, brokenContentRule, type Content, checksummedBytes, decodeContent } from '../content-row.ts';
import {
  CONSTANTS,
  CONTENT_STATE,
  contentRow,
  contentWord,
  HOST_STATE,
  hostRow,
  hostWord,
  intentRow,
  intentWord,
  NO_HOST,
  nameRow,
  nameWord,
  type WordSpec,
} from '../layout.ts';
import type { RegionHeader } from '../region-format.ts';

/** A copied row and its word. */
export interface Row {
  index: number;
  /** Bytes from the start of the region. */
  offset: number;
  word: bigint;
  /** The word's bit fields. */
  bits: Readonly<Record<string, number>>;
  bytes: Buffer;
}

export interface ContentEntry extends Row {
  content: Content;
  /** The first rule that the body of a published row breaks. */
  broken: BrokenRule | undefined;
}

/** `live`: at work; `dead`: its claims are to be undone; `nobody`: no such host can exist. */
export type Liveness = 'live' | 'dead' | 'nobody';

/** Asks the kernel whether a host row's lock is held, and whether the row is of this kernel. */
export interface HostOracle {
  locked(index: number): boolean;
  /** 32 hex digits. */
  ownBootId: string;
}

export interface Tables {
  header: RegionHeader;
  hosts: readonly Row[];
  contents: ReadonlyMap<number, ContentEntry>;
  names: readonly Row[];
  intents: readonly Row[];
  /** One u64 per chunk, little-endian. */
  words: Buffer;
  /** Reserved bytes are checked where they lie; FREE rows too. */
  liveness(host: number, generation: number): Liveness;
}

const { FREE, READY, DRAINING } = CONTENT_STATE;
const sequenceAt = offsetOf(contentRow, 'sequence');
const checksumless = 0n;
const copiesMax = 8;
const stepBytes = 4 * 2 ** 20;

/** Copies the rows of a table that are not all zero. */
function* copyRows(mapping: Mapping, offset: number, count: number, size: number): Generator<[number, Buffer]> {
  const perStep = Math.max(1, Math.floor(stepBytes / size));
  const zero = Buffer.alloc(size);
  for (let first = 0; first < count; first += perStep) {
    const rows = Math.min(perStep, count - first);
    const bytes = mapping.read(offset + first * size, rows * size);
    for (let i = 0; i < rows; i++) {
      const row = bytes.subarray(i * size, (i + 1) * size);
      if (row.compare(zero) !== 0) yield [first + i, row];
    }
  }
}

function readRows(mapping: Mapping, at: { offset: number; count: number; size: number; word: WordSpec }): Row[] {
  const rows: Row[] = [];
  for (const [index, bytes] of copyRows(mapping, at.offset, at.count, at.size)) {
    const word = bytes.readBigUInt64LE(0);
    rows.push({ index, offset: at.offset + index * at.size, word, bits: decodeWord(at.word, word), bytes });
  }
  return rows;
}

/** A copy that no writer was at meanwhile, as far as trying again helps. Twin: [body-1] in content_table.h */
function steadyRow(mapping: Mapping, offset: number, first: Buffer): Buffer {
  let bytes = first;
  for (let tries = 0; tries < copiesMax; tries++) {
    const word = mapping.load64(offset);
    const sequence = mapping.load64(offset + sequenceAt);
    if (word === bytes.readBigUInt64LE(0) && sequence === bytes.readBigUInt64LE(sequenceAt)) break;
    bytes = mapping.read(offset, contentRow.size);
    bytes.writeBigUInt64LE(word, 0);
    bytes.writeBigUInt64LE(sequence, sequenceAt);
  }
  return bytes;
}

function contentEntry(row: Row, chunkCount: number): ContentEntry {
  const { bits, bytes, index } = row;
  const published = bits.state === READY || bits.state === DRAINING;
  const sum = published ? native.xxh3(checksummedBytes(bytes)) : checksumless;
  const content = decodeContent(index, bytes, sum, chunkCount);
  const broken = published ? brokenContentRule(bytes, sum, chunkCount) : undefined;
  return { ...row, content, broken };
}

function readContents(mapping: Mapping, header: RegionHeader): Map<number, ContentEntry> {
  const { registryOffset, contentsOffset, contents: count, chunkCount } = header.geometry;
  const entries = new Map<number, ContentEntry>();
  const start = registryOffset + contentsOffset;
  for (const [index, first] of copyRows(mapping, start, count, contentRow.size)) {
    const offset = start + index * contentRow.size;
    const bytes = steadyRow(mapping, offset, first);
    const word = bytes.readBigUInt64LE(0);
    const bits = decodeWord(contentWord, word);
    entries.set(index, contentEntry({ index, offset, word, bits, bytes }, chunkCount));
  }
  return entries;
}

function livenessOf(hosts: readonly Row[], oracle: HostOracle): Tables['liveness'] {
  const known = new Map<number, { word: Row['bits']; dead: boolean }>();
  for (const { index, bits, bytes } of hosts) {
    const bootId = bytes.toString('hex', offsetOf(hostRow, 'boot_id'), offsetOf(hostRow, 'boot_id') + 16);
    known.set(index, { word: bits, dead: bootId === oracle.ownBootId && !oracle.locked(index) });
  }
  return (host, generation) => {
    if (host >= NO_HOST) return 'nobody';
    const row = known.get(host);
    const live = row?.word.state === HOST_STATE.LIVE && row.word.generation === generation && !row.dead;
    return live ? 'live' : 'dead';
  };
}

/** Looks at every table once. Words change meanwhile where hosts live: nothing here is proof before a second look. */
export function readTables(mapping: Mapping, header: RegionHeader, oracle: HostOracle): Tables {
  const { registryOffset, hostsOffset, namesOffset, intentsOffset, wordsOffset, names, intents, chunkCount } =
    header.geometry;
  const table = (offset: number, count: number, size: number, word: WordSpec) =>
    readRows(mapping, { offset: registryOffset + offset, count, size, word });
  const hosts = table(hostsOffset, CONSTANTS.hostsMax.value, hostRow.size, hostWord);
  return {
    header,
    hosts,
    words: mapping.read(registryOffset + wordsOffset, chunkCount * 8),
    contents: readContents(mapping, header),
    names: table(namesOffset, names, nameRow.size, nameWord),
    intents: table(intentsOffset, intents, intentRow.size, intentWord),
    liveness: livenessOf(hosts, oracle),
  };
}

export const wordOffset = ({ geometry }: RegionHeader, chunk: number) =>
  geometry.registryOffset + geometry.wordsOffset + chunk * 8;

/** READY or DRAINING, with a sound body and nobody claiming it: its images may be followed. */
export function isFollowable({ bits, broken }: ContentEntry): boolean {
  const published = bits.state === READY || bits.state === DRAINING;
  return published && broken === undefined && bits.host === NO_HOST;
}

export const isFree = ({ bits }: ContentEntry) => bits.state === FREE;

/** True where bytes of a field named `reserved` are not zero. */
export function hasReservedBytes(bytes: Buffer, from: number, length: number): boolean {
  return bytes.subarray(from, from + length).some((byte) => byte !== 0);
}
