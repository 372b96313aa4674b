/** Checks the names of an overlay: chains, lists and slots, and the tree that they make. */
import { DaxfsError } from './errors.ts';
import type { FrontRule, FrontSubject } from './front-rules.ts';
import { isRunning } from './front-work.ts';
import { isValidName, typeOfMode } from './image.ts';
import { bucket, CONSTANTS, overlayDirent, overlayDirlist } from './layout.ts';
import type { ClassifiedEntry } from './overlay-census.ts';
import { direntKey } from './overlay-key.ts';
import { CHAIN_MAX, LIST_MAX, NOWHERE, type StoredDirent } from './overlay-read.ts';
import type { OverlayCheckParts } from './overlay-validate.ts';
import type { PoolOwnership } from './pool-ownership.ts';

const hex = (key: bigint) => `0x${key.toString(16)}`;
const SLOTS_MAX = CONSTANTS.pageIndexMax.value + 1;
/** flags of a private front's entry: tombstone, collided, claimed; from bit 8 on the claiming intent row. */
const PRIVATE_CLAIMED = 4;
const PRIVATE_FLAGS = 7;
const NO_ROW = 0xffffff;

interface FoundName extends StoredDirent {
  /** The word that leads to it or to the head of its chain. */
  evidence: string;
}

/** A name as it leads to an inode. */
interface Leading {
  /** Its directory. */
  parent: number;
  /** Nobody is moving it. */
  isSteady: boolean;
  /** Byte of the source; before the pool: a name of the base. */
  at: number;
  evidence: string;
}

const shownName = ({ name, parent }: StoredDirent) =>
  `${JSON.stringify(name.toString('latin1'))} of directory ${parent}`;

export class OverlayNames {
  readonly #parts: OverlayCheckParts;
  readonly #pool: PoolOwnership;
  readonly #isPrivate: boolean;
  readonly #modes = new Map<number, number>();
  /** Entries that lookups find, tombstones too, by pool offset. */
  readonly #found = new Map<number, FoundName>();
  /** `directory/name` of all of them. */
  readonly #ids = new Set<string>();
  readonly #listed = new Set<number>();
  readonly #slots: ClassifiedEntry[] = [];
  /** Names of the overlay and of the base that lead to an inode. */
  readonly #leading = new Map<number, Leading[]>();
  /** Directories in which there are names. */
  readonly #parents = new Set<number>();

  constructor(parts: OverlayCheckParts, pool: PoolOwnership) {
    this.#parts = parts;
    this.#pool = pool;
    this.#isPrivate = parts.overlay.place.kind === 'private';
  }

  /** Of an inode of the overlay or the base; 0: there is none that can be read. */
  mode(ino: number): number {
    const known = this.#modes.get(ino);
    if (known !== undefined) return known;
    const { overlay, base } = this.#parts;
    let mode = 0;
    try {
      const stored = overlay.inode(ino);
      const isGone = stored?.isDying === true && typeOfMode(stored.mode) !== 'directory';
      mode = isGone ? 0 : (stored?.mode ?? base.mode(ino));
    } catch (error) {
      // Reported with its own bucket.
      if (!(error instanceof DaxfsError)) throw error;
    }
    this.#modes.set(ino, mode);
    return mode;
  }

  isNamed(ino: number): boolean {
    return this.#leading.has(ino);
  }

  #add(rule: FrontRule, entry: FoundName, detail: string, subject: FrontSubject = {}): void {
    const { findings, overlay } = this.#parts;
    const at = overlay.place.poolAt + entry.offset;
    findings.add(rule, at, detail, { entry: entry.offset, ...subject }, entry.evidence);
  }

  /** Adds what a walk throws, in place of throwing it. */
  #caught(rule: FrontRule, offset: number, subject: FrontSubject, evidence: string, walk: () => void): void {
    try {
      walk();
    } catch (error) {
      if (!(error instanceof DaxfsError)) throw error;
      this.#parts.findings.add(rule, error.offset ?? offset, error.message, subject, evidence);
    }
  }

  // ---------------------------------------------------------------------------------------- what lookups find

  /** The names behind a bucket. */
  chain({ key, offset, dirent, index, value }: ClassifiedEntry): void {
    const { overlay, findings } = this.#parts;
    const { poolAt } = overlay.place;
    const evidence = `${value}`;
    if (this.#isPrivate) {
      const entry = { ...dirent!, evidence };
      if (entry.next !== NOWHERE) this.#add('NAME_CHAIN', entry, `${shownName(entry)} leads on to ${entry.next}`);
      this.#name(entry);
      return;
    }
    const walked = new Set<number>();
    let last = offset;
    this.#caught('NAME_CHAIN', poolAt + offset, { index, entry: offset }, evidence, () => {
      for (const entry of overlay.follow(BigInt(offset), 'next', CHAIN_MAX)) {
        const at = poolAt + entry.offset;
        const subject = { entry: last, index };
        if (!findings.expect(!walked.has(entry.offset), 'NAME_CHAIN', at, 'the chain comes back', subject, evidence))
          return;
        walked.add(entry.offset);
        last = entry.offset;
        const own = direntKey(BigInt(entry.parent), entry.name);
        const found = { ...entry, evidence };
        if (own !== key) this.#add('NAME_HASH', found, `${hex(own)} under ${hex(key)}`, { index });
        this.#name(found);
      }
    });
  }

  #name(entry: FoundName): void {
    const { offset, parent, ino, mode, name, isTombstone, evidence } = entry;
    const shown = shownName(entry);
    if (this.#found.has(offset)) return;
    this.#found.set(offset, entry);
    this.#pool.add({ offset, length: overlayDirent.size, owner: `name ${shown}`, evidence });
    this.#flags(entry, shown);
    if (name.length === 0) return;
    const id = `${parent}/${name.toString('latin1')}`;
    if (this.#ids.has(id)) this.#add('NAME_TWICE', entry, shown);
    this.#ids.add(id);
    if (!isValidName(name) || !entry.isTerminated) this.#add('NAME_INVALID', entry, shown);
    if (typeOfMode(this.mode(parent)) !== 'directory') this.#add('NAME_PARENT', entry, shown);
    this.#parents.add(parent);
    if (isTombstone) return;
    const child = this.mode(ino);
    const detail = `${shown}: inode ${ino}, mode 0o${mode.toString(8)}`;
    if (child === 0) this.#add('NAME_CHILD', entry, detail, { ino });
    else if (typeOfMode(child) !== 'other' && typeOfMode(child) !== typeOfMode(mode))
      this.#add('NAME_TYPE', entry, detail, { ino });
    this.#leads(ino, parent, this.#rowOf(entry) === null, offset, evidence);
  }

  /** The intent row that claims a name; null: none. */
  #rowOf({ flags }: StoredDirent): number | null {
    if (!this.#isPrivate) return flags > 1 ? (flags >>> 1) - 1 : null;
    return (flags & PRIVATE_CLAIMED) === 0 ? null : flags >>> 8;
  }

  #flags(entry: FoundName, shown: string): void {
    const { flags } = entry;
    const row = this.#rowOf(entry);
    const detail = `${shown}: 0x${flags.toString(16)}`;
    const isKnown = !this.#isPrivate || ((flags & 0xff & ~PRIVATE_FLAGS) === 0 && (row !== null || flags <= 0xff));
    if (!isKnown) this.#add('NAME_FLAGS', entry, detail);
    else if (row !== null && !isRunning(this.#parts.work, row)) {
      const by = row === NO_ROW ? 'by a host without intent rows' : `by intent row ${row}`;
      this.#add('NAME_CLAIMED', entry, `${shown}, ${by}`);
    }
  }

  #leads(ino: number, parent: number, isSteady: boolean, offset: number, evidence: string): void {
    const all = this.#leading.get(ino) ?? [];
    all.push({ parent, isSteady, at: this.#parts.overlay.place.poolAt + offset, evidence });
    this.#leading.set(ino, all);
  }

  // ------------------------------------------------------------------------------------- what directories list

  /** The list of a directory of a kernel-mountable front. */
  list({ ino, offset, index, value }: ClassifiedEntry): void {
    const { overlay, findings } = this.#parts;
    const { poolAt } = overlay.place;
    const at = poolAt + offset;
    const evidence = `${value}`;
    const subject = { ino, index };
    const head = overlay.dirlistAt(offset);
    const reserved = overlay.entry(offset, overlayDirlist.size)?.readUInt32LE(4);
    const shown = `list of ${ino}: entry ${offset}, reserved ${reserved}`;
    const isHead = head !== undefined && reserved === 0;
    findings.expect(isHead, 'LIST_HEAD', at, shown, { ...subject, entry: offset }, evidence);
    const walked = new Set<number>();
    this.#caught('LIST_CHAIN', at, subject, evidence, () => {
      for (const entry of overlay.follow(head ?? NOWHERE, 'dirNext', LIST_MAX)) {
        const where = poolAt + entry.offset;
        const add = (rule: FrontRule, detail: string) => findings.add(rule, where, detail, subject, evidence);
        if (walked.has(entry.offset)) return add('LIST_CHAIN', `list of ${ino} comes back`);
        if (entry.parent !== ino) add('LIST_PARENT', `list of ${ino}, name of ${entry.parent}`);
        if (this.#listed.has(entry.offset)) return add('LIST_TWICE', `list of ${ino}`);
        walked.add(entry.offset);
        this.#listed.add(entry.offset);
      }
    });
  }

  /** A slot of a directory of a private front. */
  slot(entry: ClassifiedEntry): void {
    const { ino, low, offset, index, value, dirent } = entry;
    const { overlay, findings } = this.#parts;
    const at = overlay.place.bucketsAt + index * bucket.size;
    const detail = `slot ${low} of directory ${ino}, entry ${offset}`;
    const isName = dirent !== undefined && Number(dirent.dirNext) === low;
    if (findings.expect(isName, 'SLOT_ENTRY', at, detail, { index, ino }, `${value}`)) this.#slots.push(entry);
  }

  /** The entry that a slot's name has now; undefined: none that counts on the slot. */
  #heldBy({ dirent, low, ino }: ClassifiedEntry): StoredDirent | undefined {
    try {
      const now = this.#parts.overlay.name(ino, dirent!.name);
      return now && !now.isTombstone && Number(now.dirNext) === low ? now : undefined;
    } catch (error) {
      if (!(error instanceof DaxfsError)) throw error;
      return undefined;
    }
  }

  /** Every live name is listed by its directory, and what is listed can be found. */
  lists(): void {
    const { overlay, findings, work } = this.#parts;
    const { poolAt } = overlay.place;
    const orphaned = new Set<number>();
    for (const slot of this.#slots) {
      const now = this.#heldBy(slot);
      if (now) this.#listed.add(now.offset);
      if (now?.offset === slot.offset || this.#found.has(slot.offset) || orphaned.has(slot.offset)) continue;
      orphaned.add(slot.offset);
      const { offset, value, dirent } = slot;
      this.#pool.add({
        offset,
        length: overlayDirent.size,
        owner: `slot of ${shownName(dirent!)}`,
        evidence: `${value}`,
      });
    }
    for (const [offset, entry] of this.#found) {
      const isSlotted = !this.#isPrivate || this.#isWithinSlots(entry);
      // A directory that is not there is told as that.
      if (entry.name.length > 0 && typeOfMode(this.mode(entry.parent)) !== 'directory') continue;
      if (entry.isTombstone || (this.#listed.has(offset) && isSlotted) || work.entries.has(offset)) continue;
      this.#add('NAME_UNLISTED', entry, shownName(entry));
    }
    if (this.#isPrivate) return;
    for (const offset of this.#listed) {
      if (this.#found.has(offset)) continue;
      const entry = overlay.direntAt(offset);
      if (entry) findings.add('NAME_UNLINKED', poolAt + offset, shownName(entry), { entry: offset });
      this.#pool.add({ offset, length: overlayDirent.size, owner: `listed entry ${offset}`, evidence: '' });
    }
  }

  /** Readers look at as many slots as the directory says that it has. */
  #isWithinSlots({ parent, dirNext }: FoundName): boolean {
    try {
      const slots = this.#parts.overlay.inode(parent)?.size ?? 0n;
      return dirNext < BigInt(SLOTS_MAX) && dirNext < slots;
    } catch (error) {
      if (!(error instanceof DaxfsError)) throw error;
      return true;
    }
  }

  /** Slots that lead to an entry which their name has not any more. REQUIRES: nobody is at work. */
  staleSlots(): void {
    const { overlay, findings } = this.#parts;
    for (const slot of this.#slots) {
      const now = this.#heldBy(slot);
      if (now?.offset === slot.offset) continue;
      const { index, offset, low, ino } = slot;
      const at = overlay.place.bucketsAt + index * bucket.size;
      const subject = now ? { index, entry: now.offset } : { index };
      findings.add('SLOT_STALE', at, `slot ${low} of directory ${ino}, entry ${offset}`, subject);
    }
  }

  // ------------------------------------------------------------------------------------------ the tree they make

  /** One name per inode of the overlay, and a way from the root to every directory. */
  tree(): void {
    const { base, overlay } = this.#parts;
    for (const { parent, name, ino } of base.names()) {
      if (this.#ids.has(`${parent}/${name.toString('latin1')}`)) continue;
      this.#leads(ino, parent, true, -overlay.place.poolAt, '');
    }
    for (const [ino, names] of this.#leading) {
      const steady = names.filter(({ isSteady }) => isSteady);
      const [, second] = steady;
      if (!second || (base.has(ino) && typeOfMode(this.mode(ino)) !== 'directory')) continue;
      if (!this.#areAtOnce(ino, steady)) continue;
      const evidence = steady.map((name) => name.evidence).join(' ');
      this.#parts.findings.add('INODE_NAMES', second.at, `inode ${ino}: ${steady.length} names`, { ino }, evidence);
    }
    this.#ways();
  }

  /** The words of a kernel-mountable front come back when a name is moved back: then looks far apart prove nothing. */
  #areAtOnce(ino: number, names: readonly Leading[]): boolean {
    const { work, overlay } = this.#parts;
    if (work.isQuiet || this.#isPrivate) return true;
    const isLive = ({ at }: Leading) => {
      const entry = at < overlay.place.poolAt ? undefined : overlay.direntAt(at - overlay.place.poolAt);
      return at < overlay.place.poolAt || (entry?.ino === ino && entry.flags === 0);
    };
    return [...names, ...names].every(isLive);
  }

  #ways(): void {
    const { base, findings } = this.#parts;
    const reached = new Set([base.rootIno]);
    const lost = new Set<number>();
    for (const start of [...this.#parents, ...this.#leading.keys()]) {
      if (typeOfMode(this.mode(start)) !== 'directory') continue;
      const way: number[] = [];
      const onWay = new Set<number>();
      let at: number | undefined = start;
      while (at !== undefined && !reached.has(at) && !onWay.has(at) && !lost.has(at)) {
        way.push(at);
        onWay.add(at);
        at = this.#leading.get(at)?.[0]?.parent;
      }
      const isReached = at !== undefined && reached.has(at);
      for (const ino of way) (isReached ? reached : lost).add(ino);
    }
    for (const ino of lost) this.#lost(ino, findings);
  }

  /** Of all the directories of a lost tree only the topmost is told, or all that lie in a circle. */
  #lost(ino: number, findings: OverlayCheckParts['findings']): void {
    const [name] = this.#leading.get(ino) ?? [];
    const isTop = name === undefined;
    // What is moved while it is looked for is nowhere, or twice.
    if (!this.#parts.work.isQuiet && (isTop || !this.#isPrivate)) return;
    // A base directory whose name is hidden, with names hidden in it, is a removed one.
    if (isTop && (this.#parts.base.has(ino) || !this.#holdsNames(ino))) return;
    if (!isTop && !this.#isCircle(ino)) return;
    const at = name?.at ?? this.#parts.overlay.place.bucketsAt;
    findings.add('DIRECTORY_LOST', at, `directory ${ino}`, { ino }, this.#circle(ino).join(' '));
  }

  #isCircle(ino: number): boolean {
    return this.#circle(ino).length > 0;
  }

  /** What the names of a circle of directories were seen on; nothing: it is in none. */
  #circle(ino: number): string[] {
    const evidence: string[] = [];
    const seen = new Set<number>();
    let name = this.#leading.get(ino)?.[0];
    while (name && !seen.has(name.parent)) {
      seen.add(name.parent);
      evidence.push(name.evidence);
      if (name.parent === ino) return evidence;
      name = this.#leading.get(name.parent)?.[0];
    }
    return [];
  }

  #holdsNames(ino: number): boolean {
    for (const { parent, isTombstone, name } of this.#found.values()) {
      if (parent === ino && !isTombstone && name.length > 0) return true;
    }
    return false;
  }
}
