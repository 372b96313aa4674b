/** Goal: an index and its shards agree both ways. Method: attack table on real directories of two shards. */
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeSource } from '../../loaders/describe.ts';
import { LOADER_ERRORS, type LoaderError } from '../../loaders/errors.ts';
import { limit } from '../../loaders/limits.ts';
import { isShardIndex } from '../../loaders/shard-index.ts';
import { resolveSource } from '../../loaders/source.ts';
import { shardIndexAttacks } from '../fixtures/attacks/shard-index.ts';
import { wellFormed } from '../support/safetensors-bytes.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

const shard = (name: string) => wellFormed([{ name, dtype: 'U8', shape: [4], length: 4 }]);
const index = 'model.safetensors.index.json';

async function verdict(directory: string, source = directory, exclude?: string[]): Promise<string> {
  try {
    await describeSource(await resolveSource(source, { roots: [directory] }, exclude ? { exclude } : {}));
    return 'accept';
  } catch (error) {
    return (error as LoaderError).code ?? String(error);
  }
}

function twoShards(text: string | Buffer): string {
  const directory = scratchDirectory();
  writeTree(directory, { 's1.safetensors': shard('a'), 's2.safetensors': shard('b'), [index]: text });
  return directory;
}

describe('attacks', () => {
  it.each(Object.entries(shardIndexAttacks))('%s', async (name, text) => {
    expect(await verdict(twoShards(text))).toBe(name.split(' -> ').at(-1));
  });

  it('too large -> SHARD_INDEX_TOO_LARGE', async () => {
    const directory = twoShards('{}');
    truncateSync(join(directory, index), limit('shardIndexBytesMax') + 1);
    expect(await verdict(directory)).toBe('SHARD_INDEX_TOO_LARGE');
  });

  it('every code has one', () => {
    const codes = Object.keys(LOADER_ERRORS).filter((code) => code.startsWith('SHARD_INDEX_'));
    const covered = new Set(Object.keys(shardIndexAttacks).map((name) => name.split(' -> ').at(-1)));
    expect(codes.filter((code) => !covered.has(code))).toEqual(['SHARD_INDEX_TOO_LARGE']);
  });
});

it('an index left out is not compared', async () => {
  const directory = twoShards(shardIndexAttacks['tensor that the index lacks -> SHARD_INDEX_UNLISTED_TENSOR']!);
  expect(await verdict(directory, directory, ['*.index.json'])).toBe('accept');
});

it('an index by itself brings its shards', async () => {
  const directory = twoShards(shardIndexAttacks['plain -> accept']!);
  writeTree(directory, { 'other.txt': 'x' });
  const source = await resolveSource(join(directory, index), { roots: [directory] });
  expect(source.files.map(({ path }) => path)).toEqual([index, 's1.safetensors', 's2.safetensors']);
  expect((await describeSource(source)).tensors.map(({ name, file }) => [name, file])).toEqual([
    ['a', 's1.safetensors'],
    ['b', 's2.safetensors'],
  ]);
});

it('an index without any shard is no directory of plain files', async () => {
  const directory = scratchDirectory();
  writeTree(directory, { [index]: '{"weight_map":{"a":"s1.safetensors"}}' });
  expect(await verdict(directory)).toBe('SHARD_INDEX_MISSING_SHARD');
});

it('an index in a subdirectory speaks of its own directory', async () => {
  const directory = scratchDirectory();
  const text = '{"weight_map":{"a":"s1.safetensors"}}';
  writeTree(directory, { [`unet/${index}`]: text, 'unet/s1.safetensors': shard('a'), 's1.safetensors': shard('x') });
  expect(await verdict(directory)).toBe('accept');
});

it('numbered shards must be complete, also without index', async () => {
  const directory = scratchDirectory();
  writeTree(directory, { 'm-00001-of-00003.safetensors': shard('a'), 'm-00003-of-00003.safetensors': shard('c') });
  expect(await verdict(directory)).toBe('SHARD_INDEX_MISSING_SHARD');
  expect(await verdict(directory, join(directory, 'm-00001-of-00003.safetensors'))).toBe('accept');
  writeTree(directory, { 'm-00002-of-00003.safetensors': shard('b') });
  expect(await verdict(directory)).toBe('accept');
});

it.each([
  ['model.safetensors.index.json', true],
  ['model.safetensors.index.fp16.json', true],
  ['unet/diffusion_pytorch_model.safetensors.index.json', true],
  ['pytorch_model.bin.index.json', false],
  ['index.json', false],
])('%s is an index: %s', (path, yes) => {
  expect(isShardIndex(path)).toBe(yes);
});
