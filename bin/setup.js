#!/usr/bin/env node
// Sets up whatever is missing in a clone, and nothing twice: npm packages from the lock file, the native addon, the
// compiled TypeScript; with --test also the Python environment of the tests. Reads nothing but the package registries.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const log = (text) => process.stderr.write(`setup: ${text}\n`);

function fail(text) {
  process.stderr.write(`setup: ${text}\n`);
  process.exit(1);
}

/** Runs quietly; on failure prints what the command printed and ends. */
function run(what, command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  if (result.error) fail(`${what}: ${result.error.message}`);
  if (result.status !== 0) {
    process.stderr.write(`${result.stdout}${result.stderr}`);
    fail(`${what} failed (exit ${result.status}); the output is above.`);
  }
}

const has = (command, args = ['--version']) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const digest = (...files) => {
  const hash = createHash('sha256').update(process.version);
  for (const file of files) hash.update(readFileSync(join(root, file)));
  return hash.digest('hex');
};
const stampPath = (name) => join(root, '.setup', name);
const isStamped = (name, value) => existsSync(stampPath(name)) && readFileSync(stampPath(name), 'utf8') === value;
function stamp(name, value) {
  mkdirSync(join(root, '.setup'), { recursive: true });
  writeFileSync(stampPath(name), value);
}

function checkMachine() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) fail(`daxserve needs Node.js 20 or newer; this is ${process.version}.`);
  if (process.platform !== 'linux') fail(`daxserve needs Linux; this is ${process.platform}.`);
  const missing = [
    ['make', has('make')],
    [process.env.CXX ?? 'g++', has(process.env.CXX ?? 'g++')],
  ].filter(([, present]) => !present);
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name).join(' and ');
  fail(
    `the native addon needs a C++20 compiler and make, but ${names} is missing (Debian, Ubuntu: apt-get install g++ make).`,
  );
}

function installPackages() {
  const want = digest('package-lock.json');
  if (existsSync(join(root, 'node_modules')) && isStamped('npm', want)) return;
  log('installing npm packages from the lock file');
  run('npm ci', 'npm', ['ci', '--include=dev', '--no-audit', '--no-fund']);
  stamp('npm', want);
}

function buildNative() {
  if (spawnSync('make', ['-q', '-C', 'native'], { cwd: root, stdio: 'ignore' }).status === 0) return;
  log('building the native addon');
  run('the native build', 'make', ['-C', 'native', '-j2']);
}

function buildTypeScript() {
  const tsc = join(root, 'node_modules/.bin/tsc');
  run('the TypeScript build', tsc, ['-p', 'tsconfig.build.json']);
}

/** The interpreter environment of the Python tests: optional, so a machine without venv or pip only skips them. */
function preparePython() {
  const requirements = 'test/requirements.txt';
  const want = digest(requirements);
  if (existsSync(join(root, '.venv/bin/python')) && isStamped('python', want)) return;
  log('preparing the Python environment of the tests (.venv)');
  const made = spawnSync('python3', ['-m', 'venv', '.venv'], { cwd: root, encoding: 'utf8' });
  if (made.status !== 0) {
    // What venv leaves without pip would look like an environment.
    rmSync(join(root, '.venv'), { recursive: true, force: true });
    log('python3 cannot make a virtual environment, so tests that need Python packages will be skipped');
    log('  (Debian, Ubuntu: apt-get install python3-venv)');
    return;
  }
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '-r', requirements];
  const installed = spawnSync('.venv/bin/python', pip, { cwd: root, encoding: 'utf8' });
  if (installed.status === 0) return stamp('python', want);
  process.stderr.write(installed.stderr);
  log('pip could not install the packages of test/requirements.txt, so tests that need them will be skipped');
}

checkMachine();
installPackages();
buildNative();
buildTypeScript();
if (process.argv.includes('--test')) preparePython();
