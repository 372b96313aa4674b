/**
 * Goal: memory of heaps and mounts are asked for correctly. Method: the real system calls on what a machine without the
 * daxfs module has (tmpfs in its place, devices that are no heaps); mount tables and options as text.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statfsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { findMount } from '../../daxfs/inspect/source.ts';
import { mountImage, mountOptions } from '../../daxfs/mkdaxfs/mount.ts';
import { toRequest } from '../../daxfs/mkdaxfs/options.ts';
import { native } from '../../native/index.ts';
import { scratchDirectory } from '../support/scratch.ts';

const isRoot = process.getuid?.() === 0;
const TMPFS_MAGIC = 0x01021994;

function withFd<T>(path: string, body: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return body(fd);
  } finally {
    closeSync(fd);
  }
}

it.runIf(isRoot)('mounts with flags and strings through the new calls', async () => {
  const target = scratchDirectory();
  await native.mountFilesystem('tmpfs', target, [
    { name: 'size', value: '1048576' },
    { name: 'mode', value: '0700' },
    { name: 'noswap' },
  ]);
  try {
    const { type, blocks, bsize } = statfsSync(target);
    expect([type, blocks * bsize]).toEqual([TMPFS_MAGIC, 2 ** 20]);
  } finally {
    execFileSync('umount', [target]);
  }
});

it.runIf(isRoot)('a refused option names itself and what the filesystem said', async () => {
  const target = scratchDirectory();
  const options = [{ name: 'size', value: 'nonsense' }];
  const error = await native.mountFilesystem('tmpfs', target, options).catch((reason: Error) => reason);
  expect(error).toMatchObject({ code: 'EINVAL', message: expect.stringMatching(/fsconfig size \(.*size.*\)/) });
});

it.runIf(isRoot)('a descriptor is passed as such', async () => {
  await withFd('/', async (fd) => {
    const mounting = native.mountFilesystem('tmpfs', scratchDirectory(), [{ name: 'size', fd }]);
    await expect(mounting).rejects.toMatchObject({ code: 'EINVAL', syscall: expect.stringMatching(/^fsconfig size/) });
  });
});

it('a kernel without the module says what to load', async () => {
  const request = toRequest({ empty: true, heap: '/dev/dma_heap/x', mountpoint: scratchDirectory() });
  const mounting = mountImage(request, { source: { physical: 2 ** 32 }, bytes: 2 ** 20 });
  await expect(mounting).rejects.toMatchObject({
    code: 'DAXFS_MOUNT_FAILED',
    message: expect.stringMatching(
      isRoot ? /no file system "daxfs": load its module \(modprobe daxfs\)/ : /run as root/,
    ),
  });
});

it('what is no heap and no daxfs gives ENOTTY', async () => {
  const fd = openSync('/dev/null', 'r+');
  await expect(native.dmaHeapAllocate(fd, 4096)).rejects.toMatchObject({
    code: 'ENOTTY',
    syscall: 'DMA_HEAP_IOCTL_ALLOC',
  });
  expect(() => native.dmaBufSync(fd, false)).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  closeSync(fd);
  withFd('/', (root) => expect(() => native.daxfsDmaBuf(root)).toThrow(expect.objectContaining({ code: 'ENOTTY' })));
  expect(() => native.dmaHeapAllocate(-1, 4096)).toThrow(/fd must be/);
  expect(() => native.dmaHeapAllocate(0, 0)).toThrow(/length must be above 0/);
});

it('mount options of every mode', () => {
  const directory = scratchDirectory();
  const physical = { source: { physical: 0x1_0000_0000 }, bytes: 268435456 };
  const place = [
    { name: 'phys', value: '0x100000000' },
    { name: 'size', value: '268435456' },
  ];
  const common = { dax: '/dev/dax0.0', mountpoint: '/mnt' };
  expect(mountOptions(toRequest({ ...common, empty: true, validate: true }), physical)).toEqual([
    ...place,
    { name: 'validate' },
  ]);
  expect(mountOptions(toRequest({ ...common, directory, output: '/etc/passwd' }), physical)).toEqual([
    ...place,
    { name: 'backing', value: '/etc/passwd' },
  ]);
  expect(mountOptions(toRequest({ ...common, directory, export: true }), physical)).toEqual([
    ...place,
    { name: 'export', value: directory },
  ]);
  // A tree without bytes leaves no backing file.
  expect(mountOptions(toRequest({ ...common, directory, output: `${directory}/none` }), physical)).toEqual(place);
  const buffer = { source: { dmaBuf: 7 }, bytes: 4096 };
  expect(mountOptions(toRequest({ ...common, empty: true }), buffer)).toEqual([{ name: 'dmabuf', fd: 7 }]);
});

it('a line of mountinfo', () => {
  const table = [
    '36 35 98:0 / /mnt rw,noatime shared:1 - daxfs daxfs rw,name=x,phys=0x100000000,size=268435456,overlay',
    '37 35 98:1 / /buf rw - daxfs none rw,source=dmabuf,size=1048576',
    '38 35 98:2 / /with\\040space rw - daxfs none rw,size=4096',
    '39 35 98:3 / /odd rw - daxfs none rw,size=many,phys=-1',
    '40 35 98:4 / /mnt2 rw - ext4 /dev/vda rw',
    '41 35 98:5 / /buf rw - tmpfs tmpfs rw',
    'broken line',
    '',
  ].join('\n');
  expect(findMount(table, '/mnt')).toEqual({ mountpoint: '/mnt', size: 268435456, physical: 0x100000000 });
  expect(findMount(table, '/with space')).toEqual({ mountpoint: '/with space', size: 4096, physical: undefined });
  expect(findMount(table, '/odd')).toEqual({ mountpoint: '/odd', size: undefined, physical: undefined });
  expect(findMount(table, '/mnt2')).toEqual({ type: 'ext4' });
  // The mount on top counts.
  expect(findMount(table, '/buf')).toEqual({ type: 'tmpfs' });
  expect(findMount(table, '/none')).toBeUndefined();
});
