/**
 * Goal: repair needs the region to itself, never frees what somebody maps, and may be killed at any step. Method: much damage
 * in one copy; a child that kills itself after each step; leases that outlive their service.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, rmSync, truncateSync } from 'node:fs';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { checkRegion } from '../../daxfs/check/check.ts';
import { usedWord } from '../../daxfs/check/check-chunks.ts';
import { repairRegion } from '../../daxfs/check/repair.ts';
import { readTables } from '../../daxfs/check/tables.ts';
import { encodeWord, offsetOf } from '../../daxfs/codec.ts';
import {
  CHUNK_STATE,
  CONTENT_STATE,
  chunkWord,
  contentRow,
  contentWord,
  HOST_STATE,
  hostWord,
  NAME_STATE,
  NO_CONTENT,
  NO_HOST,
  nameRow,
  nameWord,
  registryHeader,
} from '../../daxfs/layout.ts';
import { Region } from '../../daxfs/region.ts';
import { locatorAt } from '../../daxfs/region-format.ts';
import { native } from '../../native/index.ts';
import { manifestReader } from '../../server/cli/region-check.ts';
import { killDuringLoad } from '../support/kill-load.ts';
import { matrices, writeSafetensors } from '../support/models.ts';
import { Service } from '../support/service.ts';
import { TestStore } from '../support/store.ts';
import { makeOriginal, RegionCopy } from './region-copies.ts';

const MiB = 2 ** 20;
let original: Awaited<ReturnType<typeof makeOriginal>>;
beforeAll(async () => {
  original = await makeOriginal();
});
afterAll(() => original.remove());

function copyOf(): RegionCopy {
  const copy = new RegionCopy(original.path);
  onTestFinished(() => copy.dispose());
  return copy;
}

const contentsOf = (copy: RegionCopy) => [
  ...readTables(copy.mapping, copy.header, { locked: () => false, ownBootId: '' }).contents.values(),
];

/** Something of everything that repair mends. */
function wreck(copy: RegionCopy): void {
  const { registryOffset, tailOffset, chunkCount, names } = copy.header.geometry;
  const [first, second] = contentsOf(copy);
  const [loading, senseless, stray] = [0, 1, 2].map((i) => copy.freeContent(i)) as [number, number, number];
  copy.flip(17);
  copy.flip(locatorAt + 18);
  copy.flip(tailOffset + 3);
  copy.flip(registryOffset + registryHeader.size + 700);
  copy.mapping.store64(copy.at('host', 5), encodeWord(hostWord, { state: 7, generation: 3 }));
  copy.mapping.store64(copy.at('host', 6), encodeWord(hostWord, { state: HOST_STATE.LIVE, generation: 3 }));
  const claim = { state: CONTENT_STATE.LOADING, host: 4, host_generation: 1 };
  copy.mapping.store64(copy.at('content', loading), encodeWord(contentWord, claim));
  copy.mapping.store64(copy.at('content', senseless), encodeWord(contentWord, { state: 13 }));
  const claimed = { state: CHUNK_STATE.CLAIMED, content: loading, host: 4, host_generation: 1 };
  copy.mapping.store64(copy.at('chunk', chunkCount - 1), encodeWord(chunkWord, claimed));
  copy.mapping.store64(copy.at('chunk', chunkCount - 2), usedWord(stray, 5));
  copy.mapping.store64(copy.at('chunk', chunkCount - 3), 0x7n);
  copy.mapping.store64(copy.at('chunk', first!.content.images[0]!.firstChunk), 0n);
  copy.flip(second!.offset + offsetOf(contentRow, 'digest'));
  const half = encodeWord(nameWord, { state: NAME_STATE.CLAIMED, content: NO_CONTENT, host: NO_HOST });
  copy.mapping.store64(copy.at('name', names - 1), half);
  copy.mapping.store64(copy.at('name', names - 3) + offsetOf(nameRow, 'hash'), 12345n);
}

it('mends much damage at once; what cannot be trusted is quarantined, and dropped when asked', async () => {
  const copy = copyOf();
  wreck(copy);
  const { before, after } = await copy.repair();
  expect(before.findings.length).toBeGreaterThan(8);
  expect(after).toMatchObject({ findings: [], sound: true });
  expect(after.leftovers.map(({ code }) => code)).toContain('CONTENT_QUARANTINED');
  const dropped = await copy.repair({ dropQuarantined: true });
  expect(dropped.after).toMatchObject({ findings: [], leftovers: [], contents: 1, names: 1 });
  const region = await Region.open({ path: copy.path });
  region.close();
});

it('killed after every step and run again, it ends where one run ends', async () => {
  const whole = copyOf();
  wreck(whole);
  const { steps, after } = await whole.repair({ dropQuarantined: true });
  expect(after).toMatchObject({ findings: [], leftovers: [] });
  for (let step = 1; step <= steps.length; step++) {
    const copy = new RegionCopy(original.path);
    try {
      wreck(copy);
      const { signal, stderr } = spawnSync(process.execPath, [childPath, copy.path, String(step)], {
        encoding: 'utf8',
      });
      expect(signal, stderr).toBe('SIGKILL');
      const again = await copy.repair({ dropQuarantined: true });
      expect(again.after, `killed after step ${step}`).toMatchObject({
        findings: [],
        leftovers: [],
        contents: after.contents,
        names: after.names,
      });
    } finally {
      copy.dispose();
    }
  }
});

const childPath = new URL('./repair-child.js', import.meta.url).pathname;

it('says who has the region open, and leaves it alone', async () => {
  const test = await TestStore.open({ mib: 32 });
  onTestFinished(() => test.dispose());
  await expect(repairRegion({ path: test.path })).rejects.toMatchObject({
    code: 'DAXFS_IN_USE',
    message: expect.stringMatching(/host "first" \(process \d+\) serves it; stop that first/),
  });
  const reader = await Region.open({ path: test.path });
  await expect(repairRegion({ path: test.path })).rejects.toMatchObject({ code: 'DAXFS_IN_USE' });
  reader.close();
});

it('never frees a chunk on which a lock is held', async () => {
  const copy = copyOf();
  const { chunksOffset, chunkCount } = copy.header.geometry;
  const [, broken] = contentsOf(copy);
  const stray = chunkCount - 2;
  copy.mapping.store64(copy.at('chunk', stray), usedWord(copy.freeContent(0), 5));
  copy.flip(broken!.offset + offsetOf(contentRow, 'digest'));
  const owned = broken!.content.images[0]!.firstChunk;
  const before = [stray, owned].map((chunk) => copy.mapping.load64(copy.at('chunk', chunk)));
  const fd = openSync(copy.path, 'r');
  for (const chunk of [stray, owned]) native.ofdLock(fd, 'read', chunksOffset + chunk * 2 * MiB + 100, 1);
  const held = await copy.repair({ dropQuarantined: true });
  expect([stray, owned].map((chunk) => copy.mapping.load64(copy.at('chunk', chunk)))).toEqual(before);
  expect(held.kept).toHaveLength(2);
  expect(held.after.findings.map(({ code }) => code)).toEqual(['CHUNK_STRAY']);
  expect(held.after.leftovers.map(({ code }) => code)).toContain('CONTENT_QUARANTINED');
  closeSync(fd);
  const free = await copy.repair({ dropQuarantined: true });
  expect(free.after).toMatchObject({ findings: [], leftovers: [], contents: 1 });
  expect(copy.mapping.load64(copy.at('chunk', owned))).toBe(0n);
});

it('a region that lost its end is told apart, and not touched', async () => {
  const copy = copyOf();
  truncateSync(copy.path, 16 * MiB);
  const report = await checkRegion({ path: copy.path });
  expect(report.findings).toMatchObject([{ code: 'TRUNCATED', repairable: false }]);
  expect((await repairRegion({ path: copy.path })).steps).toEqual([]);
});

it('a region that was left by a service killed while it loaded has no findings, and is tidied', async () => {
  const service = new Service({ size: '128M' });
  onTestFinished(() => service.dispose());
  await service.start();
  const source = `${service.dir}/m.safetensors`;
  writeSafetensors(source, matrices(8, 64 * MiB), 3);
  const options = { manifest: manifestReader };
  // Until a kill has hit, however busy the machine is.
  for (let i = 0, hits = 0; i < 3 || hits === 0; i++) {
    hits += Number(await killDuringLoad(service, { source, name: 'm', chunks: 10 * (i % 3) }));
    const report = await checkRegion({ path: service.region }, options);
    expect(report).toMatchObject({ findings: [], sound: true });
    expect(report.leftovers.map(({ code }) => code)).toContain('HOST_DEAD');
    const { after } = await repairRegion({ path: service.region }, options);
    expect(after.findings).toEqual([]);
    expect(after.leftovers.filter(({ code }) => code !== 'CONTENT_NAMELESS')).toEqual([]);
    await service.start();
    // Where the load was quicker than the kill.
    await service.call('DELETE', '/models/m');
  }
  await stopAndForget(service);
});

async function stopAndForget(service: Service): Promise<void> {
  await service.stop('SIGTERM');
  rmSync(service.region, { force: true });
}
