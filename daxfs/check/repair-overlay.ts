/** Repairs of an overlay, one per rule. What would need a guess is told and left as it is. */
import type { BaseTree } from '../base-tree.ts';
import type { FrontFinding, FrontRule } from '../front-rules.ts';
import { typeOfMode } from '../image.ts';
import { CONSTANTS, overlayDirent, overlayInode } from '../layout.ts';
import { EntryClassifier } from '../overlay-census.ts';
import { decodePrivateValue, direntKey, INODE_NUMBER_END, inodeKey, pageKey } from '../overlay-key.ts';
import { entryAlign } from '../overlay-pool-validate.ts';
import { CHAIN_MAX, LIST_MAX, NOWHERE, type OverlayReader, type StoredDirent } from '../overlay-read.ts';
import { roundUp } from '../units.ts';
import type { OverlayEditor } from './overlay-editor.ts';

const SLOTS_MAX = CONSTANTS.pageIndexMax.value + 1;
const SLOTS_MIN = 8;
/** Every entry is a multiple of this long. */
const ENTRY_UNIT = 16;
const DIRECTORY = 0o040000;
/** Flags of a private front's name that may stay: tombstone, collided. */
const PRIVATE_KEPT = 3;
const TOMBSTONE = 1;

/** Says what was done; undefined: nothing could be. */
type Mend = (finding: FrontFinding) => string | undefined;

/** Follows a chain or list as far as it is sound. @returns entries in order */
function soundPart(overlay: OverlayReader, first: bigint, link: 'next' | 'dirNext', max: number): StoredDirent[] {
  const entries: StoredDirent[] = [];
  const seen = new Set<bigint>();
  for (let at = first; at !== NOWHERE && !seen.has(at) && entries.length < max; ) {
    const entry = at < BigInt(overlay.place.poolBytes) ? overlay.direntAt(Number(at)) : undefined;
    if (!entry) break;
    seen.add(at);
    entries.push(entry);
    at = entry[link];
  }
  return entries;
}

export class OverlayRepair {
  readonly #editor: OverlayEditor;
  readonly #overlay: OverlayReader;
  readonly #base: BaseTree;
  /** Finishes what a file's truncation has left. */
  readonly #settle: (ino: number) => void;

  constructor(editor: OverlayEditor, base: BaseTree, settle: (ino: number) => void) {
    this.#editor = editor;
    this.#overlay = editor.overlay;
    this.#base = base;
    this.#settle = settle;
  }

  /** By rule, in the order in which they are done: what others build on comes first. */
  get mends(): ReadonlyMap<FrontRule, Mend> {
    return new Map<FrontRule, Mend>([
      ['BIN_WORD', (finding) => this.#bin(finding)],
      ['BUCKET_TENTATIVE', (finding) => this.#claim(finding)],
      ['BUCKET_WORD', (finding) => this.#word(finding)],
      ['BUCKET_STATE', (finding) => this.#word(finding)],
      ['BUCKET_TWICE', (finding) => this.#drop(finding, 'the bucket that no search reaches was emptied')],
      ['BUCKET_UNREACHABLE', (finding) => this.#reach(finding)],
      ['BUCKET_ENTRY', (finding) => this.#nameOfSlot(finding)],
      ['POOL_POINTER', () => this.#alignPool()],
      ['POOL_BEYOND', (finding) => this.#raisePool(finding)],
      ['INODE_NUMBER_NEXT', () => this.#nextNumber()],
      ['INODE_NUMBER_UNUSED', () => this.#nextNumber()],
      ['INODE_FLAGS', (finding) => this.#inode(finding, 'flags', 0)],
      ['INODE_CLOSED', (finding) => this.#inode(finding, 'flags', 0)],
      ['INODE_LINKS', (finding) => this.#links(finding)],
      ['INODE_BASE', (finding) => this.#inode(finding, 'nlink', this.#base.pages(finding.subject.ino ?? 0))],
      ['NAME_CHAIN', (finding) => this.#chain(finding)],
      ['NAME_TWICE', (finding) => this.#twice(finding)],
      ['NAME_FLAGS', (finding) => this.#flags(finding)],
      ['NAME_CLAIMED', (finding) => this.#flags(finding)],
      ['NAME_TYPE', (finding) => this.#type(finding)],
      ['NAME_UNLINKED', (finding) => this.#link(finding)],
      ['LIST_HEAD', (finding) => this.#listHead(finding)],
      ['LIST_CHAIN', (finding) => this.#list(finding)],
      ['LIST_PARENT', (finding) => this.#list(finding)],
      ['LIST_TWICE', (finding) => this.#list(finding)],
      ['SLOT_ENTRY', (finding) => this.#drop(finding, 'the slot was emptied')],
      ['NAME_UNLISTED', (finding) => this.#relist(finding)],
      ['FREE_LIST', ({ subject }) => this.#cut(subject.field, subject.entry)],
      ['FREE_TWICE', (finding) => this.#cutBefore(finding)],
      ['INODE_TRUNCATING', (finding) => this.#truncation(finding)],
      ['INODE_ORPHAN', (finding) => this.#orphan(finding)],
      ['PAGE_REMOVED', (finding) => this.#drop(finding, 'the page was freed')],
      ['PAGE_BEYOND', (finding) => this.#drop(finding, 'the page was freed')],
      ['SLOT_STALE', (finding) => this.#slot(finding)],
      ['POOL_LOST', (finding) => this.#reclaim(finding)],
    ]);
  }

  // ------------------------------------------------------------------------------------------------ buckets

  #bin({ subject: { index } }: FrontFinding): string | undefined {
    if (index === undefined) return undefined;
    this.#editor.forgetInsertion(index);
    return `cell ${index}: the word of the bin names no insertion`;
  }

  #claim(finding: FrontFinding): string | undefined {
    const { index = -1 } = finding.subject;
    if (this.#editor.settle(index)) return `bucket ${index}: the claim came in`;
    return this.#drop(finding, 'the claim was given up');
  }

  #drop({ subject: { index } }: FrontFinding, said: string): string | undefined {
    if (index === undefined) return undefined;
    this.#editor.remove(index);
    return `bucket ${index}: ${said}`;
  }

  /** The word as it must have been, if everything fits it; else nothing is lost that could be found. */
  #word(finding: FrontFinding): string | undefined {
    const index = finding.subject.index ?? -1;
    const { word, value } = this.#editor.bucket(index);
    const key = word >> 1n;
    const offset = this.#editor.isPrivate ? Number(decodePrivateValue(value).offset) : Number(value);
    const isRemoved = this.#editor.isPrivate && decodePrivateValue(value).state === 0;
    if (isRemoved || this.#overlay.find(key) !== undefined || !this.#fits({ index, key, offset, value }))
      return this.#drop(finding, 'it led to nothing and was emptied');
    this.#editor.markUsed(index);
    if (this.#editor.isPrivate) this.#editor.point(index, offset);
    return `bucket ${index}: it leads to its entry again`;
  }

  #fits(entry: { index: number; key: bigint; offset: number; value: bigint }): boolean {
    const { kind, ino } = new EntryClassifier(this.#overlay).classify(entry);
    if (kind === 'damaged') return false;
    return kind !== 'page' || this.#overlay.find(inodeKey(BigInt(ino))) !== undefined || this.#base.has(ino);
  }

  #reach({ subject: { index } }: FrontFinding): string | undefined {
    if (index === undefined || !this.#editor.makeReachable(index)) return undefined;
    return `bucket ${index}: searches find it again`;
  }

  // ------------------------------------------------------------------------------------------------ counters

  #raisePool({ subject: { to = 0 } }: FrontFinding): string | undefined {
    const end = BigInt(roundUp(to, ENTRY_UNIT));
    if (this.#editor.header('pool_alloc') >= end) return undefined;
    this.#editor.setHeader('pool_alloc', end);
    return `pool_alloc raised to ${end}`;
  }

  #alignPool(): string {
    const end = roundUp(Number(this.#editor.header('pool_alloc')), ENTRY_UNIT);
    this.#editor.setHeader('pool_alloc', BigInt(end));
    return `pool_alloc raised to ${end}`;
  }

  #nextNumber(): string | undefined {
    let last = BigInt(Math.max(this.#base.inodeCount, this.#base.rootIno));
    for (const { kind, ino } of new EntryClassifier(this.#overlay).all())
      if (kind === 'inode' && BigInt(ino) < INODE_NUMBER_END - 2n && BigInt(ino) > last) last = BigInt(ino);
    if (this.#editor.header('next_ino') === last + 1n) return undefined;
    this.#editor.setHeader('next_ino', last + 1n);
    return `the next inode number is ${last + 1n}`;
  }

  // ------------------------------------------------------------------------------------------------ inodes

  #inode({ subject: { ino, entry } }: FrontFinding, field: 'flags' | 'nlink', value: number): string | undefined {
    const at = entry ?? (ino === undefined ? undefined : this.#overlay.find(inodeKey(BigInt(ino))));
    if (at === undefined) return undefined;
    this.#editor.setInode(at, field, value);
    return `inode ${ino}: ${field} set to ${value}`;
  }

  #links(finding: FrontFinding): string | undefined {
    const mode = this.#overlay.inodeAt(finding.subject.entry ?? -1)?.mode ?? 0;
    return this.#inode(finding, 'nlink', typeOfMode(mode) === 'directory' ? 2 : 1);
  }

  #truncation({ subject: { ino = 0 } }: FrontFinding): string | undefined {
    const before = this.#overlay.inode(ino)?.flags;
    this.#settle(ino);
    return this.#overlay.inode(ino)?.flags === before ? undefined : `inode ${ino}: its truncation was finished`;
  }

  #orphan(finding: FrontFinding): string | undefined {
    const { ino = 0 } = finding.subject;
    for (const { index, key } of this.#overlay.buckets())
      if (key === inodeKey(BigInt(ino)))
        return this.#drop({ ...finding, subject: { index } }, `inode ${ino} was freed`);
    return undefined;
  }

  // ------------------------------------------------------------------------------------------------ names

  /** Ends a chain behind its last sound entry; what hung behind is linked again if a directory lists it. */
  #chain({ subject: { index, entry } }: FrontFinding): string | undefined {
    const head = this.#editor.isPrivate ? entry : Number(this.#editor.bucket(index ?? -1).value);
    if (head === undefined) return undefined;
    const last = this.#editor.isPrivate
      ? head
      : soundPart(this.#overlay, BigInt(head), 'next', CHAIN_MAX).at(-1)?.offset;
    if (last === undefined) return undefined;
    this.#editor.setDirent(last, 'next', NOWHERE);
    return `the chain of names ends at entry ${last}`;
  }

  /** Of two entries with one name the one that no lookup finds goes. */
  #twice({ subject: { entry = -1 } }: FrontFinding): string | undefined {
    const double = this.#overlay.direntAt(entry);
    if (!double) return undefined;
    if (this.#editor.isPrivate) {
      for (const { kind, index, offset } of new EntryClassifier(this.#overlay).all()) {
        if (kind !== 'dirent' || offset !== entry) continue;
        this.#editor.remove(index);
        return `entry ${entry} was taken out`;
      }
      return undefined;
    }
    this.#unlist(double);
    const head = this.#overlay.find(direntKey(BigInt(double.parent), double.name));
    const chain = head === undefined ? [] : soundPart(this.#overlay, BigInt(head), 'next', CHAIN_MAX);
    const before = chain.find(({ next }) => next === BigInt(entry));
    if (!before) return undefined;
    this.#editor.setDirent(before.offset, 'next', double.next);
    return `entry ${entry} was taken out`;
  }

  /** Takes an entry out of its directory's list. */
  #unlist({ parent, offset, dirNext }: StoredDirent): void {
    const head = this.#editor.listHead(parent);
    if (head === undefined) return;
    const first = this.#overlay.dirlistAt(head) ?? NOWHERE;
    if (first === BigInt(offset)) this.#editor.setListHead(head, dirNext);
    for (const before of soundPart(this.#overlay, first, 'dirNext', LIST_MAX))
      if (before.dirNext === BigInt(offset)) this.#editor.setDirent(before.offset, 'dir_next', dirNext);
  }

  #flags({ subject: { entry = -1 } }: FrontFinding): string | undefined {
    const name = this.#overlay.direntAt(entry);
    if (!name) return undefined;
    const kept = name.flags & (this.#editor.isPrivate ? PRIVATE_KEPT : TOMBSTONE);
    this.#editor.setDirent(entry, 'flags', kept);
    return `entry ${entry}: its claim and unknown flags are gone`;
  }

  /** Two of three decide: name, inode, and whether there are names in it. */
  #type({ subject: { entry = -1, ino = 0 } }: FrontFinding): string | undefined {
    const name = this.#overlay.direntAt(entry);
    const at = this.#overlay.find(inodeKey(BigInt(ino)));
    const mode = this.#overlay.inode(ino)?.mode ?? this.#base.mode(ino);
    if (!name || mode === 0) return undefined;
    if (typeOfMode(name.mode) === 'directory' && at !== undefined && this.#holdsNames(ino)) {
      this.#editor.setInode(at, 'mode', DIRECTORY | (mode & 0o7777));
      return `inode ${ino} is a directory, as its name and the names in it say`;
    }
    this.#editor.setDirent(entry, 'child_mode', mode);
    return `entry ${entry} says of inode ${ino} what the inode says`;
  }

  #holdsNames(ino: number): boolean {
    for (const { dirent, kind } of new EntryClassifier(this.#overlay).all())
      if (kind === 'dirent' && dirent?.parent === ino && !dirent.isTombstone) return true;
    return false;
  }

  /** A listed entry that no lookup finds goes to the end of its chain. */
  #link({ subject: { entry = -1 } }: FrontFinding): string | undefined {
    const name = this.#overlay.direntAt(entry);
    if (!name) return undefined;
    const key = direntKey(BigInt(name.parent), name.name);
    const head = this.#overlay.find(key);
    if (head === undefined) {
      this.#editor.setDirent(entry, 'next', NOWHERE);
      return this.#editor.insert(key, entry) ? `entry ${entry} can be opened again` : undefined;
    }
    const chain = soundPart(this.#overlay, BigInt(head), 'next', CHAIN_MAX);
    if (chain.some(({ offset }) => offset === entry)) return undefined;
    if (chain.length === 0) {
      this.#editor.setDirent(entry, 'next', NOWHERE);
      return this.#lead(key, entry);
    }
    if (chain.some(({ parent, name: other }) => parent === name.parent && other.equals(name.name))) {
      this.#unlist(name);
      return `entry ${entry} is not listed any more: its name has another`;
    }
    const last = chain.at(-1);
    if (!last || last.next !== NOWHERE || chain.length >= CHAIN_MAX) return undefined;
    this.#editor.setDirent(entry, 'next', NOWHERE);
    this.#editor.setDirent(last.offset, 'next', BigInt(entry));
    return `entry ${entry} can be opened again`;
  }

  /** The bucket of a key led to no name: now it leads to this one. */
  #lead(key: bigint, entry: number): string | undefined {
    for (const { index, key: other } of this.#overlay.buckets()) {
      if (other !== key) continue;
      this.#editor.point(index, entry);
      return `entry ${entry} can be opened again`;
    }
    return undefined;
  }

  /** Private fronts: a slot still leads to the name that the bucket has lost. */
  #nameOfSlot({ subject: { index = -1 } }: FrontFinding): string | undefined {
    const key = this.#editor.bucket(index).word >> 1n;
    if (!this.#editor.isPrivate) return undefined;
    for (const { kind, dirent, low } of new EntryClassifier(this.#overlay).all()) {
      const isName = kind === 'slot' && dirent !== undefined && Number(dirent.dirNext) === low && !dirent.isTombstone;
      if (isName && direntKey(BigInt(dirent.parent), dirent.name) === key) return this.#lead(key, dirent.offset);
    }
    return undefined;
  }

  // ------------------------------------------------------------------------------------------------ listings

  /** What is no head is left where it lies, and another one takes its place. */
  #listHead({ subject: { entry = -1, index = -1 } }: FrontFinding): string | undefined {
    if (this.#overlay.dirlistAt(entry) !== undefined) {
      this.#editor.clearListHead(entry);
      return `list head ${entry}: reserved field cleared`;
    }
    const head = this.#editor.newListHead();
    if (head === undefined) return undefined;
    this.#editor.point(index, head);
    return `bucket ${index}: another list head`;
  }

  /** Made again from the names that can be opened, newest first. */
  #list({ subject: { ino = 0 } }: FrontFinding): string | undefined {
    const head = this.#editor.listHead(ino);
    if (head === undefined) return undefined;
    const names: number[] = [];
    for (const { kind, offset } of new EntryClassifier(this.#overlay).all()) {
      if (kind !== 'dirent') continue;
      for (const entry of soundPart(this.#overlay, BigInt(offset), 'next', CHAIN_MAX))
        if (entry.parent === ino) names.push(entry.offset);
    }
    let next = NOWHERE;
    for (const entry of [...new Set(names)].sort((a, b) => a - b)) {
      this.#editor.setDirent(entry, 'dir_next', next);
      next = BigInt(entry);
    }
    this.#editor.setListHead(head, next);
    return `the list of directory ${ino} was made again`;
  }

  #relist({ subject: { entry = -1 } }: FrontFinding): string | undefined {
    const name = this.#overlay.direntAt(entry);
    if (!name) return undefined;
    if (this.#editor.isPrivate) return this.#takeSlot(name);
    const head = this.#editor.listHead(name.parent);
    if (head === undefined) return undefined;
    this.#editor.setDirent(entry, 'dir_next', this.#overlay.dirlistAt(head) ?? NOWHERE);
    this.#editor.setListHead(head, BigInt(entry));
    return `entry ${entry} is listed again`;
  }

  /** The slot that the name says, if it is free; else the first free one. */
  #takeSlot({ offset, parent, dirNext }: StoredDirent): string | undefined {
    const inode = this.#overlay.find(inodeKey(BigInt(parent)));
    const stored = inode === undefined ? undefined : this.#overlay.inodeAt(inode);
    if (inode === undefined || !stored) return undefined;
    const keyOf = (slot: number) => pageKey(BigInt(parent), BigInt(slot));
    let slot = dirNext < BigInt(SLOTS_MAX) ? Number(dirNext) : 0;
    const own = this.#overlay.find(keyOf(slot));
    if (own !== undefined && own !== offset) {
      slot = 0;
      while (slot < SLOTS_MAX && this.#overlay.find(keyOf(slot)) !== undefined) slot++;
    }
    if (slot >= SLOTS_MAX) return undefined;
    let slots = Math.max(SLOTS_MIN, Number(stored.size));
    while (slots <= slot) slots = Math.min(slots * 2, SLOTS_MAX);
    if (BigInt(slots) !== stored.size) this.#editor.setInode(inode, 'size', BigInt(slots));
    if (Number(dirNext) !== slot || dirNext >= BigInt(SLOTS_MAX))
      this.#editor.setDirent(offset, 'dir_next', BigInt(slot));
    if (own !== offset && !this.#editor.insert(keyOf(slot), offset)) return undefined;
    return `entry ${offset} is listed again`;
  }

  #slot(finding: FrontFinding): string | undefined {
    const { index, entry } = finding.subject;
    if (index === undefined || entry === undefined) return this.#drop(finding, 'the slot was emptied');
    this.#editor.point(index, entry);
    return `bucket ${index}: the slot leads to its name`;
  }

  // ------------------------------------------------------------------------------------------------ the pool

  #cut(field: FrontFinding['subject']['field'], last: number | undefined): string | undefined {
    if (field === undefined) return undefined;
    this.#editor.cut(field, last);
    return last === undefined ? `${field} was emptied` : `${field} ends at ${last}`;
  }

  /** The list ends before a member that is in use: what its bytes lead to is no list. */
  #cutBefore({ subject: { field, entry = -1 } }: FrontFinding): string | undefined {
    if (field === undefined) return undefined;
    let at = Number(this.#editor.header(field) & 0xffff_ffff_ffffn);
    if (at === entry) return this.#cut(field, undefined);
    for (const seen = new Set<number>(); !seen.has(at); ) {
      seen.add(at);
      const link = this.#overlay.entry(at, 8)?.readBigUInt64LE(0);
      if (link === undefined || link >= 0xffff_ffff_ffffn) return undefined;
      if (Number(link) === entry) return this.#cut(field, at);
      at = Number(link);
    }
    return undefined;
  }

  /** Bytes that belong to nothing: behind the last thing they are handed out anew, elsewhere as free entries. */
  #reclaim({ subject: { from = 0, to = 0 } }: FrontFinding): string | undefined {
    if (BigInt(to) === this.#editor.header('pool_alloc')) {
      this.#editor.lower(from);
      return `${to - from} bytes at the end of the pool are free again`;
    }
    const block = this.#overlay.place.blockBytes;
    let at = roundUp(from, entryAlign(this.#editor.isPrivate));
    while (at + overlayInode.size <= to) {
      const isPage = at % block === 0 && at + block <= to;
      const room = isPage ? to - at : Math.min(to, roundUp(at + 1, block)) - at;
      const field = isPage ? 'free_data' : room >= overlayDirent.size ? 'free_dirent' : 'free_inode';
      const length = isPage ? block : field === 'free_dirent' ? overlayDirent.size : overlayInode.size;
      if (at + length > to) break;
      this.#editor.push(field, at);
      at += length;
    }
    return `${to - from} bytes from ${from} are free again`;
  }
}
