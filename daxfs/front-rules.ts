/**
 * Rules about what overlay and page cache hold, for a front that nobody changes meanwhile. The format's own validation
 * looks at none of it.
 */
export const FRONT_RULES = {
  OVERLAY_PLACE: 'the overlay cannot be read',
  BUCKET_WORD: 'a bucket is neither free nor used',
  BUCKET_TWICE: 'a key is in two buckets',
  BUCKET_UNREACHABLE: 'a search for the key ends before its bucket',
  BUCKET_ENTRY: 'a bucket leads to nothing that its key could mean',
  INODE_NUMBER_UNUSED: 'an inode has a number that was not given out',
  INODE_FIELDS: 'an inode has a mode or size that cannot be',
  NAME_HASH: 'a name hangs in the chain of another key',
  NAME_CHAIN: 'a chain of names breaks off or does not end',
  NAME_TWICE: 'a name is in a chain twice',
  NAME_INVALID: 'a name holds a slash or NUL, or is "." or ".."',
  NAME_PARENT: 'the directory of a name does not exist',
  NAME_CHILD: 'a name leads to no inode, or to one of another type',
  NAME_UNLISTED: 'a name can be opened but its directory does not list it',
  LIST_CHAIN: 'the list of a directory breaks off or does not end',
  LIST_PARENT: 'a directory lists a name of another one',
  LIST_TWICE: 'an entry is in two lists, or twice in one',
  SLOT_STALE: 'a slot of a directory leads to an entry that its name does not',
  PAGE_ORPHAN: 'a page belongs to no inode',
  FREE_LIST: 'a list of free entries breaks off or does not end',
  POOL_OVERLAP: 'two things claim the same bytes of the pool',
  POOL_BEYOND: 'an entry lies behind what was allocated',
  PCACHE_PLACE: 'the page cache cannot be read',
  CACHE_STATE: 'a slot has a state that does not exist',
  CACHE_FREE: 'a free slot is not zero',
  CACHE_WINDOW: 'a slot holds a page that is never looked for there',
  CACHE_TWICE: 'a page is in two slots',
  CACHE_PAGE: 'a slot holds a page of no file, or one behind its end',
  CACHE_PENDING: 'pending_count is not the number of pending slots',
  CACHE_PINS: 'pins and host bits of a slot disagree',
  CACHE_REF: 'a reference bit is neither 0 nor 1',
} as const satisfies Record<string, string>;

export type FrontRule = keyof typeof FRONT_RULES;

export interface FrontFinding {
  rule: FrontRule;
  /** Byte of the source at which the rule broke. */
  offset: number;
  /** What was found, for people. */
  detail: string;
}

/** Collects findings up to a limit and counts the rest. */
export class FrontFindings {
  readonly list: FrontFinding[] = [];
  total = 0;
  readonly #max: number;
  constructor(max: number) {
    this.#max = max;
  }

  add(rule: FrontRule, offset: number, detail: string): void {
    this.total++;
    if (this.list.length < this.#max) this.list.push({ rule, offset, detail });
  }

  /** Adds a finding unless `ok`; returns `ok`. */
  expect(ok: boolean, rule: FrontRule, offset: number, detail: string): boolean {
    if (!ok) this.add(rule, offset, detail);
    return ok;
  }
}
