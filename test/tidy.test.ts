/** Goal: the tree keeps its shape. Method: reads every tracked source file and checks the rules of docs/ARCHITECTURE.md. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, it } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const outside = /(^|\/)(node_modules|dist|build|\.git|\.venv|\.setup|__pycache__)(\/|$)/;

/** Files that git knows or would take; on a machine without git, all that are not made. */
function sources(): string[] {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard'];
  const listed = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  if (listed.status === 0) return listed.stdout.split('\n');
  return (readdirSync(root, { recursive: true }) as string[]).filter((path) => !outside.test(path));
}

const files = sources().filter((path) => /\.(ts|js|cc|h|py)$/.test(path) && !path.includes('third_party'));
const text = (path: string) => readFileSync(join(root, path), 'utf8');
const product = files.filter((path) => /^(server|daxfs|loaders|native|worker)\//.test(path));

/** Layer of a file and the layers that it may import besides its own. */
const arrows: Record<string, string[]> = {
  server: ['loaders', 'daxfs', 'native'],
  loaders: ['daxfs', 'native'],
  daxfs: ['native'],
  native: [],
  worker: ['native'],
};

function importsOf(path: string): string[] {
  const specifiers = [...text(path).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map((match) => match[1]!);
  return specifiers.map((specifier) => normalize(join(dirname(path), specifier)));
}

it('imports point one way', () => {
  const wrong: string[] = [];
  for (const path of product.filter((p) => p.endsWith('.ts'))) {
    const layer = path.split('/')[0]!;
    for (const target of importsOf(path)) {
      const other = target.split('/')[0]!;
      if (other !== layer && !arrows[layer]?.includes(other)) wrong.push(`${path} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

it('the Node worker imports nothing of ours but native/index.ts', () => {
  const wrong = product
    .filter((path) => path.startsWith('worker/node/'))
    .flatMap((path) => importsOf(path).filter((t) => !t.startsWith('worker/node/') && t !== 'native/index.ts'));
  expect(wrong).toEqual([]);
});

it('no hand-written file is longer than 500 lines', () => {
  const long = files.filter((path) => !path.includes('.gen.') && text(path).split('\n').length > 501);
  expect(long).toEqual([]);
});

it('atomics in the native core name their order', () => {
  const wrong: string[] = [];
  for (const path of product.filter((p) => /^native\/(include|src)\//.test(p))) {
    text(path)
      .split('\n')
      .forEach((line, i) => {
        if (/\.(load|store|fetch_add|fetch_sub|fetch_or|exchange)\(/.test(line) && !/memory_order|order\b/.test(line)) {
          wrong.push(`${path}:${i + 1}`);
        }
      });
  }
  expect(wrong).toEqual([]);
});

it('only config reads the environment', () => {
  const allowed = /^(server\/(config|main|cli)|worker\/node|native\/|server\/cli\/)/;
  const wrong = product.filter(
    (path) => path.endsWith('.ts') && /process\.env/.test(text(path)) && !allowed.test(path),
  );
  expect(wrong).toEqual([]);
});

it('no file names says nothing', () => {
  const wrong = files.filter((path) => /(^|\/)(utils?|helpers?|manager|misc|common)\.(ts|cc|h|py)$/.test(path));
  expect(wrong.filter((path) => path !== 'server/schemas/common.ts')).toEqual([]);
});
