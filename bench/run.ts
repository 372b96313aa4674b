/** `npm run bench -- NAME...`: runs the named benchmarks one after the other, or lists them. */
import { spawnSync } from 'node:child_process';

/** What each one measures; the files beside this one. */
const BENCHMARKS = {
  'load-warm': 'loading a warm file against the best plain copy, digest included',
  attach: 'socket request to mapped tensors, 300 tensors, by model size',
  workers: 'memory of the machine that eight workers on one model take',
  'worker-death': 'kill -9 of a worker to lease and lock gone',
  restart: 'exec to ready on a full region',
  'http-handles': 'POST handles against a bare Fastify route with the same schema',
  scrape: 'GET /metrics with 1,000 models',
  'event-loop': 'how long the event loop of a service is away, models of 100,000 files or tensors',
  mkdaxfs: 'a static image against cp -r of the same tree',
  'overlay-io': 'reads and writes of an overlay against tmpfs through system calls',
  'overlay-table': 'finds and inserts of the overlay table beside a CAS, by load and threads; 100,000 small files',
  'hit-ratio': 'hit ratio of the v8 page cache beside ideal CLOCK, LRU and the optimum',
} as const;

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in BENCHMARKS));
if (names.length === 0 || unknown.length > 0) {
  if (unknown.length > 0) console.error(`There is no benchmark ${unknown.join(', ')}.`);
  console.log('usage: npm run bench -- NAME...\n');
  for (const [name, what] of Object.entries(BENCHMARKS)) console.log(`  ${name.padEnd(14)} ${what}`);
  process.exit(unknown.length > 0 ? 2 : 0);
}

let failed = 0;
for (const name of names) {
  const file = new URL(`./${name}.js`, import.meta.url);
  failed += spawnSync(process.execPath, [file.pathname], { stdio: 'inherit' }).status === 0 ? 0 : 1;
  console.log();
}
process.exit(failed === 0 ? 0 : 1);
