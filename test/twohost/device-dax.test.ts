/**
 * Goal: region, fence and service keep their promises on a real device-dax device, and another kernel on the same memory
 * takes part. Method: two virtual machines share one device; each runs a script of steps, which are the tests here.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const twohost = join(root, '../shared/twohost/twohost.sh');
const limitSeconds = 900;

const has = (command: string) => (process.env.PATH ?? '').split(':').some((dir) => existsSync(join(dir, command)));

/** A kernel that can be booted, with its modules. */
const hasKernel = () =>
  existsSync('/boot') &&
  readdirSync('/boot').some((name) => existsSync(`/lib/modules/${name.replace(/^vmlinuz-/, '')}/modules.dep`));

function whySkipped(): string | null {
  if (process.env.DAXSERVE_TEST_TWOHOST !== '1') return 'they take minutes; "npm run test:twohost" runs them';
  if (!existsSync(twohost)) return '../shared/twohost, which boots the machines, is not there';
  if (process.geteuid?.() !== 0) return 'only root may boot them from the root file system';
  if (!has('qemu-system-x86_64') || !has('busybox')) return 'QEMU or busybox is not installed';
  return hasKernel() ? null : 'there is no kernel in /boot with its modules';
}

const skipped = whySkipped();
if (skipped) console.warn(`SKIPPED, tests on device-dax in virtual machines: ${skipped}.`);

interface Lock {
  packages: Record<string, { dev?: boolean; optional?: boolean }>;
}

interface Outcome {
  name: string;
  error: string | null;
}

/** The names of the steps of a script, in order. */
function stepsOf(script: string): string[] {
  return [...readFileSync(join(root, 'test/twohost', script), 'utf8').matchAll(/await step\('([^']+)'/g)].map(
    (match) => match[1]!,
  );
}

/** What a machine needs, in one file: thousands of small reads through the shared root would take it minutes. */
function packTree(directory: string): string {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
  const packages = Object.entries(lock.packages).flatMap(([path, { dev, optional }]) =>
    path !== '' && !dev && !optional ? [path] : [],
  );
  const own = ['package.json', 'bin', 'dist', 'native/build/daxserve.node', 'worker/python/daxserve'];
  const path = join(directory, 'tree.tar');
  const leftOut = ['*.d.ts', '*.d.mts', '*.map', '*.md'].map((pattern) => `--exclude=${pattern}`);
  execFileSync('tar', ['-cf', path, ...leftOut, ...own, 'test/twohost', 'test/fence', ...packages], { cwd: root });
  return path;
}

const scripts = ['first-host.js', 'second-host.js'];

describe.skipIf(skipped)('device-dax in two virtual machines', () => {
  let out = '';
  const outcomes = new Map<string, Outcome>();

  beforeAll(
    async () => {
      out = mkdtempSync(join(tmpdir(), 'daxserve-twohost-'));
      // The real interpreter: a shim of a version manager takes many seconds in there.
      const python = execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
      const tree = packTree(out);
      const unpack = `mkdir /run/daxserve && tar -xf ${tree} -C /run/daxserve && cd /run/daxserve`;
      const commands = scripts.map((script) => `${unpack} && ${process.execPath} test/twohost/${script}`);
      const options = ['-t', 'devdax', '-s', '64', '-m', '1024', '-l', String(limitSeconds), '-o', out];
      options.push('-e', `TWOHOST_PYTHON=${python}`, '--', ...commands);
      const child = spawn(twohost, options, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
      await once(child, 'exit');
      for (const index of scripts.keys()) {
        const file = join(out, `steps-${index}.jsonl`);
        const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
        for (const line of lines) {
          const outcome = JSON.parse(line) as Outcome;
          outcomes.set(outcome.name, outcome);
        }
      }
    },
    (limitSeconds + 60) * 1000,
  );

  afterAll(() => rmSync(out, { recursive: true, force: true }));

  for (const script of scripts) {
    for (const name of stepsOf(script)) {
      it(name, () => {
        expect(outcomes.get(name) ?? { error: 'it was not reached' }).toMatchObject({ error: null });
      });
    }
  }
});
