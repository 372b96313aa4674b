/** A program that uses region.fs, for its types alone: test/fs/types.test.ts compiles it against the built package. */
import type { Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import {
  type FsError,
  type OpenedRegion,
  openRegion,
  type RegionBigIntStats,
  type RegionDir,
  type RegionDirent,
  type RegionFileHandle,
  type RegionFs,
  type RegionStats,
} from 'daxserve';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Exactly this type, not merely one that fits. */
const is =
  <Wanted>() =>
  <Got>(_value: Got, ..._same: Same<Wanted, Got> extends true ? [] : [never]): void => {};

/** What `Buffer.from` gives. */
type Bytes = ReturnType<typeof Buffer.allocUnsafeSlow>;
type Listing = string[] | Buffer[] | RegionDirent[] | RegionDirent<Buffer>[];

is<Promise<OpenedRegion>>()(openRegion('/dev/shm/pool'));
is<Promise<OpenedRegion>>()(openRegion('/dev/shm/pool', { write: true, size: 2 ** 30, backing: undefined }));
// @ts-expect-error: no such option
openRegion('/dev/shm/pool', { wirte: true });

declare const encoding: BufferEncoding | undefined;
declare const anyEncoding: BufferEncoding | 'buffer' | null;
declare const flag: boolean;
declare const { signal }: AbortController;

export async function reading(fs: RegionFs): Promise<void> {
  is<Promise<Bytes>>()(fs.readFile('f'));
  is<Promise<Bytes>>()(fs.readFile(new Uint8Array(1), null));
  is<Promise<Bytes>>()(fs.readFile('f', { encoding: undefined, signal }));
  is<Promise<string>>()(fs.readFile('f', 'utf8'));
  is<Promise<string>>()(fs.readFile('f', { encoding: 'hex', flag: 'r' }));
  is<Promise<string | Bytes>>()(fs.readFile('f', encoding));
  is<Promise<string | Bytes>>()(fs.readFile('f', { encoding: encoding ?? null }));
  is<Bytes>()(fs.readFileSync('f'));
  is<string>()(fs.readFileSync('f', 'utf8'));
  is<string | Bytes>()(fs.readFileSync('f', encoding));
  is<Buffer>()(fs.readFileView('/models/tiny/config.json'));
  is<Readable>()(fs.createReadStream('f', 'utf8'));
  is<Readable>()(fs.createReadStream('f', { start: 1, end: 2, signal }));
  // What is read is nobody else's: it may go where shared memory may not.
  crypto.subtle.digest('SHA-256', await fs.readFile('f'));
  // @ts-expect-error: no such encoding
  fs.readFile('f', 'utf-9');
  // @ts-expect-error: a number is no path
  fs.readFile(3);
}

export function writing(fs: RegionFs): void {
  is<Promise<void>>()(fs.writeFile('f', 'text', 'utf8'));
  is<Promise<void>>()(fs.writeFile('f', new Float32Array(4), { flag: 'wx', mode: 0o600, signal }));
  is<Promise<void>>()(fs.writeFile('f', ['a', new Uint8Array(1)]));
  is<Promise<void>>()(fs.writeFile('f', fs.createReadStream('g')));
  is<Promise<void>>()(fs.appendFile('f', new Set(['a'])));
  is<void>()(fs.writeFileSync('f', new DataView(new ArrayBuffer(1))));
  is<void>()(fs.appendFileSync('f', 'text', { mode: '600' }));
  is<Writable>()(fs.createWriteStream('f', { flags: 'a' }));
  is<Promise<void>>()(fs.truncate('f'));
  is<void>()(fs.truncateSync('f', 3));
  // @ts-expect-error: numbers are no data
  fs.writeFile('f', 5);
  // @ts-expect-error: nor are parts that are none
  fs.writeFile('f', [5]);
  // @ts-expect-error: at once only what is whole
  fs.writeFileSync('f', ['a']);
}

export function stats(fs: RegionFs): void {
  is<Promise<RegionStats>>()(fs.stat('f'));
  is<Promise<RegionStats>>()(fs.stat('f', { bigint: false }));
  is<Promise<RegionBigIntStats>>()(fs.lstat('f', { bigint: true }));
  is<Promise<RegionStats | RegionBigIntStats>>()(fs.stat('f', { bigint: flag }));
  is<RegionStats>()(fs.statSync('f'));
  is<RegionStats>()(fs.statSync('f', {}));
  is<RegionBigIntStats>()(fs.lstatSync('f', { bigint: true }));
  is<RegionStats | undefined>()(fs.statSync('f', { throwIfNoEntry: false }));
  is<RegionStats | undefined>()(fs.statSync('f', { throwIfNoEntry: flag }));
  is<RegionBigIntStats | undefined>()(fs.statSync('f', { bigint: true, throwIfNoEntry: false }));
  is<RegionStats | RegionBigIntStats | undefined>()(fs.statSync('f', { bigint: flag, throwIfNoEntry: flag }));
  is<number>()(fs.statSync('f').size);
  is<bigint>()(fs.statSync('f', { bigint: true }).size);
  is<boolean>()(fs.existsSync('f'));
  is<Promise<void>>()(fs.access('f', 4));
  // @ts-expect-error: there are no times
  fs.statSync('f').mtimeMs;
}

export function names(fs: RegionFs): void {
  is<Promise<string[]>>()(fs.readdir('/'));
  is<Promise<string[]>>()(fs.readdir('/', { recursive: true, withFileTypes: false }));
  is<Promise<string[]>>()(fs.readdir('/', encoding));
  is<Promise<Buffer[]>>()(fs.readdir('/', 'buffer'));
  is<Buffer[]>()(fs.readdirSync('/', { encoding: 'buffer' }));
  is<Promise<RegionDirent[]>>()(fs.readdir('/', { withFileTypes: true }));
  is<RegionDirent<Buffer>[]>()(fs.readdirSync('/', { withFileTypes: true, encoding: 'buffer' }));
  is<Promise<Listing>>()(fs.readdir('/', { withFileTypes: flag }));
  is<Listing>()(fs.readdirSync('/', anyEncoding));
  is<Promise<string>>()(fs.readlink('l'));
  is<Promise<Buffer>>()(fs.readlink('l', { encoding: 'buffer' }));
  is<string | Buffer>()(fs.readlinkSync('l', anyEncoding));
  is<string>()(fs.realpathSync('l'));
  is<Promise<RegionDir>>()(fs.opendir('/', { recursive: true }));
}

export function changing(fs: RegionFs): void {
  is<Promise<void>>()(fs.mkdir('d'));
  is<Promise<void>>()(fs.mkdir('d', 0o700));
  is<Promise<string | undefined>>()(fs.mkdir('d/e', { recursive: true }));
  is<Promise<string | undefined>>()(fs.mkdir('d/e', { recursive: flag }));
  is<void>()(fs.mkdirSync('d', { mode: '700' }));
  is<string | undefined>()(fs.mkdirSync('d/e', { recursive: true }));
  is<Promise<string>>()(fs.mkdtemp('job-'));
  is<Buffer>()(fs.mkdtempSync('job-', 'buffer'));
  is<string | Buffer>()(fs.mkdtempSync('job-', anyEncoding));
  is<Promise<void>>()(fs.rm('d', { recursive: true, force: flag }));
  is<void>()(fs.rmSync('d'));
  is<Promise<void>>()(fs.symlink('f', 'l', 'file'));
  is<Promise<void>>()(fs.cp('d', 'e', { recursive: true, filter: async (from, to) => from !== to }));
}

export async function handles(fs: RegionFs): Promise<void> {
  await using handle = await fs.open('f', 'r+');
  is<RegionFileHandle>()(handle);
  is<Promise<{ bytesRead: number; buffer: Bytes }>>()(handle.read());
  is<Promise<{ bytesRead: number; buffer: Uint16Array<ArrayBuffer> }>>()(handle.read(new Uint16Array(2), 0, 4, 8n));
  is<Promise<{ bytesRead: number; buffer: DataView<ArrayBuffer> }>>()(
    handle.read({ buffer: new DataView(new ArrayBuffer(1)), position: null }),
  );
  is<Promise<{ bytesWritten: number; buffer: string }>>()(handle.write('text', null, 'hex'));
  is<Promise<{ bytesWritten: number; buffer: Uint8Array<ArrayBuffer> }>>()(
    handle.write(new Uint8Array(1), { offset: 0 }),
  );
  is<Promise<Bytes>>()(handle.readFile());
  is<Promise<string>>()(handle.readFile('utf8'));
  is<Promise<string | Bytes>>()(handle.readFile(encoding));
  is<Promise<void>>()(handle.writeFile(handle.createReadStream()));
  is<Promise<RegionStats>>()(handle.stat());
  is<Promise<RegionBigIntStats>>()(handle.stat({ bigint: true }));
  is<Interface>()(handle.readLines());
  for await (const entry of await fs.opendir('/')) is<RegionDirent>()(entry);
  try {
    using block = fs.pinSync('f', 0);
    is<Uint8Array>()(block.bytes);
  } catch (error) {
    is<string | undefined>()((error as FsError).path);
  }
}
