/**
 * Goal: what is shown of the front is what lies there, and every damage found is counted once.
 * Method: both kinds of front, compared with the inspecting reader; a row and the bytes of a load damaged in a real region.
 */
import { rmSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { mappingSource } from '../../daxfs/byte-source.ts';
import { offsetOf } from '../../daxfs/codec.ts';
import { FrontUse } from '../../daxfs/front-use.ts';
import { openRegion } from '../../daxfs/index.ts';
import { contentRow, overlayHeader } from '../../daxfs/layout.ts';
import { OverlayReader, readSuperblock } from '../../daxfs/overlay-read.ts';
import { regionView } from '../../server/region-view.ts';
import { TestStore } from '../support/store.ts';
import { testDeps } from '../support/web.ts';

const MiB = 2 ** 20;

test.each([true, false])('front use, kernel-mountable: %s', async (kernelMountable) => {
  const path = `/dev/shm/daxserve-front-use-${process.pid}-${kernelMountable}`;
  const opened = await openRegion(path, { create: true, size: 16 * MiB, kernelMountable });
  onTestFinished(async () => {
    await opened.close();
    rmSync(path);
  });
  const region = opened.region!;
  for (let i = 0; i < 60; i++) await opened.fs.writeFile(`/${i}`, Buffer.alloc(5000, i));
  for (let i = 0; i < 20; i++) await opened.fs.rm(`/${i}`);
  const source = mappingSource(region.mapping, 0, region.sizeBytes);
  const { table, place } = new OverlayReader(source, readSuperblock(source));
  const front = new FrontUse(region);
  const [first, again] = [front.bucketsUsed(), front.bucketsUsed()];
  // One count for both.
  expect(again).toBe(first);
  expect(await first).toBe([...table.buckets()].length);
  expect(await first).toBeGreaterThan(120);
  expect(front.pool()).toEqual({ bytes: place.poolBytes, usedBytes: Number(place.header.pool_alloc) });
  // A front that nobody can open is no trouble for who asks about the rest.
  const { overlayOffset } = region.header.geometry;
  region.mapping.write(overlayOffset + offsetOf(overlayHeader, 'pool_alloc'), Buffer.alloc(8, 0xff));
  expect(front.pool()?.usedBytes).toBe(place.poolBytes);
  region.mapping.write(overlayOffset + offsetOf(overlayHeader, 'magic'), Buffer.alloc(4));
  expect([front.pool(), await new FrontUse(region).bucketsUsed()]).toEqual([undefined, undefined]);
});

async function opened() {
  const t = await TestStore.open();
  onTestFinished(() => t.dispose());
  const { metrics } = testDeps({ ...t.opened, region: regionView(t.region, t.opened.registry) });
  const value = async (name: string) => {
    const line = (await metrics.scrape()).split('\n').find((text) => text.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.slice(name.length));
  };
  return { t, value };
}

test('the front in a scrape', async () => {
  const { t, value } = await opened();
  const { sizeBytes, poolBytes } = t.region.info().front;
  const pool = await value('daxserve_overlay_pool_used_bytes');
  expect(await value('daxserve_overlay_used_buckets')).toBe(1);
  expect(pool).toBeGreaterThan(0);
  expect(await value('daxserve_region_bytes{area="front"}')).toBe(sizeBytes);
  expect(await value('daxserve_region_used_bytes{area="front"}')).toBe(sizeBytes - poolBytes + pool!);
});

test('a row with a wrong checksum counts once, whoever finds it', async () => {
  const { t, value } = await opened();
  const checksums = () => value('daxserve_checksum_failures_total');
  await t.store.load({ source: t.model('a', 2), name: 'a' });
  await t.store.settled('a');
  expect(await checksums()).toBe(0);
  const { index } = t.opened.registry.contents()[0]!;
  const { registryOffset, contentsOffset } = t.region.header.geometry;
  const row = registryOffset + contentsOffset + index * contentRow.size;
  t.region.mapping.write(row + offsetOf(contentRow, 'digest'), Buffer.alloc(8, 0xff));
  expect((await t.store.get('a')).state).toBe('quarantined');
  // Another word of the row changes, so that lists read it anew.
  t.opened.registry.touch(index, Date.now());
  await t.sweeps(2);
  await t.store.get('a');
  expect([await checksums(), await checksums()]).toEqual([1, 1]);
});

test('a load that reads back other bytes than it wrote counts', async () => {
  const { t, value } = await opened();
  // The phase that has ended: the bytes are written, and not read back yet.
  t.store.onEvent((event) => {
    if (event.type !== 'phase' || event.phase !== 'copying') return;
    for (let i = 0; i < t.region.chunkCount; i++)
      t.region.mapping.write(t.region.chunkOffset(i) + MiB, Buffer.from('x'));
  });
  await t.store.load({ source: t.model('a', 8), name: 'a', verify: true });
  expect((await t.store.settled('a')).error?.code).toBe('INGEST_VERIFY_FAILED');
  expect(await value('daxserve_checksum_failures_total')).toBe(1);
});
