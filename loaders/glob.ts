/**
 * The patterns of `include` and `exclude`.
 *   `*`   any characters but `/`
 *   `?`   one character but `/`
 *   `**`  as a whole segment: any number of directories, none included
 * A pattern without `/` is tried on the file name at any depth; one with `/` on the whole path, from the source's top.
 * A trailing `/` means everything below. All other characters stand for themselves; there are no classes or escapes.
 */
import { loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';

/** A compiled pattern. */
export interface Glob {
  readonly text: string;
  /** Segments from the top; `**` stands for any number of them. */
  readonly segments: readonly (readonly string[] | '**')[];
}

function refuse(text: string, what: string) {
  return loaderError('SOURCE_GLOB', `The pattern ${shown(text)} ${what}; patterns know *, ? and ** only.`);
}

/** @throws LoaderError SOURCE_GLOB */
export function compileGlob(text: string): Glob {
  if (text === '' || text === '/') throw refuse(text, 'is empty');
  if (Buffer.byteLength(text) > limit('globBytesMax'))
    throw refuse(text, `is longer than ${limit('globBytesMax')} bytes`);
  if (/\p{Cc}/u.test(text)) throw refuse(text, 'holds a control character');
  const anchored = text.startsWith('/') ? text.slice(1) : text.includes('/') ? text : `**/${text}`;
  const parts = (anchored.endsWith('/') ? `${anchored}**/*` : anchored).split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw refuse(text, 'has an empty, "." or ".." segment');
  return { text, segments: parts.map((part) => (part === '**' ? part : [...part])) };
}

/** @throws LoaderError SOURCE_GLOB */
export function compileGlobs(texts: readonly string[] | undefined): Glob[] {
  if (!texts) return [];
  if (texts.length > limit('globsMax')) {
    throw loaderError(
      'SOURCE_GLOB',
      `There are ${texts.length} patterns, at most ${limit('globsMax')} are taken; merge some.`,
    );
  }
  return texts.map(compileGlob);
}

/** Wildcards in one segment: on a mismatch the last `*` takes one character more. Quadratic at worst. */
function matchSegment(pattern: readonly string[], text: readonly string[]): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let starAt = 0;
  while (t < text.length) {
    if (pattern[p] === '*') {
      star = p++;
      starAt = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++starAt;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** True when the path matches. @param path segments divided by `/`, no leading one */
export function matchesGlob(path: string, { segments }: Glob): boolean {
  const parts = path.split('/').map((part) => [...part]);
  // reached[i]: the pattern so far can have taken the first i segments of the path.
  let reached = [true, ...parts.map(() => false)];
  for (const segment of segments) {
    let any = false;
    reached = reached.map((here, i) => {
      if (segment === '**') {
        any ||= here;
        return any;
      }
      return i > 0 && reached[i - 1]! && matchSegment(segment, parts[i - 1]!);
    });
  }
  return reached.at(-1)!;
}
