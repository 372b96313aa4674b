/** Goal: only the files that a source may have are taken. Method: real trees, links, FIFOs and hub caches in a scratch directory. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { sourceIoError } from '../../loaders/byte-source.ts';
import { describeSource } from '../../loaders/describe.ts';
import { LOADER_ERRORS, LoaderError } from '../../loaders/errors.ts';
import { limit } from '../../loaders/limits.ts';
import { type ResolveOptions, resolveSource, type Source } from '../../loaders/source.ts';
import { ggufBytes } from '../support/gguf-bytes.ts';
import { wellFormed } from '../support/safetensors-bytes.ts';
import { scratchDirectory, writeTree } from '../support/scratch.ts';

const seen = new Set<string>();

async function code(run: Promise<unknown>): Promise<string> {
  const error = await run.then(
    () => 'accept',
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof LoaderError)) return String(error);
  seen.add(error.code);
  expect(error.message).toMatch(/^[^\n]*\.$/);
  return error.code;
}

const resolveIn = (directory: string, options?: ResolveOptions, source = directory) =>
  resolveSource(source, { roots: [directory] }, options);
const paths = (source: Source) => source.files.map(({ path }) => path);
const tensors = (...names: string[]) => wellFormed(names.map((name) => ({ name, dtype: 'U8', shape: [1], length: 1 })));

describe('paths and URLs', () => {
  it.each(['http://x/y', 'https://x/y', 's3://bucket/key', 'hf:org/name', 'ftp://x'])(
    '%s is a later feature',
    async (source) => {
      const run = resolveSource(source, { roots: ['/'] });
      expect(await code(run)).toBe('SOURCE_SCHEME');
      await expect(run).rejects.toMatchObject({ kind: 'unsupported' });
    },
  );

  it.each(['', 'a\0b', '/x'.repeat(2048), 'file:', 'file:x', 'file://host/x', 'file:///a%2Fb', 'file:///%00'])(
    '%j is no path',
    async (source) => {
      expect(await code(resolveSource(source, { roots: ['/'] }))).toBe('SOURCE_URL');
    },
  );

  it('a path, a relative path and a file URL are the same source', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'a b/c.txt': 'x' });
    const path = join(directory, 'a b');
    const plain = await resolveIn(directory, {}, path);
    for (const other of [pathToFileURL(path).href, `${path}/../a b/`, `./${path.slice(1)}`.replace('./', '/')]) {
      const same = await resolveIn(directory, {}, other);
      expect(same.key).toEqual(plain.key);
      expect(same.uri).toBe(pathToFileURL(path).href);
    }
  });

  it('what is outside the roots is refused alike, whether it exists or not', async () => {
    const directory = scratchDirectory();
    const other = scratchDirectory();
    for (const source of [other, join(other, 'missing'), '/', '/root/missing', '/etc/passwd']) {
      const run = resolveIn(directory, {}, source);
      expect(await code(run)).toBe('SOURCE_OUTSIDE_ROOTS');
      await expect(run).rejects.toThrow(/--source-root/);
    }
    expect(await code(resolveIn(directory, {}, join(directory, 'missing')))).toBe('SOURCE_NOT_FOUND');
    expect(await code(resolveIn(directory, {}, `${directory}-beside`))).toBe('SOURCE_OUTSIDE_ROOTS');
  });

  it('links to sources and roots are resolved first', async () => {
    const real = scratchDirectory();
    const other = scratchDirectory();
    writeTree(real, { 'm/a.txt': 'x' });
    symlinkSync(real, join(other, 'root'));
    symlinkSync(join(real, 'm'), join(other, 'out'));
    expect(await code(resolveIn(other, {}, join(other, 'out')))).toBe('SOURCE_OUTSIDE_ROOTS');
    const source = await resolveSource(join(other, 'root', 'm'), { roots: [join(other, 'root'), '/missing'] });
    expect(source.files[0]!.origin).toBe(join(real, 'm/a.txt'));
    expect(await code(resolveSource(join(other, 'root', 'no'), { roots: [join(other, 'root')] }))).toBe(
      'SOURCE_NOT_FOUND',
    );
  });
});

describe('plain directories', () => {
  it('files come in byte order with what stat says', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'b/c.txt': 'ccc', 'b.txt': 'b', '\u{1f600}.txt': 'x', '\uffee.txt': 'y', '.hidden': '' });
    const source = await resolveIn(directory);
    expect(paths(source)).toEqual(['.hidden', 'b.txt', 'b/c.txt', '\uffee.txt', '\u{1f600}.txt']);
    const stat = lstatSync(join(directory, 'b/c.txt'), { bigint: true });
    expect(source.files[2]).toEqual({
      path: 'b/c.txt',
      origin: join(directory, 'b/c.txt'),
      size: 3,
      mtimeNs: stat.mtimeNs,
      ino: stat.ino,
      mode: Number(stat.mode),
    });
    expect(await describeSource(source)).toEqual({ format: 'files', tensors: [], metadata: {} });
  });

  it('nothing to load is refused', async () => {
    const directory = scratchDirectory();
    mkdirSync(join(directory, 'empty'));
    expect(await code(resolveIn(directory))).toBe('SOURCE_EMPTY');
    writeTree(directory, { 'a.txt': 'x' });
    expect(await code(resolveIn(directory, { include: ['*.json'] }))).toBe('SOURCE_EMPTY');
    expect(await code(resolveIn(directory, { include: [] }))).toBe('SOURCE_EMPTY');
  });

  it('links stay inside, and lead to files', async () => {
    const directory = scratchDirectory();
    const model = join(directory, 'm');
    writeTree(directory, { 'm/a.txt': 'x', 'm/d/b.txt': 'y', 'beside.txt': 'z' });
    symlinkSync('../a.txt', join(model, 'd/link'));
    expect((await resolveIn(directory, {}, model)).files.map(({ path, origin }) => [path, origin])).toEqual([
      ['a.txt', join(model, 'a.txt')],
      ['d/b.txt', join(model, 'd/b.txt')],
      ['d/link', join(model, 'a.txt')],
    ]);
    const withLink = async (target: string) => {
      const path = join(model, 'x');
      execFileSync('ln', ['-sfn', target, path]);
      return code(resolveIn(directory, {}, model));
    };
    expect(await withLink('../beside.txt')).toBe('SOURCE_LINK_OUTSIDE');
    expect(await withLink('/etc/passwd')).toBe('SOURCE_LINK_OUTSIDE');
    expect(await withLink('d')).toBe('SOURCE_LINK_DIRECTORY');
    expect(await withLink('missing')).toBe('SOURCE_LINK_BROKEN');
    expect(await withLink('x')).toBe('SOURCE_LINK_BROKEN');
    expect(await code(resolveIn(directory, { exclude: ['x'] }, model))).toBe('accept');
  });

  it('special files are refused and never waited for', async () => {
    const directory = scratchDirectory();
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    expect(await code(resolveIn(directory))).toBe('SOURCE_SPECIAL_FILE');
    expect(await code(resolveIn(directory, {}, join(directory, 'pipe')))).toBe('SOURCE_SPECIAL_FILE');
    expect(await code(resolveSource('/dev/null', { roots: ['/dev'] }))).toBe('SOURCE_SPECIAL_FILE');
    const server = createServer().listen(join(directory, 'socket'));
    expect(await code(resolveIn(directory, { exclude: ['pipe'] }))).toBe('SOURCE_SPECIAL_FILE');
    await new Promise((done) => server.close(done));
  });

  it.each([
    ['a\nb', 'holds a control character'],
    ['a\x7fb', 'holds a control character'],
    [Buffer.from([0x61, 0xff, 0x62]), 'is no valid UTF-8'],
  ])('the name %j is refused, escaped', async (name, reason) => {
    const directory = scratchDirectory();
    writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name)]), 'x');
    const run = resolveIn(directory);
    expect(await code(run)).toBe('SOURCE_FILE_NAME');
    await expect(run).rejects.toThrow(new RegExp(`"a\\\\x..b" ${reason}`));
  });

  it('names that only look dangerous are taken', async () => {
    const directory = scratchDirectory();
    const names = ['..a', 'a..', '-rf', 'a b', 'C:\\x', '$(x)', '{"a":1}', '*', 'ü', '\u202e'];
    writeTree(directory, Object.fromEntries(names.map((name) => [name, 'x'])));
    expect(new Set(paths(await resolveIn(directory)))).toEqual(new Set(names));
  });

  it('the place of the manifest is reserved', async () => {
    for (const path of ['.daxserve/manifest.json', '.daxserve']) {
      const directory = scratchDirectory();
      writeTree(directory, { [path]: '{}', 'a.txt': 'x' });
      expect(await code(resolveIn(directory))).toBe('SOURCE_RESERVED_PATH');
      expect(await code(resolveIn(directory, { exclude: [path] }))).toBe('accept');
    }
  });

  it('directories up to their depth, sizes up to 2^48', async () => {
    const directory = scratchDirectory();
    const deep = (levels: number) => `${'d/'.repeat(levels - 1)}a.txt`;
    writeTree(directory, { [deep(limit('directoryDepthMax'))]: 'x' });
    expect(await code(resolveIn(directory))).toBe('accept');
    writeTree(directory, { [deep(limit('directoryDepthMax') + 1)]: 'x' });
    expect(await code(resolveIn(directory))).toBe('SOURCE_TOO_DEEP');
  });

  it('more files than a content holds are refused', async () => {
    const directory = scratchDirectory('/dev/shm');
    for (let i = 0; i <= limit('filesMax'); i++) writeFileSync(join(directory, `${i}`), '');
    expect(await code(resolveIn(directory))).toBe('SOURCE_TOO_MANY_FILES');
  });

  it('folders of git and of the downloader are left out unless named', async () => {
    const directory = scratchDirectory();
    writeTree(directory, {
      '.git/config': 'x',
      'sub/.git/HEAD': 'x',
      '.cache/huggingface/a.lock': '',
      'a.txt': 'x',
      '.gitattributes': '',
    });
    expect(paths(await resolveIn(directory))).toEqual(['.gitattributes', 'a.txt']);
    expect(paths(await resolveIn(directory, { include: ['.git/**'] }))).toEqual(['.git/config']);
  });
});

describe('sizes', () => {
  it('more than 2^48 bytes are refused', async () => {
    const directory = scratchDirectory('/dev/shm');
    writeFileSync(join(directory, 'a'), '');
    truncateSync(join(directory, 'a'), 2 ** 48 - 1);
    expect(await code(resolveIn(directory))).toBe('accept');
    writeFileSync(join(directory, 'b'), 'x');
    expect(await code(resolveIn(directory))).toBe('SOURCE_TOO_LARGE');
  });
});

describe('pickles', () => {
  const names = ['pytorch_model.bin', 'x.pt', 'x.PTH', 'a/b.pkl', 'c.ckpt', 'd.pickle'];

  it.each(names)('%s is refused with the reason', async (name) => {
    const directory = scratchDirectory();
    writeTree(directory, { [name]: 'x', 'model.safetensors': tensors('a') });
    const run = resolveIn(directory);
    expect(await code(run)).toBe('SOURCE_PICKLE');
    await expect(run).rejects.toThrow(/run code .* exclude .* include/);
    const extension = name.slice(name.lastIndexOf('.')).toLowerCase();
    expect(paths(await resolveIn(directory, { exclude: [name] }))).toEqual(['model.safetensors']);
    expect(paths(await resolveIn(directory, { include: ['*.safetensors'] }))).toEqual(['model.safetensors']);
    expect(await code(resolveIn(directory, { include: ['**', `*${extension.slice(0, 2)}*`] }))).toBe('SOURCE_PICKLE');
    const asked = await resolveIn(directory, { include: [name, '*.safetensors'] });
    expect(paths(asked)).toContain(name);
    expect((await describeSource(asked)).tensors.length).toBe(1);
  });

  it('a pickle named as the source needs to be asked for too', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'm.pt': 'x' });
    expect(await code(resolveIn(directory, {}, join(directory, 'm.pt')))).toBe('SOURCE_PICKLE');
    expect(await code(resolveIn(directory, { include: ['*.pt'] }, join(directory, 'm.pt')))).toBe('accept');
  });
});

describe('hub caches', () => {
  const commit = '0123456789abcdef0123456789abcdef01234567';

  function hub(folder = 'models--org--some-name') {
    const cache = scratchDirectory();
    const root = join(cache, folder);
    writeTree(root, {
      'blobs/aa11': tensors('a'),
      'blobs/bb22': '{}',
      'refs/main': `${commit}\n`,
      'refs/refs/pr/1': commit,
    });
    const snapshot = join(root, 'snapshots', commit);
    mkdirSync(join(snapshot, 'sub'), { recursive: true });
    symlinkSync('../../blobs/aa11', join(snapshot, 'model.safetensors'));
    symlinkSync('../../../blobs/bb22', join(snapshot, 'sub/config.json'));
    return { cache, root, snapshot };
  }

  it('a snapshot has its name, its commit and its blobs', async () => {
    const { cache, root, snapshot } = hub();
    const source = await resolveIn(cache, {}, snapshot);
    expect(source).toMatchObject({ defaultName: 'org/some-name', revision: commit, uri: pathToFileURL(snapshot).href });
    expect(source.files.map(({ path, origin }) => [path, origin])).toEqual([
      ['model.safetensors', join(root, 'blobs/aa11')],
      ['sub/config.json', join(root, 'blobs/bb22')],
    ]);
    expect((await describeSource(source)).tensors).toMatchObject([{ name: 'a', file: 'model.safetensors' }]);
  });

  it.each([undefined, 'main', 'refs/pr/1', commit])(
    'the folder with revision %s is the same source',
    async (revision) => {
      const { cache, root, snapshot } = hub();
      const options = revision === undefined ? {} : { revision };
      expect((await resolveIn(cache, options, root)).key).toEqual((await resolveIn(cache, {}, snapshot)).key);
      expect((await resolveIn(cache, options, snapshot)).revision).toBe(commit);
    },
  );

  it.each(['other', '../../x', 'f'.repeat(40), '', 'a b', 'x'.repeat(97)])(
    'the revision %j is refused',
    async (revision) => {
      const { cache, root, snapshot } = hub();
      expect(await code(resolveIn(cache, { revision }, root))).toBe('SOURCE_REVISION');
      expect(await code(resolveIn(cache, { revision }, snapshot))).toBe('SOURCE_REVISION');
    },
  );

  it('a ref that leads out of the snapshots is no revision', async () => {
    const { cache, root } = hub();
    writeTree(root, { 'refs/main': '../../../../etc' });
    expect(await code(resolveIn(cache, {}, root))).toBe('SOURCE_REVISION');
  });

  it('a folder without organisation, and odd names', async () => {
    for (const [folder, name] of [
      ['models--gpt2', 'gpt2'],
      ['models--a--b--c', 'a/b--c'],
      ['models--ä--.x', 'model/x'],
    ] as const) {
      const { cache, snapshot } = hub(folder);
      expect((await resolveIn(cache, {}, snapshot)).defaultName).toBe(name);
    }
  });

  it("links into another entry's blobs are refused", async () => {
    const { cache, snapshot } = hub();
    writeTree(cache, { 'models--x--y/blobs/cc33': 'x' });
    symlinkSync('../../../models--x--y/blobs/cc33', join(snapshot, 'other'));
    expect(await code(resolveIn(cache, {}, snapshot))).toBe('SOURCE_LINK_OUTSIDE');
  });

  it('blobs that are a link elsewhere are refused', async () => {
    const { cache, root, snapshot } = hub();
    const outside = scratchDirectory();
    renameSync(join(root, 'blobs'), join(outside, 'blobs'));
    symlinkSync(join(outside, 'blobs'), join(root, 'blobs'));
    expect(await code(resolveSource(snapshot, { roots: [cache, outside] }))).toBe('SOURCE_LINK_OUTSIDE');
  });

  it('blobs outside the roots are refused', async () => {
    const { snapshot } = hub();
    expect(await code(resolveSource(snapshot, { roots: [snapshot] }))).toBe('SOURCE_OUTSIDE_ROOTS');
  });

  it('a file and a directory of a snapshot keep the commit', async () => {
    const { cache, snapshot } = hub();
    const file = await resolveIn(cache, {}, join(snapshot, 'model.safetensors'));
    expect(file).toMatchObject({ defaultName: 'model.safetensors', revision: commit });
    expect(paths(file)).toEqual(['model.safetensors']);
    expect(await resolveIn(cache, {}, join(snapshot, 'sub'))).toMatchObject({ defaultName: 'sub', revision: commit });
  });
});

describe('single files', () => {
  it('a split GGUF part brings the others', async () => {
    const directory = scratchDirectory();
    const names = ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf', 'n-00001-of-00002.gguf', 'm-00001-of-00003.gguf'];
    writeTree(directory, Object.fromEntries(names.map((name) => [name, ggufBytes()])));
    const source = await resolveIn(directory, {}, join(directory, names[1]!));
    expect(paths(source)).toEqual(names.slice(0, 2));
    expect(source.defaultName).toBe('m.gguf');
  });

  it('a link that is named itself may lead anywhere below the roots', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'x/a.gguf': ggufBytes() });
    mkdirSync(join(directory, 'y'));
    symlinkSync('../x/a.gguf', join(directory, 'y/b.gguf'));
    const source = await resolveIn(directory, {}, join(directory, 'y/b.gguf'));
    expect(source.files).toMatchObject([{ path: 'b.gguf', origin: join(directory, 'x/a.gguf') }]);
    expect(await code(resolveSource(join(directory, 'y/b.gguf'), { roots: [join(directory, 'y')] }))).toBe(
      'SOURCE_OUTSIDE_ROOTS',
    );
  });

  it.each([
    ['model.gguf', 'model.gguf'],
    ['-weird name!.gguf', 'weird-name-.gguf'],
    ['ü', 'model'],
    [`${'x'.repeat(80)}.txt`, 'x'.repeat(64)],
  ])('the default name of %s is %s', async (file, name) => {
    const directory = scratchDirectory();
    writeTree(directory, { [file]: ggufBytes() });
    expect((await resolveIn(directory, {}, join(directory, file))).defaultName).toBe(name);
  });
});

describe('identity', () => {
  it('is the same as long as nothing changed, and no longer', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'a.txt': 'x', 'b.txt': 'y' });
    const key = async (options?: ResolveOptions) => (await resolveIn(directory, options)).key.toString('hex');
    const keys = [await key()];
    expect(await key()).toBe(keys[0]);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
    keys.push(await key({ include: ['*.txt'] }), await key({ exclude: ['c'] }), await key({ revision: 'v1' }));
    utimesSync(join(directory, 'a.txt'), 1, 1);
    keys.push(await key());
    writeTree(directory, { 'c.txt': '' });
    keys.push(await key());
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('a source that changes before its headers are read is noticed', async () => {
    const directory = scratchDirectory();
    const path = join(directory, 'm.safetensors');
    for (const change of [
      () => writeFileSync(path, tensors('a', 'b')),
      () => utimesSync(path, 1, 1),
      () => {
        execFileSync('rm', [path]);
        execFileSync('mkfifo', [path]);
      },
      () => {
        execFileSync('rm', ['-f', path]);
        writeFileSync(path, tensors('a'));
      },
    ]) {
      execFileSync('rm', ['-f', path]);
      writeFileSync(path, tensors('a'));
      const source = await resolveIn(directory);
      change();
      expect(await code(describeSource(source))).toBe('SOURCE_CHANGED');
    }
    const source = await resolveIn(directory).catch(() => undefined);
    execFileSync('rm', ['-f', path]);
    expect(await code(describeSource(source!))).toBe('SOURCE_NOT_FOUND');
    symlinkSync('/etc/passwd', path);
    expect(await code(describeSource(source!))).toBe('SOURCE_LINK_BROKEN');
  });
});

describe('failures of the file system', () => {
  it('a file that the service may not read', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'm.safetensors': tensors('a') });
    chmodSync(directory, 0o755);
    chmodSync(join(directory, 'm.safetensors'), 0);
    const source = await resolveIn(directory);
    const user = process.geteuid!();
    if (user === 0) process.seteuid!(65534);
    try {
      expect(await code(describeSource(source))).toBe('SOURCE_UNREADABLE');
    } finally {
      process.seteuid!(user);
    }
  });

  it('an error of the disk, and one that is not of the file system', async () => {
    const failed = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', syscall: 'read' });
    expect(await code(Promise.reject(sourceIoError(failed, 'x')))).toBe('SOURCE_IO');
    const other = new TypeError('x');
    expect(sourceIoError(other, 'x')).toBe(other);
  });
});

describe('tensors of several files', () => {
  it('subdirectories stand before names; two files of one directory must not share one', async () => {
    const directory = scratchDirectory();
    writeTree(directory, {
      'm.safetensors': tensors('a'),
      'vae/m.safetensors': tensors('a'),
      'x.gguf': 'no GGUF at all',
    });
    const description = await describeSource(await resolveIn(directory));
    expect(description.tensors.map(({ name, file }) => [name, file])).toEqual([
      ['a', 'm.safetensors'],
      ['vae/a', 'vae/m.safetensors'],
    ]);
    writeTree(directory, { 'm.fp16.safetensors': tensors('b', 'a') });
    expect(await code(resolveIn(directory).then((source) => describeSource(source)))).toBe('SOURCE_TENSOR_TWICE');
  });

  it('a directory of GGUF files alone is GGUF', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'm.gguf': ggufBytes(), 'README.md': '' });
    expect((await describeSource(await resolveIn(directory))).format).toBe('gguf');
    writeTree(directory, { 'n.gguf': 'x' });
    expect(await code(resolveIn(directory).then((source) => describeSource(source)))).toBe('GGUF_TRUNCATED');
  });

  it('stops when asked to', async () => {
    const directory = scratchDirectory();
    writeTree(directory, { 'm.safetensors': tensors('a') });
    const signal = AbortSignal.abort(new Error('stop'));
    await expect(resolveIn(directory, { signal })).rejects.toThrow('stop');
  });
});

it('every code of sources was seen', () => {
  // SOURCE_GLOB: glob.test.ts. SOURCE_TOO_MANY_TENSORS: safetensors.test.ts.
  const elsewhere = ['SOURCE_GLOB', 'SOURCE_TOO_MANY_TENSORS'];
  const codes = Object.keys(LOADER_ERRORS).filter((name) => name.startsWith('SOURCE_') && !elsewhere.includes(name));
  expect(codes.filter((name) => !seen.has(name))).toEqual([]);
});
