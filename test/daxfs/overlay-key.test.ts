// Goal: keys, homes and value words are those of the native core and of the format. Method: vectors printed by
// native/include/overlay_key.h and the format's own table.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  decodePrivateValue,
  direntKey,
  dirlistKey,
  firstPrivateValue,
  homeBucket,
  inodeKey,
  stateKey,
} from '../../daxfs/overlay-key.ts';

interface Vectors {
  homes: { key: string; buckets: number; kernel: number; private: number }[];
  firstValues: { offset: string; value: string }[];
}
const vectors = JSON.parse(readFileSync(new URL('./overlay-key-vectors.json', import.meta.url), 'utf8')) as Vectors;

describe('overlay keys', () => {
  test.each([
    [1n, 'a', 0x294d26ee47fab5dfn, 0x529a4ddc8ff56bbfn],
    [1n, 'hello.txt', 0x0ee66a096fb53621n, 0x1dccd412df6a6c43n],
    [1n, 'modify.txt', 0x4a4043e7ee903d2an, 0x948087cfdd207a55n],
    [2n, 'f0', 0x4e279ae9944d95dcn, 0x9c4f35d3289b2bb9n],
    [7n, 'x'.repeat(255), 0x436402ed85caa937n, 0x86c805db0b95526fn],
  ])('dirent key of (%s, %s)', (parent, name, key, word) => {
    expect(direntKey(parent, Buffer.from(name))).toBe(key);
    expect(stateKey(key)).toBe(word);
  });

  test('inode and directory-list keys', () => {
    expect(inodeKey(3n)).toBe(0x3fffffn);
    expect(dirlistKey(3n)).toBe(0x3ffffen);
  });

  test('home buckets are the native ones', () => {
    expect(vectors.homes.length).toBeGreaterThan(100);
    for (const { key, buckets, ...homes } of vectors.homes) {
      const mask = BigInt(buckets) - 1n;
      expect(homeBucket('kernel', BigInt(key), mask)).toBe(BigInt(homes.kernel));
      expect(homeBucket('private', BigInt(key), mask)).toBe(BigInt(homes.private));
    }
  });

  test('value words are the native ones', () => {
    for (const { offset, value } of vectors.firstValues) {
      expect(firstPrivateValue(BigInt(offset))).toBe(BigInt(value));
      expect(decodePrivateValue(BigInt(value))).toEqual({ state: 2, version: 1, offset: BigInt(offset) });
    }
  });
});
