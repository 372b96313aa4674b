/**
 * Ends things at their time with one timer for all of them. Ends are rounded up to the next tenth of a second, so that what
 * ends together is kept together; the clock behind them is monotonic, so that setting the time of day ends nothing.
 */

const TICK_MS = 100;

/** What ends at one moment. Take an item out of `items` and it does not end. */
export interface Ending<T> {
  readonly tick: number;
  /** The moment, RFC 3339. */
  readonly at: string;
  readonly items: Set<T>;
}

export class Expiry<T> {
  readonly #endings = new Map<number, Ending<T>>();
  readonly #now: () => number;
  readonly #end: (item: T) => void;
  /** Up to here everything has ended; kept only while the timer runs. */
  #passed = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param now milliseconds since the Unix epoch, only for showing @param end told of each item; must not throw */
  constructor(now: () => number, end: (item: T) => void) {
    this.#now = now;
    this.#end = end;
  }

  add(item: T, ttlMs: number): Ending<T> {
    const since = performance.now();
    const tick = Math.ceil((since + ttlMs) / TICK_MS);
    const ending = this.#endings.get(tick) ?? this.#open(tick, since);
    ending.items.add(item);
    return ending;
  }

  remove(item: T, ending: Ending<T>): void {
    ending.items.delete(item);
    if (ending.items.size === 0) this.#endings.delete(ending.tick);
  }

  /** Nothing ends any more. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#endings.clear();
  }

  #open(tick: number, since: number): Ending<T> {
    const at = new Date(this.#now() + tick * TICK_MS - since).toISOString();
    const ending = { tick, at, items: new Set<T>() };
    this.#endings.set(tick, ending);
    if (this.#timer === undefined) {
      this.#passed = Math.floor(since / TICK_MS);
      this.#wait();
    }
    return ending;
  }

  #wait(): void {
    this.#timer = setTimeout(() => this.#pass(), TICK_MS).unref();
  }

  #pass(): void {
    const last = Math.floor(performance.now() / TICK_MS);
    for (let tick = this.#passed + 1; tick <= last; tick += 1) {
      const ending = this.#endings.get(tick);
      this.#endings.delete(tick);
      for (const item of ending?.items ?? []) this.#end(item);
    }
    this.#passed = last;
    this.#timer = undefined;
    if (this.#endings.size > 0) this.#wait();
  }
}
