/** Where the service stands: starting -> ready -> stopping. Holds the parts that exist only while the region is adopted. */
import { serverError } from './errors.ts';
import { stopping } from './problem.ts';
import type { RegionView } from './region-view.ts';
import type { FencedHost } from './schemas/region.ts';
import type { LeaseBook, ModelStore } from './services.ts';

export interface Services {
  store: ModelStore;
  leases: LeaseBook;
  region: RegionView;
  /** The operator's word that a host is gone. @throws ServerError HOST_NOT_FOUND, HOST_ALIVE */
  fence(name: string): Promise<FencedHost>;
}

export type Phase = 'starting' | 'ready' | 'stopping';

export class Lifecycle {
  #phase: Phase = 'starting';
  #services: Services | null = null;
  #ends = new AbortController();

  get phase(): Phase {
    return this.#phase;
  }

  /** Aborts when the service begins to stop, or loses its place in the region: what waits, ends. */
  get endSignal(): AbortSignal {
    return this.#ends.signal;
  }

  /** The adopted services. @throws ServerError SERVER_STARTING, SERVER_STOPPING (503, ask again) */
  get services(): Services {
    if (this.#phase === 'stopping') throw stopping();
    if (!this.#services) throw starting();
    return this.#services;
  }

  /** The services also while stopping; null while no region is adopted. */
  peek(): Services | null {
    return this.#services;
  }

  adopt(services: Services): void {
    this.#services = services;
    if (this.#phase === 'starting') this.#phase = 'ready';
  }

  /** Back to starting: another host took us for dead, and the region has to be adopted anew. */
  lose(): void {
    if (this.#phase !== 'ready') return;
    this.#phase = 'starting';
    this.#services = null;
    this.#ends.abort(starting());
    this.#ends = new AbortController();
  }

  /** From here on readyz answers 503 and waits end. Idempotent. */
  stop(): void {
    this.#phase = 'stopping';
    this.#ends.abort(stopping());
  }
}

export function starting(): Error {
  return serverError('SERVER_STARTING', 'The region is being prepared; ask again in a few seconds.');
}
