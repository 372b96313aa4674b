/** Goal: the copy engine brings exactly the bytes and their digests, and says what went wrong. Method: real files, every outcome once. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, truncateSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type CopyItem, native } from '../../native/index.ts';
import { descriptorsIn, item, target } from './target.ts';
import { PATTERN_BYTES, pattern, VECTORS } from './vectors.ts';

const MIB = 1024 * 1024;
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => ({ code: 'none', index: -1 }),
    (error: NodeJS.ErrnoException & { index: number }) => ({ code: error.code, index: error.index }),
  );
const startOne = (path: string, size = 4096) => {
  const { mapping } = target(size);
  return native.startCopy(mapping, [{ path, size: 1, mtimeNs: 0n, ino: 1n, offset: 0 }], {}).done;
};

it.each([1, 2, 3, 8])('copies every size with its digest, %i threads', async (threads) => {
  const bytes = pattern();
  const total = VECTORS.reduce((sum, [size]) => sum + Math.ceil(size / 4096) * 4096, 0) + 4096;
  const { mapping, directory } = target(total);
  let offset = 4096;
  const items: CopyItem[] = VECTORS.map(([size]) => {
    const path = join(directory, `${size}`);
    writeFileSync(path, bytes.subarray(0, size));
    const made = item(path, offset);
    offset += Math.ceil(size / 4096) * 4096;
    return made;
  });
  const job = native.startCopy(mapping, items, { threads });
  const { digests } = await job.done;
  expect(digests.map((digest) => digest.toString('hex'))).toEqual(VECTORS.map(([, digest]) => digest));
  for (const { size, offset: at } of items) {
    expect(mapping.read(at, size).equals(bytes.subarray(0, size))).toBe(true);
  }
  expect(job.progress()).toBe(items.reduce((sum, { size }) => sum + size, 0));
  expect(await descriptorsIn(directory)).toEqual([]);
});

it('leaves every byte between the files alone, at any alignment', async () => {
  const bytes = pattern(3 * MIB);
  const { mapping, directory } = target(8 * MIB);
  mapping.write(0, Buffer.alloc(8 * MIB, 0xaa));
  writeFileSync(join(directory, 'a'), bytes);
  writeFileSync(join(directory, 'b'), bytes.subarray(0, 5000));
  await native.startCopy(mapping, [item(join(directory, 'a'), 12345), item(join(directory, 'b'), 4 * MIB + 1)], {})
    .done;
  const expected = Buffer.alloc(8 * MIB, 0xaa);
  bytes.copy(expected, 12345);
  bytes.copy(expected, 4 * MIB + 1, 0, 5000);
  expect(mapping.read(0, 8 * MIB).equals(expected)).toBe(true);
});

it('copies thousands of small files, and none at all', async () => {
  const { mapping, directory } = target(3000 * 4096);
  const items = Array.from({ length: 3000 }, (_, i) => {
    const path = join(directory, `f${i}`);
    writeFileSync(path, `file ${i}`);
    return item(path, i * 4096);
  });
  const { digests } = await native.startCopy(mapping, items, {}).done;
  expect(new Set(digests.map((digest) => digest.toString('hex'))).size).toBe(3000);
  for (let i = 0; i < 3000; i += 37) expect(mapping.read(i * 4096, 12).toString()).toBe(`file ${i}`.padEnd(12, '\0'));
  expect(await native.startCopy(mapping, [], {}).done).toEqual({ digests: [] });
});

it('takes paths as bytes', async () => {
  const { mapping, directory } = target(4096);
  const path = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0xfe, 0x41])]);
  writeFileSync(path, 'x');
  await native.startCopy(mapping, [item(path, 7)], {}).done;
  expect(mapping.read(7, 1).toString()).toBe('x');
});

it('keeps holes when the target is zero, with the right digest', async () => {
  const size = 64 * MIB;
  const { mapping, directory } = target(2 * size);
  const path = join(directory, 'sparse');
  writeFileSync(path, 'head');
  truncateSync(path, size);
  const plain = await native.startCopy(mapping, [item(path, 0)], {}).done;
  const sparse = await native.startCopy(mapping, [item(path, size)], { targetIsZero: true }).done;
  expect(sparse.digests).toEqual(plain.digests);
  expect(mapping.read(size, 8).toString()).toBe('head\0\0\0\0');
  const blocks = Number(execFileSync('stat', ['-c', '%b', join(directory, '.target')], { encoding: 'utf8' }));
  expect(blocks * 512).toBeLessThan(size + 8 * MIB);
});

it('names the file that failed: gone, changed, of another size, replaced', async () => {
  const { mapping, directory } = target(64 * 1024);
  const paths = ['a', 'b', 'c'].map((name) => join(directory, name));
  for (const path of paths) writeFileSync(path, 'bytes');
  const attempt = (change: () => void) => {
    const items = paths.map((path, i) => item(path, i * 4096));
    change();
    return failure(native.startCopy(mapping, items, { threads: 1 }).done);
  };
  const second = paths[1]!;
  expect(await attempt(() => utimesSync(second, 1, 1))).toEqual({ code: 'ESTALE', index: 1 });
  expect(await attempt(() => truncateSync(second, 2))).toEqual({ code: 'ESTALE', index: 1 });
  expect(await attempt(() => writeFileSync(second, 'more bytes'))).toEqual({ code: 'ESTALE', index: 1 });
  expect(await attempt(() => renameSync(paths[0]!, second))).toEqual({ code: 'ENOENT', index: 0 });
  writeFileSync(paths[0]!, 'bytes');
  expect(await attempt(() => unlinkSync(paths[2]!))).toEqual({ code: 'ENOENT', index: 2 });
  expect(await descriptorsIn(directory)).toEqual([]);
});

it('refuses what is not a regular file, without waiting for it', async () => {
  const { directory } = target(4096);
  execFileSync('mkfifo', [join(directory, 'fifo')]);
  mkdirSync(join(directory, 'dir'));
  const server = createServer().listen(join(directory, 'socket'));
  expect(await failure(startOne(join(directory, 'fifo')))).toEqual({ code: 'EINVAL', index: 0 });
  expect(await failure(startOne(join(directory, 'dir')))).toEqual({ code: 'EISDIR', index: 0 });
  expect(await failure(startOne(join(directory, 'socket')))).toEqual({ code: 'ENXIO', index: 0 });
  expect(await failure(startOne('/dev/zero'))).toEqual({ code: 'EINVAL', index: 0 });
  server.close();
});

it('a source truncated while it is copied is ESTALE and nothing else', async () => {
  const size = 96 * MIB;
  // Where the copy was quicker than the truncation, the round is tried again.
  for (let round = 0; round < 5; ) {
    const { mapping, directory } = target(size);
    const path = join(directory, 'big');
    writeFileSync(path, Buffer.alloc(size, round + 1));
    const job = native.startCopy(mapping, [item(path, 0)], {});
    while (job.progress() < round * MIB) await new Promise((resolve) => setImmediate(resolve));
    truncateSync(path, round * MIB);
    const ended = await failure(job.done);
    if (ended.code !== 'none') {
      expect(ended).toEqual({ code: 'ESTALE', index: 0 });
      round += 1;
    }
    expect(await descriptorsIn(directory)).toEqual([]);
    mapping.close();
    rmSync(path);
  }
});

it('cancels: the promise rejects when no thread writes any more', async () => {
  const size = 256 * MIB;
  const { mapping, directory } = target(size);
  const path = join(directory, 'big');
  writeFileSync(path, '');
  truncateSync(path, size);
  // To one place again and again: work for a minute, in little memory.
  const items = Array.from({ length: 1000 }, () => item(path, 0));
  const job = native.startCopy(mapping, items, {});
  while (job.progress() === 0) await new Promise((resolve) => setImmediate(resolve));
  job.cancel();
  expect((await failure(job.done)).code).toBe('ECANCELED');
  const copied = job.progress();
  expect(copied).toBeLessThan(items.length * size);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(job.progress()).toBe(copied);
  job.cancel();
});

it('closing the mapping during a copy is safe', async () => {
  const { mapping, directory } = target(64 * MIB);
  const path = join(directory, 'big');
  writeFileSync(path, pattern(64 * MIB));
  const job = native.startCopy(mapping, [item(path, 0)], {});
  mapping.close();
  expect((await job.done).digests).toHaveLength(1);
  expect(() => native.startCopy(mapping, [], {})).toThrow(TypeError);
});

it('refuses wrong arguments at once', () => {
  const { mapping, directory } = target(8192);
  const path = join(directory, '.target');
  const good = item(path, 0);
  const start = (change: Partial<Record<keyof CopyItem, unknown>>) => () =>
    native.startCopy(mapping, [{ ...good, size: 8192, ...change } as CopyItem], {});
  expect(start({ offset: 1 })).toThrow(RangeError);
  expect(start({ offset: -1 })).toThrow(RangeError);
  expect(start({ size: Number.MAX_SAFE_INTEGER })).toThrow(RangeError);
  expect(start({ offset: 8193, size: 0 })).toThrow(RangeError);
  expect(start({ path: 'a\0b' })).toThrow(TypeError);
  expect(start({ path: '' })).toThrow(TypeError);
  expect(start({ mtimeNs: 5 })).toThrow(TypeError);
  expect(start({ ino: -1n })).toThrow(RangeError);
  for (const threads of [0, -1, 1.5, 65]) {
    expect(() => native.startCopy(mapping, [], { threads })).toThrow(RangeError);
  }
  expect(() => native.startCopy({} as typeof mapping, [], {})).toThrow(TypeError);
});

it('refuses a read-only mapping', () => {
  const { mapping } = target(4096, false);
  expect(() => native.startCopy(mapping, [], {})).toThrow(expect.objectContaining({ code: 'EACCES' }));
});

it('ends with its process: exit during a copy', () => {
  const { directory } = target(4096);
  const script = `
    import { native } from ${JSON.stringify(new URL('../../dist/native/index.js', import.meta.url).href)};
    import fs from 'node:fs';
    const path = ${JSON.stringify(join(directory, 'big'))};
    const fd = fs.openSync(path, 'w+');
    fs.ftruncateSync(fd, ${256 * MIB});
    const { size, mtimeNs, ino } = fs.fstatSync(fd, { bigint: true });
    const mapping = new native.Mapping(fd, 0, Number(size), { write: true });
    native.startCopy(mapping, [{ path, size: Number(size), mtimeNs, ino, offset: 0 }], {}).done.catch(() => {});
    process.exit(7);`;
  let status = 0;
  try {
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' });
  } catch (error) {
    status = (error as { status: number }).status;
  }
  expect(status).toBe(7);
});

it('the pattern of the vectors is the one they were made with', () => {
  expect(PATTERN_BYTES).toBe(5 * MIB + 12345);
});
