/** Checks what a page cache holds: states, windows, tags, pins, owners, counters. */
import { offsetOf } from './codec.ts';
import type { FrontFindings } from './front-rules.ts';
import type { FrontWork } from './front-work.ts';
import type { Image } from './image.ts';
import { CONSTANTS, NO_HOST, pageCacheHeader, slot } from './layout.ts';
import type { PageCacheReader, SlotEntry } from './page-cache-read.ts';
import { SLOT_STATE, slotOwner, slotPlaces } from './page-cache-word.ts';

const bitCount = (mask: number) => mask.toString(2).replaceAll('0', '').length;

class PageCacheCheck {
  readonly #cache: PageCacheReader;
  readonly #image: Image | undefined;
  readonly #work: FrontWork;
  readonly #findings: FrontFindings;
  readonly #tags = new Map<bigint, SlotEntry>();
  #pending = 0;

  constructor(cache: PageCacheReader, image: Image | undefined, work: FrontWork, findings: FrontFindings) {
    this.#cache = cache;
    this.#image = image;
    this.#work = work;
    this.#findings = findings;
  }

  run(): void {
    for (const entry of this.#cache.slots()) this.#slot(entry);
    const { header, slotsAt, slots } = this.#cache.place;
    const at = slotsAt - Number(header.slot_meta_offset);
    const fieldAt = (name: 'evict_hand' | 'pending_count') => at + offsetOf(pageCacheHeader, name);
    const hand = header.evict_hand;
    this.#findings.expect(hand < slots, 'CACHE_HAND', fieldAt('evict_hand'), `${hand} of ${slots} slots`);
    // Counter and slots are two words: while hosts fill they are never looked at together.
    const isSteady = this.#work.isQuiet || this.#work.rows === null;
    const counted = header.pending_count === this.#pending || !isSteady;
    const detail = `${header.pending_count}, ${this.#pending} slots are pending`;
    this.#findings.expect(counted, 'CACHE_PENDING', fieldAt('pending_count'), detail);
  }

  #slot(entry: SlotEntry): void {
    const { index, state, tag, pins, refBit, hostMask } = entry;
    const at = this.#cache.place.slotsAt + index * slot.size;
    const subject = { index };
    const evidence = `${entry.low} ${entry.high}`;
    const expect = (ok: boolean, rule: Parameters<FrontFindings['expect']>[1], detail: string) =>
      this.#findings.expect(ok, rule, at, `slot ${index}: ${detail}`, subject, evidence);
    if (!expect(state <= SLOT_STATE.VALID, 'CACHE_STATE', `state ${state}`)) return;
    expect(refBit <= 1, 'CACHE_REF', `${refBit}`);
    if (state === SLOT_STATE.FREE) {
      const isFree = tag === 0n && pins === 0 && hostMask === 0;
      expect(isFree, 'CACHE_FREE', `tag 0x${tag.toString(16)}, ${pins} pins, hosts 0b${hostMask.toString(2)}`);
      return;
    }
    if (state === SLOT_STATE.PENDING) {
      this.#pending++;
      this.#owner(entry, at, evidence);
    } else this.#pins(entry, at, evidence);
    const other = this.#tags.get(tag);
    const twice = `${evidence} ${other?.low} ${other?.high}`;
    const both = `slot ${index}: page also in slot ${other?.index}`;
    this.#findings.expect(other === undefined, 'CACHE_TWICE', at, both, subject, twice);
    this.#tags.set(tag, entry);
    const { slots, kind } = this.#cache.place;
    expect(
      slotPlaces(tag, slots, kind).includes(index),
      'CACHE_WINDOW',
      `page ${tag & 0xfffffn} is not looked for there`,
    );
    expect(this.#isPage(entry), 'CACHE_PAGE', `inode ${entry.ino}, page ${entry.page}`);
  }

  #owner(entry: SlotEntry, at: number, evidence: string): void {
    const { index, pins, high } = entry;
    const owner = slotOwner(high);
    const isSound = pins === 0 && (owner === 'kernel' || owner.host < NO_HOST);
    const detail = `slot ${index}: ${pins} pins, owner 0x${high.toString(16)}`;
    if (!this.#findings.expect(isSound, 'CACHE_OWNER', at, detail, { index }, evidence)) return;
    if (typeof owner === 'string' || this.#work.host(owner.host, owner.generation) === 'live') return;
    this.#findings.add('CACHE_DEAD_FILL', at, `slot ${index}: host row ${owner.host}`, { index }, evidence);
  }

  #pins({ index, pins, hostMask }: SlotEntry, at: number, evidence: string): void {
    const hosts = bitCount(hostMask);
    // A kernel's pins have no host bits.
    const detail = `slot ${index}: ${pins} pins, hosts 0b${hostMask.toString(2)}`;
    if (!this.#findings.expect(hosts <= pins, 'CACHE_PINS', at, detail, { index }, evidence)) return;
    const gone = Array.from({ length: NO_HOST }, (_, host) => host).filter(
      (host) => (hostMask & (1 << host)) !== 0 && this.#work.host(host, null) === 'gone',
    );
    for (const host of gone)
      this.#findings.add('CACHE_DEAD_PIN', at, `slot ${index}: host row ${host}`, { index }, evidence);
  }

  /** A page of a regular file of the base; without a base nobody can tell. */
  #isPage({ ino, page }: SlotEntry): boolean {
    if (page > CONSTANTS.pageIndexMax.value) return false;
    if (!this.#image) return true;
    if (ino < 1 || ino > this.#image.inodeCount) return false;
    const { type, size, dataOffset } = this.#image.inode(ino);
    const block = this.#cache.place.blockBytes;
    const first = Math.floor(dataOffset / block);
    return type === 'file' && page >= first && (page - first) * block < size;
  }
}

/** Adds what is wrong with the contents of a page cache. @throws what reading the source throws */
export function checkPageCache(
  cache: PageCacheReader,
  image: Image | undefined,
  work: FrontWork,
  findings: FrontFindings,
): void {
  new PageCacheCheck(cache, image, work, findings).run();
}
