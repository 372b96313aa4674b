/** A mapped file to copy into, and items that say what a file looks like now. */
import { closeSync, ftruncateSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { type CopyItem, type Mapping, native } from '../../native/index.ts';
import { scratchDirectory } from '../support/scratch.ts';

const open: Mapping[] = [];

afterEach(() => {
  for (const mapping of open.splice(0)) mapping.close();
});

export interface Target {
  mapping: Mapping;
  directory: string;
}

/** `size` zero bytes of a file in a fresh directory, mapped. */
export function target(size: number, write = true): Target {
  const directory = scratchDirectory();
  const fd = openSync(join(directory, '.target'), 'w+');
  ftruncateSync(fd, size);
  const mapping = new native.Mapping(fd, 0, size, { write });
  closeSync(fd);
  open.push(mapping);
  return { mapping, directory };
}

export function item(path: string | Buffer, offset: number): CopyItem {
  const { size, mtimeNs, ino } = statSync(path, { bigint: true });
  return { path, size: Number(size), mtimeNs, ino, offset };
}

/** Numbers of the descriptors of this process that show a file below `directory`. */
export async function descriptorsIn(directory: string): Promise<string[]> {
  const { readdir, readlink } = await import('node:fs/promises');
  const shown: string[] = [];
  for (const fd of await readdir('/proc/self/fd')) {
    const path = await readlink(`/proc/self/fd/${fd}`).catch(() => '');
    if (path.startsWith(directory)) shown.push(path);
  }
  return shown;
}
