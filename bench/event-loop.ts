/**
 * How long the event loop of a service is away at most, by operation, on models of very many files or tensors. The least
 * of the rounds: garbage is collected when it likes. BENCH_ROUNDS.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeSafetensors } from '../test/support/models.ts';
import { Service } from '../test/support/service.ts';
import { attach } from '../worker/node/index.ts';
import { title } from './report.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 3);
const probe = new URL('./event-loop-probe.js', import.meta.url).href;

type Source = { what: string; make(path: string): void };

function makeFiles(path: string, count: number): void {
  for (let i = 0; i < count; i++) {
    const directory = join(path, `part-${Math.floor(i / 1000)}`);
    if (i % 1000 === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `file-${i}`), `${i}`);
  }
}

function makeTensors(path: string, count: number): void {
  const tensors = Array.from({ length: count }, (_, i) => {
    const name = `model.layers.${i >> 10}.mlp.experts.${i & 1023}.down_proj.weight`;
    return { name, dtype: 'BF16' as const, shape: [2, 2] };
  });
  mkdirSync(path, { recursive: true });
  writeSafetensors(join(path, 'model.safetensors'), tensors);
}

const files = (count: number): Source => ({ what: `${count} files`, make: (path) => makeFiles(path, count) });
const SOURCES: Source[] = [
  files(10_000),
  files(99_000),
  { what: '100000 tensors', make: (path) => makeTensors(path, 100_000) },
];

/** Milliseconds since the last call. */
async function awayMs(service: Service): Promise<number> {
  const before = service.log.length;
  service.child?.kill('SIGUSR2');
  for (;;) {
    const found = /away ([\d.]+) ms\n/.exec(service.log.slice(before));
    if (found) return Number(found[1]);
    await sleep(5);
  }
}

async function attachOnce(service: Service): Promise<void> {
  const model = await attach('bench', { socket: service.socket });
  await model.close();
}

/** What is measured, in this order: each meets the state that those before it left. */
const operations = (service: Service, source: string): [string, () => Promise<unknown>][] => [
  ['load', () => service.load(source, 'bench')],
  ['attach, first', () => attachOnce(service)],
  ['attach', () => attachOnce(service)],
  ['POST handles', () => service.call('POST', '/models/bench/handles', {})],
  ['GET /handles', () => service.call('GET', '/handles')],
  ['GET /models/{name}', () => service.call('GET', '/models/bench')],
  ['GET tensors, 10,000', () => service.call('GET', '/models/bench/tensors?limit=10000')],
  ['GET /models', () => service.call('GET', '/models')],
  ['DELETE', () => service.call('DELETE', '/models/bench?drain=true')],
];

async function measure(source: Source): Promise<void> {
  const service = await new Service({ size: '1G', env: { NODE_OPTIONS: `--import=${probe}` } }).start();
  const least = new Map<string, number>();
  try {
    const path = join(service.dir, 'model');
    source.make(path);
    for (let round = 0; round < rounds; round++) {
      for (const [what, operation] of operations(service, path)) {
        await sleep(300);
        await awayMs(service);
        await operation();
        least.set(what, Math.min(least.get(what) ?? Number.POSITIVE_INFINITY, await awayMs(service)));
      }
      await service.stop();
      rmSync(service.region, { force: true });
      await service.start();
    }
  } finally {
    await service.dispose();
  }
  for (const [what, ms] of least) console.log(`${source.what.padEnd(16)} ${what.padEnd(22)} ${ms.toFixed(1)} ms`);
}

title('event loop away at most, processor time of its thread');
for (const source of SOURCES) await measure(source);
