// Fuzzing campaigns: `npm run fuzz -- [TARGET...] [--runs N | --seconds S] [--seed N] [--engine libfuzzer|driver]`.
// Native targets (native/fuzz) run with libFuzzer where clang++ is found, else with the engine that needs only g++; the
// targets `check`, `readers`, `rows` and `loaders` are the seeded tests of the TypeScript readers with more rounds.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const native = join(root, 'native');

const seeded = {
  check: { file: 'test/check/random.test.ts', rounds: 'DAXSERVE_DAMAGE_ROUNDS', perSecond: 10 },
  readers: { file: 'test/tools/hostile.test.ts', rounds: 'DAXSERVE_FUZZ_ROUNDS', perSecond: 60 },
  rows: { file: 'test/registry/hostile.test.ts', rounds: 'DAXSERVE_FUZZ_ROUNDS', perSecond: 100 },
  loaders: { file: 'test/loaders/hostile.test.ts', rounds: 'DAXSERVE_FUZZ_ROUNDS', perSecond: 2000 },
};

function fail(text) {
  process.stderr.write(`fuzz: ${text}\n`);
  process.exit(2);
}

function options() {
  const known = { runs: { type: 'string' }, seconds: { type: 'string' }, seed: { type: 'string' } };
  try {
    const args = { allowPositionals: true, options: { ...known, engine: { type: 'string' } } };
    const { values, positionals } = parseArgs(args);
    return { ...values, targets: positionals };
  } catch (error) {
    return fail(error.message);
  }
}

const works = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
/** A clang that can link libFuzzer: newest first, as Debian names them, then the plain name. */
function findClang() {
  const names = [process.env.FUZZ_CLANG, 'clang++', ...Array.from({ length: 9 }, (_, i) => `clang++-${22 - i}`)];
  return names.find((name) => name && works(name));
}

function run(command, args, env = {}) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  return status === 0;
}
const make = (...args) => run('make', ['-s', '-C', native, ...args]);

/** What was found stays under native/build/fuzz/; a bug's input belongs into native/fuzz/corpus/TARGET. */
function libfuzzer(target, clang, { runs, seconds, seed }) {
  if (!make(`build/fuzz/${target}.libfuzzer`, `FUZZ_CLANG=${clang}`)) return false;
  const found = join(native, 'build/fuzz/found', target);
  mkdirSync(found, { recursive: true });
  const known = join(native, 'fuzz/corpus', target);
  const args = ['-max_len=400', '-len_control=10', '-use_value_profile=1', '-timeout=600', '-print_final_stats=1'];
  if (runs) args.push(`-runs=${runs}`);
  else args.push(`-max_total_time=${seconds ?? 60}`);
  if (seed) args.push(`-seed=${seed}`);
  args.push(`-artifact_prefix=${join(native, 'build/fuzz/')}${target}-`, found);
  if (existsSync(known)) args.push(known);
  return run(join(native, 'build/fuzz', `${target}.libfuzzer`), args);
}

function driver(target, { runs, seconds, seed }) {
  if (!make(`build/fuzz/${target}`)) return false;
  const args = runs ? ['--runs', runs] : ['--seconds', seconds ?? '60'];
  if (seed) args.push('--seed', seed);
  const known = join(native, 'fuzz/corpus', target);
  if (existsSync(known)) args.push(known);
  return run(join(native, 'build/fuzz', target), args);
}

function typescript(target, { runs, seconds, seed }) {
  const { file, rounds, perSecond } = seeded[target];
  const count = runs ?? Math.ceil((seconds ?? 60) * perSecond);
  const env = { [rounds]: String(count), ...(seed ? { DAXSERVE_SEED: seed } : {}) };
  return run(join(root, 'node_modules/.bin/vitest'), ['run', file], env);
}

const wanted = options();
const listed = spawnSync('make', ['-s', '-C', native, 'fuzz-targets'], { encoding: 'utf8' }).stdout.trim().split(' ');
const all = [...listed, ...Object.keys(seeded)];
const targets = wanted.targets.length > 0 ? wanted.targets : all;
const unknown = targets.find((target) => !all.includes(target));
if (unknown) fail(`there is no target ${unknown}; there are ${all.join(', ')}.`);
const clang = wanted.engine === 'driver' ? undefined : findClang();
if (wanted.engine === 'libfuzzer' && !clang) fail('no clang++ was found; install clang, or leave --engine out.');

const failed = targets.filter((target) => {
  const isNative = listed.includes(target);
  const engine = isNative ? (clang ? `libFuzzer of ${clang}` : 'our own engine (no clang++ found)') : 'vitest';
  console.log(`\n== ${target}: ${engine}`);
  if (!isNative) return !typescript(target, wanted);
  return !(clang ? libfuzzer(target, clang, wanted) : driver(target, wanted));
});
console.log(failed.length === 0 ? '\nfuzz: nothing found' : `\nfuzz: FAILED: ${failed.join(', ')}`);
process.exit(failed.length === 0 ? 0 : 1);
