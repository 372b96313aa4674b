/** Goal: docs/CHECK.md and the table of rules name the same codes. Method: compares both ways, severity included. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { CHECK_RULES } from '../../daxfs/check/findings.ts';

it('every rule is documented, and no document names a dead one', () => {
  const text = readFileSync(new URL('../../docs/CHECK.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| ([A-Z_]+) \| (.+?) \| (damage|leftover) \| (.+) \|$/gm)];
  const documented = rows.map(([, code, title, severity]) => [code, title, severity]).sort();
  const table = Object.entries(CHECK_RULES).map(([code, { title, severity }]) => [code, title, severity]);
  expect(documented).toEqual(table.sort());
});
