/** Checks what a page cache holds: states, windows, tags, counters. */
import type { FrontFindings } from './front-rules.ts';
import type { Image } from './image.ts';
import { CONSTANTS, slot } from './layout.ts';
import type { PageCacheReader, SlotEntry } from './page-cache-read.ts';
import { homeSlot, SLOT_STATE, slotWindow } from './page-cache-word.ts';

const bitCount = (mask: number) => mask.toString(2).replaceAll('0', '').length;

class PageCacheCheck {
  readonly #cache: PageCacheReader;
  readonly #image: Image | undefined;
  readonly #findings: FrontFindings;
  readonly #tags = new Map<bigint, number>();
  #pending = 0;

  constructor(cache: PageCacheReader, image: Image | undefined, findings: FrontFindings) {
    this.#cache = cache;
    this.#image = image;
    this.#findings = findings;
  }

  run(): void {
    for (const entry of this.#cache.slots()) this.#slot(entry);
    const { header, slotsAt } = this.#cache.place;
    const counted = header.pending_count === this.#pending;
    const detail = `${header.pending_count}, ${this.#pending} slots are pending`;
    this.#findings.expect(counted, 'CACHE_PENDING', slotsAt, detail);
  }

  #slot(entry: SlotEntry): void {
    const { index, state, tag, pins, refBit, hostMask } = entry;
    const at = this.#cache.place.slotsAt + index * slot.size;
    const f = this.#findings;
    if (!f.expect(state <= SLOT_STATE.VALID, 'CACHE_STATE', at, `slot ${index}: state ${state}`)) return;
    f.expect(refBit <= 1, 'CACHE_REF', at + 8, `slot ${index}: ${refBit}`);
    if (state === SLOT_STATE.FREE) {
      f.expect(tag === 0n && pins === 0, 'CACHE_FREE', at, `slot ${index}: tag 0x${tag.toString(16)}, ${pins} pins`);
      return;
    }
    if (state === SLOT_STATE.PENDING) this.#pending++;
    // A kernel's pins have no host bits.
    const agrees = state === SLOT_STATE.PENDING || hostMask === 0 || bitCount(hostMask) <= pins;
    f.expect(agrees, 'CACHE_PINS', at, `slot ${index}: ${pins} pins, hosts 0b${hostMask.toString(2)}`);
    const other = this.#tags.get(tag);
    f.expect(other === undefined, 'CACHE_TWICE', at, `slot ${index}: page also in slot ${other}`);
    this.#tags.set(tag, index);
    this.#placed(entry, at);
    f.expect(this.#isPage(entry), 'CACHE_PAGE', at, `slot ${index}: inode ${entry.ino}, page ${entry.page}`);
  }

  #placed({ index, tag }: SlotEntry, at: number): void {
    const { slots, kind } = this.#cache.place;
    const distance = (index - homeSlot(tag, slots, kind) + slots) % slots;
    this.#findings.expect(distance < slotWindow, 'CACHE_WINDOW', at, `slot ${index}: ${distance} behind its home`);
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
export function checkPageCache(cache: PageCacheReader, image: Image | undefined, findings: FrontFindings): void {
  new PageCacheCheck(cache, image, findings).run();
}
