/** A directory of its own for each test, removed afterwards, whatever happened. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach } from 'vitest';

const made: string[] = [];

afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});

/** An empty directory with links resolved. @param base `/dev/shm` where many files are made */
export function scratchDirectory(base: string = tmpdir()): string {
  const path = realpathSync(mkdtempSync(join(base, 'daxserve-test-')));
  made.push(path);
  return path;
}

/** Writes files below a directory; parents are made. */
export function writeTree(directory: string, files: Readonly<Record<string, string | Buffer>>): void {
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
}
