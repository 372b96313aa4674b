#!/usr/bin/env node
// `npm run demo`: the whole path on a generated model: load, four workers on one copy, a hit counted, a restart with the
// weights in place and the source gone. Everything lives in a temporary directory and a region of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const MiB = 1024 * 1024;
const modelBytes = 256 * MiB;
const tensorCount = 16;
const dir = mkdtempSync(join(tmpdir(), 'daxserve-demo-'));
const region = `/dev/shm/daxserve-demo-${process.pid}`;
const socket = join(dir, 'daxserve.sock');
const model = join(dir, 'demo.safetensors');
const env = { ...process.env, DAXSERVE_SOCKET: socket, PYTHONPATH: join(root, 'worker/python') };
const children = new Set();
let step = 0;
const say = (text) => console.log(`\n${++step}. ${text}`);
const ms = (since) => `${Math.round(performance.now() - since)} ms`;

/** A safetensors file of random bf16 weights. */
async function writeModel() {
  const size = modelBytes / tensorCount;
  const shape = [size / 2 / 1024, 1024];
  const header = {};
  for (let i = 0; i < tensorCount; i++) {
    header[`layer.${i}.weight`] = { dtype: 'BF16', shape, data_offsets: [i * size, (i + 1) * size] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = createWriteStream(model);
  file.write(length);
  file.write(text);
  const block = crypto.getRandomValues(Buffer.alloc(65536));
  for (let done = 0; done < modelBytes; done += block.length) {
    block.writeUInt32LE(done / block.length);
    if (!file.write(Buffer.from(block))) await once(file, 'drain');
  }
  file.end();
  await once(file, 'close');
}

function start(command, args, stdio) {
  const child = spawn(command, args, { cwd: root, env, stdio });
  children.add(child);
  child.on('exit', () => children.delete(child));
  return child;
}

/** Starts the service; resolves with its URL when it prints its ready line. */
async function serve() {
  const args = [
    'bin/daxserve.js',
    'serve',
    '--region',
    region,
    '--size',
    '1G',
    '--listen',
    '127.0.0.1:0',
    '--log-level',
    'warn',
  ];
  const child = start(
    process.execPath,
    [...args, '--socket', socket, '--source-root', dir],
    ['ignore', 'pipe', 'inherit'],
  );
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
    if (!url) continue;
    console.log(`   ${line}`);
    child.stdout.resume();
    return { child, url };
  }
  throw new Error('the service ended before it was ready');
}

async function stop(child) {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
}

/** Starts a worker and resolves when it has printed what it read. */
async function worker(command, script) {
  const child = start(command, [join('docs/examples', script), 'demo', 'layer.3.weight'], ['pipe', 'pipe', 'inherit']);
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(`   ${line}`);
    return child;
  }
  throw new Error(`${script} ended before it had read its tensor`);
}

/** MiB of a kind of memory that the kernel counts for a process, shared pages divided by their users. */
async function memoryMiB(pid, kind) {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(new RegExp(`^${kind}:\\s+(\\d+)`, 'm').exec(rollup)[1]) / 1024;
}

async function memoryOf(children, kind) {
  const shares = await Promise.all(children.map(({ pid }) => memoryMiB(pid, kind)));
  return Math.round(shares.reduce((sum, share) => sum + share, 0));
}

const post = (url, body) =>
  fetch(`${url}/models?wait=true`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

async function hits(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  return text.split('\n').filter((line) => line.startsWith('daxserve_model_requests_total{'));
}

async function main() {
  say(`Generating a model of ${modelBytes / MiB} MiB in ${tensorCount} bf16 tensors`);
  await writeModel();
  say('Starting the service on a region of its own');
  let service = await serve();
  let since = performance.now();
  say('Loading the model: its bytes go into the region once');
  const loaded = await post(service.url, { source: model, name: 'demo' });
  if (loaded.status !== 201) throw new Error(await loaded.text());
  console.log(`   ready in ${ms(since)}, digest ${(await loaded.json()).digest}`);
  say('Two Node and two Python workers read the same tensor in place');
  const workers = [];
  for (const [command, script] of [
    [process.execPath, 'worker.js'],
    ['python3', 'worker.py'],
  ]) {
    workers.push(await worker(command, script), await worker(command, script));
  }
  console.log(
    `   their heaps: ${await memoryOf(workers, 'Pss_Anon')} MiB together; of the region they have ${await memoryOf(workers, 'Pss_Shmem')} MiB mapped together`,
  );
  say('Asking for the same model again is a hit');
  const again = await post(service.url, { source: model, name: 'demo' });
  console.log(`   status ${again.status}\n   ${(await hits(service.url)).join('\n   ')}`);
  say('Deleting the source, stopping the service, starting it again: the workers keep their weights');
  rmSync(model);
  await stop(service.child);
  since = performance.now();
  service = await serve();
  const models = await (await fetch(`${service.url}/models`)).json();
  console.log(
    `   ready again in ${ms(since)}, ${models.items.map(({ name, state }) => `${name}: ${state}`).join(', ')}`,
  );
  say('Removing the model gives the memory back');
  for (const child of workers) child.stdin.end();
  await Promise.all(workers.map((child) => child.exitCode ?? once(child, 'exit')));
  const removed = await fetch(`${service.url}/models/demo`, { method: 'DELETE' });
  console.log(`   status ${removed.status}`);
  await stop(service.child);
}

try {
  await main();
  console.log('\nDone.');
} catch (error) {
  console.error(`\nThe demo failed: ${error.message}`);
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
  rmSync(region, { force: true });
}
