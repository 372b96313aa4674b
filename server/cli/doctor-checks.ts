/** What `daxserve doctor` looks at: one check, one line, and the fix in it. */
import { accessSync, constants, readdirSync, readFileSync, statfsSync } from 'node:fs';
import { connect } from 'node:net';
import { release } from 'node:os';
import { cgroupLimit, hugePagePools, memoryAvailable } from '../../daxfs/memory-limits.ts';
import type { ApiClient } from '../client.ts';
import { bytes } from './output.ts';

export interface Finding {
  check: string;
  verdict: 'ok' | 'warn' | 'fail';
  detail: string;
}

type Check = () => Finding | Promise<Finding>;

const ok = (check: string, detail: string): Finding => ({ check, verdict: 'ok', detail });
const warn = (check: string, detail: string): Finding => ({ check, verdict: 'warn', detail });
const fail = (check: string, detail: string): Finding => ({ check, verdict: 'fail', detail });

function text(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function checkNode(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= 20) return ok('node', process.version);
  return fail('node', `${process.version} is too old; install Node.js 20 or newer.`);
}

function checkKernel(): Finding {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const version = `Linux ${release()}`;
  if (process.platform !== 'linux') return fail('kernel', `${process.platform} is not supported; run on Linux.`);
  if (major > 5 || (major === 5 && minor >= 14)) return ok('kernel', version);
  if (major === 5 && minor >= 12)
    return warn(
      'kernel',
      `${version}: before 5.14 memory is reserved page by page, which is slower; update the kernel.`,
    );
  return warn('kernel', `${version}: before 5.12 there are no read-only mount clones; read-only is advisory for root.`);
}

async function checkAddon(): Promise<Finding> {
  try {
    const { native } = await import('../../native/index.ts');
    return ok('native addon', `registry format ${native.registryFormatVersion}`);
  } catch (error) {
    return fail('native addon', `${error instanceof Error ? error.message : error} Build it with "npm run setup".`);
  }
}

function checkCpu(): Finding {
  if (process.arch === 'arm64') return ok('cpu', 'arm64');
  if (process.arch !== 'x64')
    return fail('cpu', `${process.arch} has no 16-byte compare-and-swap we can use; use x86-64 or arm64.`);
  if (/\bcx16\b/.test(text('/proc/cpuinfo') ?? '')) return ok('cpu', 'x86-64 with cmpxchg16b');
  return fail('cpu', 'this CPU lacks cmpxchg16b; use a newer one.');
}

function checkHugePages(): Finding {
  const pools = hugePagePools().filter((pool) => pool.freeBytes > 0);
  const free = pools.map((pool) => `${bytes(pool.freeBytes)} in pages of ${bytes(pool.pageBytes)}`).join(', ');
  if (free) return ok('huge pages', `${free} reserved and free`);
  return warn('huge pages', 'none reserved; attaching is fastest with them: sysctl vm.nr_hugepages=N (2 MiB each).');
}

function checkShmem(): Finding {
  const setting = /\[(\w+)\]/.exec(text('/sys/kernel/mm/transparent_hugepage/shmem_enabled') ?? '')?.[1];
  if (setting === undefined) return warn('tmpfs huge pages', 'this kernel has none; expect 4 KiB pages on tmpfs.');
  if (setting !== 'never' && setting !== 'deny') return ok('tmpfs huge pages', `shmem_enabled is ${setting}`);
  if (process.getuid?.() === 0)
    return ok('tmpfs huge pages', `shmem_enabled is ${setting}; a tmpfs of our own uses them`);
  return warn('tmpfs huge pages', `shmem_enabled is ${setting}; mount a tmpfs with -o huge=within_size for --region.`);
}

function checkShm(): Finding {
  try {
    const { bavail, bsize, blocks } = statfsSync('/dev/shm');
    const size = blocks * bsize;
    if (size > 0 && size <= 64 * 1024 * 1024)
      return warn('/dev/shm', `only ${bytes(size)}; in a container give --shm-size or mount a larger tmpfs.`);
    return ok('/dev/shm', `${bytes(bavail * bsize)} free of ${bytes(size)}`);
  } catch {
    return warn('/dev/shm', 'is not mounted; give --region a path on another tmpfs.');
  }
}

function checkMemlock(): Finding {
  const line = /^Max locked memory +(\S+)/m.exec(text('/proc/self/limits') ?? '')?.[1];
  const enough = line === 'unlimited' || Number(line) >= 1024 ** 3;
  if (enough || process.getuid?.() === 0)
    return ok('locked memory', line === 'unlimited' ? 'unlimited' : 'enough, or root');
  return warn(
    'locked memory',
    `${bytes(Number(line))} at most; registered buffers fall back to copies: ulimit -l unlimited.`,
  );
}

function checkDescriptors(): Finding {
  const limit = /^Max open files +\S+ +(\S+)/m.exec(text('/proc/self/limits') ?? '')?.[1] ?? '0';
  if (limit === 'unlimited' || Number(limit) >= 4096) return ok('descriptors', `${limit} at most`);
  return warn('descriptors', `only ${limit} at most, one per worker: raise "ulimit -n".`);
}

function checkMemory(): Finding {
  const available = memoryAvailable();
  const group = cgroupLimit();
  const detail = `${bytes(available)} available${group ? `, cgroup leaves ${bytes(group.freeBytes)} of ${bytes(group.limitBytes)}` : ''}`;
  const least = Math.min(available, group?.freeBytes ?? available);
  if (least >= 1024 ** 3) return ok('memory', detail);
  return warn('memory', `${detail}: little room for models; free some or raise the limit.`);
}

/** Whether this process may make the read-only mounts that keep workers from reopening memory for writing. */
async function checkReadOnly(): Promise<Finding> {
  const name = 'read-only';
  try {
    const { native } = await import('../../native/index.ts');
    const { closeSync } = await import('node:fs');
    closeSync(native.cloneReadOnly('/dev/shm'));
    return ok(name, 'enforced: mounts can be cloned read-only');
  } catch (error) {
    const { code } = error as { code?: string };
    return warn(
      name,
      `advisory for root and same-uid workers (${code ?? error}); run with CAP_SYS_ADMIN to enforce it.`,
    );
  }
}

function checkNuma(): Finding {
  try {
    const nodes = readdirSync('/sys/devices/system/node').filter((entry) => /^node\d+$/.test(entry)).length;
    return nodes > 1
      ? warn('numa', `${nodes} nodes: choose --numa interleave, or bind:N next to the workers.`)
      : ok('numa', 'one node');
  } catch {
    return ok('numa', 'one node');
  }
}

function checkDax(): Finding {
  const devices = readdirSync('/dev').filter((entry) => /^dax\d/.test(entry));
  if (devices.length === 0) return ok('dax devices', 'none here');
  const usable = devices.filter((device) => {
    try {
      accessSync(`/dev/${device}`, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (usable.length > 0)
    return ok('dax devices', `${usable.map((device) => `/dev/${device}`).join(', ')}: give one as --region`);
  return warn(
    'dax devices',
    `${devices.join(', ')} may not be opened by this user; give it the right, or run as root.`,
  );
}

/** Is a service there, and may it be used? */
function checkService(client: ApiClient): Check {
  return async () => {
    try {
      const { status, version } = await client.health();
      const region = await client.region();
      return ok(
        'service',
        `${version} is ${status} on ${client.url}, region of ${bytes(region.size)} on ${region.backing}`,
      );
    } catch (error) {
      return warn('service', error instanceof Error ? error.message : String(error));
    }
  };
}

/** Does somebody listen on the worker socket? */
function checkSocket(path: string): Check {
  return () =>
    new Promise((settle) => {
      const socket = connect(path);
      socket.once('connect', () => {
        socket.destroy();
        settle(ok('worker socket', path));
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        const fix =
          error.code === 'EACCES' ? 'this user may not open it: see --socket-group' : 'start "daxserve serve"';
        settle(warn('worker socket', `${path} does not answer (${error.code}): ${fix}.`));
      });
    });
}

/** Every check, in the order in which one would fix things. */
export function doctorChecks(client: ApiClient, socketPath: string): Check[] {
  return [
    checkNode,
    checkKernel,
    checkCpu,
    checkAddon,
    checkMemory,
    checkShm,
    checkHugePages,
    checkShmem,
    checkReadOnly,
    checkMemlock,
    checkDescriptors,
    checkNuma,
    checkDax,
    checkService(client),
    checkSocket(socketPath),
  ];
}
