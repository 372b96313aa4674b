/** Goal: docs/FORMATS.md tells every code and every limit, and no dead one. Method: both directions. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { DTYPES } from '../../loaders/dtype.ts';
import { LOADER_ERRORS } from '../../loaders/errors.ts';
import { LIMITS, type Limit } from '../../loaders/limits.ts';

const document = readFileSync(new URL('../../docs/FORMATS.md', import.meta.url), 'utf8');

/** A row of the table of limits. */
const row = ([name, { value, unit, reason, largest }]: [string, Limit]) =>
  `| \`${name}\` | ${value.toLocaleString('en-US')} | ${unit} | ${reason} | ${largest} |`;

it('has every code once as the head of a row, and no other', () => {
  const heads = [...document.matchAll(/^\| `([A-Z0-9_]+)` \|/gm)].map((match) => match[1]!);
  expect(heads.sort()).toEqual(Object.keys(LOADER_ERRORS).sort());
});

it('has the table of limits as it is', () => {
  const table = document.slice(document.indexOf('| limit | value |')).trim().split('\n').slice(2);
  expect(table).toEqual(Object.entries(LIMITS).map(row));
});

it('names no limit that is gone', () => {
  const named = [...document.matchAll(/`([a-zA-Z]+Max)`/g)].map((match) => match[1]!);
  expect(named.filter((name) => !Object.hasOwn(LIMITS, name))).toEqual([]);
});

it('lists every type', () => {
  const words = new Set(document.split(/[\s.,:]+/));
  expect([...DTYPES.keys()].filter((name) => !words.has(name))).toEqual([]);
});

it('every limit is used', () => {
  const folder = new URL('../../loaders/', import.meta.url);
  const code = readdirSync(folder).map((name) => readFileSync(new URL(name, folder), 'utf8'));
  const unused = Object.keys(LIMITS).filter((name) => !code.some((text) => text.includes(`limit('${name}')`)));
  expect(unused).toEqual([]);
});
