/**
 * Goal: region.fs takes the arguments of node:fs as node:fs does: kinds of data, flags, encodings, positions, signals, ids.
 * Method: one call at a time on a region and on a directory of tmpfs that were prepared alike; values, codes and paths
 * are compared. What the two differ in is listed in docs/FS.md and not looked at here.
 */
import * as nodeSync from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { RegionFileHandle, RegionFs } from '../../daxfs/index.ts';
import { type Call, region, same, sides, wrong } from './beside-node.ts';

const open =
  (flags: string | number, call: (handle: RegionFileHandle, files: RegionFs, at: string) => unknown): Call =>
  async (files, at) => {
    const handle = await files.open(at('f'), flags);
    try {
      return await call(handle, files, at('f'));
    } finally {
      await handle.close();
    }
  };
const text = (files: RegionFs, path: string) => files.readFile(path, 'utf8');
const view = new DataView(Uint8Array.of(9, 9, 7, 8, 9).buffer, 2, 2);
const aborted = AbortSignal.abort();

const calls: Record<string, Call> = {
  'writeFile: Uint16Array': async (files, at) => {
    await files.writeFile(at('f'), Uint16Array.of(1, 300));
    return [...(await files.readFile(at('f')))];
  },
  'writeFile: DataView': async (files, at) => {
    await files.writeFile(at('f'), view);
    return [...(await files.readFile(at('f')))];
  },
  'writeFile: hex': async (files, at) => {
    await files.writeFile(at('f'), '616263', 'hex');
    return text(files, at('f'));
  },
  'appendFile: Uint16Array': async (files, at) => {
    await files.appendFile(at('f'), Uint16Array.of(0x4141));
    return text(files, at('f'));
  },
  'writeFile: mode as text': async (files, at) => {
    await files.writeFile(at('new'), '', { mode: '600' });
    return (await files.stat(at('new'))).mode;
  },
  'writeFile: no octal mode': (files, at) => files.writeFile(at('new'), '', { mode: '9z' }),
  'readFile: base64': (files, at) => files.readFile(at('f'), 'base64'),
  'readFile: null': async (files, at) => [...(await files.readFile(at('f'), null))],
  'readFile: no encoding': (files, at) => files.readFile(at('f'), wrong('nope')),
  'readFile: number of flags': (files, at) =>
    files.readFile(at('f'), { encoding: 'utf8', flag: nodeSync.constants.O_RDONLY }),
  'readFile: aborted': (files, at) => files.readFile(at('f'), { signal: aborted }),
  'chmod: nothing': (files, at) => files.chmod(at('f'), wrong(undefined)),
  'chmod: -1': (files, at) => files.chmod(at('f'), -1),
  'chmod: text': async (files, at) => {
    await files.chmod(at('f'), '755');
    return (await files.stat(at('f'))).mode;
  },
  'chown: -1 keeps': async (files, at) => {
    await files.chown(at('f'), 5, 6);
    await files.chown(at('f'), -1, 7);
    await files.lchown(at('f'), -1, -1);
    const { uid, gid } = await files.stat(at('f'));
    return [uid, gid];
  },
  'chown: -2': (files, at) => files.chown(at('f'), -2, 1),
  'chown: text': (files, at) => files.chown(at('f'), wrong('x'), 1),
  'chown: a program loses its owner': async (files, at) => {
    await files.chmod(at('f'), 0o6755);
    await files.chmod(at('dir'), 0o6755);
    await files.chown(at('f'), 1, 1);
    await files.chown(at('dir'), 1, 1);
    return [(await files.stat(at('f'))).mode, (await files.stat(at('dir'))).mode];
  },
  'a directory hands on its group': async (files, at) => {
    await files.chown(at('dir'), 1, 77);
    await files.chmod(at('dir'), 0o2775);
    await files.writeFile(at('dir/file'), '');
    await files.mkdir(at('dir/below'));
    await files.symlink('x', at('dir/link'));
    const stats = await Promise.all(['dir/file', 'dir/below', 'dir/link'].map((name) => files.lstat(at(name))));
    return stats.map(({ mode, uid, gid }) => [mode, uid, gid]);
  },
  'truncate: text': (files, at) => files.truncate(at('f'), wrong('3')),
  'truncate: 1.5': (files, at) => files.truncate(at('f'), 1.5),
  'truncate: -1': async (files, at) => {
    await files.truncate(at('f'), -1);
    return text(files, at('f'));
  },
  'access: 9': (files, at) => files.access(at('f'), 9),
  'mkdir: null': (files, at) => files.mkdir(at('made'), null),
  'readlink: encodings': async (files, at, sync) => [
    await files.readlink(at('l'), 'buffer'),
    await files.readlink(at('l'), { encoding: 'hex' }),
    sync.readlinkSync(at('l'), { encoding: 'buffer' }),
  ],
  'readdir: no encoding': (files, at) => files.readdir(at(''), wrong('nope')),
  'readdir: kinds': async (files, at) =>
    (await files.readdir(at(''), { withFileTypes: true }))
      .map((entry) => [entry.name, entry.isFile(), entry.isDirectory(), entry.isSymbolicLink(), entry.isFIFO()])
      .sort(),
  'stat: bytes as a path': async (files, at) => (await files.stat(new Uint8Array(Buffer.from(at('f'))))).size,
  'copyFile: 99': (files, at) => files.copyFile(at('f'), at('copy'), 99),
  realpath: async (files, at) => [
    (await files.realpath(at('ld/../ld/./g'))).endsWith('/dir/g'),
    (await files.realpath(at('l'))).endsWith('/f'),
  ],
  'realpath: loop': (files, at) => files.realpath(at('loop')),
  'realpath: nothing': (files, at) => files.realpath(at('none/x')),
  opendir: async (files, at) => {
    const names: string[] = [];
    for await (const { name } of await files.opendir(at('dir'))) names.push(name);
    return names.sort();
  },
  cp: async (files, at) => {
    await files.cp(at('dir'), at('deep/copy'), { recursive: true });
    await files.cp(at('f'), at('deep/copy/g'));
    await files.cp(at('f'), at('deep/copy/g2'), { filter: () => false });
    return [(await files.readdir(at('deep/copy'))).sort(), await text(files, at('deep/copy/g'))];
  },
  'read: positions': open('r', async (handle) => {
    const got: string[] = [];
    for (const position of [null, -1, 2, undefined]) {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(3), 0, 3, wrong(position));
      got.push(`${bytesRead} ${buffer}`);
    }
    return got;
  }),
  'read: options': open('r', async (handle) => {
    const first = await handle.read({ buffer: Buffer.alloc(4), position: 2 });
    const second = await handle.read(Buffer.alloc(4), { offset: 1, length: 2, position: 6 });
    const third = await handle.read();
    return [first.buffer.toString(), second.buffer.toString(), third.bytesRead, third.buffer.length];
  }),
  'read: Uint16Array': open('r', async (handle) => [...(await handle.read(new Uint16Array(2))).buffer]),
  'read: beyond the buffer': open('r', (handle) => handle.read(Buffer.alloc(3), 0, 4)),
  readv: open('r', async (handle) => {
    const { bytesRead, buffers } = await handle.readv([Buffer.alloc(2), Buffer.alloc(30)], 1);
    return [bytesRead, buffers.map(String)];
  }),
  'write: text at a position': open('r+', async (handle, files, path) => {
    await handle.write('ZZ', 3);
    await handle.write('4141', 0, 'hex');
    await handle.write('Q');
    return text(files, path);
  }),
  'write: options': open('r+', async (handle, files, path) => {
    const { bytesWritten } = await handle.write(Buffer.from('abcdef'), { offset: 2, length: 2, position: 1 });
    return [bytesWritten, await text(files, path)];
  }),
  'write: Uint16Array': open('r+', async (handle, files, path) => {
    const { bytesWritten } = await handle.write(Uint16Array.of(0x4141, 0x4242));
    return [bytesWritten, await text(files, path)];
  }),
  'write: number': open('r+', (handle) => handle.write(wrong(5))),
  writev: open('r+', async (handle, files, path) => {
    const { bytesWritten } = await handle.writev([Buffer.from('ab'), Uint16Array.of(0x4343)], 1);
    return [bytesWritten, await text(files, path)];
  }),
  'appendFile of a handle': open('r+', async (handle, files, path) => {
    await handle.appendFile('A');
    await handle.writeFile('BB');
    return text(files, path);
  }),
  'read after an append': open('a+', async (handle) => {
    await handle.write('xyz');
    return (await handle.read(Buffer.alloc(9))).bytesRead;
  }),
  'append at a position': open('a+', async (handle, files, path) => {
    await handle.write(Buffer.from('Q'), 0, 1, 0);
    return [await text(files, path), (await handle.read(Buffer.alloc(3))).buffer.toString()];
  }),
  'readFile after read': open('r', async (handle) => {
    await handle.read(Buffer.alloc(3));
    return handle.readFile({ encoding: 'utf8' });
  }),
  readLines: open('r', async (handle) => {
    const lines: string[] = [];
    for await (const line of handle.readLines()) lines.push(line);
    return lines;
  }),
  'streams: an encoding alone': async (files, at, sync) => {
    const writer = (sync as RegionFs).createWriteStream(at('f'), 'hex');
    await new Promise<void>((resolve) => writer.end('616263', resolve));
    let all = '';
    for await (const part of (sync as RegionFs).createReadStream(at('f'), 'base64')) all += part;
    return [all, await text(files, at('f'))];
  },
  'createReadStream of a handle': open('r', async (handle) => {
    let all = '';
    for await (const part of handle.createReadStream({ start: 2, end: 7, encoding: 'utf8', highWaterMark: 4 }))
      all += part;
    return all;
  }),
};

describe('as node:fs', () => {
  for (const [name, call] of Object.entries(calls)) it(name, () => same(call));

  for (const flag of ['xw', 'xw+', 'xa', 'xa+', 'sr', 'sr+', 'sa', 'sa+', 'rs', null, undefined, '', 'rw']) {
    it(`flag ${flag}`, async () => {
      for (const name of ['f', 'new', 'dir', 'loop']) {
        await same(async (files, at) => {
          await (await files.open(at(name), wrong(flag))).close();
          return files.stat(at(name)).then(({ mode }) => mode);
        });
      }
    });
  }
});

/** The worst that a wrong argument could do: empty the file first. */
it.each([5, undefined, null, new ArrayBuffer(4), {}])(
  'data that is none (%s) is refused before the file is touched',
  async (data) => {
    for (const { files, sync, base } of sides) {
      const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' });
      await expect(files.writeFile(`${base}/f`, wrong(data))).rejects.toEqual(refused);
      expect(() => sync.writeFileSync(`${base}/f`, wrong(data))).toThrow(refused);
      expect(await text(files, `${base}/f`)).toBe('hello world');
    }
  },
);

it('a signal stops writing, and an aborted one lets nothing begin', async () => {
  const { files, base } = sides[1];
  const stopped = expect.objectContaining({ name: 'AbortError', code: 'ABORT_ERR' });
  await expect(files.writeFile(`${base}/f`, 'x', { signal: aborted })).rejects.toEqual(stopped);
  expect(await text(files, `${base}/f`)).toBe('hello world');
  const controller = new AbortController();
  const writing = files.writeFile(`${base}/big`, Buffer.alloc(12 * 2 ** 20), { signal: controller.signal });
  controller.abort();
  await expect(writing).rejects.toEqual(stopped);
});

it('streams go in and out', async () => {
  const { pipeline } = await import('node:stream/promises');
  const { fs } = region;
  const bytes = Buffer.alloc(1_000_000, 'stream');
  await fs.writeFile('from', bytes);
  await pipeline(fs.createReadStream('from'), fs.createWriteStream('to'));
  expect((await fs.readFile('to')).equals(bytes)).toBe(true);
  await pipeline(fs.createReadStream('from', { end: 9 }), fs.createWriteStream('to', { flags: 'r+', start: 999_995 }));
  expect((await fs.readFile('to')).subarray(999_990).toString()).toBe(`${bytes.subarray(999_990, 999_995)}streamstre`);
  await expect(pipeline(fs.createReadStream('none'), fs.createWriteStream('to2'))).rejects.toMatchObject({
    code: 'ENOENT',
  });
  await expect(pipeline(fs.createReadStream('from'), fs.createWriteStream('dir/none/x'))).rejects.toMatchObject({
    code: 'ENOENT',
  });
});

it('a directory is not copied into itself', async () => {
  const { files, base } = sides[1];
  await expect(files.cp(`${base}/dir`, `${base}/dir/sub/in`, { recursive: true })).rejects.toMatchObject({
    code: 'EINVAL',
  });
  expect(await files.readdir(`${base}/dir/sub`)).toEqual([]);
  await expect(files.cp('/', `${base}/in`, { recursive: true })).rejects.toMatchObject({ code: 'EINVAL' });
  expect(region.fs.existsSync(`${base}/in`)).toBe(false);
});
