/** N workers on one model: how much available memory of the machine N mappings that read every byte take. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { matrices, writeSafetensors } from '../test/support/models.ts';
import { Service } from '../test/support/service.ts';
import { bar, title } from './report.ts';

const modelMiB = Number(process.env.BENCH_MODEL_MIB ?? 4096);
const workers = Number(process.env.BENCH_WORKERS ?? 8);

const script = `
import sys, mmap, daxserve
m = daxserve.attach(sys.argv[1])
total = 0
for name in m.tensors:
    total += sum(bytes(m.buffer(name)[::4096]))
print(total, flush=True)
sys.stdin.read()
`;
const idle = `
import sys, mmap, daxserve
print(0, flush=True)
sys.stdin.read()
`;

const availableMiB = () => Number(/MemAvailable:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) / 1024;

async function start(code: string, socket: string): Promise<ChildProcess> {
  const env = { ...process.env, DAXSERVE_SOCKET: socket, PYTHONPATH: 'worker/python' };
  const child = spawn('python3', ['-c', code, 'bench'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  for await (const _ of createInterface({ input: child.stdout })) return child;
  throw new Error('a worker ended early');
}

/** Available memory that `workers` processes take, in MiB. */
async function cost(code: string, socket: string): Promise<number> {
  await sleep(500);
  const before = availableMiB();
  const children = [];
  for (let i = 0; i < workers; i++) children.push(await start(code, socket));
  await sleep(500);
  const after = availableMiB();
  for (const child of children) child.stdin?.end();
  await Promise.all(children.map((child) => child.exitCode ?? once(child, 'exit')));
  return before - after;
}

title(`${workers} Python workers that touch every page of one model of ${modelMiB} MiB`);
const beforeRegion = availableMiB();
const service = await new Service({ size: `${modelMiB + 256}M` }).start();
try {
  const source = join(service.dir, 'model.safetensors');
  writeSafetensors(source, matrices(300, modelMiB * 2 ** 20));
  await service.load(source, 'bench');
  rmSync(source);
  await cost(idle, service.socket);
  const heaps = await cost(idle, service.socket);
  const attached = await cost(script, service.socket);
  console.log(`region, service and one copy: ${(beforeRegion - availableMiB()).toFixed(0)} MiB`);
  console.log(`${workers} idle interpreters: ${heaps.toFixed(0)} MiB`);
  console.log(`${workers} workers with the model mapped and read: ${attached.toFixed(0)} MiB`);
  const share = Math.max(0, attached - heaps) / modelMiB;
  bar(`growth beyond one copy and the workers' heaps, share of the model`, share, '<= 0.02', share <= 0.02);
} finally {
  await service.dispose();
}
