/**
 * Goal: an image that says that its manifest is huge costs no memory. Method: a region that exists as an image's metadata
 * alone; it fails when anything as large as a manifest is asked for.
 */
import { expect, it } from 'vitest';
import { checkContentImages } from '../../daxfs/check/check-images.ts';
import type { ContentEntry } from '../../daxfs/check/tables.ts';
import { planImage } from '../../daxfs/image-plan.ts';
import type { Content, Region } from '../../daxfs/index.ts';
import { MANIFEST_PATH } from '../../loaders/index.ts';
import { manifestReader } from '../../server/cli/region-check.ts';
import { ContentViews } from '../../server/store/content-views.ts';
import type { Holds } from '../../server/store/holds.ts';

const owner = { uid: 0, gid: 0 };
const origin = { path: '/nowhere', mtimeNs: 0n, ino: 0n };
const size = 8 * 2 ** 30;
const plan = planImage([
  { path: '', type: 'directory', mode: 0o755, ...owner },
  { path: '.daxserve', type: 'directory', mode: 0o755, ...owner },
  { path: MANIFEST_PATH, type: 'file', mode: 0o444, ...owner, size, origin },
]);

/** Zeros where the plan has no metadata. */
function read(from: number, length: number): Buffer {
  if (length > 2 ** 20) throw new Error(`${length} bytes are read at once`);
  const out = Buffer.alloc(length);
  for (const { offset, bytes } of plan.metadata) {
    const start = Math.max(from, offset);
    const end = Math.min(from + length, offset + bytes.length);
    if (start < end) bytes.copy(out, start - from, start - offset, end - offset);
  }
  return out;
}

const mapping = { size: plan.totalSize, read, load64: () => 0n };
const region = { mapping, chunkOffset: () => 0, sizeBytes: plan.totalSize } as unknown as Region;
const content = {
  index: 0,
  generation: 1,
  fileCount: 1,
  tensorCount: 1,
  images: [{ firstChunk: 0, chunkCount: 1, bytes: plan.totalSize }],
} as unknown as Content;

it('the service refuses it', async () => {
  const holds = { acquire: () => true, release: () => undefined, review: () => false } as unknown as Holds;
  await expect(new ContentViews(region, holds).view(content)).rejects.toMatchObject({ code: 'MANIFEST_TOO_LARGE' });
});

it('the check names it', async () => {
  const entry = { index: 0, offset: 0, word: 0n, content } as unknown as ContentEntry;
  const findings = await checkContentImages(region, entry, { manifest: manifestReader });
  expect(findings.map(({ code, message }) => [code, message])).toEqual([
    ['MANIFEST_FORMAT', expect.stringContaining(`The manifest has ${size} bytes`)],
  ]);
});
