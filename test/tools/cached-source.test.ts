/** Goal: a cached source reads the same bytes and errors as its source. Method: seeded reads of both, compared. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import { cachedSource } from '../../daxfs/cached-source.ts';
import { holds, seed } from '../support/seed.ts';

const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (seed % 251)) & 0xff));

it('any read, inside and outside', async () => {
  const plain = bufferSource(bytes);
  const cached = cachedSource(plain);
  const offset = fc.oneof(fc.nat(300_010), fc.constantFrom(65535, 65536, 131071, 299_999, 300_000, -1, Number.NaN));
  const length = fc.oneof(fc.nat(64), fc.nat(200_000), fc.constantFrom(0, -1, 65536, 65537));
  await holds(
    fc.property(offset, length, (at, count) => {
      let expected: Buffer | undefined;
      try {
        expected = plain.read(at, count);
      } catch {
        expect(() => cached.read(at, count)).toThrow(RangeError);
        return;
      }
      expect(cached.read(at, count).equals(expected)).toBe(true);
    }),
    2000,
  );
});

it('a copy is the caller’s own', () => {
  const cached = cachedSource(bufferSource(bytes));
  cached.read(0, 16).fill(0xff);
  expect(cached.read(0, 16)).toEqual(bytes.subarray(0, 16));
});

it('keeps no more than its 16 MiB', () => {
  let reads = 0;
  const cached = cachedSource({
    size: 2 ** 30,
    read: (_, length) => {
      reads++;
      return Buffer.alloc(length);
    },
  });
  for (let i = 0; i < 257; i++) cached.read(i * 65536, 1);
  cached.read(256 * 65536, 1);
  expect(reads).toBe(257);
  cached.read(0, 1);
  expect(reads).toBe(258);
});
