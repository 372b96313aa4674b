/** Goal: names follow the grammar, and made-up ones always do. Method: a table and a property. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { NAME_PATTERN, namePart, parseModelName } from '../../loaders/name.ts';
import { holds } from '../support/seed.ts';

it.each([
  ['m', 'm', 'latest'],
  ['org/m', 'org/m', 'latest'],
  ['org/m:v1', 'org/m', 'v1'],
  ['M_1.x-y:..', 'M_1.x-y', '..'],
  [`${'a'.repeat(64)}/${'b'.repeat(64)}:${'c'.repeat(64)}`, `${'a'.repeat(64)}/${'b'.repeat(64)}`, 'c'.repeat(64)],
])('%s', (text, name, tag) => {
  expect(parseModelName(text)).toEqual({ name, tag, full: `${name}:${tag}` });
  expect(parseModelName(`${name}:${tag}`).full).toBe(`${name}:${tag}`);
});

it.each([
  '',
  '.',
  '../x',
  'a/',
  '/a',
  'a/b/c',
  'a:',
  'a:b:c',
  'a:/',
  '-a',
  'a b',
  'ü',
  'a\n',
  'a'.repeat(65),
  `a:${'b'.repeat(65)}`,
  'a/../b',
])('%j is no name', (text) => {
  expect(() => parseModelName(text)).toThrow(expect.objectContaining({ code: 'MODEL_NAME', kind: 'invalid' }));
});

it('any text makes a name part', async () => {
  await holds(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(namePart(text)).toMatch(NAME_PATTERN);
      expect(namePart(text)).not.toMatch(/[/:]/);
    }),
  );
});
