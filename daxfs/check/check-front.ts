/** The front of a region: its headers by the rules of the format, then what overlay and page cache hold. */
import type { Mapping } from '../../native/index.ts';
import type { ByteSource } from '../byte-source.ts';
import { offsetOf } from '../codec.ts';
import { FRONT_RULES, type FrontFinding, type FrontRule, type FrontRuleFacts } from '../front-rules.ts';
import { validateFront } from '../front-validate.ts';
import type { FrontWork } from '../front-work.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS, HOST_STATE, INTENT_STATE, intentRow } from '../layout.ts';
import type { FrontKind } from '../overlay-key.ts';
import { encodeSuperblock, locatorAt, type RegionHeader } from '../region-format.ts';
import type { FindingList, Where } from './findings.ts';
import type { Tables } from './tables.ts';

const blockBytes = CONSTANTS.blockBytes.value;
/** What a finding was seen on: the bytes around the place where the rule broke. */
const evidenceBytes = 32;
/** Findings of one look that are listed. */
export const findingsMax = 1000;

/** The superblock as it has to be, of a plain v8 image without our locator: damage of the real one is found elsewhere. */
function plainSuperblock(header: RegionHeader): Buffer {
  const block = encodeSuperblock(header);
  block.writeUInt32LE(CONSTANTS.superblockMagic.value, 0);
  block.writeUInt32LE(CONSTANTS.superblockVersion.value, 4);
  return block.fill(0, locatorAt, blockBytes);
}

/** The front as a plain v8 image. */
export function frontSource(mapping: Mapping, header: RegionHeader): ByteSource {
  const size = header.geometry.registryOffset;
  const block = plainSuperblock(header);
  const read = (offset: number, length: number): Buffer => {
    if (offset < 0 || length < 0 || length > size - offset) throw new RangeError('outside the front of the region');
    const bytes = mapping.read(offset, length);
    if (offset < blockBytes) block.subarray(offset, offset + length).copy(bytes);
    return bytes;
  };
  return { size, read };
}

/** Rules that say no more than that the header is broken. */
const HEADER_RULES: ReadonlySet<FrontRule> = new Set(['OVERLAY_PLACE', 'PCACHE_PLACE']);

/** Who is at work on the front, by the tables of the registry. @param self a host row that does not count */
export function frontWork({ intents, hosts, liveness }: Tables, self?: number): FrontWork {
  const running = intents.filter(
    ({ bits }) => bits.state === INTENT_STATE.READY || bits.state === INTENT_STATE.CLAIMED,
  );
  const entries = running.flatMap(({ bytes }) =>
    // Bit 0 says that others may have seen the entry.
    [1, 4].map((arg) => Number(bytes.readBigUInt64LE(offsetOf(intentRow, 'arg0') + arg * 8) & ~1n)),
  );
  const rows = new Map(hosts.map((row) => [row.index, row]));
  const lives = (index: number, generation: number) => index !== self && liveness(index, generation) === 'live';
  return {
    isQuiet: hosts.every(({ index, bits }) => bits.state !== HOST_STATE.LIVE || !lives(index, bits.generation ?? 0)),
    rows: new Set(running.map(({ index }) => index)),
    entries: new Set(entries),
    host: (index, generation) => (lives(index, generation ?? rows.get(index)?.bits.generation ?? 0) ? 'live' : 'gone'),
  };
}

export const kindOf = ({ kernelMountable }: RegionHeader): FrontKind => (kernelMountable ? 'kernel' : 'private');

/** What is said of a finding: the rule's name is the code's, so the detail alone, and what to do where repair cannot. */
function messageOf(rule: FrontRule, detail: string): string {
  const { title, repairable, severity }: FrontRuleFacts = FRONT_RULES[rule];
  const { advice }: FrontRuleFacts = FRONT_RULES[rule];
  const said = `${title[0]?.toUpperCase()}${title.slice(1)}: ${detail}`;
  return !repairable && severity === 'damage' && advice !== undefined ? `${said}; ${advice}.` : `${said}.`;
}

interface Told {
  /** Where a byte lies. */
  whereOf(offset: number, index?: number): Where;
  /** Bytes at most that are left from there on. */
  read(offset: number, length: number): Buffer;
  /** Half-done operations of dead hosts look like damage. */
  unsettled: boolean;
}

/** Adds findings of overlay and page cache under the names that they have here. */
export function addFrontFindings(findings: readonly FrontFinding[], told: Told, found: FindingList): void {
  const isHeaderSound = !found.counts.has('FRONT_OVERLAY_HEADER') && !found.counts.has('FRONT_CACHE_HEADER');
  for (const { rule, offset, detail, subject, evidence } of findings) {
    if (HEADER_RULES.has(rule) && !isHeaderSound) continue;
    const where = told.whereOf(offset, subject.index);
    const code = told.unsettled ? 'FRONT_UNSETTLED' : (`FRONT_${rule}` as const);
    const seen = told.read(offset, evidenceBytes).toString('hex');
    found.add(code, where, messageOf(rule, detail), `${rule} ${detail} ${evidence} ${seen}`);
  }
}

/**
 * Adds what is wrong with the front.
 * @param unsettled operations of dead hosts are still to be finished: half done, they look like damage
 */
export function checkFront(mapping: Mapping, tables: Tables, unsettled: boolean, found: FindingList): void {
  const { header } = tables;
  const { overlayOffset, overlayBytes, registryOffset } = header.geometry;
  const source = frontSource(mapping, header);
  const whereOf = (offset: number, index = 0) => ({
    struct: offset < overlayOffset + overlayBytes ? ('overlay' as const) : ('page_cache' as const),
    index,
    offset,
  });
  const read = (offset: number, length: number) => {
    const at = Math.min(offset, registryOffset);
    return mapping.read(at, Math.min(length, registryOffset - at));
  };
  for (const { rule, offset, detail } of validateImage(source).findings) {
    const where = whereOf(offset);
    const code = where.struct === 'overlay' ? 'FRONT_OVERLAY_HEADER' : 'FRONT_CACHE_HEADER';
    found.add(code, where, `${rule}: ${detail}.`, detail);
  }
  const options = { kind: kindOf(header), work: frontWork(tables), findingsMax };
  addFrontFindings(validateFront(source, options).findings, { whereOf, read, unsettled }, found);
}
