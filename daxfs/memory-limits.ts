/** How much memory may be used here: the machine's, the cgroup's, and the pools of huge pages. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function readNumber(path: string): number | null {
  const text = readText(path)?.trim();
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
}

/** Bytes that can still be had without swapping out (MemAvailable). */
export function memoryAvailable(root = '/'): number {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readText(join(root, 'proc/meminfo')) ?? '');
  return match ? Number(match[1]) * 1024 : 0;
}

export interface CgroupLimit {
  /** Bytes that the tightest group on the way up still grants. */
  freeBytes: number;
  limitBytes: number;
  /** The file that states the limit, for messages. */
  file: string;
}

interface Controller {
  mount: string;
  limit: string;
  usage: string;
  /** Line of memory.stat with page cache that the kernel drops on demand. */
  cache: RegExp;
}

const V2: Omit<Controller, 'mount'> = {
  limit: 'memory.max',
  usage: 'memory.current',
  cache: /^inactive_file (\d+)$/m,
};
const V1: Omit<Controller, 'mount'> = {
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  cache: /^total_inactive_file (\d+)$/m,
};

/** Our group in the hierarchies that control memory: `0::/path` is v2, `4:memory:/path` is v1. */
function* memoryGroups(root: string): Generator<{ controller: Controller; path: string }> {
  for (const line of (readText(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined || controllers === undefined) continue;
    if (controllers === '') {
      yield { controller: { ...V2, mount: join(root, 'sys/fs/cgroup') }, path };
      yield { controller: { ...V2, mount: join(root, 'sys/fs/cgroup/unified') }, path };
    } else if (controllers.split(',').includes('memory')) {
      yield { controller: { ...V1, mount: join(root, 'sys/fs/cgroup/memory') }, path };
    }
  }
}

function limitOf(controller: Controller, directory: string): CgroupLimit | null {
  const file = join(directory, controller.limit);
  const limitBytes = readNumber(file);
  const used = readNumber(join(directory, controller.usage));
  // v1 says "no limit" with a number near 2^63; v2 with the word max, which is no number.
  if (limitBytes === null || used === null || limitBytes > 2 ** 52) return null;
  const cached = Number(controller.cache.exec(readText(join(directory, 'memory.stat')) ?? '')?.[1] ?? 0);
  return { freeBytes: Math.max(0, limitBytes - used + cached), limitBytes, file };
}

/** The tightest memory limit of this process's groups, own group to root; null when there is none. */
export function cgroupLimit(root = '/'): CgroupLimit | null {
  let tightest: CgroupLimit | null = null;
  for (const { controller, path } of memoryGroups(root)) {
    // In a container the path may name a group outside of what is mounted: then only the mount's root is there.
    for (let at = path; ; at = at.slice(0, at.lastIndexOf('/'))) {
      const found = limitOf(controller, join(controller.mount, at));
      if (found && (!tightest || found.freeBytes < tightest.freeBytes)) tightest = found;
      if (at === '' || at === '/') break;
    }
  }
  return tightest;
}

/** Bytes of huge pages of this size that nobody has or has reserved. */
export function freeHugeBytes(pageBytes: number, root = '/'): number {
  const pool = join(root, 'sys/kernel/mm/hugepages', `hugepages-${pageBytes / 1024}kB`);
  const free = readNumber(join(pool, 'free_hugepages')) ?? 0;
  const reserved = readNumber(join(pool, 'resv_hugepages')) ?? 0;
  return Math.max(0, free - reserved) * pageBytes;
}

/** Sizes of huge pages that have free pages, largest pool first. */
export function hugePagePools(root = '/'): { pageBytes: number; freeBytes: number }[] {
  let names: string[] = [];
  try {
    names = readdirSync(join(root, 'sys/kernel/mm/hugepages'));
  } catch {
    return [];
  }
  return names
    .map((name) => Number(/^hugepages-(\d+)kB$/.exec(name)?.[1] ?? 0) * 1024)
    .filter((pageBytes) => pageBytes > 0)
    .map((pageBytes) => ({ pageBytes, freeBytes: freeHugeBytes(pageBytes, root) }))
    .filter(({ freeBytes }) => freeBytes > 0)
    .sort((a, b) => b.freeBytes - a.freeBytes);
}
