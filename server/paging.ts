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
