/** Goal: whatever cannot be made is refused with its reason and leaves nothing behind. Method: the real command, every refusal. */
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Region } from '../../daxfs/region.ts';
import { mkdaxfs } from '../support/run-tool.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

/** Paths of one test: D a tree, M memory of 1 MiB, O a path that does not exist. */
function place(): Record<string, string> {
  const base = scratchDirectory();
  const paths = { D: join(base, 'tree'), M: join(base, 'memory'), O: join(base, 'out'), B: base };
  writeTree(paths.D, { file: 'bytes' });
  writeFileSync(paths.M, '');
  truncateSync(paths.M, 2 ** 20);
  return paths;
}

const usage: [string, RegExp][] = [
  ['', /-d DIR is missing \(or -E for an empty file system\)/],
  ['-d D', /-o FILE is missing \(or -D or -H\)/],
  ['-E', /-o FILE is missing/],
  ['-E -d D -o O', /-E makes an empty file system; leave -d DIR away/],
  ['-E -X -D M -p 0', /which exports nothing; leave -X away/],
  ['-d D -H /dev/dma_heap/system -D M -m /mnt', /-H and -D are two targets; give one/],
  ['-d D -o O -p 0', /-p ADDR is an offset in the device of -D PATH, which is missing/],
  ['-d D -X -D M -p 0 -o O', /-X is export mode: file bytes stay in the tree; leave -o away/],
  ['-d D -X', /-X needs memory to write to: -H or -D/],
  ['-E -H /dev/dma_heap/system', /-H needs -m DIR/],
  ['-d D -o O -m /mnt', /-m mounts memory, and an image file is none/],
  ['-E -o O -D M -p 0', /-o and a device are two targets/],
  ['-E -o O --prewarm', /--prewarm fills a page cache from files/],
  ['-d D -o O --prewarm', /--prewarm fills a page cache from files/],
  ['-E -o O -C 17', /'-C, --pcache-slots <n>' argument '17' is invalid. It must be a power of two from 8/],
  ['-E -o O -C 4', /It must be a power of two from 8/],
  ['-d D -o O -C 12', /It must be a power of two from 8/],
  ['-X -d D -D M -p 0 -C 0', /It must be a power of two from 8/],
  ['-E -o O -C 4294967296', /to 2147483648/],
  ['-E -o O -B 1000', /'-B, --buckets <n>' argument '1000' is invalid. It must be a power of two from 1/],
  ['-E -o O -O 100', /It must be 4096 bytes or more/],
  ['-E -o O -O 256T', /below 2\^48/],
  ['-E -o O -O lots', /"lots" is not a size/],
  ['-E -o O -s 0', /outside what a size may be/],
  ['-E -o O --block-size 8K', /It must be 4096, 16K or 64K/],
  ['-E -D M -p here', /"here" is not a size/],
  ['-v', /unknown option '-v'/],
];

it.each(usage)('usage: %s', async (line, message) => {
  const paths = place();
  const result = await mkdaxfs(
    ...line
      .split(' ')
      .filter(Boolean)
      .map((word) => paths[word] ?? word),
  );
  expect(result.err).toMatch(message);
  expect(result).toMatchObject({ status: 2, out: '' });
  expect(existsSync(paths.O!)).toBe(false);
});

const failures: [string, RegExp][] = [
  ['-E -o O -s 1M', /needs 68165632 bytes, the size given is 1048576; raise -s, or lower -O, -B or -C.*DAXFS_NO_SPACE/],
  ['-E -D M -p 0', /memory has 1048576 bytes from there on, 68165632 are needed.*DAXFS_NO_SPACE/],
  ['-E -D M -p 0 -O 64K -B 256 -s 2M', /has 1048576 bytes from there on, 2097152 are needed/],
  ['-E -D M -p 1M -O 64K -B 256', /has 0 bytes from there on/],
  ['-E -D M -p 0x800 -O 64K -B 256', /-p must be a multiple of the block size, 4096.*DAXFS_BAD_BACKING/],
  ['-E -D M -O 64K -B 256', /is not a device-dax device; add -p OFFSET/],
  ['-E -D /dev/null', /is a device, but not device-dax/],
  ['-E -D /dev/null -p 0 -O 64K', /cannot be mapped at offset 0/],
  ['-E -D O -p 0', /out is not there; give a device or file/],
  ['-E -D D -p 0', /cannot be opened \(EISDIR\)/],
  [
    '-E -H /dev/dma_heap/none -m B',
    /There is no DMA heap \/dev\/dma_heap\/none; .*Use -D DEVICE or -o FILE instead.*DAXFS_BAD_BACKING/,
  ],
  ['-E -H /dev/null -m B -s 256M', /\/dev\/null is not a DMA heap; give one of \/dev\/dma_heap/],
  [
    '-E -D M -p 0 -O 64K -B 256 -m B',
    /It cannot be mounted: .*memory is a file, which has no physical address.*DAXFS_MOUNT_FAILED/,
  ],
  ['-E -o B', /exists and is not a regular file/],
  ['-d D -D M -p 0 -o D/x -O 64K -B 256', /lies inside .*; write the image outside of the tree/],
  ['-d O -D M -p 0 -o B/x', /The tree cannot be read/],
];

it.each(failures)('failure: %s', async (line, message) => {
  const paths = place();
  const word = (text: string) => paths[text] ?? text.replace(/^([DB])\//, (_, name: string) => `${paths[name]}/`);
  const result = await mkdaxfs(...line.split(' ').map(word));
  expect(result.err).toMatch(message);
  // One line.
  expect(result.err).toMatch(/^mkdaxfs: [^\n]*\n$/);
  expect(result).toMatchObject({ status: 1, out: '' });
  expect(readdirSync(paths.B!).sort()).toEqual(['memory', 'tree']);
});

it('a refused -D leaves the memory as it was', async () => {
  const { M } = place();
  writeFileSync(M!, Buffer.alloc(2 ** 20, 7));
  await mkdaxfs('-E', '-D', M!, '-p', '0');
  expect(readFileSync(M!).every((byte) => byte === 7)).toBe(true);
});

it('options without meaning in a static image are ignored, with a remark', async () => {
  const { D, O } = place();
  const result = await mkdaxfs('-d', D!, '-o', O!, '-O', '1M', '-B', '1024', '-C', '16');
  expect(result).toMatchObject({
    status: 0,
    err: 'mkdaxfs: -O, -B, -C ignored: a static image has no overlay and no page cache\n',
  });
});

it('a daxserve region is not overwritten', async () => {
  const { B } = place();
  const path = join(B!, 'region');
  const region = await Region.create({ path, size: 16 * 2 ** 20 });
  await region.close();
  const before = readFileSync(path);
  const result = await mkdaxfs('-E', '-D', path, '-p', '0', '-O', '64K', '-B', '256');
  expect(result.err).toMatch(/holds a daxserve region; delete it first with "daxserve region delete"/);
  expect(readFileSync(path).equals(before)).toBe(true);
});

it('an existing backing file is replaced only by a whole one', async () => {
  const { D, M, B } = place();
  const backing = join(B!, 'backing');
  writeFileSync(backing, 'old');
  mkdirSync(join(D!, 'unreadable'));
  // Fails for want of room, before the backing file is touched.
  expect((await mkdaxfs('-d', D!, '-D', M!, '-p', '0', '-o', backing)).status).toBe(1);
  expect(readFileSync(backing, 'utf8')).toBe('old');
  expect((await mkdaxfs('-d', D!, '-D', M!, '-p', '0', '-o', backing, '-O', '64K', '-B', '256')).status).toBe(0);
  expect(readFileSync(backing).length).toBe(4096);
});
