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
  expect(Object.fromEntries(STRUCTS.map(({ name, size }) => [name, size]))).toMatchInlineSnapshot(`
    {
      "bucket": 16,
      "content_row": 1024,
      "dirent": 272,
      "host_row": 256,
      "image_extent": 16,
      "inode": 64,
      "intent_row": 128,
      "locator": 64,
      "name_row": 256,
      "overlay_dirent": 304,
      "overlay_dirlist": 16,
      "overlay_header": 4096,
      "overlay_inode": 32,
      "page_cache_counters": 96,
      "page_cache_header": 4096,
      "page_cache_user": 256,
      "registry_header": 4096,
      "registry_state": 4096,
      "slot": 16,
      "superblock": 4096,
    }
  `);
});
