/** Drives holder.py: a worker that keeps a model mapped and nothing else. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { root } from './service.ts';

const script = join(root, 'test/support/holder.py');

export class Holder {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  /** The process that holds the mapping now; a forked child after `fork`. */
  pid = 0;

  constructor(socket: string, model: string) {
    this.child = spawn('python3', [script, socket, model], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#reader = createInterface({ input: this.child.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** The SHA-256 of all bytes that it has mapped, from the next line it prints. */
  async next(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the holder ended');
    const { digest, pid } = JSON.parse(value) as { digest: string; pid: number };
    this.pid = pid;
    return digest;
  }

  /** Hashes again. */
  hash(): Promise<string> {
    this.child.stdin?.write('hash\n');
    return this.next();
  }

  /** Leaves only a forked child with the mapping. */
  fork(): Promise<string> {
    this.child.stdin?.write('fork\n');
    return this.next();
  }

  async kill(): Promise<void> {
    if (this.pid > 0) process.kill(this.pid, 'SIGKILL');
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    this.#reader.close();
  }
}
