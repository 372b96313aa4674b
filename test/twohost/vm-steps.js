// What the scripts in the virtual machines share: named steps whose outcomes the test reads, words between the machines,
// and the service and workers as processes of their own. Everything is slow there: waits have no limit but the run's.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const shared = process.env.TWOHOST_OUT;
const self = process.env.TWOHOST_ID;
export const device = process.env.TWOHOST_DEV;
export const root = fileURLToPath(new URL('../..', import.meta.url));
const python = process.env.TWOHOST_PYTHON;
const children = new Set();

/** Runs one step and writes down how it ended; the first that fails ends this machine's part. */
export async function step(name, work) {
  const started = performance.now();
  const outcome = { name, error: null, seconds: 0 };
  try {
    await work();
  } catch (error) {
    outcome.error = error.stack;
    throw error;
  } finally {
    outcome.seconds = Math.round((performance.now() - started) / 100) / 10;
    appendFileSync(join(shared, `steps-${self}.jsonl`), `${JSON.stringify(outcome)}\n`);
    console.log(`${outcome.error ? 'FAILED' : 'ok'} ${name} (${outcome.seconds} s)`);
  }
}

/** Says a word to the other machine, with what belongs to it. */
export function tell(word, facts = {}) {
  const path = join(shared, `${word}.json`);
  writeFileSync(`${path}.part`, JSON.stringify(facts));
  renameSync(`${path}.part`, path);
}

/** Waits for a word of the other machine. @throws when that machine has failed */
export async function hear(word) {
  const path = join(shared, `${word}.json`);
  await until(() => existsSync(path));
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Runs a machine's whole part; whatever it started has ended afterwards. */
export async function run(part) {
  try {
    await part();
  } catch (error) {
    console.error(error);
    tell('failed', {});
    process.exitCode = 1;
  }
  for (const child of children) child.kill('SIGKILL');
  process.exit();
}

/** Asks again until the answer is true. @throws when the other machine has failed */
export async function until(question) {
  while (!(await question())) {
    if (existsSync(join(shared, 'failed.json'))) throw new Error('the other machine failed');
    await sleep(100);
  }
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A child that prints lines. */
export function talk(command, args, options = {}) {
  const { stdio = ['pipe', 'pipe', 'inherit'], ...rest } = options;
  const child = spawn(command, args, { cwd: root, stdio, ...rest });
  children.add(child);
  const ended = once(child, 'exit').finally(() => children.delete(child));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command} ${args.join(' ')} ended`);
    return value;
  };
  const kill = async (signal = 'SIGKILL') => {
    child.kill(signal);
    const [code] = await ended;
    return code;
  };
  const ask = (line) => {
    child.stdin.write(`${line}\n`);
    return next();
  };
  return { child, ended, next, kill, ask };
}

/** A Python program of the tests. */
export const talkPython = (script, args, options) => talk(python, [join(root, 'test', script), ...args], options);

/** Runs one of our commands to its end; `stdout` is bytes. */
export async function command(...args) {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const parts = { stdout: [], stderr: [] };
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => parts[name].push(data));
  const [code] = await once(child, 'close');
  return { code, stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr).toString() };
}

/** One service process on the device. */
export class Service {
  socket = `/run/daxserve-${self}.sock`;
  url = '';

  async start(hostId) {
    const where = [
      '--region',
      device,
      '--listen',
      '127.0.0.1:0',
      '--socket',
      this.socket,
      '--source-root',
      '/run/models',
    ];
    const args = ['bin/daxserve.js', 'serve', ...where, '--host-id', hostId, '--log-level', 'warn'];
    this.process = talk(process.execPath, args);
    while (!this.url) this.url = /^daxserve ready: (\S+)/.exec(await this.process.next())?.[1] ?? '';
    return this;
  }

  async stop(signal) {
    this.url = '';
    return this.process.kill(signal);
  }

  async call(method, path, json) {
    const init = { method };
    if (json) Object.assign(init, { headers: { 'content-type': 'application/json' }, body: JSON.stringify(json) });
    const response = await fetch(`${this.url}${path}`, init);
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : {} };
  }

  async load(source, name) {
    const { status, body } = await this.call('POST', '/models?wait=true', { source, name });
    assert.equal(status, 201, JSON.stringify(body));
    return body;
  }
}

/** Every tensor of an attached model by its digest. */
export function digestsOf(model) {
  return Object.fromEntries([...model.tensors.keys()].map((name) => [name, sha256(model.tensor(name).bytes)]));
}
