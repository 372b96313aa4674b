/** A source that keeps what was read lately: walks through tables and chains read the same places again and again. */
import type { ByteSource } from './byte-source.ts';

const CHUNK_BYTES = 64 * 1024;
const CHUNKS_MAX = 256;

/**
 * Reads in chunks of 64 KiB and keeps the 256 used last (16 MiB). Bytes that change meanwhile may be seen old; a chunk is
 * always of one moment of reading. Errors are those of the source.
 */
export function cachedSource(source: ByteSource): ByteSource {
  const chunks = new Map<number, Buffer>();
  const chunkAt = (index: number): Buffer => {
    const start = index * CHUNK_BYTES;
    const chunk = chunks.get(index) ?? source.read(start, Math.min(CHUNK_BYTES, source.size - start));
    // Last in the map is youngest.
    chunks.delete(index);
    chunks.set(index, chunk);
    if (chunks.size > CHUNKS_MAX) chunks.delete(chunks.keys().next().value!);
    return chunk;
  };
  const read = (offset: number, length: number): Buffer => {
    const first = Math.floor(offset / CHUNK_BYTES);
    const last = Math.floor((offset + length - 1) / CHUNK_BYTES);
    const whole = Number.isSafeInteger(offset + length) && offset >= 0 && length > 0 && offset + length <= source.size;
    // What is not inside, and what is large, is the source's own business.
    if (!whole || last - first > 1) return source.read(offset, length);
    const start = offset - first * CHUNK_BYTES;
    if (first === last) return Buffer.from(chunkAt(first).subarray(start, start + length));
    const head = chunkAt(first).subarray(start);
    return Buffer.concat([head, chunkAt(last).subarray(0, length - head.length)]);
  };
  return { size: source.size, read };
}
