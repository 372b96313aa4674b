/**
 * Element types. Every type is a block of `elements` values in `bytes` bytes; a plain type has one element per block,
 * a sub-byte type the smallest group that ends on a byte, a quantised type its quantisation block.
 */

export interface Dtype {
  /** Values in one block. */
  readonly elements: number;
  /** Bytes of one block. */
  readonly bytes: number;
}

/** Types that a safetensors header may name. */
export const SAFETENSORS_DTYPES = {
  BOOL: { elements: 1, bytes: 1 },
  F4: { elements: 2, bytes: 1 },
  F6_E2M3: { elements: 4, bytes: 3 },
  F6_E3M2: { elements: 4, bytes: 3 },
  U8: { elements: 1, bytes: 1 },
  I8: { elements: 1, bytes: 1 },
  F8_E5M2: { elements: 1, bytes: 1 },
  F8_E4M3: { elements: 1, bytes: 1 },
  F8_E8M0: { elements: 1, bytes: 1 },
  F8_E4M3FNUZ: { elements: 1, bytes: 1 },
  F8_E5M2FNUZ: { elements: 1, bytes: 1 },
  I16: { elements: 1, bytes: 2 },
  U16: { elements: 1, bytes: 2 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  I32: { elements: 1, bytes: 4 },
  U32: { elements: 1, bytes: 4 },
  F32: { elements: 1, bytes: 4 },
  C64: { elements: 1, bytes: 8 },
  F64: { elements: 1, bytes: 8 },
  I64: { elements: 1, bytes: 8 },
  U64: { elements: 1, bytes: 8 },
} as const satisfies Record<string, Dtype>;

/** Types that a GGUF tensor may have beyond the plain ones; `ggml` is the number in the file. */
export const GGML_DTYPES = {
  F32: { ggml: 0, elements: 1, bytes: 4 },
  F16: { ggml: 1, elements: 1, bytes: 2 },
  Q4_0: { ggml: 2, elements: 32, bytes: 18 },
  Q4_1: { ggml: 3, elements: 32, bytes: 20 },
  Q5_0: { ggml: 6, elements: 32, bytes: 22 },
  Q5_1: { ggml: 7, elements: 32, bytes: 24 },
  Q8_0: { ggml: 8, elements: 32, bytes: 34 },
  Q8_1: { ggml: 9, elements: 32, bytes: 40 },
  Q2_K: { ggml: 10, elements: 256, bytes: 84 },
  Q3_K: { ggml: 11, elements: 256, bytes: 110 },
  Q4_K: { ggml: 12, elements: 256, bytes: 144 },
  Q5_K: { ggml: 13, elements: 256, bytes: 176 },
  Q6_K: { ggml: 14, elements: 256, bytes: 210 },
  Q8_K: { ggml: 15, elements: 256, bytes: 292 },
  IQ2_XXS: { ggml: 16, elements: 256, bytes: 66 },
  IQ2_XS: { ggml: 17, elements: 256, bytes: 74 },
  IQ3_XXS: { ggml: 18, elements: 256, bytes: 98 },
  IQ1_S: { ggml: 19, elements: 256, bytes: 50 },
  IQ4_NL: { ggml: 20, elements: 32, bytes: 18 },
  IQ3_S: { ggml: 21, elements: 256, bytes: 110 },
  IQ2_S: { ggml: 22, elements: 256, bytes: 82 },
  IQ4_XS: { ggml: 23, elements: 256, bytes: 136 },
  I8: { ggml: 24, elements: 1, bytes: 1 },
  I16: { ggml: 25, elements: 1, bytes: 2 },
  I32: { ggml: 26, elements: 1, bytes: 4 },
  I64: { ggml: 27, elements: 1, bytes: 8 },
  F64: { ggml: 28, elements: 1, bytes: 8 },
  IQ1_M: { ggml: 29, elements: 256, bytes: 56 },
  BF16: { ggml: 30, elements: 1, bytes: 2 },
  TQ1_0: { ggml: 34, elements: 256, bytes: 54 },
  TQ2_0: { ggml: 35, elements: 256, bytes: 66 },
  MXFP4: { ggml: 39, elements: 32, bytes: 17 },
  NVFP4: { ggml: 40, elements: 64, bytes: 36 },
  Q1_0: { ggml: 41, elements: 128, bytes: 18 },
} as const satisfies Record<string, Dtype & { ggml: number }>;

/** Numbers that named a type once and whose support ggml has removed. */
export const GGML_REMOVED: ReadonlyMap<number, string> = new Map([
  [4, 'Q4_2'],
  [5, 'Q4_3'],
  [31, 'Q4_0_4_4'],
  [32, 'Q4_0_4_8'],
  [33, 'Q4_0_8_8'],
  [36, 'IQ4_NL_4_4'],
  [37, 'IQ4_NL_4_8'],
  [38, 'IQ4_NL_8_8'],
]);

export type SafetensorsDtypeName = keyof typeof SAFETENSORS_DTYPES;
export type GgmlDtypeName = keyof typeof GGML_DTYPES;
export type DtypeName = SafetensorsDtypeName | GgmlDtypeName;

/** Every type by name; the names that both formats have mean the same bytes. */
export const DTYPES: ReadonlyMap<string, Dtype> = new Map<string, Dtype>([
  ...Object.entries(GGML_DTYPES),
  ...Object.entries(SAFETENSORS_DTYPES),
]);

const GGML_BY_NUMBER: ReadonlyMap<number, GgmlDtypeName> = new Map(
  Object.entries(GGML_DTYPES).map(([name, { ggml }]) => [ggml, name as GgmlDtypeName]),
);

/** The type that a GGUF file means by a number, or undefined. */
export function ggmlDtype(number: number): GgmlDtypeName | undefined {
  return GGML_BY_NUMBER.get(number);
}

export function isSafetensorsDtype(name: string): name is SafetensorsDtypeName {
  return Object.hasOwn(SAFETENSORS_DTYPES, name);
}

export function isDtype(name: string): name is DtypeName {
  return DTYPES.has(name);
}

/**
 * Bytes of `elements` values of a type.
 * @returns undefined when the values do not fill whole blocks, or the product is no safe integer
 */
export function byteLength(dtype: DtypeName, elements: number): number | undefined {
  const block = DTYPES.get(dtype);
  if (!block || !Number.isSafeInteger(elements) || elements % block.elements !== 0) return undefined;
  const bytes = (elements / block.elements) * block.bytes;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
