/** Reads and writes the structures of layout.ts in a Buffer; offsets come from the table alone. */
import { type FieldSpec, type FieldType, fieldSize, type StructSpec, type WordSpec } from './layout-spec.ts';

type FieldValue<T extends FieldType> = T extends 'u64'
  ? bigint
  : T extends 'u8' | 'u16' | 'u32'
    ? number
    : T extends { bytes: number }
      ? Buffer
      : Record<string, unknown>[];

/** What `decode` gives for a structure: u64 as bigint, smaller integers as number, bytes as a copied Buffer. */
export type Decoded<S extends StructSpec> = {
  [F in S['fields'][number] as F['name']]: FieldValue<F['type']>;
};

export type FieldName<S extends StructSpec> = S['fields'][number]['name'];

/** Byte offset of a field from the start of its structure. */
export function offsetOf<S extends StructSpec>(spec: S, name: FieldName<S>): number {
  let offset = 0;
  for (const field of spec.fields) {
    if (field.name === name) return offset;
    offset += fieldSize(field.type);
  }
  throw new Error(`layout: ${spec.name} has no field ${name}`);
}

function decodeField(field: FieldSpec, buffer: Buffer, offset: number): unknown {
  const { type } = field;
  if (type === 'u8') return buffer.readUInt8(offset);
  if (type === 'u16') return buffer.readUInt16LE(offset);
  if (type === 'u32') return buffer.readUInt32LE(offset);
  if (type === 'u64') return buffer.readBigUInt64LE(offset);
  if ('bytes' in type) return Buffer.from(buffer.subarray(offset, offset + type.bytes));
  return Array.from({ length: type.count }, (_, i) => decode(type.array, buffer, offset + i * type.array.size));
}

/** Decodes the structure at `offset` bytes of `buffer`. */
export function decode<S extends StructSpec>(spec: S, buffer: Buffer, offset = 0): Decoded<S> {
  const out: Record<string, unknown> = {};
  let at = offset;
  for (const field of spec.fields) {
    out[field.name] = decodeField(field, buffer, at);
    at += fieldSize(field.type);
  }
  return out as Decoded<S>;
}

function encodeField(field: FieldSpec, value: unknown, buffer: Buffer, offset: number): void {
  const { type } = field;
  if (type === 'u8') buffer.writeUInt8(value as number, offset);
  else if (type === 'u16') buffer.writeUInt16LE(value as number, offset);
  else if (type === 'u32') buffer.writeUInt32LE(value as number, offset);
  else if (type === 'u64') buffer.writeBigUInt64LE(value as bigint, offset);
  else if ('bytes' in type) {
    const bytes = value as Buffer;
    if (bytes.length > type.bytes)
      throw new Error(`layout: ${field.name} holds ${type.bytes} bytes, got ${bytes.length}`);
    bytes.copy(buffer, offset);
  } else {
    (value as Record<string, never>[]).forEach((item, i) => {
      encode(type.array, item, buffer, offset + i * type.array.size);
    });
  }
}

/** Writes the given fields of the structure at `offset` bytes of `buffer`; others keep their bytes. */
export function encode<S extends StructSpec>(
  spec: S,
  values: Partial<Decoded<S>>,
  buffer: Buffer = Buffer.alloc(spec.size),
  offset = 0,
): Buffer {
  let at = offset;
  for (const field of spec.fields) {
    const value = (values as Record<string, unknown>)[field.name];
    if (value !== undefined) encodeField(field, value, buffer, at);
    at += fieldSize(field.type);
  }
  return buffer;
}

/** Splits a 64-bit word into its bit fields. */
export function decodeWord(spec: WordSpec, word: bigint): Record<string, number> {
  const out: Record<string, number> = {};
  for (const { name, shift, width } of spec.bits) {
    out[name] = Number((word >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
  }
  return out;
}

/** Puts a 64-bit word together; fields that are not given are 0. @throws RangeError for a value wider than its field */
export function encodeWord(spec: WordSpec, fields: Readonly<Record<string, number>>): bigint {
  let word = 0n;
  for (const { name, shift, width } of spec.bits) {
    const value = BigInt(fields[name] ?? 0);
    if (value >> BigInt(width) !== 0n) throw new RangeError(`layout: ${spec.name}.${name} has ${width} bits`);
    word |= value << BigInt(shift);
  }
  return word;
}

/** Last moment that a Date can hold, in Unix milliseconds. */
export const timeMax = 8.64e15;

/** What is shown of a time from the region, which may hold anything: 0 when it is none. */
export const shownTime = (ms: bigint): number => (ms > BigInt(timeMax) ? 0 : Number(ms));
