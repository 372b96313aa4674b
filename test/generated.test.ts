/** Goal: generated files equal their generator. Method: regenerate in memory and compare; the layout is pinned by its fingerprint. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { cppHeader, layoutFingerprint, withTables } from '../daxfs/emit.ts';
import { STRUCTS } from '../daxfs/layout.ts';
import { native } from '../native/index.ts';

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

it('native/include/layout.gen.h is what daxfs/layout.ts says', () => {
  expect(read('native/include/layout.gen.h')).toBe(cppHeader());
});

it('the byte tables of docs/FORMAT.md are what daxfs/layout.ts says', () => {
  const document = read('docs/FORMAT.md');
  expect(withTables(document)).toBe(document);
});

it('the addon was built with this layout', () => {
  expect(native.fingerprint).toBe(layoutFingerprint());
});

it('structure sizes are pinned: a change is a format change', () => {
  expect(Object.fromEntries(STRUCTS.map(({ name, size }) => [name, size]))).toMatchInlineSnapshot();
});
