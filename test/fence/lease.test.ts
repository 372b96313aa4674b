/** Goal: the kernel's lock says truly whether bytes are still mapped. Method: real workers on every backing, killed in turn. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRowLocked, tryLockAttaching } from '../../daxfs/host.ts';
import { Region } from '../../daxfs/region.ts';
import { hostRowOffset } from '../../daxfs/region-hosts.ts';
import { native } from '../../native/index.ts';
import { BACKING_NAMES, cannotHave, type Place, placeOn } from '../support/backings.ts';
import { until } from '../support/until.ts';
import { Worker } from './worker.ts';

const MiB = 2 ** 20;
const size = 16 * MiB;

/** A killed process's mappings go a moment after its parent hears of it. */
function untilFree(region: Region, offset: number, length: number): Promise<void> {
  return until(() => !region.fence.isHeld(offset, length), 'the lock went with its last mapping');
}

for (const name of BACKING_NAMES) {
  describe.skipIf(cannotHave(name))(`fence on ${name}`, () => {
    let place: Place;
    let region: Region;
    let start: number;
    let length: number;
    const workers: Worker[] = [];

    beforeEach(async () => {
      place = await placeOn(name, size);
      region = await Region.create({ ...place.request, size });
      start = region.chunkOffset(1);
      length = 2 * region.chunkBytes;
      region.mapping.write(start, Buffer.alloc(4096, 7));
    });
    afterEach(async () => {
      for (const worker of workers.splice(0)) worker.dispose();
      region.close();
      await place.dispose();
    });

    async function leasedWorker(from = region): Promise<Worker> {
      const fd = from.fence.openLease([{ offset: start, length }]);
      const worker = new Worker(fd, start, length);
      workers.push(worker);
      closeSync(fd);
      await worker.mapped();
      return worker;
    }

    it('holds the range while a worker maps it after closing every descriptor', async () => {
      const worker = await leasedWorker();
      expect(region.fence.isHeld(start, length)).toBe(true);
      expect(region.fence.isHeld(start + length - 1, 1)).toBe(true);
      expect(region.fence.tryWriteLock(start, length)).toBeNull();
      expect(region.fence.tryWriteLock(start + length - 1, 1)).toBeNull();
      await worker.kill(0);
      await untilFree(region, start, length);
      const lock = region.fence.tryWriteLock(start, length);
      expect(lock).not.toBeNull();
      lock?.release();
    });

    // docs/OPERATIONS.md, "What a worker can hold up".
    it('lets its holder lock any range for reading, and no longer than it lives', () => {
      const lease = region.fence.openLease([{ offset: start, length }]);
      const { registryOffset, stateOffset } = region.header.geometry;
      const others = [region.chunkOffset(0), hostRowOffset(region.header, 3), registryOffset + stateOffset];
      for (const offset of others) expect(native.ofdLock(lease, 'read', offset, 1)).toBe(true);
      expect(() => native.ofdLock(lease, 'write', start, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
      expect([region.fence.isHeld(others[0]!, 1), isRowLocked(region, 3), tryLockAttaching(region)]).toEqual([
        true,
        true,
        null,
      ]);
      closeSync(lease);
      expect([region.fence.isHeld(others[0]!, 1), isRowLocked(region, 3)]).toEqual([false, false]);
      tryLockAttaching(region)!.release();
    });

    it('leaves the ranges beside it alone', async () => {
      await leasedWorker();
      expect(region.fence.isHeld(region.chunkOffset(0), region.chunkBytes)).toBe(false);
      expect(region.fence.isHeld(start + length, region.chunkBytes)).toBe(false);
      const before = region.fence.tryWriteLock(region.chunkOffset(0), region.chunkBytes);
      const after = region.fence.tryWriteLock(start + length, region.chunkBytes);
      expect([before, after]).not.toContain(null);
      before?.release();
      after?.release();
    });

    it('a forked child keeps the lock alone', async () => {
      const worker = await leasedWorker();
      await worker.fork();
      await worker.kill(0);
      expect(region.fence.isHeld(start, length)).toBe(true);
      expect(await worker.sum()).toBe(7 * 4096);
      expect(region.fence.isHeld(start, length)).toBe(true);
      await worker.kill(1);
      await untilFree(region, start, length);
    });

    it('two workers hold it until the last has gone', async () => {
      const [first, second] = [await leasedWorker(), await leasedWorker()];
      await first.kill(0);
      expect(await second.sum()).toBe(7 * 4096);
      expect(region.fence.isHeld(start, length)).toBe(true);
      await second.kill(0);
      await untilFree(region, start, length);
    });

    it('no lease begins on a range that is being reused', () => {
      const lock = region.fence.tryWriteLock(start, region.chunkBytes)!;
      expect(() => region.fence.openLease([{ offset: start, length }])).toThrow(/being reused/);
      lock.release();
      closeSync(region.fence.openLease([{ offset: start, length }]));
      expect(region.fence.isHeld(start, length)).toBe(false);
    });

    it('survives the service: closed, opened again, the lock is still read off the kernel', async () => {
      const worker = await leasedWorker();
      region.close();
      region = await Region.open(place.request);
      expect(region.fence.isHeld(start, length)).toBe(true);
      await worker.kill(0);
      await untilFree(region, start, length);
    });
  });
}

describe.skipIf(cannotHave('tmpfs (/dev/shm)'))('a service that dies', () => {
  it('leaves its workers their locks', async () => {
    const place = await placeOn('tmpfs (/dev/shm)', size);
    const region = await Region.create({ ...place.request, size });
    const [start, length] = [region.chunkOffset(0), region.chunkBytes];
    const service = spawn(
      process.execPath,
      [fileURLToPath(new URL('./service.js', import.meta.url)), place.path!, String(start), String(length)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let pid = 0;
    try {
      const [data] = (await once(service.stdout, 'data')) as [Buffer];
      pid = Number(/^mapped (\d+)/.exec(String(data))?.[1]);
      service.kill('SIGKILL');
      await once(service, 'exit');
      expect(region.fence.isHeld(start, length)).toBe(true);
      process.kill(pid, 'SIGKILL');
      await untilFree(region, start, length);
    } finally {
      service.kill('SIGKILL');
      region.close();
      await place.dispose();
    }
  });
});
