/** Python programs of the tests that talk in JSON lines. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const root = new URL('../..', import.meta.url).pathname;
/** The interpreter of the tests' environment; see python-env.ts for whether it is there. */
export const python = join(root, '.venv/bin/python');

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
