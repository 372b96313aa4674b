/** Every backing this machine can give to a test: each with a fresh place, given back afterwards. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { BackingKind, BackingRequest } from '../../daxfs/backing.ts';
import { native } from '../../native/index.ts';
import { until } from './until.ts';

const MiB = 2 ** 20;
export const isRoot = process.geteuid?.() === 0;

/** A place for one region. */
export interface Place {
  name: string;
  kind: BackingKind;
  request: BackingRequest;
  /** Path on its file system, or null for a memfd. */
  path: string | null;
  dispose(): Promise<void>;
}

const unique = () => `daxserve-test-${process.pid}-${randomBytes(6).toString('hex')}`;

function filePlace(name: string, kind: BackingKind, directory: string, after: () => void = () => undefined): Place {
  const path = join(directory, unique());
  const dispose = async () => {
    rmSync(path, { force: true });
    after();
  };
  return { name, kind, path, request: { path }, dispose };
}

function mounted(type: string, options: string): { directory: string; unmount: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'daxserve-mount-'));
  execFileSync('mount', ['-t', type, '-o', options, 'daxserve-test', directory]);
  const unmount = () => {
    // Lazily: a child that a failed test left behind must not keep the folder.
    execFileSync('umount', ['-l', directory]);
    rmdirSync(directory);
  };
  return { directory, unmount };
}

const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';

/** The pool is the machine's: test files that run at the same time change it one after the other. */
async function changePool(pages: number): Promise<void> {
  const fd = openSync(POOL, 'r+');
  try {
    await until(() => native.ofdLock(fd, 'write', 0, 1), 'the pool of huge pages was ours to change');
    writeFileSync(POOL, String(Math.max(0, Number(readFileSync(POOL, 'utf8')) + pages)));
  } finally {
    closeSync(fd);
  }
}

/** A process that made a memfd and keeps it open. */
async function memfdOwner(flags: string): Promise<{ child: ChildProcess; fd: number }> {
  const script = `import os,sys; fd=os.memfd_create('daxserve-test', ${flags}); print(fd, flush=True); sys.stdin.read()`;
  const child = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const reader = createInterface({ input: child.stdout! });
  const [line] = (await once(reader, 'line')) as [string];
  reader.close();
  return { child, fd: openSync(`/proc/${child.pid}/fd/${line}`, 'r+') };
}

async function memfdPlace(name: string, flags: string, after: () => Promise<void>): Promise<Place> {
  const { child, fd } = await memfdOwner(flags);
  const dispose = async () => {
    closeSync(fd);
    child.stdin?.end();
    if (child.exitCode === null) await once(child, 'exit');
    await after();
  };
  return { name, kind: 'memfd', path: null, request: { fd }, dispose };
}

export const BACKING_NAMES = [
  'tmpfs (/dev/shm)',
  'tmpfs of its own, huge=within_size',
  'hugetlbfs',
  'memfd',
  'memfd of huge pages',
  'file',
] as const;
export type BackingName = (typeof BACKING_NAMES)[number];

/** Why a backing cannot be tried here; null when it can. */
export function cannotHave(name: BackingName): string | null {
  const needsRoot = name.includes('huge');
  if (needsRoot && !isRoot) return 'mounting and reserving huge pages need root';
  if (name.startsWith('hugetlb') && !existsSync(POOL)) return 'the kernel has no 2 MiB huge pages';
  return null;
}

/** @param bytes how much the test will put there at most */
export async function placeOn(name: BackingName, bytes: number): Promise<Place> {
  const pages = Math.ceil(bytes / (2 * MiB)) + 1;
  const giveBack = () => changePool(-pages);
  switch (name) {
    case 'tmpfs (/dev/shm)':
      return filePlace(name, 'tmpfs', '/dev/shm');
    case 'file':
      return filePlace(name, 'file', tmpdir());
    case 'memfd':
      return memfdPlace(name, '0', async () => undefined);
    case 'memfd of huge pages':
      await changePool(pages);
      return memfdPlace(name, 'os.MFD_HUGETLB', giveBack);
    case 'hugetlbfs': {
      await changePool(pages);
      const { directory, unmount } = mounted('hugetlbfs', 'pagesize=2M,mode=0700');
      const place = filePlace(name, 'hugetlbfs', directory, unmount);
      return {
        ...place,
        dispose: async () => {
          await place.dispose();
          await giveBack();
        },
      };
    }
    default: {
      const { directory, unmount } = mounted('tmpfs', 'huge=within_size,mode=0700');
      return filePlace(name, 'tmpfs', directory, unmount);
    }
  }
}

/** A tmpfs of this many bytes, as small as a container's /dev/shm. Needs root. */
export function smallTmpfs(bytes: number): { directory: string; unmount: () => void } {
  return mounted('tmpfs', `size=${bytes}`);
}
