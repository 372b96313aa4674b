/** A real service process on a region of its own, for tests and benchmarks; everything it made is gone after `dispose`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The repository's folder, also for a compiled copy of this file. */
export const root = new URL('../..', import.meta.url).pathname.replace(/\/dist\/$/, '/');

export interface ServiceOptions {
  /** Region path; default a fresh one in /dev/shm. */
  region?: string;
  /** e.g. '256M'. */
  size?: string;
  /** Further command-line arguments of `daxserve serve`. */
  args?: string[];
  env?: Record<string, string>;
}

export class Service {
  readonly dir: string;
  readonly region: string;
  readonly socket: string;
  readonly #options: ServiceOptions;
  child: ChildProcess | undefined;
  url = '';
  /** What the process wrote to standard error. */
  log = '';

  constructor(options: ServiceOptions = {}) {
    this.#options = options;
    this.dir = mkdtempSync(join(tmpdir(), 'daxserve-test-'));
    this.region = options.region ?? `/dev/shm/daxserve-test-${process.pid}-${randomBytes(6).toString('hex')}`;
    this.socket = join(this.dir, 'daxserve.sock');
  }

  /** Starts the process and resolves once it prints its ready line. */
  async start(extra: string[] = []): Promise<this> {
    const { size = '128M', args = [], env = {} } = this.#options;
    const command = ['bin/daxserve.js', 'serve', '--region', this.region, '--size', size, '--listen', '127.0.0.1:0'];
    command.push('--socket', this.socket, '--source-root', this.dir, ...args, ...extra);
    const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
    const child = spawn(process.execPath, command, { cwd: root, env: { ...process.env, ...env }, stdio });
    this.child = child;
    child.stderr.on('data', (data: Buffer) => {
      this.log += data.toString();
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
      if (!url) continue;
      this.url = url;
      child.stdout.resume();
      return this;
    }
    throw new Error(`the service ended before it was ready:\n${this.log}`);
  }

  /** Ends the process with a signal and waits for it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    child.kill(signal);
    await once(child, 'exit');
    return child.exitCode;
  }

  async dispose(): Promise<void> {
    await this.stop('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true });
    rmSync(this.region, { force: true });
  }

  /** A JSON call; `body` may be anything. */
  async call(method: string, path: string, json?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
    const init: RequestInit = { method };
    if (json !== undefined) {
      init.headers = { 'content-type': 'application/json' };
      init.body = JSON.stringify(json);
    }
    const response = await fetch(`${this.url}${path}`, init);
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : {} };
  }

  /** Posts a model and waits for it; throws unless it is ready. */
  async load(source: string, name: string): Promise<Record<string, unknown>> {
    const { status, body } = await this.call('POST', '/models?wait=true', { source, name });
    if (status !== 201 && status !== 200) throw new Error(`load of ${name}: ${status} ${JSON.stringify(body)}`);
    return body;
  }
}
