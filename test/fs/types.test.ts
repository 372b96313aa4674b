/** Goal: callers get the types of node:fs. Method: test/consumer, in strict TypeScript, is compiled against the built package. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const root = new URL('../..', import.meta.url).pathname;

it('a program in strict TypeScript sees the types that it should', () => {
  const { stdout, status } = spawnSync(`${root}node_modules/.bin/tsc`, ['-p', 'test/consumer'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect({ stdout, status }).toEqual({ stdout: '', status: 0 });
});
