/** What is listed of a model's own metadata. The files carry all of it; the listing stays small. */
import { limit } from './limits.ts';

/**
 * A value, or for arrays and long texts only what it is and how long: elements of an array, bytes of a text.
 * Integers beyond 2^53 and floats that JSON cannot hold are decimal texts.
 */
export type MetadataValue = string | number | boolean | { type: string; length: number };

export type Metadata = Record<string, MetadataValue>;

/** A number that JSON can hold exactly, else its text. */
export function metadataNumber(value: number | bigint): number | string {
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  const plain = Number(value);
  return Number.isSafeInteger(plain) ? plain : value.toString();
}

/** A text as it is listed. @param bytes its length in the file */
export function metadataText(text: string, bytes: number): MetadataValue {
  return bytes > limit('keptTextBytesMax') ? { type: 'string', length: bytes } : text;
}

/** Collects metadata of several files: the first to name a key wins, and the whole stays below its bound. */
export class MetadataCollector {
  readonly #values = new Map<string, MetadataValue>();
  #bytes = 0;

  add(key: string, value: MetadataValue): void {
    if (this.#values.has(key)) return;
    const bytes = key.length + (typeof value === 'string' ? value.length : 32);
    if (this.#bytes + bytes > limit('keptMetadataBytesMax')) return;
    this.#bytes += bytes;
    this.#values.set(key, value);
  }

  /** An object without inherited keys in the way: `__proto__` is a key like others. */
  toObject(): Metadata {
    return Object.fromEntries(this.#values);
  }
}
