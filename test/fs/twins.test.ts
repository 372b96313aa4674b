/**
 * Goal: rm, truncate, mkdtemp and stats with promise and at once, and data in parts, are those of node:fs.
 * Method: one call at a time on a region and on a directory of tmpfs; what differs is listed in docs/FS.md.
 */
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { RegionFs } from '../../daxfs/index.ts';
import { type Call, region, same, sides, wrong } from './beside-node.ts';
import { create } from './front.ts';

const text = (files: RegionFs, path: string) => files.readFile(path, 'utf8');
const aborted = AbortSignal.abort();

/** Name of a call, with and without a promise. */
type Twin<Name extends string> = Name | `${Name}Sync`;
const twins = <Name extends string>(name: Name): Twin<Name>[] => [name, `${name}Sync`];
/** Who has it. */
const on = (name: Twin<string>, files: RegionFs, sync: unknown): RegionFs =>
  name.endsWith('Sync') ? (sync as RegionFs) : files;

describe.each(twins('rm'))('%s', (rm) => {
  const removed =
    (name: string, options?: object): Call =>
    async (files, at, sync) => {
      await on(rm, files, sync)[rm](at(name), options);
      return [...(await files.readdir(at(''))), sync.existsSync(at('dir/sub'))].sort();
    };
  const cases: Record<string, Call> = {
    'a file': removed('f'),
    'a link, not what it leads to': removed('ld', { recursive: true }),
    'nothing, with force': removed('none', { force: true }),
    'a directory, recursive': removed('dir', { recursive: true }),
    'a directory and a slash': removed('dir/', { recursive: true, force: true }),
    nothing: removed('none'),
    'nothing, recursive': removed('none', { recursive: true }),
    'a directory': removed('dir'),
    'a directory, with force': removed('dir', { force: true }),
    'below a file': removed('f/x'),
    'no path': (files, _at, sync) => on(rm, files, sync)[rm](wrong(5)),
  };
  for (const [name, call] of Object.entries(cases)) it(name, () => same(call));

  it('bytes as names, and deep', async () => {
    const odd = Buffer.from([0xff, 0xfe, 0x61]);
    await same(async (files, at, sync) => {
      const below = Buffer.concat([Buffer.from(at('dir/sub/')), odd]);
      await files.mkdir(below);
      await files.writeFile(Buffer.concat([below, Buffer.from('/'), odd]), 'x');
      await on(rm, files, sync)[rm](at('dir'), { recursive: true });
      return sync.existsSync(at('dir'));
    });
  });
});

it('two may remove one tree', async () => {
  const { fs } = region;
  for (const name of ['tree/a/b', 'tree/c/d', 'tree/e']) await fs.mkdir(name, { recursive: true });
  for (const name of ['tree/a/b/f', 'tree/c/f', 'tree/f']) await fs.writeFile(name, name);
  await Promise.all([1, 2, 3].map(() => fs.rm('tree', { recursive: true })));
  expect(fs.existsSync('tree')).toBe(false);
});

describe.each(twins('truncate'))('%s', (truncate) => {
  const cut =
    (name: string, ...length: unknown[]): Call =>
    async (files, at, sync) => {
      await on(truncate, files, sync)[truncate](at(name), ...wrong(length));
      return text(files, at('f'));
    };
  for (const length of [0, 3, 11, 20, -1, 1.5, '3', null, undefined, 2 ** 53]) {
    it(`to ${length}`, () => same(cut('f', length)));
  }
  it('without a length', () => same(cut('f')));
  it('a link', () => same(cut('l', 4)));
  it('a directory', () => same(cut('dir', 4)));
  it('nothing', () => same(cut('none', 4)));
  it('nothing, to no length', () => same(cut('none', 'x')));
  it('a loop', () => same(cut('loop', 4)));

  it('beyond the largest file', async () => {
    const { files, sync, base } = sides[1];
    const cutting = async () => on(truncate, files, sync)[truncate](`${base}/f`, 2 ** 40);
    await expect(cutting()).rejects.toMatchObject({ code: 'EFBIG', syscall: 'ftruncate' });
  });
});

describe.each(twins('mkdtemp'))('%s', (mkdtemp) => {
  // Newer versions of node show the letters of the last attempt in place of XXXXXX.
  const pathless =
    (call: Call): Call =>
    async (...sides) => {
      try {
        return await call(...sides);
      } catch (error) {
        const { path } = error as NodeJS.ErrnoException;
        throw path === undefined ? error : Object.assign(error as Error, { path: path.slice(0, -6) });
      }
    };
  const made =
    (prefix: string, options?: unknown): Call =>
    async (files, at, sync) => {
      const path: string | Buffer = await on(mkdtemp, files, sync)[mkdtemp](at(prefix), wrong(options));
      const shown = options === 'hex' ? Buffer.from(String(path), 'hex').toString() : path.toString();
      const { mode } = await files.stat(shown);
      return [typeof path, shown.slice(0, -6).replace(at(''), ''), /^[A-Za-z0-9]{6}$/.test(shown.slice(-6)), mode];
    };
  const cases: Record<string, Call> = {
    'a prefix': made('tmp-'),
    'in a directory': made('dir/'),
    bytes: made('tmp-', 'buffer'),
    'bytes as an option': made('tmp-', { encoding: 'buffer' }),
    hex: made('tmp-', 'hex'),
    'no encoding': made('tmp-', 'nope'),
    'in nothing': made('none/tmp-'),
    'in a file': made('f/tmp-'),
    'no prefix': (files, _at, sync) => on(mkdtemp, files, sync)[mkdtemp](wrong(undefined)),
    'a NUL': (files, at, sync) => on(mkdtemp, files, sync)[mkdtemp](at('a\0')),
    'a prefix in bytes': async (files, at, sync) =>
      (await on(mkdtemp, files, sync)[mkdtemp](wrong(Buffer.from(at('ü'))))).startsWith(at('ü')),
  };
  for (const [name, call] of Object.entries(cases)) it(name, () => same(pathless(call)));

  it('one of its own each time', async () => {
    const { files, sync } = sides[1];
    const paths = new Set<string>();
    for (let i = 0; i < 100; i += 1) paths.add(await on(mkdtemp, files, sync)[mkdtemp]('/own-'));
    expect(paths.size).toBe(100);
  });
});

describe.each([...twins('stat'), ...twins('lstat')])('%s', (stat) => {
  const seen =
    (name: string, options?: object): Call =>
    async (files, at, sync) => {
      const found = await on(stat, files, sync)[stat](at(name), wrong(options));
      if (!found) return found;
      const { mode, uid, gid, size, nlink, blksize, ino } = found;
      const kind = [found.isFile(), found.isDirectory(), found.isSymbolicLink(), found.isSocket()];
      // Of directories, and of small links on tmpfs, size and blocks are free.
      return [mode, uid, gid, blksize, typeof ino, kind, ...(found.isFile() ? [size, nlink, found.blocks] : [])];
    };
  for (const name of ['f', 'dir', 'l', 'ld', 'loop', 'none', 'f/x']) {
    for (const options of [undefined, {}, { bigint: true }, { bigint: false }, { bigint: undefined }]) {
      it(`${name} ${JSON.stringify(options)}`, () => same(seen(name, options)));
    }
  }
  if (stat.endsWith('Sync')) {
    it('nothing, quietly', () => same(seen('none', { bigint: true, throwIfNoEntry: false })));
    it('something, quietly', () => same(seen('f', { bigint: true, throwIfNoEntry: false })));
  }
});

it('stats of a handle', () =>
  same(async (files, at) => {
    const handle = await files.open(at('f'));
    try {
      const { size, mode, nlink } = await handle.stat({ bigint: true });
      return [size, mode, nlink, (await handle.stat({ bigint: false })).size, (await handle.stat()).size];
    } finally {
      await handle.close();
    }
  }));

it('numbers and bigints are the same', () => {
  const [plain, big] = [region.fs.statSync('/'), region.fs.statSync('/', { bigint: true })];
  expect(Object.entries(big)).toEqual(Object.entries(plain).map(([name, value]) => [name, BigInt(value)]));
});

describe('data in parts', () => {
  const parts: Record<string, () => unknown> = {
    array: () => ['ab', Buffer.from('cd'), Uint16Array.of(0x4141), new DataView(Uint8Array.of(0x42).buffer)],
    none: () => [],
    set: () => new Set(['x', 'y']),
    'text object': () => wrong(Object('text')),
    generator: function* () {
      yield 'one';
      yield 'two';
    },
    'async generator': async function* () {
      yield 'one';
      yield Buffer.alloc(300_000, 'two');
    },
    stream: () => Readable.from(['so', 'me', Buffer.from('thing')]),
    'a part that is none': () => ['a', 5],
    'no part at all': () => [null],
    'not parts': () => ({ length: 1 }),
    'a generator that fails': function* () {
      yield 'begun';
      throw Object.assign(new Error('mine'), { code: 'MINE' });
    },
  };
  const wholes = ['writeFile', 'appendFile'] as const;
  for (const [name, data] of Object.entries(parts)) {
    for (const call of wholes) {
      it(`${call}: ${name}`, async () => {
        await same((files, at) => files[call](at('f'), wrong(data())));
        await same((files, at) => text(files, at('f')));
      });
      it(`${call} of a handle: ${name}`, () =>
        same(async (files, at) => {
          const handle = await files.open(at('f'), 'r+');
          try {
            await handle.write('12');
            const failed = await handle[call](wrong(data())).catch(({ code }) => code);
            await handle.write('!');
            return [failed, await text(files, at('f'))];
          } finally {
            await handle.close();
          }
        }));
    }
  }
  const options = ['hex', 'nope', { flag: 'a' }, { flag: 'r+' }, { flag: 'wx' }, { signal: aborted }, { mode: 0o600 }];
  for (const given of options) {
    it(`options ${JSON.stringify(given)}`, async () => {
      for (const name of ['f', 'new', 'dir']) {
        await same((files, at) => files.writeFile(at(name), ['4142', '43'], wrong(given)));
        await same(async (files, at) => [(await files.stat(at(name))).mode, await text(files, at(name))]);
      }
    });
  }

  it('a handle that was closed', () =>
    same(async (files, at) => {
      const handle = await files.open(at('f'), 'r+');
      await handle.close();
      return handle.writeFile(['a']).catch(({ code }) => code);
    }));

  it('at once there are none', () =>
    same(async (files, at, sync) => {
      const refused: unknown[] = [];
      for (const call of ['writeFileSync', 'appendFileSync'] as const) {
        try {
          sync[call](at('f'), wrong(['a']));
        } catch (error) {
          refused.push((error as { code: string }).code);
        }
      }
      return [refused, await text(files, at('f'))];
    }));

  it('closing waits for no part', async () => {
    const other = await create(4);
    const data = async function* () {
      yield 'first';
      await other.close();
      yield 'second';
    };
    await expect(other.fs.writeFile('f', data())).rejects.toMatchObject({ code: 'DAXFS_CLOSED' });
  });

  it('a signal stops between two parts, and the generator is told', () =>
    same(async (files, at) => {
      const controller = new AbortController();
      let told = false;
      const data = async function* () {
        try {
          yield 'first';
          controller.abort();
          yield 'second';
        } finally {
          told = true;
        }
      };
      const failed = await files.writeFile(at('f'), data(), { signal: controller.signal }).catch(({ code }) => code);
      return [failed, told, await text(files, at('f'))];
    }));
});
