/**
 * Goal: a registry that changes between any two reads makes its readers throw nothing but a DaxfsError, come to an end, and
 * name no byte outside of the region. Method: seeded words all over the registry of a region with hosts, contents and names,
 * before a call and before every copy that a call takes. DAXSERVE_SEED replays, DAXSERVE_FUZZ_ROUNDS asks for more.
 * (What happens within one native call: native/fuzz/fuzz_registry.cc.)
 */
import { closeSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Backing, openBacking } from '../../daxfs/backing.ts';
import { lookOnce } from '../../daxfs/check/check-registry.ts';
import { DaxfsError } from '../../daxfs/errors.ts';
import { CONSTANTS } from '../../daxfs/layout.ts';
import { readHeader } from '../../daxfs/region-format.ts';
import { Registry } from '../../daxfs/registry.ts';
import type { Mapping } from '../../native/index.ts';
import { type Random, randomOf } from '../support/random.ts';
import { seed } from '../support/seed.ts';
import { type Attached, attachTo, createRegion, publishOne } from './region-of.ts';

const rounds = Number(process.env.DAXSERVE_FUZZ_ROUNDS ?? 150);
const EDGES = [
  0n,
  1n,
  0xffn,
  0xffffn,
  0xffff_ffffn,
  1n << 32n,
  (1n << 48n) - 1n,
  1n << 53n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** The registry of a region and its locator: sound bytes, and changes of them. */
class HostileRegistry {
  readonly #mapping: Mapping;
  readonly #areas: { offset: number; bytes: Buffer; used: number[] }[];

  constructor({ region: { mapping, header } }: Attached) {
    this.#mapping = mapping;
    const { registryOffset, registryBytes, regionBytes } = header.geometry;
    this.#areas = [
      { offset: 0, length: 4096 },
      { offset: registryOffset, length: registryBytes },
      { offset: regionBytes - 64, length: 64 },
    ].map(({ offset, length }) => {
      const bytes = mapping.read(offset, length);
      const words = Array.from({ length: length / 8 }, (_, i) => i * 8);
      return { offset, bytes, used: words.filter((at) => bytes.readBigUInt64LE(at) !== 0n) };
    });
  }

  restore(): void {
    for (const { offset, bytes } of this.#areas) this.#mapping.write(offset, bytes);
  }

  /** One word: an edge, a bit, or a word from elsewhere. */
  change(random: Random): void {
    const { offset, used } = this.#areas[[0, 1, 1, 1, 1, 1, 1, 2][random(8)]!]!;
    const at = offset + used[random(used.length)]! + 8 * random(2) * random(2);
    const from = this.#areas[1]!;
    const words = [
      () => EDGES[random(EDGES.length)]!,
      () => this.#mapping.load64(at) ^ (1n << BigInt(random(64))),
      () => from.bytes.readBigUInt64LE(from.used[random(from.used.length)]!),
    ];
    if (at + 8 <= this.#mapping.size) this.#mapping.store64(at, words[random(3)]!());
  }

  /** The mapping as a reader of ours sees it that is never quick enough. */
  seenBy(random: Random): Mapping {
    return new Proxy(this.#mapping, {
      get: (target, key) => {
        const member = Reflect.get(target, key);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          if (random(6) === 0) this.change(random);
          return Reflect.apply(member, target, args);
        };
      },
    });
  }
}

function tolerate(body: () => unknown): void {
  try {
    body();
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
  }
}

function readRows(registry: Registry, chunkCount: number): void {
  for (const { images, corrupt } of registry.contents()) {
    if (corrupt !== undefined) expect(images).toEqual([]);
    for (const { firstChunk, chunkCount: chunks, bytes } of images) {
      expect(firstChunk + chunks).toBeLessThanOrEqual(chunkCount);
      expect(bytes).toBeLessThanOrEqual(chunks * CONSTANTS.chunkBytes.value);
    }
  }
  for (const { target, name } of registry.names()) {
    registry.content(target.index);
    registry.runsOf(target);
    registry.recentNamed(name);
  }
  for (const { index, name } of registry.hosts()) {
    expect(index).toBeLessThan(CONSTANTS.hostsMax.value);
    expect(Buffer.byteLength(name)).toBeLessThanOrEqual(3 * 64);
  }
  const { free, total } = registry.chunkStats();
  expect(free).toBeLessThanOrEqual(total);
  for (let chunk = 0; chunk < chunkCount; chunk++) registry.chunk(chunk);
}

function round({ region }: Attached, backing: Backing, hostile: HostileRegistry, random: Random): void {
  const { mapping, header } = region;
  const seen = hostile.seenBy(random);
  // Rows are remembered from one reading to the next: what has changed is decoded again.
  const registry = new Registry(region);
  tolerate(() => readRows(registry, header.geometry.chunkCount));
  for (let count = random(4); count > 0; count--) hostile.change(random);
  tolerate(() => readRows(registry, header.geometry.chunkCount));
  tolerate(() => readHeader(seen, 'the region', mapping.size));
  const { findings } = lookOnce({ mapping: seen, header, backing });
  for (const { where } of findings) expect(where.offset >= 0 && where.offset <= mapping.size).toBe(true);
}

it(
  `${rounds} registries that change while they are read`,
  async () => {
    const path = await createRegion();
    const attached = await attachTo(path, 'writer');
    for (const n of [1, 2, 3]) attached.registry.setName(`name${n}:latest`, publishOne(attached, n, n));
    attached.registry.detach();
    attached.unlock();
    const hostile = new HostileRegistry(attached);
    const backing = openBacking({ path }, { write: false, create: false });
    const failures: string[] = [];
    for (let i = 0; i < rounds && failures.length < 5; i++) {
      hostile.restore();
      try {
        round(attached, backing, hostile, randomOf(seed + i));
      } catch (error) {
        failures.push(`DAXSERVE_SEED=${seed + i} DAXSERVE_FUZZ_ROUNDS=1:\n${(error as Error).stack}`);
      }
    }
    closeSync(backing.fd);
    hostile.restore();
    expect(failures.join('\n\n')).toBe('');
  },
  Math.max(120_000, rounds * 500),
);
