/**
 * Contents that no name leads to: left by a crash between publishing and naming, or by two hosts that each took off what
 * looked like one name of several. They can be found by their source (which names them again) or evicted; else they go here.
 */
import type { Content } from '../../daxfs/index.ts';
import { isFullName } from '../../loaders/index.ts';
import type { StoreContext } from './store-context.ts';

/** A live host names what it has published within microseconds; one that was stopped in between loads again. */
export const graceMs = 10_000;

const keyOf = ({ index, generation }: Content) => `${index}@${generation}`;

export class Unnamed {
  readonly #context: StoreContext;
  /** When each was first seen without a name. */
  #since = new Map<string, number>();

  constructor(context: StoreContext) {
    this.#context = context;
  }

  /** Drains or frees every content that has been without a name for the grace and that nobody holds. */
  sweep(): void {
    const since = new Map<string, number>();
    const now = this.#context.now();
    for (const content of this.#find()) {
      const first = Math.min(this.#since.get(keyOf(content)) ?? now, now);
      if (now - first < graceMs || !this.#release(content)) since.set(keyOf(content), first);
    }
    this.#since = since;
  }

  /** At the start of the only host: nobody is about to name what a crash has left, so it goes at once. */
  sweepAlone(): void {
    const { registry } = this.#context;
    if (registry.hosts().some(({ index, state }) => state === 'live' && index !== registry.hostIndex)) return;
    for (const content of this.#find()) this.#release(content);
  }

  #find(): Content[] {
    const { registry } = this.#context;
    const named = new Map(
      registry.names().flatMap(({ name, target }) => (isFullName(name) ? [[target.index, target.generation]] : [])),
    );
    const settled = registry.contents().filter(({ state }) => state === 'ready' || state === 'quarantined');
    return settled.filter(({ index, generation }) => named.get(index) !== generation);
  }

  #release(content: Content): boolean {
    const { registry, holds, views, log } = this.#context;
    if (holds.isHeld(content)) return false;
    if (content.state === 'ready' && !registry.drain(content, { unpinned: true })) return false;
    const freed = content.state === 'ready' ? holds.review(content) : holds.free(content);
    if (freed) views.forget(content);
    if (freed || content.state === 'ready')
      log.info({ event: 'content.unnamed', digest: content.digest }, 'frees a content that has lost its name');
    return freed;
  }
}
