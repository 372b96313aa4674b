// Runs every check of the repository in order and sums them up; `npm test` calls it after the set-up.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = join(root, '.setup/results');
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const counts = { passed: 0, failed: 0, skipped: 0 };
const bin = (name) => join(root, 'node_modules/.bin', name);

/** Runs one step; a step without its own counts is one check. */
function step(title, command, args, count) {
  console.log(`\n== ${title}`);
  const started = Date.now();
  const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  const seen = count?.() ?? { passed: status === 0 ? 1 : 0, failed: 0, skipped: 0 };
  if (status !== 0 && seen.failed === 0) seen.failed = 1;
  for (const key of Object.keys(counts)) counts[key] += seen[key];
  console.log(`== ${title}: ${status === 0 ? 'ok' : 'FAILED'} in ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

function vitestCounts() {
  const file = join(out, 'vitest.json');
  if (!existsSync(file)) return undefined;
  const result = JSON.parse(readFileSync(file, 'utf8'));
  return {
    passed: result.numPassedTests,
    failed: result.numFailedTests,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

function pytestCounts() {
  const file = join(out, 'pytest.xml');
  if (!existsSync(file)) return undefined;
  const number = (name) =>
    Number(new RegExp(`<testsuite [^>]*\\b${name}="(\\d+)"`).exec(readFileSync(file, 'utf8'))?.[1]);
  const failed = number('failures') + number('errors');
  return { passed: number('tests') - failed - number('skipped'), failed, skipped: number('skipped') };
}

step('lint', bin('biome'), ['ci', `--colors=${process.stdout.isTTY ? 'force' : 'off'}`, '.']);
step('types', bin('tsc'), ['-p', 'tsconfig.json', '--noEmit']);
step('native tests', 'make', ['-s', '-C', 'native', '-j2', '--output-sync', 'test']);
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${join(out, 'vitest.json')}`];
step('vitest', bin('vitest'), ['run', ...reporters], vitestCounts);

/** Runs pytest on the Python worker with one interpreter. */
function pythonWorker(title, python, ...args) {
  rmSync(join(out, 'pytest.xml'), { force: true });
  const junit = `--junitxml=${join(out, 'pytest.xml')}`;
  step(
    title,
    python,
    ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'worker/python/tests', junit, ...args],
    pytestCounts,
  );
}

function skip(title, why) {
  console.log(`\n== ${title}: skipped, ${why}`);
  counts.skipped += 1;
}

const canImport = (python, modules) => spawnSync(python, ['-c', `import ${modules}`], { stdio: 'ignore' }).status === 0;

const venv = join(root, '.venv/bin/python');
if (canImport(venv, 'pytest')) pythonWorker('Python worker', venv);
else skip('Python worker', '.venv has no pytest (the set-up says why)');

const withTorch = ['python3', '/usr/bin/python3'].find((python) => canImport(python, 'torch, numpy, pytest'));
if (withTorch) pythonWorker('Python worker with torch', withTorch, '-k', 'torch');
else
  skip(
    'Python worker with torch',
    'no interpreter has torch, numpy and pytest (Debian: apt-get install python3-torch python3-pytest)',
  );

console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed === 0 ? 0 : 1);
