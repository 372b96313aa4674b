/** Goal: what the commands say is so. Method: the pure parts of `serve` and `top`, without a process. */
import { expect, test } from 'vitest';
import { screenOf } from '../../server/cli/output.ts';
import { unheeded } from '../../server/cli/serve.ts';
import { loadConfig } from '../../server/config.ts';
import type { RegionInfo } from '../../server/schemas/region.ts';

const MiB = 2 ** 20;
const region = {
  size: 64 * MiB,
  chunkBytes: 2 * MiB,
  mapAlignment: 4096,
  coherence: 'hardware',
  kernelMountable: false,
};
const info = region as RegionInfo;
const config = (flags: Record<string, unknown>) => loadConfig({ flags, folder: '/nonexistent' });

test('a region that was adopted says what it keeps against the flags', () => {
  const asked = config({ size: '128M', coherence: 'software', kernelMountable: true });
  expect(unheeded(asked, info)).toEqual([
    'a size of 64 MiB, not 128M',
    'coherence hardware, not software',
    'a private front, not a kernel-mountable one',
  ]);
});

test('nothing is said of flags that agree, of what a size was rounded by, and of defaults', () => {
  for (const flags of [{}, { size: '64M' }, { size: '63M' }, { size: '50%' }])
    expect(unheeded(config(flags), info)).toEqual([]);
  expect(unheeded(config({}), { ...info, coherence: 'software', kernelMountable: true })).toEqual([]);
});

test('a terminal without a size has the usual one', () => {
  expect(screenOf({ rows: 0, columns: 0 })).toEqual({ rows: 24, columns: 80 });
  expect(screenOf({ rows: 50, columns: 132 })).toEqual({ rows: 50, columns: 132 });
});
