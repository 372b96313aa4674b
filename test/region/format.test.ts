/** Goal: the region's bytes are what FORMAT.md says, and no number in them is trusted. Method: golden fields, then mutation. */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { decode, offsetOf } from '../../daxfs/codec.ts';
import { DaxfsError } from '../../daxfs/errors.ts';
import { bucket, locator, overlayHeader, overlayInode, registryHeader, superblock } from '../../daxfs/layout.ts';
import { homeBucket, inodeKey } from '../../daxfs/overlay-key.ts';
import { Region } from '../../daxfs/region.ts';
import { computeGeometry, isValidInput, planGeometry } from '../../daxfs/region-layout.ts';
import { native } from '../../native/index.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { seed } from '../support/seed.ts';

const MiB = 2 ** 20;
const size = 8 * MiB;
let path: string;

beforeEach(() => {
  path = join(scratchDirectory(), 'region');
});

describe('the front of a new region', () => {
  for (const kernelMountable of [true, false]) {
    it(`is an empty v8 filesystem, ${kernelMountable ? 'plain' : 'private'}`, async () => {
      const region = await Region.create({ path, size, kernelMountable });
      const bytes = readFileSync(path);
      const front = decode(superblock, bytes);
      expect(front).toMatchObject({
        magic: 0x64617835,
        version: kernelMountable ? 8 : 0x40000008,
        block_size: 4096,
        base_offset: 0n,
        inode_count: 0,
        root_inode: 1,
        overlay_offset: 4096n,
        pcache_offset: 0n,
      });
      const overlay = Number(front.overlay_offset);
      const header = decode(overlayHeader, bytes, overlay);
      const none = 0xffff_ffff_ffff_ffffn;
      expect(header).toMatchObject({
        magic: 0x6f766c79,
        version: 2,
        bucket_offset: 4096n,
        pool_alloc: 32n,
        next_ino: 2n,
      });
      expect([header.free_inode, header.free_data, header.free_dirent]).toEqual([none, none, none]);
      const root = decode(overlayInode, bytes, overlay + Number(header.pool_offset));
      expect(root).toMatchObject({ type: 1, mode: 0o040755, nlink: 2 });
      const count = front.overlay_bucket_count;
      const home = Number(homeBucket(kernelMountable ? 'kernel' : 'private', inodeKey(1n), BigInt(count - 1)));
      if (kernelMountable) expect(home).toBe(count - 1);
      const cell = decode(bucket, bytes, overlay + 4096 + home * bucket.size);
      expect(cell.state_key).toBe((((1n << 20n) | 0xfffffn) << 1n) | 1n);
      if (kernelMountable) expect(cell.value).toBe(0n);
      expect(front.total_size).toBe(BigInt(region.registryOffset));
      region.close();
    });
  }

  it('has two equal headers and two equal locators, and the native registry reads it', async () => {
    const region = await Region.create({ path, size });
    const bytes = readFileSync(path);
    const at = region.registryOffset;
    expect(bytes.subarray(at, at + 4096).equals(bytes.subarray(at + 4096, at + 8192))).toBe(true);
    const head = bytes.subarray(offsetOf(superblock, 'locator'), 4096);
    expect(head.equals(bytes.subarray(size - locator.size))).toBe(true);
    const registry = new native.Registry(region.mapping, at);
    expect(registry.chunkStats()).toMatchObject({ total: region.chunkCount, free: region.chunkCount });
    expect(registry.stampContents()).toHaveLength(0);
    expect(registry.listHosts()).toEqual([]);
    region.close();
  });
});

describe('geometry', () => {
  const inputs = fc.record({
    regionBytes: fc.integer({ min: 2, max: 2 ** 22 }).map((n) => n * 4096),
    contents: fc.integer({ min: 1, max: 2 ** 20 - 1 }),
    names: fc.integer({ min: 0, max: 20 }).map((n) => 2 ** n),
    intents: fc.integer({ min: 1, max: 4096 }),
    bucketCount: fc.integer({ min: 0, max: 20 }).map((n) => 2 ** n),
    poolBytes: fc.integer({ min: 1, max: 2 ** 16 }).map((n) => n * 4096),
    pageCacheSlots: fc.constantFrom(0, 16, 1024),
  });

  it('lays every part after the one before, inside the region', () => {
    fc.assert(
      fc.property(inputs, (input) => {
        fc.pre(isValidInput(input));
        const g = computeGeometry(input);
        if (!g) return;
        const starts = [0, g.overlayOffset, g.overlayOffset + g.overlayBytes + g.pageCacheBytes, g.registryOffset];
        expect(starts[2]).toBe(g.registryOffset);
        const tables = [
          0,
          g.stateOffset,
          g.hostsOffset,
          g.contentsOffset,
          g.namesOffset,
          g.intentsOffset,
          g.wordsOffset,
        ];
        for (let i = 1; i < tables.length; i++) expect(tables[i]! - tables[i - 1]!).toBeGreaterThan(0);
        expect(g.registryOffset + g.wordsOffset + g.chunkCount * 8).toBeLessThanOrEqual(g.chunksOffset);
        expect(g.chunksOffset % (2 * MiB)).toBe(0);
        expect(g.chunksOffset + g.chunkCount * 2 * MiB).toBeLessThanOrEqual(g.regionBytes - 4096);
        // No chunk more would fit.
        expect(g.chunksOffset + (g.chunkCount + 2) * 2 * MiB).toBeGreaterThan(g.regionBytes - 4096);
      }),
      { seed },
    );
  });

  it('plans every size from the smallest on, and grows with it', () => {
    for (const bytes of [8, 9, 16, 64, 100, 1024, 65536, 2 ** 20, 2 ** 24].map((n) => n * MiB)) {
      const g = planGeometry({ regionBytes: bytes });
      expect(g.chunkCount * 2 * MiB).toBeGreaterThan(bytes * 0.4);
      expect(g.names).toBeGreaterThanOrEqual(4 * g.contents);
    }
  });
});

describe('nothing in a region is trusted', () => {
  it('a changed header byte is healed by the copy, refused, or one of the few that carry no offset', async () => {
    (await Region.create({ path, size })).close();
    const pristine = readFileSync(path);
    const at = (await Region.open({ path })).registryOffset;
    const spots = fc.oneof(
      fc.integer({ min: 0, max: 127 }),
      fc.integer({ min: offsetOf(superblock, 'locator'), max: 4095 }),
      fc.integer({ min: at, max: at + 170 }),
    );
    await fc.assert(
      fc.asyncProperty(spots, fc.integer({ min: 1, max: 255 }), async (offset, flip) => {
        const changed = Buffer.from(pristine.subarray(0, at + 4096));
        changed[offset]! ^= flip;
        const fd = openSync(path, 'r+');
        writeSync(fd, changed, 0, changed.length, 0);
        closeSync(fd);
        const region = await Region.open({ path }).catch((error: unknown) => error);
        if (region instanceof Region) {
          expect(region.header.geometry.regionBytes).toBe(size);
          expect(region.header.geometry.registryOffset).toBe(at);
          region.close();
        } else expect(region).toBeInstanceOf(DaxfsError);
      }),
      { seed, numRuns: 150 },
    );
  });

  it('a header with a good checksum and impossible numbers is refused', async () => {
    const region = await Region.create({ path, size });
    const at = region.registryOffset;
    const lies: [Parameters<typeof offsetOf<typeof registryHeader>>[1], bigint][] = [
      ['chunk_count', 1_000_000n],
      ['chunks_offset', 4096n],
      ['words_offset', 0n],
      ['hosts_offset', 0xffff_ffff_ffff_f000n],
      ['region_size', 1n << 60n],
      ['registry_offset', 0n],
    ];
    for (const [name, value] of lies) {
      const saved = region.mapping.read(at, 8192);
      for (const copy of [at, at + 4096]) {
        const field = Buffer.alloc(8);
        field.writeBigUInt64LE(value);
        region.mapping.write(copy + offsetOf(registryHeader, name), field);
        region.mapping.store64(copy + 4088, region.mapping.xxh3(copy, 4088));
      }
      await expect(Region.open({ path }), name).rejects.toMatchObject({ code: 'DAXFS_CORRUPT' });
      region.mapping.write(at, saved);
    }
    (await Region.open({ path })).close();
    region.close();
  });

  it('a locator that points anywhere is refused', async () => {
    (await Region.create({ path, size })).close();
    const pristine = readFileSync(path);
    for (const value of [0n, 1n, 4096n, BigInt(size), (1n << 63n) + 4096n]) {
      const changed = Buffer.from(pristine);
      changed.writeBigUInt64LE(value, offsetOf(superblock, 'locator') + offsetOf(locator, 'registry_offset'));
      writeFileSync(path, changed);
      await expect(Region.open({ path })).rejects.toMatchObject({ code: 'DAXFS_CORRUPT' });
    }
  });
});
