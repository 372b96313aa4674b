/** Rules of host rows and intent rows. */
import { offsetOf } from '../codec.ts';
import { HOST_STATE, hostRow, INTENT_KIND, INTENT_STATE, intentRow, NO_HOST } from '../layout.ts';
import type { CheckCode, FindingList } from './findings.ts';
import { hasReservedBytes, type Row, type Tables } from './tables.ts';

const nameBytesMax = 64;
const at = {
  nameLength: offsetOf(hostRow, 'name_len'),
  name: offsetOf(hostRow, 'name'),
  reserved: offsetOf(hostRow, 'reserved'),
  intentReserved: offsetOf(intentRow, 'reserved'),
};
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Null when the bytes are no text of an allowed length. */
function hostName(bytes: Buffer): string | null {
  const length = bytes.readUInt32LE(at.nameLength);
  if (length < 1 || length > nameBytesMax) return null;
  try {
    return utf8.decode(bytes.subarray(at.name, at.name + length));
  } catch {
    return null;
  }
}

function adder(found: FindingList, struct: 'host_row' | 'intent_row', row: Row) {
  return (code: CheckCode, message: string) =>
    found.add(code, { struct, index: row.index, offset: row.offset }, message, row.word);
}

function checkHost(row: Row, tables: Tables, found: FindingList): void {
  const { bits, bytes, index } = row;
  const { state = 0, generation = 0, by_host: byHost = NO_HOST, by_generation: byGeneration = 0 } = bits;
  const add = adder(found, 'host_row', row);
  if (hasReservedBytes(bytes, at.reserved, hostRow.size - at.reserved))
    add('HOST_RESERVED', `Host row ${index} has bytes in its reserved field.`);
  if (state > HOST_STATE.RECOVERING) {
    add('HOST_STATE', `Host row ${index} has state ${state}.`);
    return;
  }
  if (state === HOST_STATE.FREE) return;
  if (state === HOST_STATE.RECOVERING) {
    if (byHost >= NO_HOST) {
      add('HOST_RECOVERER', `Host row ${index} is recovered by row ${byHost}.`);
      return;
    }
    if (tables.liveness(byHost, byGeneration) === 'dead' && byHost !== index)
      add('HOST_DEAD', `The recovery of host row ${index} was begun by a host that is gone.`);
    return;
  }
  const name = hostName(bytes);
  if (name === null) {
    add('HOST_NAME', `Host row ${index} carries no valid name.`);
    return;
  }
  if (state === HOST_STATE.LAPSED) add('HOST_DEAD', `Host ${JSON.stringify(name)} (row ${index}) has lapsed.`);
  else if (tables.liveness(index, generation) === 'dead')
    add('HOST_DEAD', `The process of host ${JSON.stringify(name)} (row ${index}) is gone.`);
}

function checkHostNames(rows: readonly Row[], found: FindingList): void {
  const seen = new Map<string, number>();
  for (const row of rows) {
    const name = row.bits.state === HOST_STATE.LIVE ? hostName(row.bytes) : null;
    if (name === null) continue;
    const first = seen.get(name);
    if (first === undefined) seen.set(name, row.index);
    else
      adder(
        found,
        'host_row',
        row,
      )('HOST_DUPLICATE', `Host rows ${first} and ${row.index} are both live as ${JSON.stringify(name)}.`);
  }
}

export function checkHosts(tables: Tables, found: FindingList): void {
  for (const row of tables.hosts) checkHost(row, tables, found);
  checkHostNames(tables.hosts, found);
}

const kindMax = Math.max(...Object.values(INTENT_KIND));

function checkIntent(row: Row, tables: Tables, found: FindingList): void {
  const { state = 0, kind = 0, host = NO_HOST, host_generation: generation = 0 } = row.bits;
  const add = adder(found, 'intent_row', row);
  if (hasReservedBytes(row.bytes, at.intentReserved, intentRow.size - at.intentReserved))
    add('INTENT_RESERVED', `Intent row ${row.index} has bytes in its reserved field.`);
  if (state > INTENT_STATE.READY) {
    add('INTENT_STATE', `Intent row ${row.index} has state ${state}.`);
    return;
  }
  const needsKind = state === INTENT_STATE.READY;
  if (kind > kindMax || (needsKind && kind === INTENT_KIND.NONE)) {
    add('INTENT_KIND', `Intent row ${row.index} has kind ${kind} in state ${state}.`);
    return;
  }
  if (state === INTENT_STATE.FREE) return;
  const owner = tables.liveness(host, generation);
  if (owner === 'nobody') add('INTENT_OWNER', `Intent row ${row.index} belongs to host row ${host}.`);
  if (owner === 'dead') add('INTENT_DEAD', `Intent row ${row.index} was left by host row ${host}.`);
}

export function checkIntents(tables: Tables, found: FindingList): void {
  for (const row of tables.intents) checkIntent(row, tables, found);
}
