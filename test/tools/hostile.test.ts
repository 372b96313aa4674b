/**
 * Goal: no bytes crash a reader, hang it, or make it read outside. Method: seeded changes to the published example, to a
 * pre-warmed cache and to random bytes, before the first read and between any two; everything is read with all commands;
 * reads are counted, so that endless loops fail by their work and not by a clock. DAXSERVE_SEED replays,
 * DAXSERVE_FUZZ_ROUNDS asks for more of each.
 */
import { constants, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type ByteSource, bufferSource } from '../../daxfs/byte-source.ts';
import { DaxfsError } from '../../daxfs/errors.ts';
import { FrontReader } from '../../daxfs/front-read.ts';
import { validateFront } from '../../daxfs/front-validate.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { overlayReport, statusReport } from '../../daxfs/inspect/report.ts';
import { treeItems } from '../../daxfs/inspect/tree.ts';
import { superblock } from '../../daxfs/layout.ts';
import { Region } from '../../daxfs/region.ts';
import { native } from '../../native/index.ts';
import { buildExample } from '../support/overlay-example.ts';
import { mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';
import { holds } from '../support/seed.ts';

const rounds = (short: number) => Number(process.env.DAXSERVE_FUZZ_ROUNDS ?? short);
const timeout = Math.max(300_000, rounds(0) * 200);

/** Reads of one pass over 1 MiB; sound images need some thousands. */
const READS_MAX = 3_000_000;

/** Bytes that are written before one read, and every `again` reads from then on undone and written anew. */
interface Change {
  at: number;
  bytes: Buffer;
  read: number;
  again: number;
}

function counted(image: Buffer, changes: readonly Change[]): ByteSource {
  const source = bufferSource(image);
  const due = changes.map((change) => ({ ...change }));
  let reads = 0;
  const read = (offset: number, length: number) => {
    if (++reads > READS_MAX) throw new Error('the reader does not come to an end');
    for (const change of due) {
      if (reads < change.read) continue;
      const before = Buffer.from(image.subarray(change.at, change.at + change.bytes.length));
      change.bytes.copy(image, change.at);
      change.bytes = before;
      change.read = change.again === 0 ? Number.POSITIVE_INFINITY : reads + change.again;
    }
    return source.read(offset, length);
  };
  return { size: source.size, read };
}

/** Anything but a DaxfsError is a failure. */
function tolerate(body: () => void): void {
  try {
    body();
  } catch (error) {
    if (!(error instanceof DaxfsError)) throw error;
  }
}

function readEverything(original: Buffer, changes: readonly Change[] = []): void {
  const source = counted(changes.length > 0 ? Buffer.from(original) : original, changes);
  tolerate(() => void statusReport(source));
  tolerate(() => void overlayReport(source));
  tolerate(() => {
    for (const { damage } of treeItems(source)) expect(damage).not.toBe('');
  });
  // A finding names a place that exists.
  for (const { offset } of [...validateImage(source).findings, ...validateFront(source).findings]) {
    expect(offset >= 0 && offset <= Math.max(source.size, superblock.size)).toBe(true);
  }
  tolerate(() => {
    const front = new FrontReader(source);
    for (const { path, type } of treeItems(source)) {
      let bytes = 0;
      if (type !== 'file') continue;
      tolerate(() => {
        for (const block of front.content(front.lookup(path), path)) {
          bytes += block.length;
          if (bytes > 2 ** 20) return;
        }
      });
    }
  });
}

/** Interesting words, and interesting places: everything before the pool's data, in the example all of what is used. */
const word = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(
    0n,
    1n,
    0xffff_ffff_ffff_ffffn,
    0xffff_ffff_ffffn,
    8224n,
    24576n,
    25216n,
    8192n,
    1n << 53n,
    1n << 63n,
  ),
);
const change = (places: readonly number[]) =>
  fc
    .tuple(
      fc.constantFrom(...places),
      word,
      fc.constantFrom(1, 2, 4, 8),
      fc.oneof(fc.constant(0), fc.nat(40), fc.nat(2000)),
      fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 30 })),
    )
    .map(([at, value, size, read, again]): Change => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(value);
      return { at, bytes: bytes.subarray(0, size), read, again };
    });
const changes = (places: readonly number[]) => fc.array(change(places), { minLength: 1, maxLength: 6 });

/** Places of 4 bytes around everything that is not zero. */
function usedPlaces(image: Buffer): number[] {
  const places: number[] = [];
  for (let at = 0; at < image.length; at += 4) if (image.readUInt32LE(at) !== 0) places.push(at);
  return places;
}

it(
  'the example with changed words',
  async () => {
    const { image } = buildExample();
    const places = usedPlaces(image);
    readEverything(image);
    await holds(
      fc.property(changes(places), (list) => readEverything(image, list)),
      rounds(400),
    );
  },
  timeout,
);

it(
  'a pre-warmed cache with changed words',
  async () => {
    const base = scratchDirectory();
    writeTree(join(base, 'tree'), { a: Buffer.alloc(20000, 1), 'd/b': 'x' });
    const memory = join(base, 'memory');
    writeFileSync(memory, '');
    truncateSync(memory, 2 ** 18);
    await mkdaxfs('-X', '-d', join(base, 'tree'), '-D', memory, '-p', '0', '-O', '16K', '-B', '64', '--prewarm');
    const image = readFileSync(memory);
    const places = usedPlaces(image).filter((at) => at < 0x4000 || image.readUInt32LE(at) !== 0x01010101);
    await holds(
      fc.property(changes(places), (list) => readEverything(image, list)),
      rounds(300),
    );
  },
  timeout,
);

it(
  'a private front with changed words',
  async () => {
    const path = join(scratchDirectory(), 'region');
    const region = await Region.create({ path, size: 16 * 2 ** 20, bucketCount: 1024 });
    const overlay = new native.Overlay(region.mapping, null, null);
    for (let i = 0; i < 12; i++) {
      overlay.mkdir(`/d${i % 3}`, 0o755, 0, 0);
      const file = overlay.open(`/d${i % 3}/f${i}`, constants.O_CREAT, 0o644, 0, 0);
      if (typeof file === 'object') overlay.writeSync(file.ino, 0, Buffer.alloc(5000, 65 + i));
    }
    overlay.unlink('/d0/f0');
    const { overlayOffset, overlayBytes } = region.header.geometry;
    const image = region.mapping.read(0, overlayOffset + overlayBytes);
    overlay.close();
    await region.close();
    // File bytes hold nothing that is followed.
    const places = usedPlaces(image).filter(
      (at) => at < 4096 || !/^(..)\1{3}$/.test(image.toString('hex', at, at + 4)),
    );
    await holds(
      fc.property(changes(places), (list) => readEverything(image, list)),
      rounds(200),
    );
  },
  timeout,
);

it(
  'every byte of the headers, each of the values that break arithmetic',
  () => {
    const { image, overlayAt } = buildExample();
    const at = [...Array(116).keys(), ...Array.from({ length: 80 }, (_, i) => overlayAt + i)];
    for (const offset of at) {
      for (const value of [0x00, 0x7f, 0x80, 0xff]) {
        const copy = Buffer.from(image);
        copy[offset] = value;
        readEverything(copy);
      }
    }
  },
  timeout,
);

it('blocks of one byte, and a free list of them', () => {
  const { image, overlayAt } = buildExample();
  image.writeUInt32LE(1, 8);
  image.writeBigUInt64LE(7n, overlayAt + 56);
  readEverything(image);
  expect(validateFront(bufferSource(image)).findings.map(({ rule }) => rule)).toEqual(['OVERLAY_PLACE']);
});

it('all buckets lead to one name, all lists to one chain', () => {
  const { image, bucketsAt, poolAt } = buildExample();
  for (let i = 0; i < 1024; i++) {
    image.writeBigUInt64LE((((BigInt(i) << 20n) | 0xffffen) << 1n) | 1n, bucketsAt + i * 16);
    image.writeBigUInt64LE(8528n, bucketsAt + i * 16 + 8);
  }
  image.writeBigUInt64LE(8224n, poolAt + 8224 + 40);
  readEverything(image);
  for (let i = 0; i < 1024; i++) image.writeBigUInt64LE(8224n, bucketsAt + i * 16 + 8);
  readEverything(image);
});

it(
  'random bytes, and truncated images',
  async () => {
    const { image } = buildExample();
    await holds(
      fc.property(fc.uint8Array({ maxLength: 8192 }), (bytes) => readEverything(Buffer.from(bytes))),
      rounds(100),
    );
    await holds(
      fc.property(fc.nat(image.length), (length) => readEverything(image.subarray(0, length))),
      rounds(100),
    );
  },
  timeout,
);
