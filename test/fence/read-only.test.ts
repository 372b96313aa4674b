/** Goal: a worker cannot write through what it was given. Method: attacker.py tries every way, as root and as another user. */
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Region } from '../../daxfs/region.ts';
import { BACKING_NAMES, cannotHave, isRoot, type Place, placeOn } from '../support/backings.ts';
import { attack } from './worker.ts';

const MiB = 2 ** 20;
const size = 16 * MiB;
const nobody = 65534;

for (const name of BACKING_NAMES) {
  describe.skipIf(cannotHave(name))(`read-only on ${name}`, () => {
    let place: Place;
    let region: Region;
    let lease: number;

    beforeEach(async () => {
      place = await placeOn(name, size);
      region = await Region.create({ ...place.request, size });
      lease = region.fence.openLease([{ offset: region.chunkOffset(0), length: region.chunkBytes }]);
    });
    afterEach(async () => {
      closeSync(lease);
      region.close();
      await place.dispose();
    });

    it('says honestly how strong it is', () => {
      const { strength, reason } = region.info().readOnly;
      const enforced = isRoot && !name.startsWith('memfd');
      expect(strength).toBe(enforced ? 'enforced' : 'advisory');
      if (enforced) expect(reason).toBeNull();
      else expect(reason).toMatch(/^advisory for root and same-uid workers: /);
    });

    it.skipIf(!isRoot)('another user reads, and cannot get to write', () => {
      const tries = attack(lease, 4 * MiB, nobody);
      expect(tries.read).toBe('ok');
      const { read: _, ...others } = tries;
      for (const [what, result] of Object.entries(others)) expect([what, result]).not.toEqual([what, 'ok']);
    });

    it.skipIf(!isRoot || name.startsWith('memfd'))('root cannot either, where it is enforced', () => {
      const tries = attack(lease, 4 * MiB);
      expect(tries).toMatchObject({ read: 'ok', reopen: 'EROFS', remount: 'EINVAL', clone: 'EINVAL' });
      expect(tries['reopen-again']).toBe('EROFS');
      expect(tries.chmod).toBe('EROFS');
      for (const what of ['write', 'map-writable', 'truncate']) expect([what, tries[what]]).not.toEqual([what, 'ok']);
    });
  });
}
