/** Repairs of a page cache. A slot that breaks a rule is freed: what it held is read again from behind the cache. */
import type { Mapping } from '../../native/index.ts';
import { offsetOf } from '../codec.ts';
import type { FrontFinding, FrontRule } from '../front-rules.ts';
import { NO_HOST, pageCacheHeader, slot } from '../layout.ts';
import type { PageCacheReader, SlotEntry } from '../page-cache-read.ts';
import { SLOT_STATE } from '../page-cache-word.ts';

type Mend = (finding: FrontFinding) => string | undefined;

const HOSTS = Array.from({ length: NO_HOST }, (_, host) => host);

export class PageCacheRepair {
  readonly #mapping: Mapping;
  readonly #cache: PageCacheReader;
  /** True of a host that may still hold its pins or write into its slots, silent as it is. */
  readonly #mayLive: (host: number) => boolean;

  constructor(mapping: Mapping, cache: PageCacheReader, mayLive: (host: number) => boolean) {
    this.#mapping = mapping;
    this.#cache = cache;
    this.#mayLive = mayLive;
  }

  get mends(): ReadonlyMap<FrontRule, Mend> {
    return new Map<FrontRule, Mend>([
      ['CACHE_STATE', (finding) => this.#free(finding)],
      ['CACHE_FREE', (finding) => this.#free(finding)],
      ['CACHE_OWNER', (finding) => this.#free(finding)],
      ['CACHE_DEAD_FILL', (finding) => this.#free(finding)],
      ['CACHE_PINS', (finding) => this.#pins(finding)],
      ['CACHE_DEAD_PIN', (finding) => this.#pins(finding)],
      ['CACHE_TWICE', (finding) => this.#free(finding)],
      ['CACHE_WINDOW', (finding) => this.#free(finding)],
      ['CACHE_PAGE', (finding) => this.#free(finding)],
      ['CACHE_REF', (finding) => this.#ref(finding)],
      ['CACHE_HAND', () => this.#hand()],
      ['CACHE_PENDING', () => this.#pending()],
    ]);
  }

  #slot(index: number): SlotEntry | undefined {
    for (const entry of this.#cache.slots()) if (entry.index === index) return entry;
    return undefined;
  }

  #at(index: number): number {
    return this.#cache.place.slotsAt + index * slot.size;
  }

  #u32(at: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.#mapping.write(at, bytes);
  }

  #free({ subject: { index = -1 } }: FrontFinding): string | undefined {
    const entry = this.#slot(index);
    const isHeld = entry?.state === SLOT_STATE.VALID && HOSTS.some((host) => this.#holds(entry, host));
    const isFilled = entry?.state === SLOT_STATE.PENDING && entry.high >= 2 ** 31 && this.#mayLive(entry.high & 0xf);
    if (!entry || isHeld || isFilled) return undefined;
    this.#mapping.store64(this.#at(index), 0n);
    this.#mapping.store64(this.#at(index) + 8, 0n);
    return `slot ${index} freed`;
  }

  #holds({ hostMask }: SlotEntry, host: number): boolean {
    return (hostMask & (1 << host)) !== 0 && this.#mayLive(host);
  }

  /** The pins that stay are those of hosts that may live, one each. */
  #pins({ subject: { index = -1 } }: FrontFinding): string | undefined {
    const entry = this.#slot(index);
    if (!entry) return undefined;
    const kept = HOSTS.filter((host) => this.#holds(entry, host));
    const mask = kept.reduce((sum, host) => sum | (1 << host), 0);
    if (mask === entry.hostMask && entry.pins === kept.length) return undefined;
    this.#u32(this.#at(index) + offsetOf(slot, 'host_mask'), ((entry.high & ~0x7fff) | mask) >>> 0);
    this.#mapping.store64(this.#at(index), (entry.low & ~0x3cn) | (BigInt(kept.length) << 2n));
    return `slot ${index}: ${kept.length} pins stay`;
  }

  #ref({ subject: { index = -1 } }: FrontFinding): string {
    this.#u32(this.#at(index) + offsetOf(slot, 'ref_bit'), 0);
    return `slot ${index}: reference bit cleared`;
  }

  #headerAt(field: 'evict_hand' | 'pending_count'): number {
    const { slotsAt, header } = this.#cache.place;
    return slotsAt - Number(header.slot_meta_offset) + offsetOf(pageCacheHeader, field);
  }

  #hand(): string {
    this.#u32(this.#headerAt('evict_hand'), 0);
    return 'the clock hand was set to slot 0';
  }

  #pending(): string {
    let pending = 0;
    for (const { state } of this.#cache.slots()) if (state === SLOT_STATE.PENDING) pending++;
    this.#u32(this.#headerAt('pending_count'), pending);
    return `pending_count set to ${pending}`;
  }
}
