/** Repairs of name buckets. A name that can still be read is kept; a bucket never becomes free while a probe may pass it. */
import { encodeWord, offsetOf } from '../codec.ts';
import { CONSTANTS, NAME_STATE, NO_CONTENT, NO_HOST, nameRow, nameWord } from '../layout.ts';
import { hashOfName, nameOf } from './check-names.ts';
import type { CheckCode } from './findings.ts';
import { encode32 } from './repair-base.ts';
import { changeWord, findingsOf, type RepairContext } from './repair-context.ts';
import type { Row } from './tables.ts';

const at = {
  hash: offsetOf(nameRow, 'hash'),
  length: offsetOf(nameRow, 'name_len'),
  flags: offsetOf(nameRow, 'flags'),
  name: offsetOf(nameRow, 'name'),
  reserved: offsetOf(nameRow, 'reserved'),
};
const NOTHING = { state: NAME_STATE.USED, content: NO_CONTENT, generation: 0, host: NO_HOST };
const nothing = encodeWord(nameWord, NOTHING);

const hashAt = ({ bytes }: Row) => bytes.readBigUInt64LE(at.hash);

function nameBytes(row: Row, length: number): Buffer {
  return row.bytes.subarray(at.name, at.name + length);
}

/** Length of the bytes whose hash the bucket carries, if there is one. */
function lengthByHash(row: Row): number | null {
  for (let length = 1; length <= CONSTANTS.modelNameBytesMax.value; length++) {
    if (hashOfName(nameBytes(row, length)) === hashAt(row)) return length;
  }
  return null;
}

class NameRepair {
  readonly #context: RepairContext;
  readonly #rows: ReadonlyMap<number, Row>;

  constructor(context: RepairContext) {
    this.#context = context;
    this.#rows = new Map(context.tables.names.map((row) => [row.index, row]));
  }

  run(): void {
    const actions: readonly (readonly [CheckCode, (row: Row) => void])[] = [
      ['NAME_RESERVED', (row) => this.#clearReserved(row)],
      ['NAME_STATE', (row) => this.#revive(row)],
      ['NAME_HALF', (row) => this.#complete(row)],
      ['NAME_LENGTH', (row) => this.#readAgain(row)],
      ['NAME_TEXT', (row) => this.#readAgain(row)],
      ['NAME_HASH', (row) => this.#rehash(row)],
      ['NAME_CLAIM', (row) => this.#disclaim(row)],
      ['NAME_TARGET', (row) => this.#point(row, nothing)],
      ['NAME_STALE', (row) => this.#point(row, nothing)],
      ['NAME_UNREACHABLE', (row) => this.#move(row)],
      ['NAME_DUPLICATE', (row) => this.#blank(row)],
    ];
    for (const [code, action] of actions) {
      for (const { where } of findingsOf(this.#context, code)) {
        const row = this.#rows.get(where.index);
        if (!row) continue;
        action(row);
        this.#context.step(`${code} of name bucket ${where.index} mended`);
      }
    }
  }

  get #mapping() {
    return this.#context.region.mapping;
  }

  #clearReserved({ offset }: Row): void {
    this.#mapping.write(offset + at.flags, encode32(0));
    this.#mapping.zero(offset + at.reserved, nameRow.size - at.reserved);
  }

  #point({ offset, word }: Row, next: bigint): void {
    changeWord(this.#mapping, offset, word, next);
  }

  /** The word with a valid state; what it points to is judged at the next look. */
  #revive(row: Row): void {
    const { content = NO_CONTENT, generation = 0 } = row.bits;
    if (nameOf(row) === null) this.#blank(row);
    else this.#point(row, encodeWord(nameWord, { ...NOTHING, content, generation }));
  }

  /** A word without a hash in a bucket that was never named is a bucket that was never used. */
  #complete(row: Row): void {
    const named = nameOf(row) !== null;
    if (hashAt(row) === 0n && !named) {
      this.#mapping.zero(row.offset, nameRow.size);
      return;
    }
    if (hashAt(row) === 0n) this.#rehash(row);
    if (row.word === 0n || !named) this.#point(row, nothing);
    else this.#revive(row);
  }

  #rehash(row: Row): void {
    const length = row.bytes.readUInt32LE(at.length);
    const hash = nameOf(row) === null ? hashAt(row) | 1n : hashOfName(nameBytes(row, length));
    this.#mapping.store64(row.offset + at.hash, hash);
  }

  /** The hash tells how long the name was; what it cannot tell is gone. */
  #readAgain(row: Row): void {
    const length = lengthByHash(row);
    if (length === null) {
      this.#blank(row);
      return;
    }
    this.#mapping.zero(row.offset + at.name + length, at.reserved - at.name - length);
    this.#mapping.write(row.offset + at.length, encode32(length));
  }

  #disclaim(row: Row): void {
    if (row.bits.state === NAME_STATE.USED) this.#revive(row);
    else this.#point(row, nothing);
  }

  /** First the name where it can be found, then the bucket where it cannot: a name is never nowhere. */
  #move(row: Row): void {
    const { content = NO_CONTENT, generation = 0 } = row.bits;
    const name = nameOf(row);
    const { registry } = this.#context;
    if (name !== null && content !== NO_CONTENT && registry.findName(name) === null) {
      const { outcome } = registry.setName(name, { index: content, generation }, null);
      if (outcome !== 'set') return;
    }
    this.#blank(row);
  }

  /** A bucket without a name that points to nothing: the next name that comes by takes it. */
  #blank(row: Row): void {
    this.#point(row, nothing);
    this.#mapping.write(row.offset + at.length, encode32(0));
    this.#mapping.zero(row.offset + at.name, at.reserved - at.name);
    this.#mapping.store64(row.offset + at.hash, hashAt(row) | 1n);
  }
}

export function repairNames(context: RepairContext): void {
  new NameRepair(context).run();
}
