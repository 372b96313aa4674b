/** The page cache of a split or export image: where the bytes of its files are read from, and what can go wrong there. */
import { closeSync, constants, openSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { type Mapping, native, type PageCache } from '../native/index.ts';
import type { Backing } from './backing.ts';
import { daxfsError } from './errors.ts';
import { lockDomain } from './host-identity.ts';

export interface ImageSourceOptions {
  /** Split image: the file with the bytes of all files. */
  backing?: string | undefined;
  /** Export image: the directory that it was made of. */
  export?: string | undefined;
  /** Fill free slots of the page cache with the first pages of every file; needs `write`. */
  prewarm?: boolean | undefined;
}

/** @throws DaxfsError DAXFS_BAD_BACKING when a source is given for what has none */
export function refuseSource(path: string, { backing, export: tree, prewarm }: ImageSourceOptions): void {
  if (backing === undefined && tree === undefined && prewarm !== true) return;
  throw daxfsError(
    'DAXFS_BAD_BACKING',
    `${path} holds its files itself; leave "backing", "export" and "prewarm" away.`,
  );
}

interface Source {
  path: string;
  tree: boolean;
  fd: number;
}

const { EINVAL, ESTALE, EBUSY, EACCES, EPERM } = osConstants.errno;

function openSource({ backing, export: tree }: ImageSourceOptions): Source | null {
  const path = backing ?? tree;
  if (path === undefined) return null;
  if (backing !== undefined && tree !== undefined) {
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      'A split image has one backing file, an export image one directory; give one.',
    );
  }
  try {
    const flags = constants.O_RDONLY | (backing === undefined ? constants.O_DIRECTORY : constants.O_NONBLOCK);
    return { path, tree: backing === undefined, fd: openSync(path, flags) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const what = backing === undefined ? 'exported directory' : 'backing file';
    throw daxfsError(
      'DAXFS_BAD_BACKING',
      `The ${what} ${path} cannot be opened (${code}); give the one of this image.`,
      {
        cause: error,
      },
    );
  }
}

function refused(errno: number, image: string, source: Source | null): Error {
  const path = source?.path ?? image;
  if (errno === -EBUSY) {
    const text = `${path} has changed, and others still read pages of what it was from ${image}; close them, and open it again.`;
    return daxfsError('DAXFS_SOURCE_CHANGED', text);
  }
  if (errno === -ESTALE) {
    return daxfsError(
      'DAXFS_SOURCE_CHANGED',
      `${path} is shorter than ${image} says; give the file that mkdaxfs wrote with it.`,
    );
  }
  if (errno === -EINVAL && source !== null) {
    const other = source.tree
      ? 'a split image: give "backing", its file'
      : 'an export image: give "export", its directory';
    return daxfsError('DAXFS_BAD_BACKING', `${path} is not what ${image} was made with; it is perhaps ${other}.`);
  }
  if (errno === -EACCES || errno === -EPERM) {
    return daxfsError('DAXFS_BAD_BACKING', `${image} cannot be opened for writing; open it without "write".`);
  }
  return daxfsError(
    'DAXFS_BAD_IMAGE',
    `${image}: the page cache cannot be used (errno ${-errno}); check it with "daxfs-inspect".`,
  );
}

/**
 * Opens the page cache of an image that is mapped. For writing it takes part in it; else it reads what it finds.
 * @throws DaxfsError DAXFS_BAD_BACKING, DAXFS_SOURCE_CHANGED, DAXFS_BAD_IMAGE
 */
export async function openImageCache(
  image: { backing: Backing; mapping: Mapping; path: string; write: boolean },
  options: ImageSourceOptions,
): Promise<PageCache> {
  const source = openSource(options);
  const cache = new native.PageCache(image.mapping);
  try {
    const { fd } = image.backing;
    const self = image.write ? { fd, bootId: lockDomain(image.backing) } : null;
    const errno = await cache.open(self, source);
    if (errno !== 0) throw refused(errno, image.path, source);
    if (options.prewarm === true) await prewarm(cache, image.path);
    return cache;
  } catch (error) {
    cache.close();
    throw error;
  } finally {
    if (source !== null) closeSync(source.fd);
  }
}

async function prewarm(cache: PageCache, image: string): Promise<void> {
  const { attached, hasSource } = cache.facts();
  if (!attached || !hasSource) {
    const text = `The page cache of ${image} can only be filled by a writer that has its source; give "write" and "backing" or "export".`;
    throw daxfsError('DAXFS_BAD_BACKING', text);
  }
  const done = await cache.prewarm();
  if (typeof done === 'number') {
    throw daxfsError('DAXFS_SOURCE_CHANGED', `The source of ${image} has changed or cannot be read (errno ${-done}).`);
  }
}
