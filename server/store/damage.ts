/** Tells of content rows with a wrong checksum, once for each: whoever looks at a row may find it. */
import type { Content } from '../../daxfs/index.ts';
import type { StoreContext } from './store-context.ts';

export class Damage {
  readonly #told: Pick<StoreContext, 'emit' | 'log'>;
  /** Row -> the generation that was told of. */
  readonly #found = new Map<number, number>();

  constructor(told: Pick<StoreContext, 'emit' | 'log'>) {
    this.#told = told;
  }

  look({ corruptRule, index, generation }: Content): void {
    if (corruptRule !== 'checksum' || this.#found.get(index) === generation) return;
    this.#found.set(index, generation);
    this.#told.emit({ type: 'checksum-failed' });
    const text = 'a content row has a wrong checksum; post its source again';
    this.#told.log.error({ event: 'content.damaged', row: index, generation }, text);
  }
}
