/** Where a region goes when nobody says: the fastest memory this process may use, with the reason and what would be faster. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CONSTANTS } from './layout.ts';
import { cgroupLimit, freeHugeBytes, hugePagePools, memoryAvailable } from './memory-limits.ts';
import { regionBytesMin } from './region-layout.ts';
import { formatBytes, roundDown } from './units.ts';

/** A place for the default region. */
export interface DefaultBacking {
  path: string;
  /** Bytes to create; of an existing region its file's size. */
  sizeBytes: number;
  /** The file is there already: open it. */
  exists: boolean;
  /** One sentence: which memory, and why this one. */
  why: string;
  /** One sentence: what would be faster; null when nothing would. */
  faster: string | null;
}

/** What decides; tests give their own. */
export interface DefaultEnvironment {
  root: string;
  uid: number;
  /** May mount. */
  privileged: boolean;
  runDir: string;
  shmDir: string;
}

interface Mount {
  path: string;
  type: string;
  options: string;
}

interface Candidate {
  path: string;
  freeBytes: number;
  why: string;
  faster: string | null;
}

const fileName = 'region';
/** Below this a pool of huge pages is taken for somebody else's leftover. */
const hugeBytesMin = 64 * 2 ** 20;
const unescapePath = (path: string) =>
  path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));

/** @param text of /proc/self/mountinfo */
export function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left, right] = line.split(' - ');
    const path = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    return path && type ? [{ path: unescapePath(path), type, options: options ?? '' }] : [];
  });
}

/** @param runtimeDir folder for run-time files, default /run or the user's ($XDG_RUNTIME_DIR is the caller's to read) */
export function currentEnvironment(runtimeDir?: string): DefaultEnvironment {
  const uid = process.geteuid?.() ?? 0;
  const runDir = join(runtimeDir ?? (uid === 0 ? '/run' : `/run/user/${uid}`), 'daxserve');
  return { root: '/', uid, privileged: uid === 0, runDir, shmDir: '/dev/shm' };
}

function readMounts({ root }: DefaultEnvironment): Mount[] {
  try {
    return parseMounts(readFileSync(join(root, 'proc/self/mountinfo'), 'utf8'));
  } catch {
    return [];
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Mounts once, in a folder of our own; what is mounted there already is used again. False when not allowed. */
function ensureMount(type: 'tmpfs' | 'hugetlbfs', path: string, options: string, env: DefaultEnvironment): boolean {
  if (readMounts(env).some((mount) => mount.path === path && mount.type === type)) return true;
  if (!env.privileged) return false;
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    execFileSync('mount', ['-t', type, '-o', options, 'daxserve', path], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const hugePageOf = (path: string): number => Number(statfsSync(path).bsize);

/** A hugetlbfs that this user may write to: one that is mounted, or with privileges one of our own. */
function hugetlbfsMount(env: DefaultEnvironment): string | null {
  const own = join(env.runDir, 'huge');
  const usable = readMounts(env).filter(({ type, path }) => type === 'hugetlbfs' && isWritable(path));
  const mounted = usable.find(({ path }) => path === own) ?? usable[0];
  if (mounted) return mounted.path;
  const [pool] = hugePagePools(env.root);
  if (!pool || pool.freeBytes < hugeBytesMin) return null;
  return ensureMount('hugetlbfs', own, `pagesize=${pool.pageBytes},mode=0700`, env) ? own : null;
}

const nameIn = (env: DefaultEnvironment) => (env.uid === 0 ? 'daxserve-region' : `daxserve-region-${env.uid}`);

function hugetlbfsCandidate(env: DefaultEnvironment): Candidate | null {
  const mount = hugetlbfsMount(env);
  if (!mount) return null;
  const freeBytes = Math.min(freeOf(mount), freeHugeBytes(hugePageOf(mount), env.root));
  const why = `huge pages are reserved (${formatBytes(freeBytes)} free) and ${mount} is writable`;
  return { path: join(mount, nameIn(env)), freeBytes, why, faster: null };
}

const freeOf = (path: string): number => {
  const { bavail, bsize, blocks } = statfsSync(path);
  return blocks === 0 ? Number.MAX_SAFE_INTEGER : bavail * bsize;
};

const RESERVE_HUGE = 'reserving huge pages (sysctl vm.nr_hugepages=N) and starting again';

/** A tmpfs of our own: it gives 2 MiB pages also where the machine's default for shared memory is 4 KiB. */
function ownTmpfsCandidate(env: DefaultEnvironment): Candidate | null {
  const mount = join(env.runDir, 'mem');
  if (!ensureMount('tmpfs', mount, 'huge=within_size,size=95%,mode=0700', env)) return null;
  if (!isWritable(mount)) return null;
  const why = `no reserved huge pages are free, and a tmpfs of our own (${mount}, huge=within_size) has 2 MiB pages`;
  const faster = `${RESERVE_HUGE} gives memory that is never split or swapped`;
  return { path: join(mount, fileName), freeBytes: freeOf(mount), why, faster };
}

function shmCandidate(env: DefaultEnvironment): Candidate {
  const why = `neither reserved huge pages nor a tmpfs of our own can be had as user ${env.uid}; ${env.shmDir} is there for all`;
  const enabled = join(env.root, 'sys/kernel/mm/transparent_hugepage/shmem_enabled');
  const small = existsSync(enabled) && !/\[(always|within_size|advise|force)\]/.test(readFileSync(enabled, 'utf8'));
  const faster = small
    ? `${RESERVE_HUGE}, or echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled, gives 2 MiB pages: loading is several times faster than with 4 KiB pages`
    : `${RESERVE_HUGE} gives memory that is never split or swapped`;
  return { path: join(env.shmDir, nameIn(env)), freeBytes: freeOf(env.shmDir), why, faster };
}

/**
 * min(50 % of available memory, the cgroup's free limit, free space), in whole chunks. A fifth of the cgroup's limit is
 * left for the service itself. Reserved huge pages are counted in neither, so all that are free are taken.
 */
function defaultSize(candidate: Candidate, huge: boolean, env: DefaultEnvironment): number {
  const chunk = CONSTANTS.chunkBytes.value;
  if (huge) return roundDown(candidate.freeBytes, chunk);
  const group = cgroupLimit(env.root);
  const limits = [memoryAvailable(env.root) / 2, candidate.freeBytes, group ? group.freeBytes * 0.8 : Infinity];
  return roundDown(Math.floor(Math.min(...limits)), chunk);
}

function existing({ path, why, faster }: Candidate): DefaultBacking | null {
  if (!existsSync(path)) return null;
  const sizeBytes = statSync(path).size;
  return { path, sizeBytes, exists: sizeBytes > 0, why: `a region is there already; ${why}`, faster };
}

/** The default region that exists, without mounting anything; null when there is none. */
export function findDefault(env: DefaultEnvironment = currentEnvironment()): DefaultBacking | null {
  const candidates = candidatesOf({ ...env, privileged: false });
  for (const candidate of candidates) {
    const found = candidate && existing(candidate);
    if (found?.exists) return found;
  }
  return null;
}

const candidatesOf = (env: DefaultEnvironment) =>
  [hugetlbfsCandidate(env), ownTmpfsCandidate(env), shmCandidate(env)] as const;

/**
 * The place and size of the default region. May mount a file system of our own (with privileges), once.
 * @param size bytes asked for; without it as much as is sensible
 */
export function chooseDefault(size?: number, env: DefaultEnvironment = currentEnvironment()): DefaultBacking {
  // A region that exists comes first: the service adopts it after a restart, however full it makes its memory.
  const found = findDefault(env);
  if (found) return found;
  const [huge, own, shm] = candidatesOf(env);
  const needed = Math.max(size ?? hugeBytesMin, regionBytesMin);
  const chosen = huge && huge.freeBytes >= needed ? huge : (own ?? shm);
  const sizeBytes = size ?? defaultSize(chosen, chosen === huge, env);
  return { path: chosen.path, sizeBytes, exists: false, why: chosen.why, faster: chosen.faster };
}
