/**
 * Goal: no file makes a reader of ours throw anything but a LoaderError, read outside of the file or give tensors that lie
 * outside. Method: seeded changes of sound files of every format, also between two reads of one file; rounds by
 * DAXSERVE_FUZZ_ROUNDS, replay with DAXSERVE_SEED.
 */
import { expect, it } from 'vitest';
import { runToEnd } from '../../daxfs/pace.ts';
import { type ByteSource, bufferSource } from '../../loaders/byte-source.ts';
import { LoaderError } from '../../loaders/errors.ts';
import { type GgufHeader, readGguf } from '../../loaders/gguf.ts';
import { decodeManifest, encodeManifest } from '../../loaders/manifest.ts';
import { readSafetensors } from '../../loaders/safetensors.ts';
import { shardIndexSteps } from '../../loaders/shard-index.ts';
import type { TensorInfo } from '../../loaders/tensor.ts';
import { ggufArray, ggufBytes, ggufString, ggufType, pair, textPair, u16Pair, u32Pair } from '../support/gguf-bytes.ts';
import { mutate } from '../support/mutate.ts';
import { type Random, randomOf } from '../support/random.ts';
import { wellFormed } from '../support/safetensors-bytes.ts';
import { seed } from '../support/seed.ts';

const rounds = Number(process.env.DAXSERVE_FUZZ_ROUNDS ?? 1500);

/** Reads inside [0, size) only; from some read on, other bytes than before. */
function hostileSource(bytes: Buffer, random: Random): ByteSource {
  const source = bufferSource(bytes, 'model');
  const other = random(3) === 0 ? bufferSource(mutate(bytes, random).subarray(0, bytes.length), 'model') : source;
  let left = random(6);
  const read = async (offset: number, length: number) => {
    const ok = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!ok || offset + length > bytes.length) throw new Error(`reads ${length} bytes at ${offset} of ${bytes.length}`);
    const from = left-- > 0 ? source : other;
    const got = await from.read(offset, length);
    return got.length === length ? got : Buffer.concat([got, Buffer.alloc(length - got.length)]);
  };
  return { ...source, read };
}

function expectInside(tensors: readonly TensorInfo[], bytes: number): void {
  const names = new Set(tensors.map(({ name }) => name));
  expect(names.size).toBe(tensors.length);
  for (const { offset, length, shape } of tensors) {
    expect(Number.isSafeInteger(offset) && Number.isSafeInteger(length)).toBe(true);
    expect(offset >= 0 && length >= 0 && offset + length <= bytes).toBe(true);
    expect(shape.every((size) => Number.isSafeInteger(size) && size >= 0)).toBe(true);
  }
}

async function tolerate(body: () => unknown): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof LoaderError)) throw error;
    expect(error.message.length).toBeLessThan(2000);
  }
}

const safetensors = [
  wellFormed(
    [
      { name: 'a.weight', dtype: 'F32', shape: [2, 3], length: 24 },
      { name: 'b', dtype: 'BF16', shape: [], length: 2 },
      { name: 'c', dtype: 'I8', shape: [0, 7], length: 0 },
      { name: 'ü"\\', dtype: 'F4', shape: [4], length: 2 },
    ],
    { format: 'pt', note: 'äöü' },
  ),
  wellFormed([]),
];
const gguf = [
  ggufBytes({
    pairs: [
      textPair('general.architecture', 'llama'),
      u32Pair('general.alignment', 64),
      u16Pair('split.count', 1),
      pair('tokens', ggufType.array, ggufArray(ggufType.string, [ggufString('a'), ggufString('b')])),
      pair('nested', ggufType.array, ggufArray(ggufType.array, [ggufArray(ggufType.u8, [Buffer.from([1])])])),
      pair('f', ggufType.f64, Buffer.alloc(8)),
      pair('yes', ggufType.bool, Buffer.from([1])),
    ],
    tensors: [
      { name: 'w', dims: [32, 2], type: 0, offset: 0 },
      { name: 'q', dims: [32], type: 2, offset: 256 },
    ],
    alignment: 64,
    dataBytes: 256 + 64,
  }),
  ggufBytes({}),
];
const digest = 'a'.repeat(32);
const manifests = [
  encodeManifest({
    version: 1,
    format: 'safetensors',
    source: 'file:///models/m',
    revision: 'abc',
    files: [
      { path: 'config.json', size: 2, digest },
      { path: 'm.safetensors', size: 100, digest },
    ],
    tensors: [{ name: 'a', dtype: 'BF16', shape: [2, 3], file: 'm.safetensors', offset: 50, length: 12 }],
    metadata: { format: 'pt', n: 1.5, yes: true, tokens: { type: 'string', length: 7 } },
  }),
];
const indexes = [
  Buffer.from(
    '{"metadata":{"total_size":12,"x":[1,{"y":null}]},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}',
  ),
];

const readers: [string, readonly Buffer[], (bytes: Buffer, random: Random) => Promise<void>][] = [
  [
    'safetensors',
    safetensors,
    async (bytes, random) => {
      const { tensors, dataOffset } = await readSafetensors(hostileSource(bytes, random));
      expect(dataOffset).toBeLessThanOrEqual(bytes.length);
      expectInside(tensors, bytes.length);
    },
  ],
  [
    'GGUF',
    gguf,
    async (bytes, random) => {
      const header: GgufHeader = await readGguf(hostileSource(bytes, random));
      expectInside(header.tensors, bytes.length);
    },
  ],
  [
    'manifests',
    manifests,
    async (bytes) => {
      const { tensors, files } = decodeManifest(bytes);
      const sizes = new Map(files.map(({ path, size }) => [path, size]));
      for (const tensor of tensors) expectInside([tensor], sizes.get(tensor.file)!);
    },
  ],
  [
    'shard indexes',
    indexes,
    async (bytes) => {
      for (const shard of runToEnd(shardIndexSteps(bytes, 'index')).values()) expect(shard).not.toMatch(/[/\\\0]/);
    },
  ],
];

it.each(readers)(
  `%s, changed (seed ${seed})`,
  async (name, sound, read) => {
    for (const bytes of sound) await read(bytes, () => 1);
    for (let round = 0; round < rounds; round++) {
      const random = randomOf(seed + round);
      const bytes = mutate(sound[random(sound.length)]!, random);
      await tolerate(() => read(bytes, random)).catch((error: unknown) => {
        const shown = bytes.toString('hex', 0, 600);
        throw new Error(`${name}: DAXSERVE_SEED=${seed + round} DAXSERVE_FUZZ_ROUNDS=1, bytes ${shown}`, {
          cause: error,
        });
      });
    }
  },
  Math.max(60_000, rounds * 20),
);
