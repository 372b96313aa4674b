/** Where the service stands: starting -> ready -> stopping. Holds the parts that exist only once the region is adopted. */
import { serverError } from './errors.ts';
import { stopping } from './problem.ts';
import type { RegionView } from './region-view.ts';
import type { LeaseBook, ModelStore } from './services.ts';

export interface Services {
  store: ModelStore;
  leases: LeaseBook;
  region: RegionView;
}

export type Phase = 'starting' | 'ready' | 'stopping';

export class Lifecycle {
  #phase: Phase = 'starting';
  #services: Services | null = null;
  readonly #stop = new AbortController();

  get phase(): Phase {
    return this.#phase;
  }

  /** Aborts when the service begins to stop. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The adopted services. @throws ServerError SERVER_STARTING, SERVER_STOPPING (503, ask again) */
  get services(): Services {
    if (this.#phase === 'stopping') throw stopping();
    return this.adopted();
  }

  /** The services also while stopping: what a request that is already running may still use. */
  adopted(): Services {
    if (!this.#services)
      throw serverError('SERVER_STARTING', 'The region is being prepared; ask again in a few seconds.');
    return this.#services;
  }

  /** For scrapes: null until adopted. */
  peek(): Services | null {
    return this.#services;
  }

  adopt(services: Services): void {
    this.#services = services;
    if (this.#phase === 'starting') this.#phase = 'ready';
  }

  /** From here on readyz answers 503 and waits end. Idempotent. */
  stop(): void {
    this.#phase = 'stopping';
    this.#stop.abort(stopping());
  }
}
