/**
 * Lists over whole tables of the registry that cost little when nothing has changed: one native pass over the words tells
 * which rows to decode again.
 */
import type { ContentRef, native } from '../native/index.ts';
import type { Content } from './content-row.ts';

type NativeRegistry = InstanceType<typeof native.Registry>;

/** Words per row of `stampContents` and `stampName`; the first is the row's index. */
const STAMP_WORDS = 10;
/** Words per name of `listTargets`: bucket, content index, generation, hash (low, high). */
const TARGET_WORDS = 5;
type Words = [bucket: number, index: number, generation: number, hashLow: number, hashHigh: number];

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function sameRow(a: Uint32Array, atA: number, b: Uint32Array, atB: number): boolean {
  for (let i = 0; i < STAMP_WORDS; i++) if (a[atA + i] !== b[atB + i]) return false;
  return true;
}

/** Every content that is not free, decoded. The same array, and the same objects in it, while nothing has changed. */
export class ContentList {
  readonly #native: NativeRegistry;
  readonly #decode: (index: number) => Content | undefined;
  #stamps: Uint32Array = new Uint32Array();
  /** By row of `#stamps`; undefined for a row that was freed while we looked. */
  #rows: (Content | undefined)[] = [];
  #contents: readonly Content[] = [];
  /** Rows that were asked for by name; at most one per row of the table. */
  readonly #single = new Map<number, { stamp: Uint32Array; content: Content }>();
  /** Where the stamp of the name that is looked up now goes. */
  readonly #stamp = new Uint32Array(STAMP_WORDS);

  constructor(registry: NativeRegistry, decode: (index: number) => Content | undefined) {
    this.#native = registry;
    this.#decode = decode;
  }

  /** What a name points at; the same object while it has not changed. One call, nothing allocated: this path is hot. */
  named(name: string): Content | undefined {
    const generation = this.#native.stampName(name, this.#stamp);
    if (generation < 0) return undefined;
    const content = this.#one(this.#stamp[0]!);
    return content?.generation === generation ? content : undefined;
  }

  #one(index: number): Content | undefined {
    const known = this.#single.get(index);
    if (known && sameWords(known.stamp, this.#stamp)) return known.content;
    const content = this.#decode(index);
    if (content) this.#single.set(index, { stamp: this.#stamp.slice(), content });
    return content;
  }

  /** Stamps are taken before rows are read, so that a row is at least as new as its stamp. */
  read(): readonly Content[] {
    const stamps = this.#native.stampContents();
    if (sameWords(stamps, this.#stamps)) return this.#contents;
    this.#rows = this.#decodeChanged(stamps);
    this.#stamps = stamps;
    this.#contents = this.#rows.filter((content) => content !== undefined);
    return this.#contents;
  }

  #decodeChanged(stamps: Uint32Array): (Content | undefined)[] {
    const rows: (Content | undefined)[] = [];
    const before = this.#stamps;
    let old = 0;
    for (let at = 0; at < stamps.length; at += STAMP_WORDS) {
      const index = stamps[at]!;
      while (old < before.length && before[old]! < index) old += STAMP_WORDS;
      const known = old < before.length && sameRow(stamps, at, before, old);
      rows.push(known ? this.#rows[old / STAMP_WORDS] : this.#decode(index));
    }
    return rows;
  }
}

export interface NamedContent {
  name: string;
  target: ContentRef;
}

/** Every name that points at a content, by the order of the names. The same array while nothing has changed. */
export class NameList {
  readonly #native: NativeRegistry;
  /** By bucket, with the hash that the bucket had. */
  readonly #names = new Map<number, { low: number; high: number; name: string }>();
  #targets: Uint32Array = new Uint32Array();
  #list: readonly NamedContent[] = [];

  constructor(registry: NativeRegistry) {
    this.#native = registry;
  }

  read(): readonly NamedContent[] {
    const targets = this.#native.listTargets();
    if (sameWords(targets, this.#targets)) return this.#list;
    const list: NamedContent[] = [];
    let complete = true;
    for (let at = 0; at < targets.length; at += TARGET_WORDS) {
      const [bucket, index, generation, low, high] = targets.subarray(at, at + TARGET_WORDS) as unknown as Words;
      const name = this.#name(bucket, low, high);
      if (name === '') complete = false;
      else list.push({ name, target: { index, generation } });
    }
    this.#list = list.sort((a, b) => (a.name < b.name ? -1 : 1));
    // A bucket that got another name while we looked (or is damaged) is looked at again.
    this.#targets = complete ? targets : new Uint32Array();
    return this.#list;
  }

  #name(bucket: number, low: number, high: number): string {
    const known = this.#names.get(bucket);
    if (known?.low === low && known.high === high) return known.name;
    const name = this.#native.readName(bucket, low, high);
    if (name !== '') this.#names.set(bucket, { low, high, name });
    return name;
  }
}
