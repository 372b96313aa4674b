/** The processes of the stress test: started, killed, succeeded, asked. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import type { StressRegion } from './region.ts';

const program = new URL('../../native/build/stress/stress_worker', import.meta.url).pathname.replace('/dist/', '/');
/** Offsets in the journal (native/stress/journal.h). */
const stopAt = 8;
const fullAt = 12;

/** What a worker saw that must not be, or how it died without being killed. */
export class StressFailure extends Error {}

interface Running {
  child: ChildProcess;
  output: string;
  ended: Promise<void>;
}

function start(region: StressRegion, task: string, owner: number, host: string, more: string[] = []): Running {
  const args = [task, ...region.arguments, String(owner), host, ...more];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const running: Running = { child, output: '', ended: Promise.resolve() };
  const add = (bytes: Buffer) => {
    running.output += bytes.toString();
  };
  child.stdout!.on('data', add);
  child.stderr!.on('data', add);
  running.ended = once(child, 'close').then(() => undefined);
  return running;
}

/** One task that ends by itself. @returns its output @throws StressFailure */
export async function runTask(region: StressRegion, task: string, more: string[] = []): Promise<string> {
  const running = start(region, task, 0, `stress-${task}`, more);
  await running.ended;
  const { exitCode, signalCode } = running.child;
  if (exitCode === 0) return running.output;
  throw new StressFailure(`${task}: ${running.output.trim() || `exit ${exitCode ?? signalCode}`}`);
}

/** Eight owners at work on one region; dead ones have successors until `stop` or `killAll`. */
export class Workers {
  readonly #region: StressRegion;
  readonly #running: (Running | undefined)[];
  readonly #killed = new Set<ChildProcess>();
  #starts = 0;
  #failure: StressFailure | undefined;

  constructor(region: StressRegion, count: number) {
    this.#region = region;
    this.#running = Array.from({ length: count }, () => undefined);
  }

  get count(): number {
    return this.#running.length;
  }

  /** @throws StressFailure what a worker saw since the last call */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Every second start comes under the name of its predecessor, which takes that one's row; others are new hosts. */
  start(owner: number): void {
    this.#starts += 1;
    const host = this.#starts % 2 === 0 ? `stress-${owner}` : `stress-${owner}-${this.#starts}`;
    const running = start(this.#region, 'run', owner, host);
    this.#running[owner] = running;
    running.ended.then(() => this.#look(running));
  }

  startAll(): void {
    this.#running.forEach((_, owner) => {
      this.start(owner);
    });
  }

  async kill(owner: number): Promise<void> {
    const running = this.#running[owner];
    if (!running) return;
    this.#killed.add(running.child);
    running.child.kill('SIGKILL');
    await running.ended;
    this.#running[owner] = undefined;
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#running.map((_, owner) => this.kill(owner)));
  }

  /** Lets every worker finish what it does and leave. */
  async stop(): Promise<void> {
    this.#setStop(1);
    await Promise.all(this.#running.map((running) => running?.ended));
    this.#running.fill(undefined);
    this.#setStop(0);
  }

  /** True when a worker met ENOSPC: the rest of this region would be only that. */
  isFull(): boolean {
    const fd = openSync(this.#region.journal, 'r');
    const word = Buffer.alloc(4);
    readSync(fd, word, 0, 4, fullAt);
    closeSync(fd);
    return word.readUInt32LE() !== 0;
  }

  #setStop(value: number): void {
    const fd = openSync(this.#region.journal, 'r+');
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value);
    writeSync(fd, word, 0, 4, stopAt);
    closeSync(fd);
  }

  #look({ child, output }: Running): void {
    if (child.exitCode === 0 || (child.signalCode === 'SIGKILL' && this.#killed.has(child))) return;
    this.#failure ??= new StressFailure(output.trim() || `a worker ended with ${child.exitCode ?? child.signalCode}`);
  }
}
