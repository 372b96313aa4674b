/** Changes to bytes for tests of readers: what an attacker or a bad disk would do, from a seed. */
import type { Random } from './random.ts';

const EDGES = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0x7fff_ffffn,
  0xffff_ffffn,
  1n << 32n,
  (1n << 53n) - 1n,
  1n << 53n,
  1n << 63n,
  -1n,
];
const TEXT = [
  '"', '\\', '{', '}', '[', ']', ',', ':', '-', '0', '1e999', '1e-5', '-0', '9007199254740993', '18446744073709551616',
  'null', 'true', '\\u0000', '\\ud800', '"__proto__":', '"":{}', '/', '../', ' ', '\n', '\u2028', '\0', '\xff',
]; // biome-ignore format: one table

function splice(bytes: Buffer, at: number, removed: number, added: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);
}

/** One change of a copy. @param end bytes from the front that are worth changing */
export function mutateOnce(bytes: Buffer, random: Random, end = bytes.length): Buffer {
  const at = random(Math.max(1, Math.min(end, bytes.length)));
  const piece = () => {
    const from = random(Math.max(1, bytes.length));
    return bytes.subarray(from, from + 1 + random(40));
  };
  const kind = random(9);
  if (bytes.length === 0 || kind === 0)
    return splice(bytes, at, random(3), Buffer.from(TEXT[random(TEXT.length)]!, 'latin1'));
  if (kind === 1) return splice(bytes, at, 1 + random(12), Buffer.alloc(0));
  if (kind === 2) return splice(bytes, at, 0, Buffer.from(piece()));
  if (kind === 3) return splice(bytes, at, random(20), Buffer.from(piece()));
  if (kind === 4) return bytes.subarray(0, at);
  if (kind === 5) return digits(bytes, at, random);
  const copy = Buffer.from(bytes);
  if (kind === 6 && at + 8 <= copy.length) copy.writeBigUInt64LE(BigInt.asUintN(64, EDGES[random(EDGES.length)]!), at);
  else if (kind === 7 && at + 4 <= copy.length) copy.writeUInt32LE(random(64), at);
  else copy[at] = copy[at]! ^ (1 << random(8));
  return copy;
}

/** Another number where one is written in digits, from `at` on. */
function digits(bytes: Buffer, at: number, random: Random): Buffer {
  const text = bytes.toString('latin1', at, at + 200);
  const found = /\d+/.exec(text);
  if (!found) return bytes;
  const number = BigInt(found[0]);
  const next = [number + 1n, number - 1n, number * 2n, 0n, -1n, 1n << 48n, 1n << 53n, 1n << 64n][random(8)]!;
  return splice(bytes, at + found.index, found[0].length, Buffer.from(String(next)));
}

/** One to four changes. */
export function mutate(bytes: Buffer, random: Random, end = bytes.length): Buffer {
  let changed = bytes;
  for (let count = 1 + random(4); count > 0; count--) changed = mutateOnce(changed, random, end);
  return changed;
}
