/** Goal: a sound region has no findings. Method: fresh, used, full and restarted regions, and one that changes under the check. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, onTestFinished } from 'vitest';
import { type CheckReport, checkRegion } from '../../daxfs/check/check.ts';
import { repairRegion } from '../../daxfs/check/repair.ts';
import { manifestReader } from '../../server/cli/region-check.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';
import { TestStore } from '../support/store.ts';
import { stopService } from './region-copies.ts';

let test: TestStore | undefined;
afterEach(async () => {
  await test?.dispose();
  test = undefined;
});

async function load(name: string, mib: number): Promise<void> {
  await test!.store.load({ source: test!.model(name, mib, name.length), name });
  await test!.store.settled(name);
}

function check(): Promise<CheckReport> {
  return checkRegion({ path: test!.path }, { manifest: manifestReader, digests: true });
}

it('fresh, with models, full, after a model was deleted, after a restart', async () => {
  test = await TestStore.open({ mib: 48 });
  expect(await check()).toMatchObject({ findings: [], leftovers: [], hosts: 1, contents: 0 });
  await load('a', 4);
  await load('bb', 4);
  expect(await check()).toMatchObject({ findings: [], leftovers: [], contents: 2, images: 2, names: 2 });
  await load('ccc', 24);
  await expect(
    test.store.load({ source: test.model('dddd', 24, 9), name: 'dddd' }).then(() => test!.store.settled('dddd')),
  ).resolves.toMatchObject({ state: 'failed' });
  expect((await check()).findings).toEqual([]);
  await test.store.remove('a', { drain: false });
  expect((await check()).findings).toEqual([]);
  await test.restart();
  expect(await check()).toMatchObject({ findings: [], contents: 2 });
});

it('while a service loads and deletes in a loop', async () => {
  test = await TestStore.open({ mib: 64 });
  await load('stays', 4);
  let stop = false;
  const loop = (async () => {
    for (let i = 0; !stop; i++) {
      await load(`m${i % 3}`, 4);
      await test.store.remove(`m${i % 3}`, { drain: false });
    }
  })();
  for (let i = 0; i < 6; i++) expect((await check()).findings).toEqual([]);
  stop = true;
  await loop;
});

it('repair finds nothing to do in a region that was closed in order', async () => {
  test = await TestStore.open({ mib: 48 });
  await load('a', 4);
  await stopService(test);
  const { steps, after } = await repairRegion({ path: test.path }, { manifest: manifestReader });
  expect(steps).toEqual([]);
  expect(after).toMatchObject({ sound: true, leftovers: [], contents: 1 });
  await test.restart();
});

it('from another process, while a service loads and deletes as fast as it can', async () => {
  const service = new Service({ size: '96M' });
  onTestFinished(() => service.dispose());
  await service.start();
  const sources = ['x', 'y'].map((name, seed) => {
    const path = `${service.dir}/${name}.safetensors`;
    writeSafetensors(path, matrices(4, 8 * 2 ** 20), seed + 1);
    return path;
  });
  let stop = false;
  let loads = 0;
  const loops = sources.map(async (source, i) => {
    for (; !stop; loads++) {
      await service.load(source, `m${i}`);
      await service.call('DELETE', `/models/m${i}`);
    }
  });
  const seen = [];
  while (loads < 30) {
    seen.push(await checkRegion({ path: service.region }, { manifest: manifestReader }));
    // The loops run in this process, too.
    await sleep(seen.length % 7);
  }
  stop = true;
  await Promise.all(loops);
  expect(seen.flatMap(({ findings }) => findings)).toEqual([]);
});
