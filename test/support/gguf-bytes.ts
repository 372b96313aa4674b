/** GGUF files as bytes, well-formed or broken on purpose. */

export const ggufType = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

export function u64(value: number | bigint): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}

export function ggufString(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

/** Elements with their type and number before them. */
export function ggufArray(
  type: number,
  elements: readonly Buffer[],
  length: number | bigint = elements.length,
): Buffer {
  return Buffer.concat([u32(type), u64(length), ...elements]);
}

/** A pair. */
export function pair(key: string | Buffer, type: number, value: Buffer): Buffer {
  return Buffer.concat([ggufString(key), u32(type), value]);
}

export const u16Pair = (key: string, value: number) => pair(key, ggufType.u16, u32(value).subarray(0, 2));
export const u32Pair = (key: string, value: number) => pair(key, ggufType.u32, u32(value));
export const textPair = (key: string, value: string) => pair(key, ggufType.string, ggufString(value));

export interface GgufTensorSpec {
  name: string | Buffer;
  /** Fastest first, as in the file. */
  dims: readonly (number | bigint)[];
  /** ggml number. */
  type: number;
  /** Relative to the data. */
  offset: number | bigint;
}

export interface GgufSpec {
  magic?: string;
  version?: number;
  tensorCount?: number | bigint;
  keyCount?: number | bigint;
  pairs?: readonly Buffer[];
  tensors?: readonly GgufTensorSpec[];
  /** Where the data begins is rounded up to this. */
  alignment?: number;
  /** Bytes after that. */
  dataBytes?: number;
}

function tensorInfo({ name, dims, type, offset }: GgufTensorSpec): Buffer {
  return Buffer.concat([ggufString(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset)]);
}

export function ggufBytes(spec: GgufSpec = {}): Buffer {
  const { magic = 'GGUF', version = 3, pairs = [], tensors = [], alignment = 32, dataBytes = 0 } = spec;
  const header = Buffer.concat([
    Buffer.from(magic),
    u32(version),
    u64(spec.tensorCount ?? tensors.length),
    u64(spec.keyCount ?? pairs.length),
    ...pairs,
    ...tensors.map(tensorInfo),
  ]);
  const padded = Math.ceil(header.length / alignment) * alignment;
  return Buffer.concat([header, Buffer.alloc(padded - header.length), Buffer.alloc(dataBytes, 5)]);
}
