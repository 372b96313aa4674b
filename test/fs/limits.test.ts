/** Goal: each limit of docs/FS.md has its error on one side and works on the other, and nothing is lost at it. Method: one region per kind of front. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { OpenedRegion } from '../../daxfs/index.ts';
import { create, open } from './front.ts';

const FILE_BYTES_MAX = 4 * 2 ** 30 - 8192;

describe.each([false, true])('kernel-mountable: %s', (kernelMountable) => {
  let region: OpenedRegion;
  beforeAll(async () => {
    region = await create(8, { kernelMountable });
  });

  it('names have up to 255 bytes', async () => {
    await region.fs.writeFile('n'.repeat(255), 'fits');
    expect(await region.fs.readFile('n'.repeat(255), 'utf8')).toBe('fits');
    await expect(region.fs.writeFile('n'.repeat(256), '')).rejects.toMatchObject({
      code: 'ENAMETOOLONG',
      syscall: 'open',
    });
    expect(() => region.fs.mkdirSync('ü'.repeat(128))).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }));
  });

  it('paths have up to 4095 bytes, link targets too', () => {
    region.fs.symlinkSync('t'.repeat(4095), 'link');
    expect(region.fs.readlinkSync('link')).toHaveLength(4095);
    expect(() => region.fs.symlinkSync('t'.repeat(4096), 'link2')).toThrow(
      expect.objectContaining({ code: 'ENAMETOOLONG' }),
    );
    expect(region.fs.statSync(`/${'./'.repeat(2047)}`).isDirectory()).toBe(true);
    expect(() => region.fs.statSync(`/${'./'.repeat(2047)}.`)).toThrow(
      expect.objectContaining({ code: 'ENAMETOOLONG' }),
    );
  });

  it('files end at 4 GiB - 8 KiB, holes take no space', async () => {
    await using file = await region.fs.open('sparse', 'w+');
    await file.write('end', FILE_BYTES_MAX - 3);
    expect((await file.stat()).size).toBe(FILE_BYTES_MAX);
    const tail = Buffer.alloc(8);
    expect((await file.read(tail, 0, 8, FILE_BYTES_MAX - 6)).bytesRead).toBe(6);
    expect(tail.toString('latin1')).toBe('\0\0\0end\0\0');
    await expect(file.write('x', FILE_BYTES_MAX)).rejects.toMatchObject({ code: 'EFBIG', syscall: 'write' });
    await expect(file.write('xx', FILE_BYTES_MAX - 1)).rejects.toMatchObject({ code: 'EFBIG' });
    await expect(file.truncate(FILE_BYTES_MAX + 1)).rejects.toMatchObject({ code: 'EFBIG', syscall: 'ftruncate' });
    await expect(region.fs.appendFile('sparse', 'x')).rejects.toMatchObject({ code: 'EFBIG' });
    await expect(region.fs.readFile('sparse')).rejects.toMatchObject({ code: 'ERR_FS_FILE_TOO_LARGE' });
    await region.fs.rm('sparse');
    await expect(region.fs.unlink('sparse')).rejects.toMatchObject({ code: 'ENOENT', syscall: 'unlink' });
  });

  it('a full pool gives ENOSPC, and what was there stays', async () => {
    const { fs } = await create(2, { kernelMountable });
    await fs.writeFile('kept', Buffer.alloc(50_000, 1));
    let last = 0;
    const fill = async () => {
      for (; ; last += 1) await fs.writeFile(`f${last}`, Buffer.alloc(100_000, last), { flag: 'wx' });
    };
    await expect(fill()).rejects.toMatchObject({ code: 'ENOSPC', syscall: 'write' });
    await expect(fs.writeFile('kept', Buffer.alloc(500_000, 2), { flag: 'r+' })).rejects.toMatchObject({
      code: 'ENOSPC',
    });
    expect((await fs.readFile('kept')).length).toBeGreaterThanOrEqual(50_000);
    for (let i = 0; i < last; i += 1) expect((await fs.readFile(`f${i}`)).equals(Buffer.alloc(100_000, i))).toBe(true);
    // Removing needs no space; a private front has it again at once, a kernel-mountable one never.
    for (let i = 0; i <= last; i += 1) await fs.unlink(`f${i}`);
    const again = fs.writeFile('again', Buffer.alloc(100_000, 9));
    if (kernelMountable) await expect(again).rejects.toMatchObject({ code: 'ENOSPC' });
    else await again;
  });

  it('a directory does not move below itself', () => {
    region.fs.mkdirSync('m/n', { recursive: true });
    expect(() => region.fs.renameSync('m', 'm/n/o')).toThrow(
      expect.objectContaining({ code: 'EINVAL', dest: 'm/n/o' }),
    );
    expect(() => region.fs.renameSync('m/n', 'm')).toThrow(expect.objectContaining({ code: 'ENOTEMPTY' }));
  });

  it('arguments that cannot be meant are refused as by node:fs', () => {
    expect(() => region.fs.statSync(7 as unknown as string)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
    );
    expect(() => region.fs.statSync('a\0b')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(() => region.fs.writeFileSync('x', '', { flag: 'q' })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  });

  it('names need not be text', async () => {
    const bytes = Buffer.from([0x66, 0xff, 0xfe]);
    await region.fs.writeFile(bytes, 'raw');
    expect(region.fs.readdirSync('/', 'buffer').some((entry) => entry.equals(bytes))).toBe(true);
    expect(await region.fs.readFile(bytes, 'utf8')).toBe('raw');
  });
});

/** Every call, on an open region: works; closed: DAXFS_CLOSED. A handle that is closed: EBADF. */
describe('operation and state', () => {
  const calls: Record<string, (region: OpenedRegion) => unknown> = {
    stat: ({ fs }) => fs.stat('f'),
    lstat: ({ fs }) => fs.lstat('f'),
    access: ({ fs }) => fs.access('f'),
    readdir: ({ fs }) => fs.readdir('/'),
    mkdir: ({ fs }) => fs.mkdir('made'),
    rmdir: ({ fs }) => fs.rmdir('empty'),
    unlink: ({ fs }) => fs.unlink('u'),
    rename: ({ fs }) => fs.rename('r', 'renamed'),
    symlink: ({ fs }) => fs.symlink('f', 'sym'),
    readlink: ({ fs }) => fs.readlink('l'),
    chmod: ({ fs }) => fs.chmod('f', 0o600),
    chown: ({ fs }) => fs.chown('f', 1, 1),
    lchown: ({ fs }) => fs.lchown('l', 1, 1),
    open: ({ fs }) => fs.open('f'),
    readFile: ({ fs }) => fs.readFile('f'),
    'readFile (large)': ({ fs }) => fs.readFile('large'),
    writeFile: ({ fs }) => fs.writeFile('w', 'x'),
    'writeFile (large)': ({ fs }) => fs.writeFile('w', Buffer.alloc(200_000)),
    appendFile: ({ fs }) => fs.appendFile('f', 'x'),
    truncate: ({ fs }) => fs.truncate('f', 1),
    truncateSync: ({ fs }) => fs.truncateSync('f', 1),
    mkdtemp: ({ fs }) => fs.mkdtemp('own-'),
    'writeFile (parts)': ({ fs }) => fs.writeFile('w', ['a', 'b']),
    copyFile: ({ fs }) => fs.copyFile('f', 'copy'),
    importFile: ({ fs }) => fs.importFile('/etc/hostname', 'imported'),
    exportFile: ({ fs }) => fs.exportFile('f', '/dev/null'),
    realpath: ({ fs }) => fs.realpath('f'),
    opendir: ({ fs }) => fs.opendir('/'),
    cp: ({ fs }) => fs.cp('tree', 'tree2', { recursive: true }),
    rm: ({ fs }) => fs.rm('tree', { recursive: true }),
    rmSync: ({ fs }) => fs.rmSync('tree2', { recursive: true }),
    existsSync: ({ fs }) => fs.existsSync('f'),
    recover: (region) => region.recover(),
    info: (region) => region.info(),
  };

  async function prepared(): Promise<OpenedRegion> {
    const region = await create(4);
    for (const name of ['f', 'u', 'r']) region.fs.writeFileSync(name, name);
    region.fs.mkdirSync('tree/below', { recursive: true });
    region.fs.mkdirSync('empty');
    region.fs.symlinkSync('f', 'l');
    await region.fs.writeFile('large', Buffer.alloc(300_000));
    return region;
  }

  it('open', async () => {
    const region = await prepared();
    for (const [name, call] of Object.entries(calls))
      await expect((async () => call(region))(), name).resolves.not.toThrow();
  });

  it('closed', async () => {
    const region = await prepared();
    const handle = await region.fs.open('f', 'r+');
    await region.close();
    await region.close();
    for (const [name, call] of Object.entries(calls)) {
      await expect((async () => call(region))(), name).rejects.toMatchObject({ code: 'DAXFS_CLOSED' });
    }
    await expect(handle.read(Buffer.alloc(1))).rejects.toMatchObject({ code: 'DAXFS_CLOSED' });
    await handle.close();
    await expect(handle.read(Buffer.alloc(1))).rejects.toMatchObject({ code: 'EBADF' });
  });

  it('closing while transfers run: they end first', async () => {
    const region = await prepared();
    const bytes = Buffer.alloc(2_000_000, 7);
    const writing = region.fs.writeFile('big', bytes);
    const closing = region.close();
    await Promise.all([writing, closing]);
    const again = await open(region.region!.path!);
    expect((await again.fs.readFile('big')).equals(bytes)).toBe(true);
  });

  it('read-only: reads work, changes give EROFS', async () => {
    const region = await prepared();
    const reader = await open(region.region!.path!);
    expect(await reader.fs.readFile('f', 'utf8')).toBe('f');
    await region.fs.writeFile('f', 'changed');
    expect(await reader.fs.readFile('f', 'utf8')).toBe('changed');
    for (const name of [
      'mkdir',
      'rmdir',
      'unlink',
      'rename',
      'symlink',
      'chmod',
      'chown',
      'writeFile',
      'appendFile',
      'truncate',
      'truncateSync',
      'mkdtemp',
      'writeFile (parts)',
    ]) {
      await expect((async () => calls[name]!(reader))(), name).rejects.toMatchObject({ code: 'EROFS' });
    }
  });
});
