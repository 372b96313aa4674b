/** Goal: every refusal of open and create is one sentence with its code and the fix. Method: plant each reason in a file. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { encode, offsetOf } from '../../daxfs/codec.ts';
import { DaxfsError } from '../../daxfs/errors.ts';
import { locator, registryHeader, superblock } from '../../daxfs/layout.ts';
import { Region } from '../../daxfs/region.ts';
import { type CreateOptions, deleteRegion } from '../../daxfs/region-create.ts';
import { native } from '../../native/index.ts';
import { isRoot, smallTmpfs } from '../support/backings.ts';
import { scratchDirectory } from '../support/scratch.ts';

const MiB = 2 ** 20;
const size = 8 * MiB;
const locatorAt = offsetOf(superblock, 'locator');
let path: string;

beforeEach(() => {
  path = join(scratchDirectory(), 'region');
});

async function refusalOf(action: Promise<unknown>): Promise<DaxfsError> {
  const error = await action.then(
    () => new Error('it was not refused'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof DaxfsError)) throw error;
  expect(error.message).toMatch(/^[^\n]+\.$/);
  return error;
}

async function openingSays(code: string, words: RegExp): Promise<void> {
  const error = await refusalOf(Region.open({ path }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(words);
}

async function creatingSays(code: string, words: RegExp, options: Partial<CreateOptions> = {}): Promise<void> {
  const error = await refusalOf(Region.create({ path, size, ...options }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(words);
}

async function makeRegion(options: Partial<CreateOptions> = {}): Promise<void> {
  (await Region.create({ path, size, ...options })).close();
}

function patch(offset: number, bytes: Buffer): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

function patchLocator(fields: Parameters<typeof encode<typeof locator>>[1]): void {
  const page = readFileSync(path).subarray(locatorAt, locatorAt + locator.size);
  patch(locatorAt, encode(locator, fields, Buffer.from(page)));
}

describe('open refuses', () => {
  it('a path where nothing is', () => openingSays('DAXFS_NO_REGION', /region create/));

  it('an empty file', async () => {
    writeFileSync(path, '');
    await openingSays('DAXFS_UNFINISHED', /is blank; create it/);
  });

  it('a foreign file, short or long', async () => {
    writeFileSync(path, 'PK');
    await openingSays('DAXFS_NOT_A_REGION', /2 bytes.*not a daxserve region/);
    writeFileSync(path, randomBytes(size));
    await openingSays('DAXFS_NOT_A_REGION', /8 MiB.*give the path of one/);
  });

  it('a DAXFS image without a registry', async () => {
    writeFileSync(path, encode(superblock, { magic: 0x64617835, version: 8, block_size: 4096 }));
    await openingSays('DAXFS_NOT_A_REGION', /image without a registry; read it with "daxfs-inspect/);
  });

  it('an interrupted creation', async () => {
    await makeRegion();
    patch(0, Buffer.alloc(8));
    await openingSays('DAXFS_UNFINISHED', /creation was interrupted; create it/);
  });

  it('a newer superblock and a newer format', async () => {
    await makeRegion();
    patch(4, Buffer.from([9, 0, 0, 0x40]));
    await openingSays('DAXFS_NEWER_VERSION', /superblock version 9.*upgrade daxserve/);
    patch(4, Buffer.from([8, 0, 0, 0x40]));
    patchLocator({ format_version: 2 });
    await openingSays('DAXFS_NEWER_VERSION', /region format 2, this build reads 1.*--on-mismatch recreate/);
  });

  it('another fingerprint', async () => {
    await makeRegion();
    patchLocator({ fingerprint: 1n });
    await openingSays('DAXFS_OTHER_LAYOUT', /another layout.*--on-mismatch recreate/);
  });

  it('a truncated file', async () => {
    await makeRegion();
    truncateSync(path, 6 * MiB);
    await openingSays('DAXFS_TRUNCATED', /is 6 MiB long.*needs 8 MiB/);
  });

  it('a damaged superblock, seen by the copy of the locator', async () => {
    await makeRegion();
    patch(0, randomBytes(4096));
    await openingSays('DAXFS_CORRUPT', /superblock of the region is damaged/);
  });

  it('two damaged headers; one alone is read past', async () => {
    await makeRegion();
    const region = await Region.open({ path });
    const { registryOffset, contents } = region.header.geometry;
    region.close();
    patch(registryOffset + 500, Buffer.from('x'));
    const past = await Region.open({ path });
    expect(past.header.geometry.contents).toBe(contents);
    past.close();
    patch(registryOffset + registryHeader.size + 500, Buffer.from('x'));
    await openingSays('DAXFS_CORRUPT', /both copies of the registry header are damaged/);
  });

  it('a directory, a FIFO, a block device and an unknown device', async () => {
    mkdirSync(path);
    await openingSays('DAXFS_BAD_BACKING', /EISDIR/);
    path = `${path}.fifo`;
    execFileSync('mkfifo', [path]);
    await openingSays('DAXFS_BAD_BACKING', /neither a file nor a device/);
    path = '/dev/zero';
    await openingSays('DAXFS_BAD_BACKING', /not device-dax/);
  });

  it('descriptors that are none, and no name at all', async () => {
    path = 'fd:999999';
    await openingSays('DAXFS_BAD_BACKING', /Descriptor 999999 cannot be opened \(ENOENT\)/);
    path = '';
    await openingSays('DAXFS_BAD_BACKING', /No region is named; give --region/);
  });

  it('a file that is being created by somebody else', async () => {
    writeFileSync(path, '');
    const fd = openSync(path, 'r+');
    native.ofdLock(fd, 'write', 0, 1);
    await openingSays('DAXFS_CREATING', /being created by another process; wait/);
    await creatingSays('DAXFS_CREATING', /being created by another process; wait/);
    closeSync(fd);
  });

  it('a region that is being deleted', async () => {
    await makeRegion();
    const fd = openSync(path, 'r+');
    native.ofdLock(fd, 'write', 0, size);
    await openingSays('DAXFS_CREATING', /created or deleted by another process/);
    closeSync(fd);
  });
});

describe('create refuses', () => {
  it('a size that is too small, naming the smallest that does', async () => {
    await creatingSays('DAXFS_TOO_SMALL', /needs at least 8 MiB; raise --size or lower --overlay/, { size: 2 * MiB });
    await creatingSays('DAXFS_TOO_SMALL', /needs at least 69 MiB/, { size: 16 * MiB, overlayBytes: 64 * MiB });
    expect(existsSync(path)).toBe(false);
  });

  it('no size', () => creatingSays('DAXFS_BAD_SIZE', /give --size/, { size: undefined }));

  it('capacities out of range', async () => {
    await creatingSays('DAXFS_BAD_SIZE', /powers of two/, { capacities: { names: 1000 } });
    await creatingSays('DAXFS_BAD_SIZE', /powers of two/, { bucketCount: 3000 });
    await creatingSays('DAXFS_BAD_SIZE', /contents 1 to/, { capacities: { contents: 0 } });
  });

  it('a region that exists, and one that is in use', async () => {
    const region = await Region.create({ path, size });
    await creatingSays('DAXFS_ALREADY_CREATED', /--force/);
    await creatingSays('DAXFS_IN_USE', /is in use.*stop them first/, { force: true });
    region.close();
  });

  it('foreign bytes, with force too', async () => {
    writeFileSync(path, randomBytes(8192));
    await creatingSays('DAXFS_NOT_A_REGION', /holds something else.*remove it/, { force: true });
    const zerosFirst = Buffer.concat([Buffer.alloc(4096), randomBytes(4096)]);
    writeFileSync(path, zerosFirst);
    await creatingSays('DAXFS_NOT_A_REGION', /holds something else/);
    expect(readFileSync(path).equals(zerosFirst)).toBe(true);
  });

  it('more than the disk or the machine has', async () => {
    await creatingSays('DAXFS_NO_SPACE', /needs 4096 TiB.* free; give a smaller --size/, { size: 2 ** 52 });
    path = `/dev/shm/daxserve-test-${process.pid}`;
    await creatingSays('DAXFS_NO_SPACE', /free; give a smaller --size/, { size: 2 ** 42 });
    expect(existsSync(path)).toBe(false);
  });

  it.skipIf(!isRoot)('more than a small /dev/shm has, naming how to enlarge it', async () => {
    const small = smallTmpfs(16 * MiB);
    try {
      path = join(small.directory, 'region');
      await creatingSays('DAXFS_NO_SPACE', /has only 1[56](\.\d)? MiB free.*--size.*--shm-size/, { size: 64 * MiB });
      expect(existsSync(path)).toBe(false);
    } finally {
      small.unmount();
    }
  });

  it('a device that is not there: it must not become a file', async () => {
    path = '/dev/daxserve-test-9.0';
    await creatingSays('DAXFS_NO_REGION', /There is no device .*daxctl list/);
    expect(existsSync(path)).toBe(false);
  });

  it.skipIf(!isRoot)('a file that belongs to another user', async () => {
    writeFileSync(path, '');
    execFileSync('chown', ['65534', path]);
    await creatingSays('DAXFS_BAD_BACKING', /belongs to user 65534/);
  });

  it('a sealed memfd', async () => {
    const script =
      'import os,fcntl,sys\nfd=os.memfd_create("t",2)\nfcntl.fcntl(fd,1033,6)\nprint(fd,flush=True)\nsys.stdin.read()';
    const { spawn } = await import('node:child_process');
    const child = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    const line = await new Promise<string>((resolve) =>
      child.stdout.once('data', (data) => resolve(String(data).trim())),
    );
    const fd = openSync(`/proc/${child.pid}/fd/${line}`, 'r+');
    const error = await refusalOf(Region.create({ fd, size }));
    expect(error.message).toMatch(/cannot be given its mode and size \(EPERM\).*not sealed/);
    closeSync(fd);
    child.stdin.end();
  });
});

describe('delete refuses', () => {
  it('what is no region, and keeps it', async () => {
    writeFileSync(path, randomBytes(8192));
    expect((await refusalOf(deleteRegion({ path }))).code).toBe('DAXFS_NOT_A_REGION');
    expect(existsSync(path)).toBe(true);
  });
});

describe('openOrCreate', () => {
  it('fails on a mismatch by default and recreates when told', async () => {
    await makeRegion();
    patchLocator({ fingerprint: 1n });
    await expect(Region.openOrCreate({ path, size })).rejects.toMatchObject({ code: 'DAXFS_OTHER_LAYOUT' });
    const { region, created } = await Region.openOrCreate({ path, size, onMismatch: 'recreate' });
    expect(created).toBe(true);
    region.close();
  });

  it('does not replace a foreign file, even when told to recreate', async () => {
    writeFileSync(path, randomBytes(8192));
    await expect(Region.openOrCreate({ path, size, onMismatch: 'recreate' })).rejects.toMatchObject({
      code: 'DAXFS_NOT_A_REGION',
    });
  });

  it('follows a link to the region and names the file itself', async () => {
    await makeRegion();
    const link = `${path}.link`;
    symlinkSync(path, link);
    const { region } = await Region.openOrCreate({ path: link, size });
    expect(region.path).toBe(path);
    region.close();
  });

  it('gives up waiting when its signal says so', async () => {
    writeFileSync(path, '');
    const fd = openSync(path, 'r+');
    native.ofdLock(fd, 'write', 0, 1);
    const waiting = Region.openOrCreate({ path, size, signal: AbortSignal.timeout(150) });
    await expect(waiting).rejects.toMatchObject({ name: /Abort|Timeout/ });
    closeSync(fd);
  });
});

it('a file that lost its reservation gets it back at opening', async () => {
  await makeRegion();
  execFileSync('fallocate', ['--punch-hole', '--offset', '4194304', '--length', '2097152', path]);
  const region = await Region.open({ path });
  const fd = openSync(path, 'r');
  const { blocks } = await import('node:fs').then(({ fstatSync }) => fstatSync(fd));
  expect(blocks * 512).toBeGreaterThanOrEqual(size);
  expect(readSync(fd, Buffer.alloc(4), 0, 4, 0)).toBe(4);
  closeSync(fd);
  region.close();
});
