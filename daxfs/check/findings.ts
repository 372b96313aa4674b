/** What `region check` can find: one entry per rule, and the list of what was found. docs/CHECK.md explains each code. */
import { FRONT_RULES, type FrontRule } from '../front-rules.ts';

/** `damage`: a rule is broken. `leftover`: what a crash may leave and the next service undoes by itself. */
export type Severity = 'damage' | 'leftover';

export interface CheckRule {
  severity: Severity;
  /** `--repair` mends it, or fences it off where it cannot be mended. */
  repairable: boolean;
  title: string;
}

const damage = (title: string): CheckRule => ({ severity: 'damage', repairable: true, title });
const fatal = (title: string): CheckRule => ({ severity: 'damage', repairable: false, title });
const leftover = (title: string): CheckRule => ({ severity: 'leftover', repairable: true, title });
const note = (title: string): CheckRule => ({ severity: 'leftover', repairable: false, title });

/** The rules of overlay and page cache under the names that they have here. */
function frontRules(): Record<`FRONT_${FrontRule}`, CheckRule> {
  const named = Object.entries(FRONT_RULES).map(([rule, { severity, repairable, title }]) => [
    `FRONT_${rule}`,
    { severity, repairable, title },
  ]);
  return Object.fromEntries(named) as Record<`FRONT_${FrontRule}`, CheckRule>;
}

export const CHECK_RULES = {
  UNFINISHED: fatal('the creation or the deletion of the region was interrupted'),
  TRUNCATED: fatal('the backing is shorter than the region'),
  HEADER_LOST: fatal('no copy of the registry header can be used'),
  SUPERBLOCK: damage('a field of the superblock is not what the registry header says'),
  LOCATOR_HEAD: damage('the locator in the superblock is damaged'),
  LOCATOR_TAIL: damage('the copy of the locator at the end is damaged'),
  HEADER_COPY: damage('a copy of the registry header is damaged'),
  STATE_COUNTER: damage('a shared counter counts more chunks than there are'),
  STATE_RESERVED: damage('reserved bytes of the shared counters are not zero'),

  HOST_STATE: damage('the state of a host row is unknown'),
  HOST_NAME: damage('the name of a host row is not 1 to 64 bytes of UTF-8'),
  HOST_DUPLICATE: damage('two live host rows have one name'),
  HOST_RECOVERER: damage('a host row is recovered by nobody'),
  HOST_RESERVED: damage('reserved bytes of a host row are not zero'),
  HOST_DEAD: leftover('a host died and nobody has cleaned up after it'),

  CONTENT_STATE: damage('the state of a content row is unknown'),
  CONTENT_CLAIM: damage('a content row names a claiming host that its state does not allow'),
  CONTENT_MASK: damage('a content is pinned by a host row that is free or does not exist'),
  CONTENT_CHECKSUM: damage('the checksum of a content row does not match'),
  CONTENT_SEQUENCE: damage('a published content row was left half written'),
  CONTENT_IMAGE_COUNT: damage('a content has no image or more than a row holds'),
  CONTENT_PLACEMENT: damage('the placement of a content is unknown'),
  CONTENT_REVISION: damage('the revision of a content is not UTF-8 of at most 96 bytes'),
  CONTENT_NUMBER: damage('a size of a content is above 2^53, or a time is none'),
  CONTENT_IMAGES: damage('an image of a content lies outside the region, does not fit its chunks or overlaps another'),
  CONTENT_OVERLAP: damage('images of two contents overlap'),
  CONTENT_DUPLICATE: damage('two contents of one source are loading or ready'),
  CONTENT_FLAGS: damage('unknown flags of a content are set'),
  CONTENT_RESERVED: damage('reserved bytes of a content row are not zero'),
  CONTENT_DEAD_CLAIM: leftover('a content was being loaded or freed by a host that died'),
  CONTENT_DEAD_PIN: leftover('a content is pinned by a host that died'),
  CONTENT_DRAINED: leftover('a draining content that nobody holds is not freed yet'),
  CONTENT_NAMELESS: note('a ready content has no name'),
  CONTENT_QUARANTINED: note('a content is quarantined; --drop-quarantined frees it'),

  CHUNK_STATE: damage('the state of a chunk word is unknown'),
  CHUNK_FREE: damage('a free chunk word is not zero, so the chunk can never be allocated'),
  CHUNK_OWNER: damage('a chunk belongs to a content row that does not exist'),
  CHUNK_STRAY: damage('a chunk belongs to a content that has no image there'),
  CHUNK_LOST: damage('a chunk of an image does not belong to its content, so it could be given away'),
  CHUNK_CLAIM: damage('a chunk is claimed by nobody, or for a content that its host does not load'),
  CHUNK_BLOCK: damage('a cached block belongs to a content that is gone'),
  CHUNK_DEAD_CLAIM: leftover('a chunk is claimed by a host that died'),
  CHUNK_QUARANTINED: note('a chunk is quarantined: a host that lapsed may still write into it'),

  NAME_STATE: damage('the state of a name bucket is unknown'),
  NAME_HALF: damage('a name bucket has a word without a hash, or a hash without a word'),
  NAME_LENGTH: damage('a name has no bytes or more than 194'),
  NAME_TEXT: damage('a name is not UTF-8 without control characters, followed by zeros'),
  NAME_HASH: damage('the hash of a bucket is not the hash of its name'),
  NAME_UNREACHABLE: damage('a free bucket lies before a name on its probe path, so it cannot be found'),
  NAME_DUPLICATE: damage('a name is in two buckets'),
  NAME_TARGET: damage('a name points to a content row that does not exist, or to a use of it that never was'),
  NAME_CLAIM: damage('a name bucket is claimed by nobody, or names a host although it is not claimed'),
  NAME_RESERVED: damage('flags or reserved bytes of a name bucket are not zero'),
  NAME_DEAD_CLAIM: leftover('a name bucket was being written by a host that died'),
  NAME_STALE: leftover('a name points to a content that was freed'),

  INTENT_STATE: damage('the state of an intent row is unknown'),
  INTENT_KIND: damage('the kind of an intent row does not fit its state'),
  INTENT_OWNER: damage('an intent row belongs to nobody'),
  INTENT_RESERVED: damage('reserved bytes of an intent row are not zero'),
  INTENT_DEAD: leftover('an operation of the front was begun by a host that died'),

  IMAGE_SIZE: damage('the size in an image is not the one in its content row'),
  IMAGE_FORMAT: damage('an image breaks a rule of the DAXFS format'),
  MANIFEST_MISSING: damage('a content has no manifest'),
  MANIFEST_FORMAT: damage('the manifest of a content cannot be read'),
  MANIFEST_FILES: damage('the files of the images are not those of the manifest'),
  MANIFEST_ROW: damage('digest, sizes or counts in a content row are not those of its manifest'),
  FILE_DIGEST: damage('the bytes of a file do not have the digest of the manifest'),

  FRONT_OVERLAY_HEADER: damage('the header of the overlay breaks a rule of the DAXFS format'),
  FRONT_CACHE_HEADER: fatal('the header of the page cache breaks a rule of the DAXFS format'),
  FRONT_UNSETTLED: leftover('the front is as a host that died left it, in the middle of an operation'),
  ...frontRules(),
} as const satisfies Record<string, CheckRule>;

export type CheckCode = keyof typeof CHECK_RULES;

/** Structures that findings point at; `image` and `file` lie in chunks. */
export type CheckedStruct =
  | 'superblock'
  | 'locator'
  | 'registry_header'
  | 'registry_state'
  | 'host_row'
  | 'content_row'
  | 'name_row'
  | 'intent_row'
  | 'chunk_word'
  | 'image'
  | 'overlay'
  | 'page_cache';

export interface Where {
  struct: CheckedStruct;
  /** Row, chunk or copy; of an image: its content row. */
  index: number;
  /** Bytes from the start of the region. */
  offset: number;
}

export interface CheckFinding {
  code: CheckCode;
  severity: Severity;
  where: Where;
  /** One sentence for people. */
  message: string;
  repairable: boolean;
}

/** A finding with what it was seen on: the same words must be there at a second look. */
export interface Seen extends CheckFinding {
  evidence: string;
}

/** Findings listed per code; more are counted. */
const listedMax = 1000;

/** Collects findings; a code that is found everywhere fills neither the memory nor the screen. */
export class FindingList {
  readonly list: Seen[] = [];
  readonly counts = new Map<CheckCode, number>();

  add(code: CheckCode, where: Where, message: string, evidence: string | bigint = ''): void {
    const count = (this.counts.get(code) ?? 0) + 1;
    this.counts.set(code, count);
    if (count > listedMax) return;
    const { severity, repairable } = CHECK_RULES[code];
    this.list.push({ code, severity, where, message, repairable, evidence: String(evidence) });
  }
}

export const keyOf = ({ code, where, evidence }: Seen) => `${code} ${where.struct} ${where.offset} ${evidence}`;

/** What both looks saw, on the same words. */
export function confirmed(first: readonly Seen[], second: readonly Seen[]): Seen[] {
  const keys = new Set(second.map(keyOf));
  return first.filter((finding) => keys.has(keyOf(finding)));
}
