/** Goal: the registry's TypeScript face: what it says, what it refuses, what it makes of damage. Method: real regions in /dev/shm. */
import { beforeEach, describe, expect, it } from 'vitest';
import { offsetOf } from '../../daxfs/codec.ts';
import { DaxfsError, deleteRegion, isHostDead, Region, Registry } from '../../daxfs/index.ts';
import { contentRow, hostRow, registryHeader } from '../../daxfs/layout.ts';
import { seed } from '../support/seed.ts';
import { type Attached, attachTo, createRegion, fieldsOf, keyOf, publishOne } from './region-of.ts';

let path: string;
let one: Attached;
let two: Attached;

beforeEach(async () => {
  path = await createRegion();
  one = await attachTo(path, 'one');
  two = await attachTo(path, 'two');
});

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'none';
  } catch (error) {
    expect(error).toBeInstanceOf(DaxfsError);
    return (error as DaxfsError).code;
  }
}

/** Offset of a content row in the region. */
function rowOffset(index: number): number {
  const { registryOffset, contentsOffset } = one.region.header.geometry;
  return registryOffset + contentsOffset + index * contentRow.size;
}

describe('contents', () => {
  it('go from claimed to free, seen by the other host', () => {
    const claim = one.registry.claim(keyOf(7));
    expect(claim).toMatchObject({ outcome: 'claimed' });
    if (claim.outcome !== 'claimed') return;
    expect(two.registry.claim(keyOf(7))).toEqual({ ...claim, outcome: 'exists' });
    one.registry.setBytesDone(claim, 500);
    expect(two.registry.content(claim.index)).toMatchObject({
      state: 'loading',
      sourceKey: keyOf(7).toString('hex'),
      claimHost: { index: one.registry.hostIndex },
      bytesDone: 500,
      digest: null,
      images: [],
    });
    const first = one.registry.allocateRun(3, claim);
    expect(one.registry.chunk(first)).toMatchObject({ state: 'claimed', content: claim.index });
    expect(one.registry.publish(claim, fieldsOf(first, 3), true)).toBe(true);
    const ready = two.registry.content(claim.index);
    expect(ready).toEqual({
      index: claim.index,
      generation: claim.generation,
      state: 'ready',
      claimHost: null,
      mask: one.registry.hostBit,
      sourceKey: keyOf(7).toString('hex'),
      digest: 'd1'.repeat(32),
      bytes: 1000,
      bytesDone: 1000,
      createdAtMs: 1_700_000_000_000,
      readyAtMs: 1_700_000_002_500,
      lastAccessMs: 1_700_000_002_500,
      loadMs: 2500,
      fileCount: 2,
      tensorCount: 3,
      images: [{ firstChunk: first, chunkCount: 3, bytes: 4096 }],
      keep: false,
      placement: 'resident',
      format: 1,
      revision: 'main',
    });
    expect(one.registry.chunk(first)).toMatchObject({ state: 'used', contentGeneration: claim.generation });
    expect(two.registry.pin(claim)).toBe(true);
    expect(two.registry.drain(claim)).toBe(true);
    expect(two.registry.pin(claim)).toBe(false);
    expect(two.registry.free(claim)).toBe(false);
    one.registry.unpin(claim);
    two.registry.unpin(claim);
    expect(two.registry.free(claim)).toBe(true);
    expect(one.registry.content(claim.index)).toBeUndefined();
    expect(one.registry.chunkStats()).toMatchObject({ used: 0, free: one.region.chunkCount });
    expect(one.registry.claim(keyOf(7))).toMatchObject({ outcome: 'claimed', generation: claim.generation + 1 });
  });

  it('are given back when abandoned, and refused when the table is full', () => {
    const rows = Array.from({ length: 16 }, (_, n) => one.registry.claim(keyOf(n)));
    expect(two.registry.claim(keyOf(99))).toEqual({ outcome: 'full' });
    for (const row of rows) if (row.outcome !== 'full') one.registry.allocateRun(1, row);
    // The region has fewer chunks than rows asked for, or just as many: whatever was claimed comes back.
    for (const row of rows) if (row.outcome !== 'full') one.registry.abandon(row);
    expect(one.registry.contents()).toEqual([]);
    expect(one.registry.chunkStats().free).toBe(one.region.chunkCount);
    expect(two.registry.claim(keyOf(99)).outcome).toBe('claimed');
  });

  it('keep, access time and quarantine', () => {
    const ref = publishOne(one, 1);
    expect(two.registry.setKeep(ref, true)).toBe(true);
    two.registry.touch(ref.index, 1_800_000_000_000);
    expect(one.registry.content(ref.index)).toMatchObject({ keep: true, lastAccessMs: 1_800_000_000_000 });
    expect(one.registry.content(ref.index)?.corrupt).toBeUndefined();
    expect(two.registry.quarantine(ref)).toBe(true);
    expect(one.registry.pin(ref)).toBe(false);
    expect(one.registry.content(ref.index)).toMatchObject({ state: 'quarantined', digest: 'd1'.repeat(32) });
  });

  it('refuse fields that a row cannot hold, and references of another use of the row', () => {
    const ref = publishOne(one, 1);
    const stale = { ...ref, generation: ref.generation + 1 };
    expect([one.registry.pin(stale), one.registry.drain(stale), one.registry.free(stale)]).toEqual([
      false,
      false,
      false,
    ]);
    expect(() => one.registry.publish(ref, fieldsOf(0, 1, { digest: 'abc' }))).toThrow(RangeError);
    expect(() => one.registry.publish(ref, fieldsOf(0, 1, { images: [] }))).toThrow(RangeError);
    expect(() => one.registry.publish(ref, fieldsOf(0, 1, { revision: 'x'.repeat(97) }))).toThrow(RangeError);
    expect(() => one.registry.content(16)).toThrow(RangeError);
    expect(() => one.registry.claim(Buffer.alloc(15))).toThrow(RangeError);
    expect(() => one.registry.chunk(one.region.chunkCount)).toThrow(RangeError);
    expect(one.registry.publish(ref, fieldsOf(0, 1))).toBe(false);
  });
});

describe('damage', () => {
  const broken: [string, keyof typeof at, (row: Buffer) => void][] = [
    ['the checksum does not match', 'digest', (row) => row.writeUInt8(row.readUInt8(at.digest) ^ 1, at.digest)],
    ['the checksum does not match', 'images', (row) => row.writeUInt32LE(0xffffffff, at.images)],
    ['the row was left half written', 'sequence', (row) => row.writeUInt8(row.readUInt8(at.sequence) | 1, at.sequence)],
  ];
  const at = {
    digest: offsetOf(contentRow, 'digest'),
    images: offsetOf(contentRow, 'images'),
    sequence: offsetOf(contentRow, 'sequence'),
  };

  it.each(broken)('%s: reported and fenced (%s)', (message, _field, damage) => {
    const ref = publishOne(one, 1);
    const row = one.region.mapping.read(rowOffset(ref.index), contentRow.size);
    damage(row);
    one.region.mapping.write(rowOffset(ref.index), row);
    expect(two.registry.content(ref.index)).toMatchObject({ corrupt: message, images: [], digest: null });
  });

  it('of any one byte of a row is reported or changes no fact', () => {
    const ref = publishOne(one, 1);
    const offset = rowOffset(ref.index);
    const good = one.region.mapping.read(offset, contentRow.size);
    const facts = two.registry.content(ref.index);
    const volatile = { state: '', mask: 0, claimHost: null, generation: 0, bytesDone: 0, lastAccessMs: 0, keep: false };
    for (let i = 0; i < contentRow.size; i += 1) {
      const row = Buffer.from(good);
      row.writeUInt8(row.readUInt8(i) ^ (1 << ((seed + i) % 8)), i);
      one.region.mapping.write(offset, row);
      const content = two.registry.content(ref.index);
      if (content === undefined || content.corrupt !== undefined || content.digest === null) continue;
      expect({ ...content, ...volatile, sourceKey: '' }, `DAXSERVE_SEED=${seed}, byte ${i}`).toEqual({
        ...facts,
        ...volatile,
        sourceKey: '',
      });
    }
  });

  it('of the header: the second copy serves, then nothing does', async () => {
    const at = one.region.header.geometry.registryOffset;
    one.region.mapping.write(at + 64, Buffer.alloc(8, 0xff));
    expect(new Registry(one.region).hosts()).toHaveLength(2);
    one.region.mapping.write(at + registryHeader.size + 64, Buffer.alloc(8, 0xff));
    expect(codeOf(() => new Registry(one.region))).toBe('DAXFS_CORRUPT');
  });

  it('of words: no index is followed outside the tables', () => {
    const { registryOffset, contentsOffset, namesOffset, hostsOffset, wordsOffset } = one.region.header.geometry;
    for (const [offset, length] of [
      [contentsOffset, 16 * contentRow.size],
      [namesOffset, 64 * 256],
      [wordsOffset, one.region.chunkCount * 8],
      [hostsOffset + 2 * hostRow.size, 13 * hostRow.size],
    ] as const) {
      let state = seed | 1;
      const noise = Buffer.from(
        Array.from({ length }, () => {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          return state >>> 24;
        }),
      );
      one.region.mapping.write(registryOffset + offset, noise);
    }
    for (const content of one.registry.contents()) expect(content.images.length === 0 || !content.corrupt).toBe(true);
    one.registry.names();
    one.registry.hosts();
    one.registry.chunkStats();
    one.registry.findName('a');
    one.registry.recentNamed('a');
    one.registry.claim(keyOf(1));
    one.registry.setName('a', { index: 3, generation: 0 });
    for (let row = 0; row < 15; row += 1) if (row !== one.registry.hostIndex) one.registry.recover(row);
  });
});

describe('names', () => {
  it('move by expectation, and point to nothing when the content is gone', () => {
    const [a, b] = [publishOne(one, 1), publishOne(one, 2)];
    expect(one.registry.setName('org/m:latest', a, null)).toEqual({ outcome: 'set', previous: null });
    expect(two.registry.setName('org/m:latest', b, null)).toEqual({ outcome: 'conflict', current: a });
    expect(two.registry.setName('org/m:latest', b, a)).toEqual({ outcome: 'set', previous: a });
    expect(two.registry.setName('org/n:latest', a)).toEqual({ outcome: 'set', previous: null });
    expect(one.registry.findName('org/m:latest')).toEqual(b);
    expect(one.registry.findName('org/m')).toBeNull();
    expect(one.registry.names()).toEqual([
      { name: 'org/m:latest', target: b },
      { name: 'org/n:latest', target: a },
    ]);
    one.registry.drain(b);
    expect(one.registry.free(b)).toBe(true);
    expect(one.registry.findName('org/m:latest')).toBeNull();
    expect(one.registry.setName('org/m:latest', a, null)).toEqual({ outcome: 'set', previous: null });
    expect(one.registry.setName('org/m:latest', null, a)).toEqual({ outcome: 'set', previous: a });
    expect(one.registry.setName('never:set', null)).toEqual({ outcome: 'set', previous: null });
    expect(one.registry.names()).toHaveLength(1);
  });

  it('come and go without end in the buckets that there are, and lists follow', () => {
    const a = publishOne(one, 1);
    const { names } = one.region.header.geometry;
    const held: string[] = [];
    for (let i = 0; i < 5 * names; i++) {
      const name = `n${i}:latest`;
      expect(one.registry.setName(name, a, null)).toEqual({ outcome: 'set', previous: null });
      held.push(name);
      if (held.length <= names / 2) continue;
      expect(two.registry.setName(held.shift()!, null, a)).toEqual({ outcome: 'set', previous: a });
      expect(two.registry.names().map(({ name: listed }) => listed)).toEqual([...held].sort());
      expect(two.registry.findName(name)).toEqual(a);
    }
  });

  it('give the same object while its row has not changed, and another when it has or the name moves', () => {
    const [a, b] = [publishOne(one, 1), publishOne(one, 2)];
    one.registry.setName('org/m:latest', a);
    const first = two.registry.recentNamed('org/m:latest');
    expect(first).toEqual(two.registry.content(a.index));
    expect(two.registry.recentNamed('org/m:latest')).toBe(first);
    one.registry.touch(a.index, 1_700_000_000_000);
    expect(two.registry.recentNamed('org/m:latest')).toMatchObject({ ...a, lastAccessMs: 1_700_000_000_000 });
    one.registry.setName('org/m:latest', b);
    expect(two.registry.recentNamed('org/m:latest')).toMatchObject({ ...b, state: 'ready' });
    one.registry.drain(b);
    expect(two.registry.recentNamed('org/m:latest')).toMatchObject({ ...b, state: 'draining' });
    one.registry.free(b);
    expect(two.registry.recentNamed('org/m:latest')).toBeUndefined();
    const others = Array.from({ length: 15 }, (_, i) => one.registry.claim(keyOf(3 + i)));
    expect(others).toContainEqual(expect.objectContaining({ index: b.index, outcome: 'claimed' }));
    expect(two.registry.recentNamed('org/m:latest')).toBeUndefined();
    expect(two.registry.recentNamed('no/such:name')).toBeUndefined();
    expect(() => two.registry.recentNamed('x'.repeat(195))).toThrow(RangeError);
  });

  it('fill the table, and are 1 to 194 bytes', () => {
    const target = publishOne(one, 1);
    const outcomes = Array.from({ length: 65 }, (_, i) => one.registry.setName(`m${i}:t`, target).outcome);
    expect(outcomes.filter((outcome) => outcome === 'set')).toHaveLength(64);
    expect(outcomes.at(-1)).toBe('full');
    expect(one.registry.setName('m0:t', null).outcome).toBe('set');
    expect(() => one.registry.setName('', target)).toThrow(RangeError);
    expect(() => one.registry.setName('x'.repeat(195), target)).toThrow(RangeError);
  });
});

describe('hosts', () => {
  it('beat, lapse, are undone and succeeded', async () => {
    const [first] = two.registry.hosts();
    expect(first).toMatchObject({ index: 0, state: 'live', name: 'one', pid: process.pid });
    const before = first!.heartbeat;
    while (two.registry.hosts()[0]!.heartbeat === before) await new Promise((resolve) => setTimeout(resolve, 20));
    const loading = one.registry.claim(keyOf(5));
    if (loading.outcome !== 'claimed') throw new Error(loading.outcome);
    expect(one.registry.allocateRun(2, loading)).toBeGreaterThanOrEqual(0);
    expect(isHostDead(two.region, first!)).toBe(false);
    expect(two.registry.lapse(first!)).toBe(true);
    expect(one.registry.stillAttached()).toBe(false);
    expect(codeOf(() => one.registry.claim(keyOf(6)))).toBe('DAXFS_HOST_LOST');
    // It may only be paused: what it was writing is set aside.
    expect(two.registry.recover(0, 'lapsed')).toEqual({ contents: 1, chunks: 2, names: 0, pins: 0 });
    expect(two.registry.chunkStats()).toMatchObject({ quarantined: 2 });
    expect(two.registry.hosts()[0]).toMatchObject({ state: 'lapsed' });
    one.unlock();
    expect(isHostDead(two.region, first!)).toBe(true);
    const again = await attachTo(path, 'one');
    expect(again.registry.hostIndex).toBe(0);
    expect(again.recovered).toEqual({ contents: 1, chunks: 2, names: 0, pins: 0 });
    expect(two.registry.chunkStats()).toMatchObject({ quarantined: 0, free: two.region.chunkCount });
  });

  it('leave a free row, or a lapsed one while they pin', () => {
    const ref = publishOne(one, 1);
    expect(one.registry.pin(ref)).toBe(true);
    one.registry.detach();
    one.registry.detach();
    expect(one.registry.hostBit).toBe(0);
    expect(two.registry.hosts().map(({ name, state }) => [name, state])).toEqual([
      ['one', 'lapsed'],
      ['two', 'live'],
    ]);
    two.registry.clearHostBit(ref.index, 0);
    two.registry.recover(0);
    expect(two.registry.hosts()).toHaveLength(1);
    two.registry.detach();
    expect(two.registry.hosts()).toHaveLength(0);
  });

  it('that are not attached may look and change nothing', async () => {
    const ref = publishOne(one, 1);
    const region = await Region.open({ path });
    const onlooker = new Registry(region);
    expect(onlooker.contents()).toHaveLength(1);
    expect(codeOf(() => onlooker.pin(ref))).toBe('DAXFS_HOST_LOST');
    expect(codeOf(() => onlooker.setName('a:b', ref))).toBe('DAXFS_HOST_LOST');
    region.close();
    expect(codeOf(() => onlooker.contents())).toBe('DAXFS_CLOSED');
  });
});

it('every call on a closed region says so, heartbeat and all', () => {
  const { registry, region } = one;
  const ref = { index: 0, generation: 0 };
  region.close();
  const calls: (() => unknown)[] = [
    () => registry.stillAttached(),
    () => registry.hosts(),
    () => registry.lapse(ref),
    () => registry.recover(1),
    () => registry.clearHostBit(0, 0),
    () => registry.claim(keyOf(1)),
    () => registry.publish(ref, fieldsOf(0, 1)),
    () => registry.abandon(ref),
    () => registry.pin(ref),
    () => registry.unpin(ref),
    () => registry.drain(ref),
    () => registry.free(ref),
    () => registry.quarantine(ref),
    () => registry.content(0),
    () => registry.contents(),
    () => registry.setBytesDone(ref, 1),
    () => registry.touch(0, 1),
    () => registry.setKeep(ref, true),
    () => registry.allocateRun(1, ref),
    () => registry.chunkStats(),
    () => registry.chunk(0),
    () => registry.setName('a', null),
    () => registry.findName('a'),
    () => registry.recentNamed('a'),
    () => registry.names(),
    () => registry.detach(),
  ];
  for (const call of calls) expect(codeOf(call), call.toString()).toBe('DAXFS_CLOSED');
});

it('a closed region is let go at once, though its registry is still referred to', async () => {
  for (const { registry, region, unlock } of [one, two]) {
    registry.detach();
    unlock();
    region.close();
  }
  await deleteRegion({ path });
  expect(codeOf(() => one.registry.hosts())).toBe('DAXFS_CLOSED');
});
