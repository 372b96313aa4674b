/** Starts workers that have nothing but a leased descriptor. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';

const script = (name: string) => new URL(`./${name}`, import.meta.url).pathname;

/** worker.py on one lease. */
export class Worker {
  readonly child: ChildProcess;
  readonly #reader: Interface;
  readonly #lines: AsyncIterator<string>;
  /** Everyone who has held the mapping, first to last. */
  readonly pids: number[] = [];

  constructor(fd: number, offset: number, length: number) {
    this.child = spawn('python3', [script('worker.py'), String(offset), String(length)], {
      stdio: ['ignore', 'pipe', 'inherit', fd],
    });
    this.#reader = createInterface({ input: this.child.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the worker ended');
    return value;
  }

  /** Resolves when the range is mapped and every descriptor closed. */
  async mapped(): Promise<void> {
    this.pids.push(Number(/^mapped (\d+)$/.exec(await this.#next())?.[1]));
  }

  async fork(): Promise<void> {
    process.kill(this.pids.at(-1)!, 'SIGUSR2');
    await this.mapped();
  }

  /** Asked of the youngest holder. */
  async sum(): Promise<number> {
    process.kill(this.pids.at(-1)!, 'SIGUSR1');
    return Number(/^sum (\d+)$/.exec(await this.#next())?.[1]);
  }

  /** Kills one holder, given by its place in `pids`. */
  async kill(index: number): Promise<void> {
    const pid = this.pids[index]!;
    process.kill(pid, 'SIGKILL');
    if (index === 0 && this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
  }

  dispose(): void {
    for (const pid of this.pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has gone already.
      }
    }
    this.child.kill('SIGKILL');
    this.#reader.close();
  }
}

/** What attacker.py achieved: each try with `ok` or its errno. */
export function attack(fd: number, length: number, uid?: number): Record<string, string> {
  const args = [script('attacker.py'), String(length), ...(uid === undefined ? [] : [String(uid)])];
  const text = execFileSync('python3', args, { stdio: ['ignore', 'pipe', 'inherit', fd], encoding: 'utf8' });
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
}
