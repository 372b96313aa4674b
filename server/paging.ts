/** `?limit&after` over lists that are in memory. */
import { serverError } from './errors.ts';

export interface Page<T> {
  items: T[];
  next?: string;
}

export interface PageQuery {
  limit?: number;
  after?: string;
}

function page<T>(items: readonly T[], start: number, limit: number, keyOf: (item: T) => string): Page<T> {
  const taken = items.slice(start, start + limit);
  const last = taken.at(-1);
  const more = last !== undefined && start + limit < items.length;
  return { items: taken, ...(more && { next: keyOf(last) }) };
}

/** A page in the order of the keys; `after` need not exist any more. */
export function pageByKey<T>(items: T[], query: PageQuery, limit: number, keyOf: (item: T) => string): Page<T> {
  const { after } = query;
  const sorted = items.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const found = after === undefined ? 0 : sorted.findIndex((item) => keyOf(item) > after);
  return page(sorted, found < 0 ? sorted.length : found, query.limit ?? limit, keyOf);
}

/** The first `count` keys after `after`, in order. Their number decides what is sorted, not that of all keys. */
function firstKeys(keys: Iterable<string>, after: string, count: number): string[] {
  let kept: string[] = [];
  let end: string | undefined;
  for (const key of keys) {
    if (key <= after || (end !== undefined && key > end)) continue;
    kept.push(key);
    if (kept.length < 2 * count) continue;
    kept = kept.sort().slice(0, count);
    end = kept.at(-1);
  }
  return kept.sort().slice(0, count);
}

/** As pageByKey over very many items, known by their keys, none of them empty: only those of the page are made. */
export function pageOfKeys<T>(
  keys: Iterable<string>,
  { after = '', limit = 100 }: PageQuery,
  itemOf: (key: string) => T,
): Page<T> {
  const found = firstKeys(keys, after, limit + 1);
  const taken = found.slice(0, limit);
  return { items: taken.map(itemOf), ...(found.length > limit && { next: taken.at(-1)! }) };
}

/** A page in the order given; the list never changes, so `after` must be in it. */
export function pageInOrder<T>(items: readonly T[], query: PageQuery, limit: number, keyOf: (item: T) => string) {
  const { after } = query;
  const found = after === undefined ? -1 : items.findIndex((item) => keyOf(item) === after);
  if (after !== undefined && found < 0)
    throw serverError('SERVER_BAD_REQUEST', 'query/after is not in this list: take `next` of the page before.', {
      extra: { place: 'query/after' },
    });
  return page(items, found + 1, query.limit ?? limit, keyOf);
}
