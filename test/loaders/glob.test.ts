/** Goal: patterns mean what docs/FORMATS.md says. Method: a table, limits from both sides, a comparison with regular expressions. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { compileGlob, compileGlobs, matchesGlob } from '../../loaders/glob.ts';
import { limit } from '../../loaders/limits.ts';
import { holds } from '../support/seed.ts';

it.each<[string, string[], string[]]>([
  ['*.bin', ['a.bin', 'x/y/a.bin', '.bin'], ['a.bin.txt', 'a.BIN', 'bin']],
  ['a.txt', ['a.txt', 'x/a.txt'], ['ba.txt', 'a.txt/b']],
  ['/a.txt', ['a.txt'], ['x/a.txt']],
  ['x/*', ['x/a', 'x/.b'], ['x/a/b', 'y/x/a', 'x']],
  ['x/', ['x/a', 'x/a/b'], ['x', 'y/x/a']],
  ['x/**', ['x/a', 'x/a/b', 'x'], ['xx/a']],
  ['**/x', ['x', 'a/x', 'a/b/x'], ['a/xx']],
  ['x/**/y', ['x/y', 'x/a/y', 'x/a/b/y'], ['x/ay', 'xy']],
  ['**', ['a', 'a/b/c'], []],
  ['*', ['a', 'a/b'], []],
  ['?.txt', ['a.txt', '\u{1f600}.txt'], ['.txt', 'ab.txt']],
  ['a*b*c', ['abc', 'aXbXc', 'abbc'], ['ab', 'acb']],
  ['[ab]', ['[ab]'], ['a', 'b']],
  ['a**b', ['aXXb', 'ab'], ['a/b']],
  ['{a,b}', ['{a,b}'], ['a']],
])('%s', (pattern, yes, no) => {
  const glob = compileGlob(pattern);
  expect(yes.filter((path) => !matchesGlob(path, glob))).toEqual([]);
  expect(no.filter((path) => matchesGlob(path, glob))).toEqual([]);
});

it.each(['', '/', '//a', 'a//b', '../a', 'a/./b', 'a/..', 'a\nb', 'x'.repeat(limit('globBytesMax') + 1)])(
  '%j is refused',
  (text) => {
    expect(() => compileGlob(text)).toThrow(expect.objectContaining({ code: 'SOURCE_GLOB', kind: 'invalid' }));
  },
);

it('takes patterns up to their number and length', () => {
  const most = Array(limit('globsMax')).fill('x'.repeat(limit('globBytesMax')));
  expect(compileGlobs(most).length).toBe(most.length);
  expect(() => compileGlobs([...most, 'x'])).toThrow(expect.objectContaining({ code: 'SOURCE_GLOB' }));
});

it('many stars take no exponential time', () => {
  expect(matchesGlob('a'.repeat(250), compileGlob(`${'a*'.repeat(200)}b`))).toBe(false);
  expect(matchesGlob('a/'.repeat(100).slice(0, -1), compileGlob(`${'**/a/'.repeat(60)}b`))).toBe(false);
});

it('agrees with a regular expression', async () => {
  const segment = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.'), minLength: 1, maxLength: 4 });
  const pattern = fc.array(fc.oneof(segment, fc.constant('**')), { minLength: 2, maxLength: 4 });
  const path = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 5,
  });
  await holds(
    fc.property(pattern, path, (parts, names) => {
      fc.pre(!parts.some((part) => part === '.' || part === '..'));
      const source = parts
        .map((part) =>
          part === '**'
            ? '(?:/[^/]+)*'
            : `/${part.replaceAll('.', '\\.').replace(/\*+/g, '[^/]*').replaceAll('?', '[^/]')}`,
        )
        .join('');
      const text = names.join('/');
      expect(matchesGlob(text, compileGlob(parts.join('/')))).toBe(new RegExp(`^${source}$`).test(`/${text}`));
    }),
    2000,
  );
});
