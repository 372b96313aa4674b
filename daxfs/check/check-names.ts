/** Rules of name buckets: what is there can be found, is found once, and points to something. */
import { native } from '../../native/index.ts';
import { offsetOf } from '../codec.ts';
import { CONSTANTS, CONTENT_STATE, NAME_STATE, NO_CONTENT, NO_HOST, nameRow } from '../layout.ts';
import { contentAdder } from './check-contents.ts';
import type { CheckCode, FindingList } from './findings.ts';
import { hasReservedBytes, isFollowable, type Row, type Tables } from './tables.ts';

const at = {
  hash: offsetOf(nameRow, 'hash'),
  length: offsetOf(nameRow, 'name_len'),
  flags: offsetOf(nameRow, 'flags'),
  name: offsetOf(nameRow, 'name'),
  reserved: offsetOf(nameRow, 'reserved'),
};
const GENERATIONS = 2 ** 25;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** XXH3-64 of the name with bit 0 set. Twin: HashOf in name_table.h */
export const hashOfName = (name: Uint8Array): bigint => native.xxh3(name) | 1n;

/** Bucket at which the search for a hash starts. Twin: Row in name_table.h */
export const homeOfHash = (hash: bigint, buckets: number): number => Number((hash >> 1n) & BigInt(buckets - 1));

export function nameOf(row: Row): string | null {
  const length = row.bytes.readUInt32LE(at.length);
  if (length < 1 || length > CONSTANTS.modelNameBytesMax.value) return null;
  try {
    const text = utf8.decode(row.bytes.subarray(at.name, at.name + length));
    const rest = row.bytes.subarray(at.name + length, at.reserved);
    return /\p{Cc}/u.test(text) || rest.some((byte) => byte !== 0) ? null : text;
  } catch {
    return null;
  }
}

const isUsed = ({ bits }: Row) => bits.state === NAME_STATE.USED;
const hashAt = ({ bytes }: Row) => bytes.readBigUInt64LE(at.hash);
const pointsAtNothing = ({ bits }: Row) => bits.content === NO_CONTENT;

/** A bucket that points at nothing, or at a content that is gone, has no name: its bytes are what the last one left. */
function hasName(row: Row, { contents }: Tables): boolean {
  if (!isUsed(row) || pointsAtNothing(row) || hashAt(row) === 0n || nameOf(row) === null) return false;
  const { content = NO_CONTENT, generation } = row.bits;
  const target = contents.get(content)?.bits;
  return target === undefined || (target.state !== CONTENT_STATE.FREE && target.generation === generation);
}

type Add = (code: CheckCode, message: string, more?: bigint) => void;

function adder(found: FindingList, row: Row): Add {
  return (code, message, more = 0n) =>
    found.add(
      code,
      { struct: 'name_row', index: row.index, offset: row.offset },
      message,
      `${row.word} ${hashAt(row)} ${more}`,
    );
}

/** What the state allows; false when nothing else in the bucket means anything. */
function checkState(row: Row, tables: Tables, add: Add): boolean {
  const { state = 0, host = NO_HOST } = row.bits;
  if (state > NAME_STATE.QUARANTINED) {
    add('NAME_STATE', `Name bucket ${row.index} has state ${state}.`);
    return false;
  }
  if ((row.word === 0n) !== (hashAt(row) === 0n) || (state === NAME_STATE.FREE && row.word !== 0n)) {
    add(
      'NAME_HALF',
      `Name bucket ${row.index} has word 0x${row.word.toString(16)} and hash 0x${hashAt(row).toString(16)}.`,
    );
    return false;
  }
  if (state === NAME_STATE.CLAIMED || state === NAME_STATE.QUARANTINED) {
    checkClaim(row, tables, add);
    return false;
  }
  if (state === NAME_STATE.USED && host !== NO_HOST) {
    add('NAME_CLAIM', `Name bucket ${row.index} is in use and names host row ${host}.`);
  }
  return state === NAME_STATE.USED;
}

/** A claim carries the low 12 bits of its host's generation. */
function checkClaim(row: Row, tables: Tables, add: Add): void {
  const { host = NO_HOST, host_generation: low = 0 } = row.bits;
  if (host >= NO_HOST) {
    add('NAME_CLAIM', `Name bucket ${row.index} is claimed by host row ${host}.`);
    return;
  }
  const generation = tables.hosts.find(({ index }) => index === host)?.bits.generation ?? 0;
  const claimed = row.bits.state === NAME_STATE.CLAIMED;
  const live = claimed && tables.liveness(host, generation) === 'live' && (generation & 0xfff) === low;
  if (!live) add('NAME_DEAD_CLAIM', `Name bucket ${row.index} was claimed by host row ${host}, which is gone.`);
}

function checkText(row: Row, add: Add): void {
  const length = row.bytes.readUInt32LE(at.length);
  if (pointsAtNothing(row)) {
    if ((hashAt(row) & 1n) === 0n) add('NAME_HASH', `Name bucket ${row.index} has an even hash.`);
    return;
  }
  if (length === 0 || length > CONSTANTS.modelNameBytesMax.value) {
    add('NAME_LENGTH', `The name in bucket ${row.index} has ${length} bytes.`);
    return;
  }
  if (nameOf(row) === null) {
    add('NAME_TEXT', `The name in bucket ${row.index} is no clean text.`);
    return;
  }
  const bytes = row.bytes.subarray(at.name, at.name + length);
  if (hashAt(row) !== hashOfName(bytes))
    add('NAME_HASH', `The hash of bucket ${row.index} is not that of ${JSON.stringify(nameOf(row))}.`);
}

function checkTarget(row: Row, tables: Tables, add: Add): void {
  const { content = NO_CONTENT, generation = 0 } = row.bits;
  if (content === NO_CONTENT) return;
  if (content >= tables.header.geometry.contents) {
    add('NAME_TARGET', `The name in bucket ${row.index} points to content row ${content}; there is none.`);
    return;
  }
  const target = tables.contents.get(content);
  const reached = target?.bits.generation ?? 0;
  if (generation === reached && target !== undefined && target.bits.state !== CONTENT_STATE.FREE) return;
  const ahead = (generation - reached + GENERATIONS) % GENERATIONS;
  const evidence = target?.word ?? 0n;
  if (ahead > 0 && ahead < GENERATIONS / 2)
    add(
      'NAME_TARGET',
      `The name in bucket ${row.index} points to a use of content row ${content} that never was.`,
      evidence,
    );
  else add('NAME_STALE', `The name in bucket ${row.index} points to content ${content}, which was freed.`, evidence);
}

function checkBucket(row: Row, tables: Tables, found: FindingList): void {
  const add = adder(found, row);
  const flags = row.bytes.readUInt32LE(at.flags);
  if (flags !== 0 || hasReservedBytes(row.bytes, at.reserved, nameRow.size - at.reserved))
    add('NAME_RESERVED', `Name bucket ${row.index} has bytes in its flags or its reserved field.`);
  if (!checkState(row, tables, add)) return;
  checkText(row, add);
  checkTarget(row, tables, add);
}

/** Every name is met on its way from home before a free bucket, and no other bucket has the same one. */
function checkProbes(tables: Tables, found: FindingList): void {
  const buckets = tables.header.geometry.names;
  const taken = new Set(tables.names.filter((row) => hashAt(row) !== 0n).map(({ index }) => index));
  const gaps = gapsBefore(taken, buckets);
  const seen = new Map<string, Row>();
  for (const row of tables.names.filter((one) => hasName(one, tables))) {
    const name = nameOf(row)!;
    const distance = (row.index - homeOfHash(hashAt(row), buckets) + buckets) % buckets;
    if (distance > (gaps.get(row.index) ?? 0))
      adder(found, row)(
        'NAME_UNREACHABLE',
        `${JSON.stringify(name)} in bucket ${row.index} lies behind a free bucket.`,
      );
    const other = seen.get(name);
    if (other === undefined) seen.set(name, row);
    else reportTwice(found, other, row, buckets);
  }
}

/** The later one on the probe path is the one that nobody finds. */
function reportTwice(found: FindingList, a: Row, b: Row, buckets: number): void {
  const distance = (row: Row) => (row.index - homeOfHash(hashAt(row), buckets) + buckets) % buckets;
  const later = distance(a) > distance(b) ? a : b;
  const first = later === a ? b : a;
  adder(found, later)(
    'NAME_DUPLICATE',
    `${JSON.stringify(nameOf(later))} is in buckets ${first.index} and ${later.index}.`,
    first.word,
  );
}

/** Taken bucket -> how many taken buckets lie directly before it, around the end of the table. */
function gapsBefore(taken: ReadonlySet<number>, buckets: number): Map<number, number> {
  const runs = new Map<number, number>();
  const inOrder = [...taken].sort((a, b) => a - b);
  if (inOrder.length === buckets) return new Map(inOrder.map((index) => [index, buckets]));
  // Twice around: the run before bucket 0 may begin at the end of the table.
  for (const index of [...inOrder, ...inOrder]) {
    const before = (index - 1 + buckets) % buckets;
    runs.set(index, taken.has(before) ? (runs.get(before) ?? 0) + 1 : 0);
  }
  return runs;
}

function checkNameless(tables: Tables, found: FindingList): void {
  const named = new Set(
    tables.names.filter((row) => hasName(row, tables)).map(({ bits }) => `${bits.content}@${bits.generation}`),
  );
  for (const entry of tables.contents.values()) {
    if (entry.bits.state !== CONTENT_STATE.READY || !isFollowable(entry)) continue;
    if (named.has(`${entry.index}@${entry.bits.generation}`)) continue;
    contentAdder(found, entry)('CONTENT_NAMELESS', `Content ${entry.index} is ready and has no name.`);
  }
}

export function checkNames(tables: Tables, found: FindingList): void {
  for (const row of tables.names) checkBucket(row, tables, found);
  checkProbes(tables, found);
  checkNameless(tables, found);
}
