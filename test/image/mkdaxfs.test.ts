/** Goal: mkdaxfs keeps every byte, name, mode and owner, and fails cleanly. Method: real trees, the real command, compared with the directory. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { fileSource } from '../../daxfs/byte-source.ts';
import { Image } from '../../daxfs/image.ts';
import { writeImageFile } from '../../daxfs/image-file.ts';
import { planImage } from '../../daxfs/image-plan.ts';
import { scanTree } from '../../daxfs/image-tree.ts';
import { validateImage } from '../../daxfs/image-validate.ts';
import { main } from '../../daxfs/mkdaxfs.ts';
import { scratchDirectory } from '../support/scratch.ts';
import { holds } from '../support/seed.ts';
import { describeImage, describeTree } from './build.ts';

const isRoot = process.getuid?.() === 0;

function withImage<T>(path: string, use: (image: Image) => T): T {
  const fd = openSync(path, 'r');
  try {
    expect(validateImage(fileSource(fd)).findings).toEqual([]);
    return use(new Image(fileSource(fd)));
  } finally {
    closeSync(fd);
  }
}

async function run(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const status = await main(args, { out: (text) => out.push(text), err: (text) => err.push(text), isTerminal: false });
  return { status, out: out.join(''), err: err.join('') };
}

function makeTree(): { tree: string; image: string } {
  const base = scratchDirectory();
  const tree = join(base, 'tree');
  mkdirSync(join(tree, 'sub/deeper'), { recursive: true });
  writeFileSync(join(tree, 'file'), 'bytes');
  return { tree, image: join(base, 'out.daxfs') };
}

it('makes an image of a tree and says what is in it', async () => {
  const { tree, image } = makeTree();
  symlinkSync('../file', join(tree, 'sub/link'));
  const result = await run('-d', tree, '-o', image, '-V');
  expect(result).toEqual({
    status: 0,
    out: `${image}: 24 KiB, 1 files, 3 directories, 1 links, 5 inodes\n`,
    err: '',
  });
  expect(readdirSync(join(image, '..')).sort()).toEqual(['out.daxfs', 'tree']);
});

interface RandomFile {
  name: Uint8Array;
  inside: number;
  kind: 'file' | 'directory' | 'symlink' | 'link';
  size: number;
  mode: number;
  owner: number;
}

const randomName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte)))
  .filter((bytes) => !['.', '..'].includes(Buffer.from(bytes).toString('latin1')));
const randomFile: fc.Arbitrary<RandomFile> = fc.record({
  name: randomName,
  inside: fc.nat(20),
  kind: fc.constantFrom('file', 'file', 'directory', 'symlink', 'link'),
  size: fc.oneof(fc.constantFrom(0, 1, 4095, 4096, 4097, 300_000), fc.nat(20_000)),
  mode: fc.nat(0o7777),
  owner: fc.nat(70_000),
});

function makeRandom(root: string, files: readonly RandomFile[]): void {
  const directories = [Buffer.from(root)];
  const regular: Buffer[] = [];
  for (const { name, inside, kind, size, mode, owner } of files) {
    const parent = directories[inside % directories.length]!;
    const path = Buffer.concat([parent, Buffer.from('/'), name]);
    if (path.length > 3000 || existsSync(path)) continue;
    if (kind === 'directory') directories.push(path);
    if (kind === 'directory') mkdirSync(path);
    else if (kind === 'symlink') symlinkSync(Buffer.from(name), path);
    else if (kind === 'link' && regular.length > 0) linkSync(regular[inside % regular.length]!, path);
    else {
      writeFileSync(path, Buffer.alloc(size, name));
      regular.push(path);
    }
    if (kind !== 'symlink' && isRoot) chownSync(path, owner, owner + 1);
    if (kind !== 'symlink') chmodSync(path, isRoot ? mode : mode | 0o700);
  }
}

it('random trees come back whole: bytes, names, modes, owners, hard links', async () => {
  await holds(
    fc.asyncProperty(fc.array(randomFile, { maxLength: 30 }), async (files) => {
      const { tree, image } = makeTree();
      makeRandom(tree, files);
      await writeImageFile(tree, image);
      const found = withImage(image, describeImage);
      expect(found).toEqual(describeTree(Buffer.from(tree), found.keys()));
      const names = execFileSync('find', [tree, '-printf', '%P\\0'], { encoding: 'latin1' }).split('\0').slice(0, -1);
      expect([...found.keys()].sort()).toEqual(names.sort());
    }),
    40,
  );
});

it('a file above 4 GiB: bytes at both ends and around 4 GiB, holes stay holes', async () => {
  const { tree, image } = makeTree();
  const size = 4 * 1024 ** 3 + 5 * 1024 ** 2 + 3;
  const path = join(tree, 'large');
  const marks: [number, string][] = [
    [0, 'start'],
    [4 * 1024 ** 3 - 3, 'across 4 GiB'],
    [size - 3, 'end'],
  ];
  const fd = openSync(path, 'w');
  for (const [at, text] of marks) writeSync(fd, text, at);
  closeSync(fd);
  truncateSync(path, size);
  await writeImageFile(tree, image);
  const offset = withImage(image, (opened) => opened.extent(opened.lookup('large')).offset);
  const source = openSync(image, 'r');
  for (const [at, text] of marks) {
    const bytes = Buffer.alloc(text.length);
    readSync(source, bytes, 0, text.length, offset + at);
    expect(bytes.toString()).toBe(text);
  }
  closeSync(source);
  expect(statSync(image).blocks * 512).toBeLessThan(64 * 1024 ** 2);
  expect(statSync(image).size).toBeGreaterThan(size);
});

it('the image is the same whatever order the directory lists its names in', async () => {
  const { tree, image } = makeTree();
  for (const name of ['z', 'a', 'M', '10', '9']) writeFileSync(join(tree, name), name);
  await writeImageFile(tree, image);
  const first = readFileSync(image);
  await writeImageFile(tree, image);
  expect(readFileSync(image).equals(first)).toBe(true);
});

it('refuses special files by path, or skips them when asked', async () => {
  const { tree, image } = makeTree();
  execFileSync('mkfifo', [join(tree, 'sub/fifo')]);
  const refused = await run('-d', tree, '-o', image);
  expect(refused.status).toBe(1);
  expect(refused.err).toMatch(/sub\/fifo is a FIFO.*\(DAXFS_SPECIAL_FILE\)/);
  expect(existsSync(image)).toBe(false);
  const skipped = await run('-d', tree, '-o', image, '--skip-special');
  expect(skipped.status).toBe(0);
  expect(skipped.err).toBe('skipped sub/fifo (a FIFO)\n');
  expect(withImage(image, (opened) => [...opened.walk()].length)).toBe(4);
});

it.each([
  [['-o', 'x'], 2, /-d DIR is missing/],
  [['-d', '.'], 2, /-o FILE is missing/],
  [['-d', '.', '-o', 'x', '--unknown'], 2, /unknown option/],
  [['-d', '.', '-o', 'x', '-X'], 2, /export mode/],
  [['-v'], 2, /unknown option/],
  [['-d', '.', '-o', 'x', 'more'], 2, /too many arguments/],
  [['-d', '.', '-o', 'x', '-s', 'big'], 2, /not a size/],
  [['-d', '/nonexistent', '-o', 'x'], 1, /no such file.*DAXFS_BAD_TREE/],
  [['-d', '/etc/passwd', '-o', 'x'], 1, /not a directory/],
  [['-d', 'test/image', '-o', '/nonexistent/x'], 1, /DAXFS_WRITE_FAILED/],
  [['-d', 'test/image', '-o', '/dev/null'], 1, /not a regular file/],
  [['-d', 'test/image', '-o', 'test/image/x'], 1, /lies inside/],
])('mkdaxfs %j exits with %i', async (args, status, message) => {
  const result = await run(...args);
  expect(result.err).toMatch(message);
  expect(result.status).toBe(status);
  expect(existsSync('x')).toBe(false);
});

it('--help and --version', async () => {
  const help = await run('-h');
  expect(help.status).toBe(0);
  expect(help.out).toMatch(/-d, --directory <dir>[\s\S]*-V, --validate/);
  const version = await run('--version');
  expect(version.out).toBe('mkdaxfs (daxfs) 0.1.0\non-disk format: super v8, overlay v2, pcache v2\n');
});

it('-s only checks: the image keeps its own size', async () => {
  const { tree, image } = makeTree();
  expect((await run('-d', tree, '-o', image, '-s', '1M')).status).toBe(0);
  expect(statSync(image).size).toBeLessThan(1024 ** 2);
  const small = await run('-d', tree, '-o', image, '-s', '0x1000');
  expect(small.status).toBe(1);
  expect(small.err).toMatch(/needs \d+ bytes, the size given is 4096.*DAXFS_NO_SPACE/);
});

it('a file that changes after the scan discards the image and leaves the old one', async () => {
  const { tree, image } = makeTree();
  writeFileSync(image, 'the old image');
  for (let i = 0; i < 200; i++) writeFileSync(join(tree, `f${i}`), Buffer.alloc(100_000, i));
  const writing = writeImageFile(tree, image);
  utimesSync(join(tree, 'f199'), 1, 1);
  await expect(writing).rejects.toMatchObject({ code: 'DAXFS_SOURCE_CHANGED', message: expect.stringMatching(/f199/) });
  expect(readFileSync(image, 'utf8')).toBe('the old image');
  expect(readdirSync(join(image, '..')).sort()).toEqual(['out.daxfs', 'tree']);
});

it('cancelling leaves nothing behind', async () => {
  const { tree, image } = makeTree();
  writeFileSync(join(tree, 'big'), '');
  truncateSync(join(tree, 'big'), 1024 ** 3);
  const abort = new AbortController();
  const writing = writeImageFile(tree, image, { signal: abort.signal });
  abort.abort(new Error('enough'));
  await expect(writing).rejects.toThrow('enough');
  expect(readdirSync(join(image, '..'))).toEqual(['tree']);
});

it.runIf(isRoot)('a full file system is one clear error', () => {
  const { tree, image } = makeTree();
  writeFileSync(join(tree, 'big'), Buffer.alloc(3 * 1024 ** 2, 1));
  const mount = join(image, '..', 'mnt');
  mkdirSync(mount);
  const script = `mount -t tmpfs -o size=1m none ${mount} && exec ${process.execPath} bin/mkdaxfs.js -d ${tree} -o ${mount}/x`;
  const { status, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', `${script}; ls -A ${mount} >&2`], {
    encoding: 'utf8',
  });
  if (/unshare|mount/.test(stderr)) return;
  expect(stderr).toMatch(/^mkdaxfs: No space left while writing .*\(DAXFS_NO_SPACE\)\n$/);
  expect(status).toBe(1);
});

it('scanning follows a link only when it is the root itself', () => {
  const { tree, image } = makeTree();
  symlinkSync(tree, image);
  const viaLink = scanTree(image).map(({ path }) => path);
  expect(viaLink).toEqual(['', 'file', 'sub', 'sub/deeper']);
  expect(planImage(scanTree(tree)).inodeCount).toBe(4);
});
