/**
 * Goal: we read what the reference packages read. Method: real weights and files that the packages write; names, types,
 * shapes, ranges and every byte compared with what `safetensors` and `gguf` say in Python.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, createReadStream, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bufferSource } from '../../loaders/byte-source.ts';
import { describeSource } from '../../loaders/describe.ts';
import { SAFETENSORS_DTYPES } from '../../loaders/dtype.ts';
import { readSafetensors } from '../../loaders/safetensors.ts';
import { resolveSource, type Source } from '../../loaders/source.ts';
import type { TensorInfo } from '../../loaders/tensor.ts';
import { safetensorsAttacks } from '../fixtures/attacks/safetensors.ts';
import { miniLmDirectory, noPython, runPython } from '../support/python-env.ts';
import { wellFormed } from '../support/safetensors-bytes.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { seed } from '../support/seed.ts';

const script = 'loaders/reference_readers.py';

interface Reference {
  dtype: string;
  shape: number[];
  sha256: string;
  offset?: number;
  length?: number;
}

type References = Record<string, Reference>;

async function sha256(path: string, offset: number, length: number): Promise<string> {
  const hash = createHash('sha256');
  if (length > 0)
    for await (const chunk of createReadStream(path, { start: offset, end: offset + length - 1 })) hash.update(chunk);
  return hash.digest('hex');
}

/** Our tensors in the form of the reference, the bytes read from the file at the range that we say. */
async function ours(source: Source, tensors: readonly TensorInfo[], withRange: boolean): Promise<References> {
  const out: References = {};
  for (const { name, dtype, shape, file, offset, length } of tensors) {
    const origin = source.files.find(({ path }) => path === file)!.origin;
    const digest = await sha256(origin, offset, length);
    out[name] = { dtype, shape, sha256: digest, ...(withRange ? { offset, length } : {}) };
  }
  return out;
}

const load = async (path: string, root = path) => {
  const source = await resolveSource(path, { roots: [root] });
  return { source, description: await describeSource(source) };
};

describe.skipIf(noPython)('safetensors', () => {
  it('the real weights of MiniLM', async () => {
    const { source, description } = await load(miniLmDirectory);
    const reference = await runPython<References>(
      script,
      'describe-safetensors',
      join(miniLmDirectory, 'model.safetensors'),
    );
    expect(description.format).toBe('safetensors');
    expect(description.tensors.length).toBe(Object.keys(reference).length);
    expect(await ours(source, description.tensors, false)).toEqual(reference);
    expect(source.files.map(({ path }) => path)).toContain('1_Pooling/config.json');
  });

  it('the same weights in a hub cache', async () => {
    const cache = scratchDirectory();
    const commit = 'c9745ed1d9f207416be6d2e6f8de32d1f16199bf';
    const snapshot = join(cache, 'models--sentence-transformers--all-MiniLM-L6-v2', 'snapshots', commit);
    mkdirSync(snapshot, { recursive: true });
    const blobs = join(snapshot, '../../blobs');
    mkdirSync(blobs);
    const names = readdirSync(miniLmDirectory, { withFileTypes: true }).filter((entry) => entry.isFile());
    for (const { name } of names) {
      copyFileSync(join(miniLmDirectory, name), join(blobs, `blob-${name}`));
      symlinkSync(`../../blobs/blob-${name}`, join(snapshot, name));
    }
    const { source, description } = await load(snapshot, cache);
    expect(source).toMatchObject({ defaultName: 'sentence-transformers/all-MiniLM-L6-v2', revision: commit });
    const direct = await load(miniLmDirectory);
    expect(description.tensors).toEqual(direct.description.tensors);
  });

  it('shards and index that the package writes', async () => {
    const directory = scratchDirectory();
    const shards = await runPython<string[]>(script, 'write-sharded', directory);
    const { source, description } = await load(directory);
    const reference: References = {};
    for (const shard of shards) {
      Object.assign(reference, await runPython<References>(script, 'describe-safetensors', join(directory, shard)));
    }
    expect(await ours(source, description.tensors, false)).toEqual(reference);
    expect(description).toMatchObject({ format: 'safetensors', metadata: { format: 'np' } });
    expect(new Set(description.tensors.map(({ file }) => file))).toEqual(new Set(shards));
  });

  it('every dtype that the package knows', async () => {
    const specs = Object.entries(SAFETENSORS_DTYPES).map(([dtype, { elements, bytes }]) => ({
      name: dtype,
      dtype,
      shape: [5, elements],
      length: 5 * bytes,
    }));
    const directory = scratchDirectory();
    writeFileSync(join(directory, 'all.safetensors'), wellFormed(specs));
    const { source, description } = await load(directory);
    const reference = await runPython<References>(script, 'describe-safetensors', join(directory, 'all.safetensors'));
    expect(await ours(source, description.tensors, false)).toEqual(reference);
  });

  it('what we accept, the package accepts and reads alike', async () => {
    const directory = scratchDirectory();
    const files = new Map<string, Buffer>();
    for (const [name, build] of Object.entries(safetensorsAttacks)) {
      const bytes = build();
      if (bytes.length < 1 << 20) files.set(`attack-${files.size}-${name.replace(/[^a-z0-9]+/gi, '-')}`, bytes);
    }
    const base = wellFormed(
      [
        { name: 'a', dtype: 'F32', shape: [2, 2], length: 16 },
        { name: 'b', dtype: 'F4', shape: [4], length: 2 },
      ],
      { k: 'v' },
    );
    const mutations = fc.sample(fc.tuple(fc.nat(base.length - 19), fc.nat(255)), { numRuns: 1500, seed });
    for (const [i, [at, byte]] of mutations.entries()) {
      const bytes = Buffer.from(base);
      bytes[at] = byte;
      files.set(`mutated-${i}`, bytes);
    }
    for (const [name, bytes] of files) writeFileSync(join(directory, name), bytes);
    const reference = await runPython<Record<string, References | null>>(script, 'accepts-safetensors', directory);
    let accepted = 0;
    for (const [name, bytes] of files) {
      const header = await readSafetensors(bufferSource(bytes)).catch(() => undefined);
      if (!header) continue;
      accepted++;
      const mine = header.tensors.map((tensor) => {
        const data = bytes.subarray(tensor.offset, tensor.offset + tensor.length);
        return [
          tensor.name,
          { dtype: tensor.dtype, shape: tensor.shape, sha256: createHash('sha256').update(data).digest('hex') },
        ];
      });
      expect(Object.fromEntries(mine), `${name}, DAXSERVE_SEED=${seed}`).toEqual(reference[name]);
    }
    expect(accepted).toBeGreaterThan(10);
  });
});

describe.skipIf(noPython)('GGUF', () => {
  it('every type in one file that the package writes', async () => {
    const directory = scratchDirectory();
    const path = join(directory, 'model.gguf');
    await runPython(script, 'write-gguf', path);
    const { source, description } = await load(path, directory);
    expect(await ours(source, description.tensors, true)).toEqual(
      await runPython<References>(script, 'describe-gguf', path),
    );
    expect(description.metadata).toMatchObject({
      'general.architecture': 'llama',
      'general.name': 'test',
      'general.alignment': 64,
      'tokenizer.ggml.tokens': { type: 'string', length: 5000 },
      scores: { type: 'float32', length: 100 },
    });
  });

  it('a split model that the package writes', async () => {
    const directory = scratchDirectory();
    const parts = await runPython<string[]>(script, 'write-gguf', join(directory, 'model.gguf'), '10');
    expect(parts.length).toBeGreaterThan(2);
    const { source, description } = await load(join(directory, parts[0]!), directory);
    expect(source.files.map(({ path }) => path)).toEqual(parts);
    expect(source.defaultName).toBe('model.gguf');
    const reference: References = {};
    for (const part of parts)
      Object.assign(reference, await runPython<References>(script, 'describe-gguf', join(directory, part)));
    expect(await ours(source, description.tensors, true)).toEqual(reference);
    expect(basename(description.tensors[0]!.file)).toBe(parts[0]);
  });
});
