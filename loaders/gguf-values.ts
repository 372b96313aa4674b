/** The key-value pairs of a GGUF header: types, keys, strings and arrays, each checked. */

import type { Steps } from '../daxfs/pace.ts';
import { shown } from './errors.ts';
import type { GgufCursor } from './gguf-cursor.ts';
import { limit } from './limits.ts';
import { type MetadataValue, metadataNumber, metadataText } from './metadata.ts';

const scalars: Readonly<Record<number, { name: string; bytes: number; read(bytes: Buffer): number | bigint }>> = {
  0: { name: 'uint8', bytes: 1, read: (b) => b.readUInt8() },
  1: { name: 'int8', bytes: 1, read: (b) => b.readInt8() },
  2: { name: 'uint16', bytes: 2, read: (b) => b.readUInt16LE() },
  3: { name: 'int16', bytes: 2, read: (b) => b.readInt16LE() },
  4: { name: 'uint32', bytes: 4, read: (b) => b.readUInt32LE() },
  5: { name: 'int32', bytes: 4, read: (b) => b.readInt32LE() },
  6: { name: 'float32', bytes: 4, read: (b) => b.readFloatLE() },
  10: { name: 'uint64', bytes: 8, read: (b) => b.readBigUInt64LE() },
  11: { name: 'int64', bytes: 8, read: (b) => b.readBigInt64LE() },
  12: { name: 'float64', bytes: 8, read: (b) => b.readDoubleLE() },
};
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const UINT32 = 4;

/** One value with its type number. */
export interface GgufValue {
  type: number;
  value: MetadataValue;
}

export const isUint32 = (entry: GgufValue) => entry.type === UINT32;

/** The value of an integer type, or undefined for another type. */
export function integerOf(entry: GgufValue | undefined): number | undefined {
  if (!entry || typeof entry.value !== 'number') return undefined;
  return scalars[entry.type]?.name.includes('int') ? entry.value : undefined;
}

function typeName(type: number): string | undefined {
  return scalars[type]?.name ?? { [BOOL]: 'bool', [STRING]: 'string', [ARRAY]: 'array' }[type];
}

function* boolean(cursor: GgufCursor): Steps<boolean> {
  const at = cursor.offset;
  const byte = (yield* cursor.bytes(1))[0];
  if (byte === 0 || byte === 1) return byte === 1;
  throw cursor.error('GGUF_BOOL', `a boolean is ${byte}, not 0 or 1; write the file again`, at);
}

function* string(cursor: GgufCursor): Steps<Buffer> {
  return yield* cursor.text(limit('ggufStringBytesMax'), 'GGUF_STRING_TOO_LONG');
}

/** Steps over an array, checking its elements; only its type and length are kept. */
function* array(cursor: GgufCursor, depth: number): Steps<MetadataValue> {
  const at = cursor.offset;
  if (depth > limit('ggufArrayDepthMax')) {
    throw cursor.error('GGUF_ARRAY_TOO_DEEP', `arrays are nested more than ${limit('ggufArrayDepthMax')} levels`, at);
  }
  const type = yield* cursor.u32();
  const length = yield* cursor.count();
  const name = typeName(type);
  if (name === undefined)
    throw cursor.error('GGUF_VALUE_TYPE', `an array has elements of the unknown type ${type}`, at);
  const elementBytes = scalars[type]?.bytes ?? { [BOOL]: 1, [STRING]: 8, [ARRAY]: 12 }[type] ?? 1;
  if (length > cursor.left / elementBytes) {
    throw cursor.error('GGUF_ARRAY_TOO_LONG', `an array says ${length} elements, more than the file can hold`, at);
  }
  if (scalars[type]) cursor.skip(length * elementBytes);
  else yield* elements(cursor, type, length, depth);
  return { type: name, length };
}

function* elements(cursor: GgufCursor, type: number, length: number, depth: number): Steps<void> {
  for (let i = 0; i < length; i++) {
    if (type === STRING) yield* string(cursor);
    else if (type === BOOL) yield* boolean(cursor);
    else yield* array(cursor, depth + 1);
    if (i % 256 === 0) yield;
  }
}

function* value(cursor: GgufCursor, type: number, at: number): Steps<MetadataValue> {
  const scalar = scalars[type];
  if (scalar) return metadataNumber(scalar.read(yield* cursor.bytes(scalar.bytes)));
  if (type === BOOL) return yield* boolean(cursor);
  if (type === ARRAY) return yield* array(cursor, 1);
  if (type !== STRING) throw cursor.error('GGUF_VALUE_TYPE', `a key has the unknown value type ${type}`, at);
  const bytes = yield* string(cursor);
  const kept = bytes.length <= limit('keptTextBytesMax') ? bytes.toString('utf8') : '';
  return metadataText(kept, bytes.length);
}

/**
 * A key: printable ASCII without spaces. The format also wants lower_snake_case between the dots, which its own
 * reference writer does not keep (`gpt-oss.block_count`), so that is not asked for.
 */
function* key(cursor: GgufCursor): Steps<string> {
  const at = cursor.offset;
  const text = (yield* cursor.text(limit('ggufKeyBytesMax'), 'GGUF_KEY')).toString('utf8');
  if (/^[\x21-\x7e]+$/.test(text)) return text;
  throw cursor.error('GGUF_KEY', `the key ${shown(text)} is empty or no printable ASCII; write the file again`, at);
}

/** Reads `count` pairs. */
export function* keyValueSteps(cursor: GgufCursor, count: number): Steps<Map<string, GgufValue>> {
  const pairs = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const at = cursor.offset;
    const name = yield* key(cursor);
    if (pairs.has(name)) throw cursor.error('GGUF_DUPLICATE_KEY', `the key ${shown(name)} appears twice`, at);
    const type = yield* cursor.u32();
    pairs.set(name, { type, value: yield* value(cursor, type, at) });
    yield;
  }
  return pairs;
}
