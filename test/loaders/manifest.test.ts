/** Goal: a manifest survives its trip through the region, and damage is noticed. Method: properties, a table of damage, the published schema. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import Schema from 'typebox/schema';
import { describe, expect, it } from 'vitest';
import { DTYPES } from '../../loaders/dtype.ts';
import { LOADER_ERRORS, LoaderError } from '../../loaders/errors.ts';
import { FORMATS, formatIndex, formatName } from '../../loaders/formats.ts';
import { limit } from '../../loaders/limits.ts';
import {
  contentDigest,
  decodeManifest,
  decodeManifestPaced,
  encodeManifest,
  encodeManifestPaced,
  type Manifest,
} from '../../loaders/manifest.ts';
import { ManifestSchema, manifestSchemaText } from '../../loaders/manifest-schema.ts';
import { compareUtf8 } from '../../loaders/utf8-order.ts';
import { holds } from '../support/seed.ts';

const digest = (char: string) => char.repeat(32);

const sample = (): Manifest => ({
  version: 1,
  format: 'safetensors',
  source: 'file:///models/m',
  revision: 'abc',
  files: [
    { path: 'config.json', size: 2, digest: digest('0') },
    { path: 'm.safetensors', size: 100, digest: digest('a') },
  ],
  tensors: [
    { name: 'a', dtype: 'BF16', shape: [2, 3], file: 'm.safetensors', offset: 50, length: 12 },
    { name: 'b', dtype: 'F4', shape: [], file: 'm.safetensors', offset: 62, length: 0 },
  ],
  metadata: { format: 'pt', n: 1.5, yes: true, no: false, tokens: { type: 'string', length: 7 } },
});

const good = () => {
  const manifest = sample();
  manifest.tensors[1]!.shape = [0];
  return manifest;
};

const segment = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 8 })
  .filter((s) => !/[/\p{Cc}]/u.test(s) && s !== '.' && s !== '..');
const manifests = fc
  .record({
    paths: fc.uniqueArray(
      fc.array(segment, { minLength: 1, maxLength: 3 }).map((s) => s.join('/')),
      { minLength: 1, maxLength: 6 },
    ),
    sizes: fc.array(fc.integer({ min: 0, max: 2 ** 48 - 1 }), { minLength: 6, maxLength: 6 }),
    digests: fc.array(fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 32 }), {
      minLength: 6,
      maxLength: 6,
    }),
    tensors: fc.uniqueArray(
      fc.record({
        name: fc.string({ unit: 'grapheme', minLength: 1 }),
        dtype: fc.constantFrom(...DTYPES.keys()),
        blocks: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
        file: fc.nat(),
      }),
      { selector: ({ name }) => name, maxLength: 6 },
    ),
    revision: fc.option(fc.string({ maxLength: 20 })),
    metadata: fc.dictionary(
      fc.string(),
      fc.oneof(fc.string(), fc.boolean(), fc.integer(), fc.record({ type: fc.string(), length: fc.nat() })),
    ),
  })
  .map(({ paths, sizes, digests, tensors, revision, metadata }): Manifest => {
    const files = paths.sort(compareUtf8).map((path, i) => ({ path, size: sizes[i]! + 10_000, digest: digests[i]! }));
    return {
      version: 1,
      format: 'gguf',
      source: 'file:///x',
      revision,
      files: files.map((file) => ({ ...file, size: Math.min(file.size, 2 ** 48 - 1) })),
      tensors: tensors.map(({ name, dtype, blocks, file }) => {
        const { elements, bytes } = DTYPES.get(dtype)!;
        const length = blocks.reduce((product, n) => product * n, bytes);
        const path = files[file % files.length]!.path;
        return { name, dtype: dtype as 'F32', shape: [...blocks, elements], file: path, offset: 7, length };
      }),
      metadata,
    };
  });

describe('encode and decode', () => {
  it('are inverse, and follow the published schema', async () => {
    const check = Schema.Compile(ManifestSchema);
    await holds(
      fc.asyncProperty(manifests, async (manifest) => {
        const bytes = encodeManifest(manifest);
        expect(decodeManifest(bytes)).toEqual(manifest);
        expect(await encodeManifestPaced(manifest)).toEqual(bytes);
        expect(await decodeManifestPaced(bytes)).toEqual(manifest);
        expect(check.Check(JSON.parse(bytes.toString()))).toBe(true);
      }),
    );
  });

  it('the length does not depend on digests', async () => {
    await holds(
      fc.property(manifests, (manifest) => {
        const blank = { ...manifest, files: manifest.files.map((file) => ({ ...file, digest: digest('0') })) };
        expect(encodeManifest(blank).length).toBe(encodeManifest(manifest).length);
      }),
    );
  });

  it('any changed byte is refused or gives a manifest that keeps the rules', async () => {
    const bytes = encodeManifest(good());
    await holds(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = Buffer.from(bytes);
        damaged[at]! ^= change;
        try {
          expect(Schema.Check(ManifestSchema, decodeManifest(damaged))).toBe(true);
        } catch (error) {
          if (!(error instanceof LoaderError)) throw error;
          expect(error.kind).toBe('corrupt');
        }
      }),
      1000,
    );
  });
});

const change = (edit: (manifest: Manifest) => void) => () => {
  const manifest = good();
  edit(manifest);
  return Buffer.from(JSON.stringify(manifest));
};
const loose = (edit: (manifest: Record<string, unknown>) => void) =>
  change(edit as unknown as (manifest: Manifest) => void);
const tensor = (over: object) => change(({ tensors }) => Object.assign(tensors[0]!, over));
const file = (over: object) => change(({ files }) => Object.assign(files[1]!, over));
const text = (replace: (json: string) => string | Buffer) => () => Buffer.from(replace(JSON.stringify(good())));

const damage: Readonly<Record<string, () => Buffer>> = {
  'nothing -> MANIFEST_FIELD': () => Buffer.alloc(0),
  'zeroes -> MANIFEST_FIELD': () => Buffer.alloc(4096),
  'cut short -> MANIFEST_JSON_SYNTAX': text((json) => json.slice(0, -1)),
  'something after it -> MANIFEST_JSON_SYNTAX': text((json) => `${json}{}`),
  'no UTF-8 -> MANIFEST_JSON_UTF8': text((json) => Buffer.from(json.replace('"pt"', '"\xff"'), 'latin1')),
  'member twice -> MANIFEST_JSON_DUPLICATE_KEY': text((json) => json.replace('{', '{"version":1,')),
  'negative size -> MANIFEST_JSON_NUMBER': file({ size: -1 }),
  'size of 2^48 -> MANIFEST_JSON_NUMBER': file({ size: 2 ** 48 }),
  'long name -> MANIFEST_JSON_STRING_TOO_LONG': tensor({ name: 'x'.repeat(70_000) }),
  'version 2 -> MANIFEST_VERSION': loose((m) => {
    m.version = 2;
  }),
  'member missing -> MANIFEST_FIELD': loose((m) => {
    delete m.source;
  }),
  'unknown member -> MANIFEST_FIELD': loose((m) => {
    m.extra = 1;
  }),
  'unknown format -> MANIFEST_FIELD': loose((m) => {
    m.format = 'onnx';
  }),
  'revision true -> MANIFEST_FIELD': loose((m) => {
    m.revision = true;
  }),
  'path above -> MANIFEST_FIELD': file({ path: '../m.safetensors' }),
  'absolute path -> MANIFEST_FIELD': file({ path: '/m.safetensors' }),
  'path with NUL -> MANIFEST_FIELD': file({ path: 'm\0' }),
  'files out of order -> MANIFEST_FIELD': change(({ files }) => files.reverse()),
  'file twice -> MANIFEST_FIELD': change(({ files }) => files.push({ ...files[1]! })),
  'short digest -> MANIFEST_FIELD': file({ digest: 'ab' }),
  'digest in capitals -> MANIFEST_FIELD': file({ digest: digest('A') }),
  'tensor twice -> MANIFEST_FIELD': tensor({ name: 'b' }),
  'tensor without name -> MANIFEST_FIELD': tensor({ name: '' }),
  'unknown dtype -> MANIFEST_FIELD': tensor({ dtype: 'F5' }),
  'length of another shape -> MANIFEST_FIELD': tensor({ length: 13 }),
  'impossible shape -> MANIFEST_FIELD': tensor({ shape: [2 ** 40, 2 ** 40] }),
  'too many dimensions -> MANIFEST_FIELD': tensor({ shape: Array(65).fill(1) }),
  'tensor of no file -> MANIFEST_FIELD': tensor({ file: 'x' }),
  'tensor past its file -> MANIFEST_FIELD': tensor({ offset: 89 }),
  'metadata with a member too many -> MANIFEST_FIELD': loose((m) => {
    m.metadata = { k: { type: 'x', length: 1, more: 1 } };
  }),
  'whole -> accept': () => encodeManifest(good()),
};

describe('damage', () => {
  it.each(Object.entries(damage))('%s', (name, build) => {
    const verdict = () => {
      try {
        decodeManifest(build());
        return 'accept';
      } catch (error) {
        return error instanceof LoaderError ? error.code : String(error);
      }
    };
    expect(verdict()).toBe(name.split(' -> ').at(-1));
  });

  it('too large -> MANIFEST_TOO_LARGE', () => {
    const bytes = { length: limit('manifestBytesMax') + 1 } as Buffer;
    expect(() => decodeManifest(bytes)).toThrow(expect.objectContaining({ code: 'MANIFEST_TOO_LARGE' }));
  });

  it('every code has one', () => {
    const codes = Object.keys(LOADER_ERRORS).filter((code) => code.startsWith('MANIFEST_'));
    const covered = new Set(Object.keys(damage).map((name) => name.split(' -> ').at(-1)));
    expect(codes.filter((code) => !covered.has(code))).toEqual(['MANIFEST_TOO_LARGE']);
  });
});

it('the content digest is one SHA-256 over sorted lines', () => {
  const files = [
    { path: 'b', size: 2, digest: digest('b') },
    { path: 'a', size: 1, digest: digest('a') },
  ];
  const lines = `${digest('a')} 1 a\n${digest('b')} 2 b\n`;
  expect(contentDigest(files)).toBe(createHash('sha256').update(lines).digest('hex'));
  expect(contentDigest([...files].reverse())).toBe(contentDigest(files));
});

it('paths are ordered like their bytes', async () => {
  await holds(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
      expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }),
    1000,
  );
});

it('the published schema is the generated one', () => {
  const path = new URL('../../docs/manifest.schema.json', import.meta.url);
  expect(readFileSync(path, 'utf8')).toBe(manifestSchemaText());
});

it('formats keep their numbers', () => {
  expect(FORMATS).toEqual(['files', 'safetensors', 'gguf']);
  expect(FORMATS.map(formatIndex)).toEqual([0, 1, 2]);
  expect([formatName(1), formatName(9)]).toEqual(['safetensors', undefined]);
});
