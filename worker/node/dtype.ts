/** Element types that have whole bytes, and the typed arrays that show them. */

export type TypedArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

type ArrayType = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => TypedArray;

interface Dtype {
  bytes: number;
  array?: ArrayType;
}

/** Types not listed (sub-byte types, GGUF's quantised blocks) and those without an array are given as bytes. */
const DTYPES: Readonly<Record<string, Dtype>> = {
  BOOL: { bytes: 1, array: Uint8Array },
  U8: { bytes: 1, array: Uint8Array },
  I8: { bytes: 1, array: Int8Array },
  U16: { bytes: 2, array: Uint16Array },
  I16: { bytes: 2, array: Int16Array },
  U32: { bytes: 4, array: Uint32Array },
  I32: { bytes: 4, array: Int32Array },
  U64: { bytes: 8, array: BigUint64Array },
  I64: { bytes: 8, array: BigInt64Array },
  F32: { bytes: 4, array: Float32Array },
  F64: { bytes: 8, array: Float64Array },
  F16: { bytes: 2 },
  BF16: { bytes: 2 },
  C64: { bytes: 8 },
  F8_E4M3: { bytes: 1 },
  F8_E5M2: { bytes: 1 },
  F8_E8M0: { bytes: 1 },
  F8_E4M3FNUZ: { bytes: 1 },
  F8_E5M2FNUZ: { bytes: 1 },
};

const entry = (name: string): Dtype | undefined => (Object.hasOwn(DTYPES, name) ? DTYPES[name] : undefined);

/** Bytes of one element, or undefined for a type of blocks. */
export function dtypeBytes(name: string): number | undefined {
  return entry(name)?.bytes;
}

/**
 * The same bytes as a typed array; null when JavaScript has none for the type, or the bytes are not aligned for it.
 * @param address where the bytes begin, up to a multiple of the page size
 */
export function typedArray(name: string, bytes: Uint8Array, address: number): TypedArray | null {
  const dtype = entry(name);
  const array = dtype?.array ?? (name === 'F16' ? float16Array() : undefined);
  if (!dtype || !array || bytes.byteOffset % dtype.bytes !== 0 || address % dtype.bytes !== 0) return null;
  return new array(bytes.buffer, bytes.byteOffset, bytes.byteLength / dtype.bytes);
}

/** Float16Array came with Node 24. */
function float16Array(): ArrayType | undefined {
  return (globalThis as { Float16Array?: ArrayType }).Float16Array;
}
