/** Goal: the safetensors reader takes every valid file and no other. Method: attack table, limits from both sides, properties. */
import fc from 'fast-check';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type ByteSource, bufferSource } from '../../loaders/byte-source.ts';
import { SAFETENSORS_DTYPES } from '../../loaders/dtype.ts';
import { LOADER_ERRORS, LoaderError } from '../../loaders/errors.ts';
import { limit } from '../../loaders/limits.ts';
import { readSafetensors, type SafetensorsHeader } from '../../loaders/safetensors.ts';
import { safetensorsAttacks } from '../fixtures/attacks/safetensors.ts';
import { safetensorsBytes, type TensorSpec, wellFormed } from '../support/safetensors-bytes.ts';
import { holds } from '../support/seed.ts';

const read = (bytes: Buffer) => readSafetensors(bufferSource(bytes, 'model.safetensors'));

const verdict = (bytes: Buffer) =>
  read(bytes).then(
    () => 'accept',
    (error: unknown) => (error instanceof LoaderError ? error.code : String(error)),
  );

/** What must hold of anything that was accepted. */
function expectCovered({ tensors, dataOffset }: SafetensorsHeader, size: number): void {
  let end = dataOffset;
  for (const { offset, length } of tensors) {
    expect(offset).toBe(end);
    end += length;
  }
  expect(end).toBe(size);
}

describe('attacks', () => {
  it.each(Object.entries(safetensorsAttacks))('%s', async (name, build) => {
    expect(await verdict(build())).toBe(name.split(' -> ').at(-1));
  });

  it('every code has one', () => {
    const codes = Object.keys(LOADER_ERRORS).filter((code) => code.startsWith('SAFETENSORS_'));
    const covered = new Set(Object.keys(safetensorsAttacks).map((name) => name.split(' -> ').at(-1)));
    expect(codes.filter((code) => !covered.has(code))).toEqual([]);
  });

  it('the sentence names file and place', async () => {
    const bytes = safetensorsAttacks['tensor twice -> SAFETENSORS_JSON_DUPLICATE_KEY']!();
    const error = await read(bytes).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: 'malformed', offset: 61 });
    expect(String(error)).toMatch(/"model\.safetensors": the key "a" appears twice; .*\(byte 61\)\.$/);
    expect(bytes.subarray(61, 64).toString()).toBe('"a"');
  });

  it('names are escaped and cut in messages', async () => {
    const error = await read(safetensorsBytes(`{"\u202e\\n${'x'.repeat(500)}":{}}`)).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain('"\\u202e\\x0axxx');
    expect(String(error).length).toBeLessThan(300);
  });
});

describe('limits', () => {
  const virtual = (headerBytes: number): ByteSource => {
    const word = Buffer.alloc(8);
    word.writeBigUInt64LE(BigInt(headerBytes));
    const read = async (offset: number, length: number) => {
      if (offset === 0) return word;
      const header = Buffer.alloc(length, ' ');
      header.write('{}');
      return header;
    };
    return { name: 'x', size: 8 + headerBytes, read };
  };

  it('a header of 100 MB is read, one byte more is not', async () => {
    const max = limit('safetensorsHeaderBytesMax');
    expect((await readSafetensors(virtual(max))).dataOffset).toBe(8 + max);
    await expect(readSafetensors(virtual(max + 1))).rejects.toMatchObject({ code: 'SAFETENSORS_HEADER_TOO_LARGE' });
  });

  it.each([
    ['plain', 'v'],
    ['escaped', '\\n'],
    ['two-byte', 'é'],
  ])('a metadata value of %s text up to its bound', async (_, unit) => {
    const max = limit('metadataValueBytesMax');
    const value = (bytes: number) => unit.repeat(bytes / Buffer.byteLength(unit));
    const file = (bytes: number) => safetensorsBytes(`{"__metadata__":{"k":"${value(bytes)}"}}`);
    const { metadata } = await read(file(max));
    expect(metadata.get('k')).toBe(JSON.parse(`"${value(max)}"`));
    expect(await verdict(file(max + 2))).toBe('SAFETENSORS_JSON_STRING_TOO_LONG');
  });

  it('white space in a row is bounded', async () => {
    const max = limit('jsonSpaceBytesMax');
    expect(await verdict(safetensorsBytes(`{${'\n'.repeat(max - 1)}}`))).toBe('accept');
    expect(await verdict(safetensorsBytes(`{${'\n'.repeat(max + 1)}}`))).toBe('SAFETENSORS_JSON_SYNTAX');
  });

  it('sizes up to 2^48 - 1', async () => {
    const file = (size: string) => safetensorsBytes(`{"a":{"dtype":"U8","shape":[${size},0],"data_offsets":[0,0]}}`);
    expect(await verdict(file('281474976710655'))).toBe('accept');
    expect(await verdict(file('281474976710656'))).toBe('SAFETENSORS_JSON_NUMBER');
  });

  it('tensors up to the bound of a content', async () => {
    const count = limit('tensorsMax') + 1;
    const entries = Array.from({ length: count }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`);
    expect(await verdict(safetensorsBytes(`{${entries.join(',')}}`))).toBe('SOURCE_TOO_MANY_TENSORS');
  });
});

describe('dtypes', () => {
  it.each(Object.entries(SAFETENSORS_DTYPES))('%s', async (dtype, { elements, bytes }) => {
    const spec = { name: 't', dtype, shape: [3, elements], length: 3 * bytes };
    const { tensors } = await read(wellFormed([spec]));
    expect(tensors).toMatchObject([{ name: 't', dtype, shape: [3, elements], length: 3 * bytes }]);
    const longer = { ...spec, length: spec.length + 1 };
    expect(await verdict(wellFormed([longer]))).toBe('SAFETENSORS_SIZE');
  });
});

const tensorSpecs = fc
  .uniqueArray(
    fc.record({
      name: fc.string({ unit: 'grapheme', maxLength: 20 }).filter((name) => name !== '__metadata__'),
      dtype: fc.constantFrom(...Object.keys(SAFETENSORS_DTYPES)),
      blocks: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 4 }),
    }),
    { selector: ({ name }) => name, maxLength: 12 },
  )
  .map((items): TensorSpec[] =>
    items.map(({ name, dtype, blocks }) => {
      const block = SAFETENSORS_DTYPES[dtype as keyof typeof SAFETENSORS_DTYPES];
      const shape = [...blocks, block.elements];
      return { name, dtype, shape, length: blocks.reduce((product, n) => product * n, block.bytes) };
    }),
  );

describe('properties', () => {
  it('what is written is read back', async () => {
    await holds(
      fc.asyncProperty(tensorSpecs, fc.dictionary(fc.string(), fc.string()), async (specs, metadata) => {
        const bytes = wellFormed(specs, metadata);
        const header = await read(bytes);
        expectCovered(header, bytes.length);
        const found = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
        for (const { name, dtype, shape, length } of specs) {
          expect(found.get(name)).toMatchObject({ dtype, shape, length, file: 'model.safetensors' });
        }
        expect(header.tensors.length).toBe(specs.length);
        expect(new Map(Object.entries(metadata))).toEqual(header.metadata);
      }),
    );
  });

  it('any changed header byte is refused or harmless', async () => {
    await holds(
      fc.asyncProperty(tensorSpecs, fc.nat(), fc.integer({ min: 1, max: 255 }), async (specs, at, change) => {
        const bytes = wellFormed(specs, { format: 'pt' });
        const headerEnd = 8 + Number(bytes.readBigUInt64LE());
        bytes[at % headerEnd]! ^= change;
        const result = await read(bytes).catch((error: unknown) => error);
        if (result instanceof Error) expect(result).toBeInstanceOf(LoaderError);
        else expectCovered(result as SafetensorsHeader, bytes.length);
      }),
      1000,
    );
  });

  it('any cut file is refused', async () => {
    await holds(
      fc.asyncProperty(tensorSpecs, fc.nat(), async (specs, at) => {
        const bytes = wellFormed(specs);
        const cut = bytes.subarray(0, at % bytes.length);
        expect(await verdict(cut)).toMatch(/^SAFETENSORS_/);
      }),
    );
  });
});

it('a large header leaves the event loop free', async () => {
  const entries = Array.from({ length: 50_000 }, (_, i) => {
    const begin = ((i * 7919) % 50_000) * 2;
    return `"layer.${i}":{"dtype":"BF16","shape":[1],"data_offsets":[${begin},${begin + 2}]}`;
  });
  const bytes = safetensorsBytes(`{${entries.join(',')}}`, 100_000);
  // A millisecond passes at every look at the clock, so the pace is the same on every machine.
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => ++clock);
  onTestFinished(() => void vi.restoreAllMocks());
  let turns = 0;
  let next = setImmediate(function count() {
    turns += 1;
    next = setImmediate(count);
  });
  const { tensors } = await read(bytes);
  clearImmediate(next);
  expect(tensors.length).toBe(50_000);
  expect(turns).toBeGreaterThan(500);
});
