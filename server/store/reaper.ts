/** Gives memory back in the background: settles our bits, frees what drains, undoes what dead hosts left. */
import { type Host, isHostDead } from '../../daxfs/index.ts';
import type { StoreContext } from './store-context.ts';

/** The kernel drops a dead worker's lock at once; this is how soon we look. */
const intervalMs = 250;

export class Reaper {
  readonly #context: StoreContext;
  #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Immediate | undefined;

  constructor(context: StoreContext) {
    this.#context = context;
  }

  start(): void {
    this.#timer = setInterval(() => this.#sweepSafely(), intervalMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    clearImmediate(this.#soon);
  }

  /** Sweeps once after the events in hand; many calls make one sweep. */
  soon(): void {
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      this.#sweepSafely();
    });
  }

  /** One pass over hosts and contents. */
  sweep(): void {
    const { registry, holds, views } = this.#context;
    for (const host of registry.hosts()) {
      if (host.index !== registry.hostIndex && isHostDead(this.#context.region, host)) this.#bury(host);
    }
    for (const content of registry.contents()) {
      if (content.state === 'ready') holds.settle(content);
      else if (content.state === 'draining' && holds.free(content)) views.forget(content);
    }
  }

  #sweepSafely(): void {
    try {
      this.sweep();
    } catch (error) {
      this.#context.log.error(
        { event: 'sweep.failed', err: error },
        'the sweep of the region failed; it is tried again',
      );
    }
  }

  /** A host of this kernel whose lock is gone: its claims are undone, its bits cleared where no lock is left. */
  #bury(host: Host): void {
    const { registry, holds, log, emit } = this.#context;
    let bits = 0;
    for (const content of registry.contents()) {
      if ((content.mask & (1 << host.index)) === 0 || content.corrupt || holds.isLocked(content)) continue;
      registry.clearHostBit(content.index, host.index);
      bits += 1;
    }
    const fresh = registry.lapse(host);
    const { contents, chunks, names } = registry.recover(host.index);
    const undone = { content: contents, chunk: chunks, name: names, 'host-bit': bits } as const;
    for (const [kind, count] of Object.entries(undone)) {
      if (count > 0) emit({ type: 'recovered', kind: kind as keyof typeof undone, count });
    }
    if (fresh) log.info({ event: 'host.recovered', host: host.name, ...undone }, 'undid what a dead host had claimed');
  }
}
