/** Copies of trees within a region. */
import { constants } from 'node:fs';
import { dirname } from 'node:path/posix';
import { argumentError } from './arguments.ts';
import { fsError } from './fs-error.ts';
import type { RegionFs } from './region-fs.ts';

export interface CopyTreeOptions {
  recursive?: boolean | undefined;
  /** Default true: what is there is replaced. */
  force?: boolean | undefined;
  /** With `force: false`: what is there is an error; else it stays. */
  errorOnExist?: boolean | undefined;
  /** False: neither this nor what is in it is copied. */
  filter?: ((from: string, to: string) => boolean | Promise<boolean>) | undefined;
}

export async function copyTree(fs: RegionFs, from: string, to: string, options: CopyTreeOptions): Promise<void> {
  if (options.filter && !(await options.filter(from, to))) return;
  const stat = fs.lstatSync(from);
  const there = fs.lstatSync(to, { throwIfNoEntry: false });
  if (there && there.isDirectory() !== stat.isDirectory()) {
    throw fsError(there.isDirectory() ? 'EISDIR' : 'ENOTDIR', 'cp', from, to);
  }
  if (stat.isDirectory()) return copyDirectory(fs, from, to, options, there === undefined, stat.mode);
  if (there) {
    if (there.ino === stat.ino) throw fsError('EINVAL', 'cp', from, to);
    if (options.force === false && options.errorOnExist) throw fsError('EEXIST', 'cp', from, to);
    if (options.force === false) return;
  }
  if (!there) fs.mkdirSync(dirname(to), { recursive: true });
  if (!stat.isSymbolicLink()) return fs.copyFile(from, to, there ? 0 : constants.COPYFILE_EXCL);
  if (there) await fs.rm(to);
  fs.symlinkSync(fs.readlinkSync(from, 'buffer'), to);
}

async function copyDirectory(
  fs: RegionFs,
  from: string,
  to: string,
  options: CopyTreeOptions,
  isNew: boolean,
  mode: number,
): Promise<void> {
  if (!options.recursive) throw argumentError('ERR_FS_EISDIR', `${from} is a directory; copy it with "recursive".`);
  const real = fs.realpathSync(from);
  const inside = real === '/' ? real : `${real}/`;
  if (isNew) fs.mkdirSync(to, { recursive: true });
  if (`${fs.realpathSync(to)}/`.startsWith(inside)) {
    if (isNew) fs.rmdirSync(to);
    throw fsError('EINVAL', 'cp', from, to);
  }
  for (const { name } of await fs.readdir(from, { withFileTypes: true })) {
    await copyTree(fs, `${from}/${name}`, `${to}/${name}`, options);
  }
  if (isNew) fs.chmodSync(to, mode & 0o7777);
}
