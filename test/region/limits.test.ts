/** Goal: sizes, limits and the default place are understood. Method: trees that look like /proc and /sys, and the real machine. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openBacking, readDaxGeometry } from '../../daxfs/backing.ts';
import { chooseDefault, findDefault, parseMounts } from '../../daxfs/default-backing.ts';
import { cgroupLimit, freeHugeBytes, hugePagePools, memoryAvailable } from '../../daxfs/memory-limits.ts';
import { parseNumaPolicy, parsePages } from '../../daxfs/page-size.ts';
import { reserve } from '../../daxfs/region-space.ts';
import { formatBytes, parseNuma, parseSize } from '../../daxfs/units.ts';
import { native } from '../../native/index.ts';
import { isRoot, smallTmpfs } from '../support/backings.ts';
import { scratchDirectory } from '../support/scratch.ts';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

function tree(files: Record<string, string>): string {
  const root = scratchDirectory();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

describe('sizes', () => {
  it.each([
    ['4096', 4096],
    ['8G', 8 * GiB],
    ['512m', 512 * MiB],
    ['1.5 GiB', 1.5 * GiB],
    ['64KB', 65536],
    ['2T', 2 ** 41],
    ['100B', 100],
  ])('%s', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(['', 'G', '-1G', '1X', '1e9', '0', '0x10', '9999999T', '1 2', 'NaN'])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'DAXFS_BAD_SIZE' }));
  });

  it('percent of something, or a refusal', () => {
    expect(parseSize('50%', 1000)).toBe(500);
    expect(() => parseSize('50%')).toThrow(/no meaning here/);
  });

  it('are shown without rounding up', () => {
    expect([0, 1023, 1024, 1.99 * MiB, 64 * GiB, 2 ** 52].map(formatBytes)).toEqual([
      '0 bytes',
      '1023 bytes',
      '1 KiB',
      '1.9 MiB',
      '64 GiB',
      '4096 TiB',
    ]);
  });

  it('placements', () => {
    expect(parseNuma('interleave')).toEqual({ mode: 'interleave' });
    expect(parseNuma('bind:3')).toEqual({ mode: 'bind', node: 3 });
    for (const text of ['bind', 'bind:x', 'bind:1024', 'local']) expect(() => parseNuma(text)).toThrow(/bind:NODE/);
  });
});

describe('memory limits', () => {
  it('cgroup v2: the tightest group on the way up, page cache counted as free', () => {
    const root = tree({
      'proc/self/cgroup': '0::/pod/container\n',
      'sys/fs/cgroup/pod/memory.max': `${4 * GiB}\n`,
      'sys/fs/cgroup/pod/memory.current': `${GiB}\n`,
      'sys/fs/cgroup/pod/container/memory.max': `${2 * GiB}\n`,
      'sys/fs/cgroup/pod/container/memory.current': `${GiB}\n`,
      'sys/fs/cgroup/pod/container/memory.stat': `anon 1\ninactive_file ${MiB}\nslab 3\n`,
    });
    const limit = cgroupLimit(root);
    expect(limit).toMatchObject({ freeBytes: GiB + MiB, limitBytes: 2 * GiB });
    expect(limit?.file).toMatch(/container\/memory\.max$/);
  });

  it('cgroup v1, in a container that sees only its own mount', () => {
    const root = tree({
      'proc/self/cgroup': '5:devices:/x\n4:cpu,memory:/docker/abc\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': `${GiB}\n`,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': '1000\n',
      'sys/fs/cgroup/memory/memory.stat': 'total_inactive_file 500\n',
    });
    expect(cgroupLimit(root)).toMatchObject({ freeBytes: GiB - 500, limitBytes: GiB });
  });

  it('no limit is no limit', () => {
    const v2 = tree({ 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': 'max\n' });
    const v1 = tree({
      'proc/self/cgroup': '4:memory:/\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      'sys/fs/cgroup/memory/memory.usage_in_bytes': '5\n',
    });
    expect([cgroupLimit(v2), cgroupLimit(v1), cgroupLimit(tree({}))]).toEqual([null, null, null]);
  });

  it('pools of huge pages, without what is promised to others', () => {
    const pool = 'sys/kernel/mm/hugepages/hugepages-2048kB';
    const root = tree({ [`${pool}/free_hugepages`]: '10\n', [`${pool}/resv_hugepages`]: '4\n' });
    expect(freeHugeBytes(2 * MiB, root)).toBe(12 * MiB);
    expect(hugePagePools(root)).toEqual([{ pageBytes: 2 * MiB, freeBytes: 12 * MiB }]);
    expect(hugePagePools(tree({}))).toEqual([]);
  });

  it('the machine’s own', () => expect(memoryAvailable()).toBeGreaterThan(64 * MiB));

  it.skipIf(!isRoot)('a tmpfs that runs full while reserving says so, and nothing dies of SIGBUS', async () => {
    const small = smallTmpfs(8 * MiB);
    const path = join(small.directory, 'file');
    writeFileSync(path, '');
    truncateSync(path, 32 * MiB);
    const backing = openBacking({ path }, { write: true, create: false });
    const mapping = new native.Mapping(backing.fd, 0, 32 * MiB, { write: true });
    try {
      const error = await reserve(mapping, backing, { offset: 0, length: 32 * MiB, fresh: true }).catch(
        (e: unknown) => e,
      );
      expect(error).toMatchObject({ code: 'DAXFS_NO_SPACE' });
      expect((error as Error).message).toMatch(/ran out of space.*--size/);
    } finally {
      mapping.close();
      closeSync(backing.fd);
      small.unmount();
    }
  });
});

describe('device-dax', () => {
  it('size and alignment from sysfs', () => {
    const device = join(tree({ 'dax0.0/size': '1075838976\n', 'dax0.0/align': '2097152\n' }), 'dax0.0');
    expect(readDaxGeometry(device)).toEqual({ sizeBytes: 1075838976, alignment: 2 * MiB });
    const gigantic = join(tree({ 'dax1.0/size': `${3 * GiB + 5}\n`, 'dax1.0/align': `${GiB}\n` }), 'dax1.0');
    expect(readDaxGeometry(gigantic)).toEqual({ sizeBytes: 3 * GiB, alignment: GiB });
  });

  it('an old kernel without the alignment means 2 MiB', () => {
    const device = join(tree({ 'dax0.0/size': '4194304\n' }), 'dax0.0');
    expect(readDaxGeometry(device)).toEqual({ sizeBytes: 4 * MiB, alignment: 2 * MiB });
  });

  it('nonsense is refused', () => {
    for (const files of [{}, { size: '0' }, { size: 'x' }, { size: '4194304', align: '3' }]) {
      const root = tree(
        Object.fromEntries(Object.entries(files).map(([name, text]) => [`dax0.0/${name}`, text as string])),
      );
      expect(() => readDaxGeometry(join(root, 'dax0.0'))).toThrow(/does not state a size and an alignment/);
    }
  });

  // A region on a real device: test/twohost/device-dax.test.ts.
});

describe('pages in force', () => {
  const smaps = (pages: string) =>
    `7f00-7f10 rw-s 00000000 00:1b 77 /dev/shm/x\n${pages}VmFlags: rd\n7f20-7f30 r--p 0 0 0\nRss: 4 kB\n`;

  it('4 KiB, transparent and reserved huge pages', () => {
    const small = smaps('KernelPageSize: 4 kB\nRss: 8192 kB\nShmemPmdMapped: 0 kB\n');
    expect(parsePages(small, 77)).toMatchObject({ pageBytes: 4096, residentBytes: 8 * MiB, hugeBytes: 0 });
    const thp = smaps('KernelPageSize: 4 kB\nRss: 8192 kB\nShmemPmdMapped: 6144 kB\n');
    expect(parsePages(thp, 77)).toMatchObject({ pageBytes: 2 * MiB, hugeBytes: 6 * MiB });
    const reserved = smaps('KernelPageSize: 2048 kB\nRss: 0 kB\nShared_Hugetlb: 4096 kB\n');
    expect(parsePages(reserved, 77)).toMatchObject({ pageBytes: 2 * MiB, residentBytes: 4 * MiB });
    expect(parsePages(small, 78)).toBeNull();
  });

  it('the policy of memory nodes', () => {
    const maps = '7f00 interleave:0-1 file=/dev/shm/x dirty=3 N0=2\n7f10 default file=/dev/shm/xy\n';
    expect(parseNumaPolicy(maps, '/dev/shm/x')).toBe('interleave:0-1');
    expect(parseNumaPolicy(maps, '/dev/shm/xy')).toBe('default');
    expect(parseNumaPolicy(maps, '/dev/shm/z')).toBeNull();
  });
});

describe('the default place', () => {
  const mountinfo = '31 1 0:5 / /with\\040space rw - tmpfs none rw,size=5k\nbroken line\n';

  it('reads mounts', () => {
    expect(parseMounts(mountinfo)).toEqual([{ path: '/with space', type: 'tmpfs', options: 'rw,size=5k' }]);
  });

  function environment(files: Record<string, string> = {}) {
    const root = tree({
      'proc/meminfo': `MemAvailable:  ${256 * 1024} kB\n`,
      'proc/self/mountinfo': '',
      'sys/kernel/mm/transparent_hugepage/shmem_enabled': 'always advise [never] deny\n',
      'shm/keep': '',
      ...files,
    });
    return { root, uid: 1000, privileged: false, runDir: join(root, 'run'), shmDir: join(root, 'shm') };
  }

  it('without rights: /dev/shm, half of what is available, and what would be faster', () => {
    const found = chooseDefault(undefined, environment());
    expect(found).toMatchObject({ sizeBytes: 128 * MiB, exists: false });
    expect(found.path).toMatch(/shm\/daxserve-region-1000$/);
    expect(found.why).toMatch(/as user 1000/);
    expect(found.faster).toMatch(/vm\.nr_hugepages.*shmem_enabled/);
  });

  it('in a small cgroup: four fifths of what it grants', () => {
    const found = chooseDefault(
      undefined,
      environment({
        'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': `${100 * MiB}`,
        'sys/fs/cgroup/memory.current': '0',
      }),
    );
    expect(found.sizeBytes).toBe(80 * MiB);
  });

  it('a size asked for is taken', () => expect(chooseDefault(64 * MiB, environment()).sizeBytes).toBe(64 * MiB));

  it('looking for the region that is there mounts nothing and makes nothing up', () => {
    expect(findDefault(environment())).toBeNull();
    expect(findDefault(environment({ 'shm/daxserve-region-1000': 'x' }))?.path).toMatch(/daxserve-region-1000$/);
  });

  it('a region that exists comes first', () => {
    const env = environment({ 'shm/daxserve-region-1000': 'x'.repeat(100) });
    expect(chooseDefault(undefined, env)).toMatchObject({ exists: true, sizeBytes: 100 });
  });

  it.skipIf(!isRoot)('with rights: a tmpfs of our own with 2 MiB pages, mounted once', () => {
    const runDir = join(scratchDirectory(), 'run');
    const env = { root: '/', uid: 0, privileged: true, runDir, shmDir: scratchDirectory() };
    try {
      const first = chooseDefault(16 * MiB, env);
      const second = chooseDefault(16 * MiB, env);
      // Huge pages that another test has reserved just now would change the choice, not the mount.
      if (first.path.startsWith(runDir) && second.path.startsWith(runDir)) expect(second.path).toBe(first.path);
      const mounts = execFileSync('mount', { encoding: 'utf8' });
      const ours = mounts.split('\n').filter((line) => line.includes(runDir) && line.includes('tmpfs'));
      expect(ours).toHaveLength(1);
      expect(ours[0]).toMatch(/huge=within_size/);
      expect(first.path === join(runDir, 'mem/region') || first.why.includes('huge pages are reserved')).toBe(true);
    } finally {
      for (const name of ['mem', 'huge'])
        execFileSync('sh', ['-c', `umount -l ${join(runDir, name)} 2>/dev/null || true`]);
    }
  });
});
