/** Names of the registry as the store sees them: a name whose row was freed since points to nothing. */
import type { Content } from '../../daxfs/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import type { StoreContext } from './store-context.ts';

const sameRef = (a: ContentRef, b: ContentRef) => a.index === b.index && a.generation === b.generation;

export class Names {
  readonly #context: StoreContext;

  constructor(context: StoreContext) {
    this.#context = context;
  }

  /** The live content of a name: READY, DRAINING or QUARANTINED. */
  find(full: string): Content | undefined {
    const target = this.#context.registry.findName(full);
    return target ? this.content(target) : undefined;
  }

  content(ref: ContentRef): Content | undefined {
    const content = this.#context.registry.content(ref.index);
    if (!content || content.generation !== ref.generation) return undefined;
    return content.state === 'ready' || content.state === 'draining' || content.state === 'quarantined'
      ? content
      : undefined;
  }

  /** Every name with a live content. */
  list(): { full: string; content: Content }[] {
    const { registry } = this.#context;
    const live = new Map(registry.contents().map((content) => [content.index, content]));
    return registry.names().flatMap(({ name, target }) => {
      const content = live.get(target.index);
      if (!content || content.generation !== target.generation) return [];
      return ['ready', 'draining', 'quarantined'].includes(content.state) ? [{ full: name, content }] : [];
    });
  }

  of(ref: ContentRef): string[] {
    return this.#context.registry
      .names()
      .filter(({ target }) => sameRef(target, ref))
      .map(({ name }) => name);
  }

  /**
   * Points a free name (or one whose content drains or is gone) at a content.
   * @throws MODEL_NAME_TAKEN when it points to another ready content
   */
  claim(full: string, ref: ContentRef): void {
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const current = this.#context.registry.findName(full);
      if (current && sameRef(current, ref)) return;
      if (current && this.content(current)?.state === 'ready') throw nameTaken(full);
      if (this.#set(full, ref, current)) return;
    }
    throw nameTaken(full);
  }

  /** Moves a name whatever it points to; returns what it pointed to. */
  move(full: string, ref: ContentRef): ContentRef | null {
    for (;;) {
      const current = this.#context.registry.findName(full);
      if (this.#set(full, ref, current)) return current;
    }
  }

  /** Takes a name off a content, if it still points there. */
  remove(full: string, ref: ContentRef): void {
    this.#context.registry.setName(full, null, ref);
  }

  #set(full: string, ref: ContentRef | null, expected: ContentRef | null): boolean {
    const { outcome } = this.#context.registry.setName(full, ref, expected);
    if (outcome === 'full') {
      throw serverError('MODEL_ROWS_FULL', 'The name table of the region is full; create a region with more names.');
    }
    return outcome === 'set';
  }
}

/** The refusal to load other content under a name in use. */
export function nameTaken(full: string): Error {
  const text = `${full} points to other content already; delete it, choose another name, or move it with PUT /models/{name}.`;
  return serverError('MODEL_NAME_TAKEN', text);
}
