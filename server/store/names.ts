/** Names of the registry as the store sees them: a name whose row was freed since points to nothing. */
import type { Content } from '../../daxfs/index.ts';
import { isFullName } from '../../loaders/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import type { StoreContext } from './store-context.ts';

export interface NamedContent {
  full: string;
  content: Content;
}

/** A name changes hands by one CAS; more lost rounds than this mean that somebody stopped in the middle. */
const triesMax = 16;
const shown = new Set(['ready', 'draining', 'quarantined']);

/** Names a content among all that ever were, in one number: a row's index has 16 bits, its generation 25. */
export const keyOf = ({ index, generation }: ContentRef): number => generation * 0x10000 + index;

export const sameRef = (a: ContentRef, b: ContentRef) => a.index === b.index && a.generation === b.generation;

/** True when attaches may be granted: READY and undamaged. */
export const isSound = (content: Content | undefined): boolean =>
  content?.state === 'ready' && content.corrupt === undefined;

function isShown(content: Content | undefined, { generation }: ContentRef): Content | undefined {
  return content && content.generation === generation && shown.has(content.state) ? content : undefined;
}

export class Names {
  readonly #context: StoreContext;
  /** The last list, good while the registry gives the same arrays. */
  #listed: { contents: unknown; names: unknown; list: readonly NamedContent[] } | undefined;

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
    if (content) this.#context.damage.look(content);
    return isShown(content, ref);
  }

  /** As `find`, for looking up; whoever then hands out the bytes looks again. */
  findRecent(full: string): Content | undefined {
    const content = this.#context.registry.recentNamed(full);
    return content && shown.has(content.state) ? content : undefined;
  }

  /**
   * Every name with a live content, sorted. The same array while nothing has changed. A name that nobody can ask for (a
   * damaged row, given its hash by a repair) is none.
   */
  list(): readonly NamedContent[] {
    const contents = this.#context.registry.contents();
    const names = this.#context.registry.names();
    if (this.#listed?.contents === contents && this.#listed.names === names) return this.#listed.list;
    const live = new Map(contents.map((content) => [content.index, content]));
    const list = names.flatMap(({ name, target }) => {
      const content = isFullName(name) ? live.get(target.index) : undefined;
      return content && sameRef(content, target) && shown.has(content.state) ? [{ full: name, content }] : [];
    });
    this.#listed = { contents, names, list };
    return list;
  }

  of(ref: ContentRef): string[] {
    const names = this.#context.registry.names();
    return names.filter(({ name, target }) => sameRef(target, ref) && isFullName(name)).map(({ name }) => name);
  }

  /**
   * Points a free name (or one whose content drains, is damaged or gone) at a content.
   * @throws MODEL_NAME_TAKEN when it points to another ready content
   */
  claim(full: string, ref: ContentRef): void {
    this.#change(full, ref, (current) => {
      if (isSound(this.content(current))) throw nameTaken(full);
    });
  }

  /** Moves a name whatever it points to; returns what it pointed to. */
  move(full: string, ref: ContentRef): ContentRef | null {
    return this.#change(full, ref, () => undefined);
  }

  /** Takes a name off a content, if it still points there. */
  remove(full: string, ref: ContentRef): void {
    for (let tries = 0; tries < triesMax; tries += 1) {
      const current = this.#context.registry.findName(full);
      if (!current || !sameRef(current, ref) || this.#set(full, null, ref)) return;
    }
    throw nameBusy(full);
  }

  /** @param check throws when the name must not leave what it points to */
  #change(full: string, ref: ContentRef, check: (current: ContentRef) => void): ContentRef | null {
    for (let tries = 0; tries < triesMax; tries += 1) {
      const current = this.#context.registry.findName(full);
      if (current && sameRef(current, ref)) return current;
      if (current) check(current);
      if (this.#set(full, ref, current)) return current;
    }
    throw nameBusy(full);
  }

  #set(full: string, ref: ContentRef | null, expected: ContentRef | null): boolean {
    const { outcome } = this.#context.registry.setName(full, ref, expected);
    if (outcome === 'full') {
      throw serverError(
        'MODEL_ROWS_FULL',
        'The name table of the region is full; delete names, or make a region with "daxserve region create --names N".',
      );
    }
    return outcome === 'set';
  }
}

/** The refusal to load other content under a name in use. */
export function nameTaken(full: string): Error {
  const text = `${full} points to other content already; delete it, choose another name, or move it with PUT /models/{name}.`;
  return serverError('MODEL_NAME_TAKEN', text);
}

function nameBusy(full: string): Error {
  return serverError(
    'MODEL_NAME_TAKEN',
    `Another host is just changing what ${full} points to; try again in a moment.`,
  );
}
