/** Regions and images for tests of the file API; removed afterwards. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterAll } from 'vitest';
import { type OpenedRegion, type OpenRegionOptions, openRegion } from '../../daxfs/index.ts';

const MiB = 2 ** 20;
const paths: string[] = [];
const opened: OpenedRegion[] = [];

afterAll(async () => {
  for (const region of opened.splice(0)) await region.close();
  for (const path of paths.splice(0)) rmSync(path, { force: true });
});

/** A name in shared memory that nobody has; what is made there goes away. */
export function freshPath(): string {
  const path = `/dev/shm/daxserve-fs-${process.pid}-${randomBytes(6).toString('hex')}`;
  paths.push(path);
  return path;
}

/** Opens and remembers to close. */
export async function open(path: string, options: OpenRegionOptions = {}): Promise<OpenedRegion> {
  const region = await openRegion(path, options);
  opened.push(region);
  return region;
}

/** A fresh region with room for `mib` MiB of files. */
export function create(mib: number, options: OpenRegionOptions = {}): Promise<OpenedRegion> {
  const size = (mib + 24) * MiB;
  return open(freshPath(), { create: true, size, overlayBytes: mib * MiB, ...options });
}
