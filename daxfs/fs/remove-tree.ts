/** `rm`, with a promise and at once: what goes in which order is planned once for both. */
import { constants } from 'node:os';
import type { PathLike } from './arguments.ts';
import { type FsError, fsError } from './fs-error.ts';
import type { RegionFs } from './region-fs.ts';
import type { RegionFsSync } from './region-fs-sync.ts';

export interface RemoveOptions {
  recursive?: boolean | undefined;
  /** What does not exist is no error. */
  force?: boolean | undefined;
}

interface Step {
  call: 'unlink' | 'rmdir';
  path: PathLike;
}
/** Wants to be told after each step whether the name is gone. */
type Plan = Generator<Step, void, boolean>;

export async function remove(fs: RegionFs, path: PathLike, options?: RemoveOptions): Promise<void> {
  const plan = planOf(fs, path, options);
  for (let next = plan.next(); !next.done; ) {
    const step = next.value;
    let gone = true;
    try {
      await fs[step.call](step.path);
    } catch (error) {
      gone = isGone(error);
    }
    next = plan.next(gone);
  }
}

export function removeSync(fs: RegionFsSync, path: PathLike, options?: RemoveOptions): void {
  const plan = planOf(fs, path, options);
  for (let next = plan.next(); !next.done; ) {
    const step = next.value;
    let gone = true;
    try {
      fs[`${step.call}Sync`](step.path);
    } catch (error) {
      gone = isGone(error);
    }
    next = plan.next(gone);
  }
}

/** Somebody else has removed it, or has put something in. @throws `error` when it is none of that */
function isGone(error: unknown): boolean {
  const { code } = error as Partial<FsError>;
  if (code === 'ENOENT') return true;
  if (code === 'ENOTEMPTY') return false;
  throw error;
}

function* planOf(fs: RegionFsSync, given: PathLike, { recursive = false, force = false }: RemoveOptions = {}): Plan {
  const path = withoutSlash(given);
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!stat) {
    if (force) return;
    throw fsError('ENOENT', 'rm', path);
  }
  if (!stat.isDirectory()) yield { call: 'unlink', path };
  else if (recursive) yield* treeOf(fs, path);
  else throw removingDirectory(path);
}

function* treeOf(fs: RegionFsSync, path: PathLike): Plan {
  do {
    for (const entry of entriesOf(fs, path)) {
      const below = Buffer.concat([Buffer.from(path as string), Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) yield* treeOf(fs, below);
      else yield { call: 'unlink', path: below };
    }
  } while (!(yield { call: 'rmdir', path }));
}

/** None of a directory that somebody else has removed meanwhile. */
function entriesOf(fs: RegionFsSync, path: PathLike) {
  try {
    return fs.readdirSync(path, { withFileTypes: true, encoding: 'buffer' });
  } catch (error) {
    if ((error as Partial<FsError>).code === 'ENOENT') return [];
    throw error;
  }
}

/** A slash behind a link would mean what it leads to: never what somebody wants to be removed. */
function withoutSlash(path: PathLike): PathLike {
  const bytes = Buffer.from(path as string);
  let end = bytes.length;
  while (end > 1 && bytes[end - 1] === 0x2f) end -= 1;
  return end === bytes.length ? path : bytes.subarray(0, end);
}

/** As node:fs words it. */
function removingDirectory(path: PathLike): Error {
  const message = `Path is a directory: rm returned EISDIR (is a directory) ${path}`;
  const { EISDIR: errno } = constants.errno;
  const details = { name: 'SystemError', code: 'ERR_FS_EISDIR', errno, syscall: 'rm', path: path.toString() };
  return Object.assign(new Error(message), details);
}
