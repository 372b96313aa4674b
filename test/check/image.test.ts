/**
 * Goal: overlay and page cache of an image are checked and repaired as a region's front is; each damage of a slot is found by
 * its name. Method: a pre-warmed export image of mkdaxfs and the published overlay example, damaged word by word.
 */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bufferSource } from '../../daxfs/byte-source.ts';
import type { CheckCode } from '../../daxfs/check/findings.ts';
import { checkRegion, openRegion, repairRegion } from '../../daxfs/index.ts';
import { readSuperblock } from '../../daxfs/overlay-read.ts';
import { pageTag } from '../../daxfs/page-cache-word.ts';
import { runDaxserve } from '../support/command.ts';
import { buildExample } from '../support/overlay-example.ts';
import { mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

const codesOf = (report: { findings: { code: CheckCode }[]; leftovers: { code: CheckCode }[] }) =>
  [...new Set([...report.findings, ...report.leftovers].map(({ code }) => code))].sort();

async function exportImage(): Promise<{ tree: string; path: string }> {
  const base = scratchDirectory();
  const tree = join(base, 'tree');
  const path = join(base, 'memory');
  writeTree(tree, { a: Buffer.alloc(9000, 1), b: Buffer.alloc(5000, 2) });
  writeFileSync(path, '');
  truncateSync(path, 4 * 2 ** 20);
  const size = ['-O', '64K', '-B', '256', '--prewarm'];
  expect(await mkdaxfs('-X', '-d', tree, '-D', path, '-p', '0', ...size)).toMatchObject({ status: 0, err: '' });
  return { tree, path };
}

/** Changes the bytes of an image: slot words from the first slot on, and the header of the cache. */
function change(path: string, work: (slots: Buffer, header: Buffer) => void): void {
  const bytes = readFileSync(path);
  const at = Number(readSuperblock(bufferSource(bytes)).pcache_offset);
  work(bytes.subarray(at + 4096, at + 8192), bytes.subarray(at, at + 4096));
  writeFileSync(path, bytes);
}

const SLOTS = 16;
/** Index of a slot that is FREE, or VALID. */
const slotIn = (slots: Buffer, state: bigint) =>
  Array.from({ length: SLOTS }, (_, index) => index).find((i) => (slots.readBigUInt64LE(i * 16) & 3n) === state)!;
const FREE = 0n;
const VALID = 2n;
const setWord = (slots: Buffer, index: number, word: bigint) => void slots.writeBigUInt64LE(word, index * 16);
/** PENDING, by user row 3 of generation 9. */
const OWNED = (2 ** 31 + (9 << 4) + 3) >>> 0;

const damages: [CheckCode, CheckCode[], (slots: Buffer, header: Buffer) => void][] = [
  ['FRONT_CACHE_STATE', [], (slots) => setWord(slots, slotIn(slots, FREE), 3n)],
  ['FRONT_CACHE_FREE', [], (slots) => setWord(slots, slotIn(slots, FREE), 1n << 8n)],
  [
    'FRONT_CACHE_WINDOW',
    [],
    (slots) => {
      // Page 1 of inode 2 belongs in slots 1 to 8.
      const from = Array.from({ length: SLOTS }, (_, i) => i).find(
        (i) => slots.readBigUInt64LE(i * 16) >> 6n === pageTag(2, 1),
      )!;
      const word = slots.readBigUInt64LE(from * 16);
      setWord(slots, from, 0n);
      setWord(slots, 12, word);
    },
  ],
  [
    'FRONT_CACHE_TWICE',
    [],
    (slots) => {
      const from = slotIn(slots, VALID);
      const word = slots.readBigUInt64LE(from * 16);
      const near = Array.from({ length: 7 }, (_, i) => from + 1 + i);
      setWord(slots, near.find((i) => slots.readBigUInt64LE(i * 16) === 0n)!, word);
    },
  ],
  ['FRONT_CACHE_PAGE', [], (slots) => setWord(slots, slotIn(slots, VALID), ((9n << 20n) << 6n) | VALID)],
  ['FRONT_CACHE_PENDING', [], (_, header) => void header.writeUInt32LE(1, 28)],
  ['FRONT_CACHE_HAND', [], (_, header) => void header.writeUInt32LE(SLOTS, 24)],
  ['FRONT_CACHE_PINS', [], (slots) => void slots.writeUInt32LE(0b11, slotIn(slots, VALID) * 16 + 12)],
  [
    'FRONT_CACHE_OWNER',
    [],
    (slots, header) => {
      const index = slotIn(slots, VALID);
      setWord(slots, index, (slots.readBigUInt64LE(index * 16) & ~3n) | 1n | (1n << 2n));
      header.writeUInt32LE(1, 28);
    },
  ],
  ['FRONT_CACHE_REF', [], (slots) => void slots.writeUInt32LE(2, slotIn(slots, VALID) * 16 + 8)],
  [
    'FRONT_CACHE_DEAD_FILL',
    [],
    (slots, header) => {
      const index = slotIn(slots, VALID);
      setWord(slots, index, (slots.readBigUInt64LE(index * 16) & ~3n) | 1n);
      slots.writeUInt32LE(OWNED, index * 16 + 12);
      header.writeUInt32LE(1, 28);
    },
  ],
  [
    'FRONT_CACHE_DEAD_PIN',
    [],
    (slots) => {
      const index = slotIn(slots, VALID);
      setWord(slots, index, slots.readBigUInt64LE(index * 16) | (1n << 2n));
      slots.writeUInt32LE(1 << 3, index * 16 + 12);
    },
  ],
];

it.each(damages)('%s is found as what it is, and repaired', async (code, also, work) => {
  const { path } = await exportImage();
  expect(codesOf(await checkRegion({ path }))).toEqual([]);
  change(path, work);
  const found = await checkRegion({ path });
  expect(codesOf(found)).toEqual([code, ...also].sort());
  expect(found.sound).toBe(!found.findings.some((finding) => finding.code === code));
  const { after, steps } = await repairRegion({ path });
  expect(codesOf(after), steps.join('\n')).toEqual([]);
  expect((await repairRegion({ path })).steps).toEqual([]);
});

it('headers and the base are told: the image is made again', async () => {
  const { path } = await exportImage();
  change(path, (_, header) => void header.writeUInt32LE(7, 4));
  const { before, after, steps } = await repairRegion({ path });
  expect(before.findings).toMatchObject([{ code: 'FRONT_CACHE_HEADER', repairable: false }]);
  expect(steps).toEqual([]);
  expect(after.sound).toBe(false);
});

it('an image that is open is not repaired, and one that is none is refused', async () => {
  const { path, tree } = await exportImage();
  const image = await openRegion(path, { write: true, export: tree });
  await expect(repairRegion({ path })).rejects.toMatchObject({ code: 'DAXFS_IN_USE' });
  expect((await checkRegion({ path })).findings).toEqual([]);
  await image.close();
  expect((await repairRegion({ path })).steps).toEqual([]);
  const other = join(scratchDirectory(), 'other');
  writeFileSync(other, Buffer.alloc(8192, 7));
  await expect(checkRegion({ path: other })).rejects.toMatchObject({ code: 'DAXFS_NOT_A_REGION' });
});

it('the overlay of an image, by the command', async () => {
  const path = join(scratchDirectory(), 'example.daxfs');
  const { image, poolAt } = buildExample();
  // "sl" of the root leads the list nowhere: "a" is not listed any more.
  image.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, poolAt + 24576 + 40);
  writeFileSync(path, image);
  const found = await runDaxserve(['region', 'check', '--region', path]);
  expect(found).toMatchObject({ code: 1, stdout: expect.stringMatching(/^FRONT_NAME_UNLISTED {2}1 x a name can be/) });
  const mended = await runDaxserve(['region', 'check', '--repair', '--region', path]);
  expect(mended).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^repaired: FRONT_NAME_UNLISTED: entry 8224 /),
  });
  expect(await runDaxserve(['region', 'check', '--region', path])).toMatchObject({ code: 0 });
});
