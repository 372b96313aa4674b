/** Safetensors files as bytes, well-formed or broken on purpose. */

/** Length word, header as given, `dataBytes` bytes of data (or the data itself). */
export function safetensorsBytes(header: string | Buffer | object, data: number | Buffer = 0): Buffer {
  const json =
    typeof header === 'string'
      ? Buffer.from(header)
      : Buffer.isBuffer(header)
        ? header
        : Buffer.from(JSON.stringify(header));
  const word = Buffer.alloc(8);
  word.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([word, json, typeof data === 'number' ? Buffer.alloc(data, 7) : data]);
}

export interface TensorSpec {
  name: string;
  dtype: string;
  shape: number[];
  /** Bytes. */
  length: number;
}

/** A well-formed file with these tensors one after the other, data counting up from the tensor's number. */
export function wellFormed(specs: readonly TensorSpec[], metadata?: Record<string, string>): Buffer {
  const header: [string, unknown][] = metadata ? [['__metadata__', metadata]] : [];
  const data: Buffer[] = [];
  let begin = 0;
  for (const [i, { name, dtype, shape, length }] of specs.entries()) {
    header.push([name, { dtype, shape, data_offsets: [begin, begin + length] }]);
    data.push(Buffer.from(Array.from({ length }, (_, k) => (i + k) % 256)));
    begin += length;
  }
  return safetensorsBytes(JSON.stringify(Object.fromEntries(header)), Buffer.concat(data));
}
