/**
 * Rules about what overlay and page cache hold. The format's own validation looks at none of it. `region check` names
 * them with FRONT_ before; docs/CHECK.md says what repair does about each.
 */

/** `damage`: a rule is broken. `leftover`: what a crash may leave; looked for only where nobody is at work. */
export type FrontSeverity = 'damage' | 'leftover';

export interface FrontRuleFacts {
  severity: FrontSeverity;
  /** `region check --repair` mends it without guessing. */
  repairable: boolean;
  title: string;
  /** What a user can do where repair cannot. */
  advice?: string;
}

const damage = (title: string): FrontRuleFacts => ({ severity: 'damage', repairable: true, title });
const told = (title: string, advice: string): FrontRuleFacts => ({
  severity: 'damage',
  repairable: false,
  title,
  advice,
});
const leftover = (title: string): FrontRuleFacts => ({ severity: 'leftover', repairable: true, title });
const note = (title: string): FrontRuleFacts => ({ severity: 'leftover', repairable: false, title });

const COPY_OUT = 'copy what can be read out of the region and create it again';
const REMOVE_FILE = 'remove the file or give it its contents again, then repair once more';

export const FRONT_RULES = {
  OVERLAY_PLACE: told('the overlay cannot be read', COPY_OUT),

  BUCKET_WORD: damage('a bucket is neither free nor used'),
  BUCKET_TWICE: damage('a key is in two buckets'),
  BUCKET_UNREACHABLE: damage('a search for the key ends before its bucket'),
  BUCKET_ENTRY: told('a bucket leads to nothing that its key could mean', COPY_OUT),
  BUCKET_STATE: damage('a bucket of a private front is in a state that does not exist'),
  BUCKET_TENTATIVE: leftover('a bucket was being claimed by a host that died'),

  BIN_WORD: damage('the word of a bin names no bucket'),

  ROOT_MISSING: told('there is no root directory', COPY_OUT),
  INODE_NUMBER_UNUSED: damage('an inode has a number that was not given out'),
  INODE_NUMBER_NEXT: damage('the next inode number is none'),
  INODE_FIELDS: told('an inode has a mode or size that cannot be', REMOVE_FILE),
  INODE_FLAGS: damage('an inode has flags that cannot be'),
  INODE_LINKS: damage('the link count of an inode is not the one it was made with'),
  INODE_BASE: damage('an inode shows more pages of the base than there are'),
  INODE_CLOSED: damage('a directory is closed for a removal that nobody runs'),
  INODE_NAMES: told('two names lead to one inode', 'copy the file, then remove both names'),
  INODE_ORPHAN: leftover('no name leads to an inode'),
  INODE_TRUNCATING: leftover('a file was being cut off by a host that died'),

  NAME_HASH: told('a name hangs in the chain of another key', COPY_OUT),
  NAME_CHAIN: damage('a chain of names breaks off or does not end'),
  NAME_TWICE: damage('a directory has a name twice'),
  NAME_INVALID: told('a name holds a slash or NUL, is "." or "..", or does not end', COPY_OUT),
  NAME_FLAGS: damage('a name has flags that cannot be'),
  NAME_CLAIMED: damage('a name is being moved by nobody, so nobody can move or remove it'),
  NAME_PARENT: told('the directory of a name does not exist', COPY_OUT),
  NAME_CHILD: told('a name leads to no inode', 'remove the name'),
  NAME_TYPE: damage('a name and its inode are of different types'),
  NAME_UNLISTED: damage('a name can be opened but its directory does not list it'),
  NAME_UNLINKED: damage('a directory lists a name that cannot be opened'),

  LIST_HEAD: damage('the list of a directory has no head, or one with fields that cannot be'),
  LIST_CHAIN: damage('the list of a directory breaks off or does not end'),
  LIST_PARENT: damage('a directory lists a name of another one'),
  LIST_TWICE: damage('an entry is in two lists, or twice in one'),
  SLOT_STALE: leftover('a slot of a directory leads to an entry that its name does not'),

  SLOT_ENTRY: damage('a slot of a directory leads to no name of it'),
  DIRECTORY_LOST: told('a directory cannot be reached from the root', COPY_OUT),

  PAGE_ORPHAN: told('a page belongs to an inode that is lost', COPY_OUT),
  PAGE_REMOVED: leftover('a page belongs to a file that was removed'),
  PAGE_BEYOND: leftover('a page lies behind the end of its file'),

  FREE_LIST: damage('a list of free entries breaks off or does not end'),
  FREE_TWICE: damage('an entry is in a list of free entries twice, or in use'),
  POOL_OVERLAP: told('two things claim the same bytes of the pool', REMOVE_FILE),
  POOL_POINTER: damage('the end of what was allocated lies inside an entry'),
  POOL_BEYOND: damage('an entry lies behind what was allocated'),
  POOL_LOST: leftover('bytes of the pool belong to nothing'),
  POOL_SPENT: note('bytes of the pool belong to nothing, and a kernel-mountable front cannot give them back'),

  PCACHE_PLACE: told('the page cache cannot be read', 'make the image again'),
  CACHE_STATE: damage('a slot has a state that does not exist'),
  CACHE_FREE: damage('a free slot has a tag, pins or hosts'),
  CACHE_WINDOW: damage('a slot holds a page that is never looked for there'),
  CACHE_TWICE: damage('a page is in two slots'),
  CACHE_PAGE: damage('a slot holds a page of no file, or one behind its end'),
  CACHE_PENDING: damage('pending_count is not the number of pending slots'),
  CACHE_HAND: damage('the clock hand points behind the last slot'),
  CACHE_PINS: damage('pins and host bits of a slot disagree'),
  CACHE_OWNER: damage('a pending slot belongs to no host that could be'),
  CACHE_REF: damage('a reference bit is neither 0 nor 1'),
  CACHE_DEAD_FILL: leftover('a slot was being filled by a host that died'),
  CACHE_DEAD_PIN: leftover('a slot is pinned by a host that died'),
} as const satisfies Record<string, FrontRuleFacts>;

export type FrontRule = keyof typeof FRONT_RULES;

/** What a finding is about, for repair; as far as the rule knows it. */
export interface FrontSubject {
  /** Bucket or slot index. */
  index?: number;
  /** Pool offset of an entry. */
  entry?: number;
  ino?: number;
  /** Bytes of the pool [from, to). */
  from?: number;
  to?: number;
  /** Field of the overlay header. */
  field?: FreeListField;
}

export type FreeListField = 'free_inode' | 'free_data' | 'free_dirent';

export interface FrontFinding {
  rule: FrontRule;
  /** Byte of the source at which the rule broke. */
  offset: number;
  /** What was found, for people. */
  detail: string;
  subject: FrontSubject;
  /** The words that it was seen on: while they stay what they are, so does the finding. */
  evidence: string;
}

/** Collects findings up to a limit and counts the rest. */
export class FrontFindings {
  readonly list: FrontFinding[] = [];
  total = 0;
  readonly #max: number;
  readonly #counts = new Map<FrontRule, number>();
  constructor(max: number) {
    this.#max = max;
  }

  add(rule: FrontRule, offset: number, detail: string, subject: FrontSubject = {}, evidence = ''): void {
    this.total++;
    this.#counts.set(rule, (this.#counts.get(rule) ?? 0) + 1);
    if (this.list.length < this.#max) this.list.push({ rule, offset, detail, subject, evidence });
  }

  /** Adds a finding unless `ok`; returns `ok`. */
  expect(
    ok: boolean,
    rule: FrontRule,
    offset: number,
    detail: string,
    subject: FrontSubject = {},
    evidence = '',
  ): boolean {
    if (!ok) this.add(rule, offset, detail, subject, evidence);
    return ok;
  }

  /** True when a rule of the overlay is broken. */
  get hasDamage(): boolean {
    return [...this.#counts.keys()].some((rule) => FRONT_RULES[rule].severity === 'damage' && !/CACHE/.test(rule));
  }
}
