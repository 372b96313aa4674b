/** Goal: docs/TOOLS.md names every option, command and rule, and none that is gone. Method: compared with the tables of the code. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { FRONT_RULES } from '../../daxfs/front-rules.ts';
import { OPTIONS } from '../../daxfs/mkdaxfs/options.ts';
import { inspect, mkdaxfs } from '../support/run-tool.ts';

const text = readFileSync(new URL('../../docs/TOOLS.md', import.meta.url), 'utf8');

it('every option of mkdaxfs', async () => {
  const help = (await mkdaxfs('-h')).out;
  for (const { long } of OPTIONS) {
    expect(text).toContain(`${long}`);
    expect(help).toContain(`${long}`);
  }
  const known = new Set([...OPTIONS.map(({ long }) => long), '--help', '--version', '--json', '--file', '--mount']);
  const named = [...text.matchAll(/`[^`]*(--[a-z][a-z-]+)/g)].map((match) => match[1]!);
  expect(named.filter((name) => !known.has(name) && name !== '--backing')).toEqual([]);
});

it('every command of daxfs-inspect', () => {
  const help = inspect('help').out;
  for (const command of ['status', 'overlay', 'tree', 'cat', 'check', 'help']) {
    expect(text).toMatch(new RegExp(`\\| \`${command}( PATH)?\` \\|`));
    expect(help).toMatch(new RegExp(`^ {2}${command} `, 'm'));
  }
});

it('every rule of check, in both directions', () => {
  const named = [...text.matchAll(/^\| `([A-Z_]+)` \| (.*) \|$/gm)].map((match) => [match[1], match[2]]);
  expect(named).toEqual(Object.entries(FRONT_RULES).map(([rule, { title }]) => [rule, title]));
});
