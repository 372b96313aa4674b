/** One tensor of a model: what it is and where its bytes lie. */
import type { DtypeName } from './dtype.ts';

export interface TensorInfo {
  /** Unique in its content; tensors of a file in a subdirectory are named `<subdirectory>/<tensor>`. */
  name: string;
  dtype: DtypeName;
  /** Elements per dimension, row-major: the last one varies fastest. Empty for a scalar. */
  shape: number[];
  /** Path of the file in the content. */
  file: string;
  /** Byte offset of the first byte in that file. */
  offset: number;
  /** Bytes. */
  length: number;
}

/**
 * Product of sizes by checked multiplication from left to right: a zero does not excuse what overflows before it.
 * @returns undefined when a factor or a partial product is no safe integer
 */
export function checkedProduct(factors: readonly number[]): number | undefined {
  let product = 1;
  for (const factor of factors) {
    if (!Number.isSafeInteger(factor) || factor < 0) return undefined;
    product *= factor;
    if (product > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return product;
}

/** @returns a + b, or undefined when that is no safe integer */
export function checkedSum(a: number, b: number): number | undefined {
  const sum = a + b;
  return Number.isSafeInteger(sum) ? sum : undefined;
}
