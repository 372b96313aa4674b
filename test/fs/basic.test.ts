/** Goal: the first steps of the file API work as README shows them. Method: one region in shared memory, one process. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { openRegion } from '../../daxfs/index.ts';

const paths: string[] = [];

function freshPath(): string {
  const path = `/dev/shm/daxserve-fs-${process.pid}-${randomBytes(6).toString('hex')}`;
  paths.push(path);
  return path;
}

afterEach(() => {
  for (const path of paths.splice(0)) rmSync(path, { force: true });
});

it.each([false, true])(
  'creates, writes, lists, renames and removes (kernel-mountable: %s)',
  async (kernelMountable) => {
    const path = freshPath();
    await using r = await openRegion(path, { create: true, size: 32 * 2 ** 20, kernelMountable });
    await r.fs.mkdir('a/b', { recursive: true });
    await r.fs.writeFile('/a/b/c.txt', 'hello');
    expect(await r.fs.readFile('a/b/c.txt', 'utf8')).toBe('hello');
    await r.fs.appendFile('a/b/c.txt', ' world');
    await r.fs.rename('a/b/c.txt', 'a/d.txt');
    expect(await r.fs.readFile('a/d.txt', 'utf8')).toBe('hello world');
    expect((await r.fs.readdir('/')).sort()).toEqual(['a', 'models']);
    expect(await r.fs.readdir('a', { recursive: true })).toEqual(expect.arrayContaining(['b', 'd.txt']));
    const big = randomBytes(300_000);
    await r.fs.writeFile('big', big);
    expect((await r.fs.readFile('big')).equals(big)).toBe(true);
    await r.fs.truncate('big', 5000);
    expect((await r.fs.readFile('big')).equals(big.subarray(0, 5000))).toBe(true);
    await expect(r.fs.readFile('nothing')).rejects.toThrow("ENOENT: no such file or directory, open 'nothing'");
    await r.fs.rm('a', { recursive: true });
    expect(r.fs.existsSync('a')).toBe(false);

    await using reader = await openRegion(path);
    expect(await reader.fs.readFile('big')).toHaveLength(5000);
    await expect(reader.fs.writeFile('x', 'y')).rejects.toMatchObject({ code: 'EROFS', syscall: 'open', path: 'x' });
  },
);
