/** The words in which layout.ts states structures: fields, bit ranges, sizes that add up. */

export type FieldType = 'u8' | 'u16' | 'u32' | 'u64' | { bytes: number } | { array: StructSpec; count: number };

export interface FieldSpec<N extends string = string, T extends FieldType = FieldType> {
  readonly name: N;
  readonly type: T;
  readonly doc: string;
}

export interface StructSpec<F extends readonly FieldSpec[] = readonly FieldSpec[]> {
  readonly name: string;
  /** Size in bytes; the fields fill it exactly. */
  readonly size: number;
  readonly doc: string;
  readonly fields: F;
  /** `v8`: fixed by the DAXFS v8 format. `ours`: may change with registryFormatVersion. */
  readonly origin: 'v8' | 'ours';
}

/** A bit range inside a 64-bit word: `width` bits from bit `shift`. */
export interface BitSpec {
  readonly name: string;
  readonly shift: number;
  readonly width: number;
  readonly doc: string;
}

export interface WordSpec {
  readonly name: string;
  readonly doc: string;
  readonly bits: readonly BitSpec[];
}

const field =
  <const T extends FieldType>(type: T) =>
  <const N extends string>(name: N, doc: string): FieldSpec<N, T> => ({ name, type, doc });
export const u8 = field('u8');
export const u16 = field('u16');
export const u32 = field('u32');
export const u64 = field('u64');
export const bytes = <const N extends string>(
  name: N,
  count: number,
  doc: string,
): FieldSpec<N, { bytes: number }> => ({
  name,
  type: { bytes: count },
  doc,
});
// Overloads: inferring the default name from the table's own type would widen it to string, and with it every field.
export function reserved(count: number): FieldSpec<'reserved', { bytes: number }>;
export function reserved<const N extends string>(count: number, name: N): FieldSpec<N, { bytes: number }>;
export function reserved(count: number, name = 'reserved'): FieldSpec<string, { bytes: number }> {
  return bytes(name, count, '0');
}

export function fieldSize(type: FieldType): number {
  if (type === 'u8') return 1;
  if (type === 'u16') return 2;
  if (type === 'u32') return 4;
  if (type === 'u64') return 8;
  if ('bytes' in type) return type.bytes;
  return type.array.size * type.count;
}

export function struct<const F extends readonly FieldSpec[]>(
  name: string,
  size: number,
  origin: StructSpec['origin'],
  doc: string,
  fields: F,
): StructSpec<F> {
  const sum = fields.reduce((total, field) => total + fieldSize(field.type), 0);
  if (sum !== size) throw new Error(`layout: ${name} declares ${size} bytes but its fields fill ${sum}`);
  return { name, size, origin, doc, fields };
}

export const bit = (name: string, shift: number, width: number, doc: string): BitSpec => ({ name, shift, width, doc });
