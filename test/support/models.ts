/** Generated model files with real headers and reproducible bytes. */
import { closeSync, openSync, writeSync } from 'node:fs';

const elementBytes = { BF16: 2, F16: 2, F32: 4, I8: 1, U8: 1, F8_E4M3: 1, F8_E5M2: 1 } as const;

export interface TensorShape {
  name: string;
  dtype: keyof typeof elementBytes;
  shape: number[];
}

/** `count` BF16 matrices of about `bytes` in all. */
export function matrices(count: number, bytes: number): TensorShape[] {
  const rows = Math.max(1, Math.floor(bytes / count / 2 / 64));
  return Array.from({ length: count }, (_, i) => ({
    name: `layer.${i}.weight`,
    dtype: 'BF16' as const,
    shape: [rows, 64],
  }));
}

/** A block of pseudo-random bytes (xorshift32), the same for the same seed. */
export function randomBlock(seed: number, length: number): Buffer {
  const out = Buffer.alloc(length);
  let x = seed >>> 0 || 1;
  for (let i = 0; i + 4 <= length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out.writeUInt32LE(x >>> 0, i);
  }
  return out;
}

/** Writes a safetensors file; every 1 MiB block of its data differs. @returns its size in bytes */
export function writeSafetensors(path: string, tensors: readonly TensorShape[], seed = 1): number {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const length = shape.reduce((product, n) => product * n, elementBytes[dtype]);
    header[name] = { dtype, shape, data_offsets: [offset, offset + length] };
    offset += length;
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  const fd = openSync(path, 'w');
  try {
    writeSync(fd, prefix);
    writeSync(fd, text);
    writeData(fd, offset, seed);
  } finally {
    closeSync(fd);
  }
  return 8 + text.length + offset;
}

function writeData(fd: number, bytes: number, seed: number): void {
  const block = randomBlock(seed, 1 << 20);
  for (let done = 0; done < bytes; done += block.length) {
    block.writeUInt32LE(done / block.length, 0);
    writeSync(fd, block, 0, Math.min(block.length, bytes - done));
  }
}
