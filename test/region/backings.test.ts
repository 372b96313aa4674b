/** Goal: create, open, adopt and delete work on every backing. Method: the real thing on each that this machine has. */
import { existsSync, fstatSync, statSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Region } from '../../daxfs/region.ts';
import { deleteRegion } from '../../daxfs/region-create.ts';
import { BACKING_NAMES, cannotHave, type Place, placeOn } from '../support/backings.ts';

const MiB = 2 ** 20;
const size = 32 * MiB;

for (const name of BACKING_NAMES) {
  describe.skipIf(cannotHave(name))(`region on ${name}`, () => {
    let place: Place;
    const open: Region[] = [];
    const keep = (region: Region) => {
      open.push(region);
      return region;
    };

    beforeEach(async () => {
      place = await placeOn(name, size);
    });
    afterEach(async () => {
      for (const region of open.splice(0)) region.close();
      await place.dispose();
    });

    it('is created with its facts in force', async () => {
      const progress: number[] = [];
      const region = keep(
        await Region.create({ ...place.request, size, onProgress: (done) => void progress.push(done) }),
      );
      const facts = region.info();
      expect(facts).toMatchObject({ backing: place.kind, sizeBytes: size, path: place.path, kernelMountable: false });
      expect(facts.uuid).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      expect(facts.chunks.offset % facts.chunks.chunkBytes).toBe(0);
      expect(progress.at(-1)).toBe(size);
      const stat = fstatSync(region.fd);
      expect(stat.mode & 0o777).toBe(0o600);
      expect(stat.blocks * 512).toBeGreaterThanOrEqual(size);
    });

    it('uses huge pages where the backing can', async () => {
      const facts = keep(await Region.create({ ...place.request, size })).info();
      const huge = name.includes('huge');
      expect(facts.mapAlignment).toBe(name.startsWith('huge') || name.endsWith('huge pages') ? 2 * MiB : 4096);
      // Elsewhere it is the machine's setting (shmem_enabled) or the file system's choice (large folios).
      expect(huge ? [2 * MiB] : [4096, 2 * MiB]).toContain(facts.pageBytes);
    });

    it('keeps bytes and identity over close and open', async () => {
      const first = keep(await Region.create({ ...place.request, size }));
      const at = first.chunkOffset(first.chunkCount - 1);
      first.mapping.write(at, Buffer.from('the last chunk'));
      const { uuid } = first;
      first.close();
      const second = keep(await Region.open(place.request));
      expect(second.uuid).toBe(uuid);
      expect(second.mapping.read(at, 14).toString()).toBe('the last chunk');
      expect(second.header.geometry).toEqual(first.header.geometry);
    });

    it('opens for reading only without a right to write', async () => {
      keep(await Region.create({ ...place.request, size }));
      const reader = keep(await Region.open({ ...place.request, write: false }));
      expect(() => reader.mapping.write(reader.chunkOffset(0), Buffer.alloc(1))).toThrow(/read-only/);
      expect(reader.mapping.read(0, 4).readUInt32LE()).toBe(0x64617835);
    });

    it('is adopted by openOrCreate, whatever size is asked for', async () => {
      const made = await Region.openOrCreate({ ...place.request, size });
      keep(made.region);
      expect(made.created).toBe(true);
      made.region.close();
      const again = await Region.openOrCreate({ ...place.request, size: size / 2 });
      keep(again.region);
      expect(again.created).toBe(false);
      expect(again.region.uuid).toBe(made.region.uuid);
      expect(again.region.sizeBytes).toBe(size);
    });

    it('is replaced by force and by nothing else', async () => {
      const first = keep(await Region.create({ ...place.request, size }));
      first.close();
      await expect(Region.create({ ...place.request, size })).rejects.toMatchObject({ code: 'DAXFS_ALREADY_CREATED' });
      const second = keep(await Region.create({ ...place.request, size: size / 2, force: true }));
      expect(second.uuid).not.toBe(first.uuid);
      expect(second.sizeBytes).toBe(size / 2);
    });

    it('is deleted only while nobody has it open', async () => {
      const region = keep(await Region.create({ ...place.request, size }));
      await expect(deleteRegion(place.request)).rejects.toMatchObject({ code: 'DAXFS_IN_USE' });
      region.close();
      await deleteRegion(place.request);
      if (place.path !== null) expect(existsSync(place.path)).toBe(false);
      else expect(statSync(`/proc/self/fd/${place.request.fd}`).size).toBe(0);
      const code = place.path === null ? 'DAXFS_UNFINISHED' : 'DAXFS_NO_REGION';
      await expect(Region.open(place.request)).rejects.toMatchObject({ code });
    });
  });
}
