/** Unguessable text for ids and tokens. Random bytes are drawn in bulk: one draw costs as much as making a handle. */
import { randomFillSync } from 'node:crypto';

const pool = Buffer.alloc(16 * 1024);
let used = pool.length;

/** @param bytes of randomness, at most 16 KiB @returns base64url */
export function randomText(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const text = pool.toString('base64url', used, used + bytes);
  // What was handed out must not stay readable here.
  pool.fill(0, used, used + bytes);
  used += bytes;
  return text;
}
