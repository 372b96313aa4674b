/** Gives memory back in the background: settles our bits, frees what drains, undoes what dead hosts left. */
import { type Content, type Host, isRowLocked, lockDomain, tryLockAttaching } from '../../daxfs/index.ts';
import type { ContentRef, Recovered } from '../../native/index.ts';
import { declareDead } from './fencing.ts';
import { Heartbeats } from './heartbeats.ts';
import { emitRecovered, recoveredCounts } from './recovered.ts';
import type { StoreContext } from './store-context.ts';
import { Unnamed } from './unnamed.ts';

/** The kernel drops a dead worker's lock at once; this is how soon we look. */
const intervalMs = 250;
/** Contents without a name are rare and in no hurry. */
const sweepsPerUnnamed = 4;

export interface ReaperHooks {
  /** Told of every draining content that has leases here, at every sweep. */
  onDraining: (content: Content) => void;
  /** Told once when another host has taken us for dead. */
  onLost: () => void;
}

export class Reaper {
  readonly #context: StoreContext;
  readonly #unnamed: Unnamed;
  readonly #hooks: ReaperHooks;
  /** Whose locks we see. */
  readonly #kernel: string;
  readonly #heartbeats: Heartbeats;
  /** Dead attaches of hosts of which the claims are undone; their pins may be left. */
  readonly #undone = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #sweeps = 0;
  #failing: unknown;

  constructor(context: StoreContext, hooks: ReaperHooks) {
    this.#context = context;
    this.#hooks = hooks;
    this.#unnamed = new Unnamed(context);
    this.#kernel = lockDomain(context.region).toString('hex');
    this.#heartbeats = new Heartbeats(context.region.header.heartbeatLimitMs);
  }

  start(): void {
    this.sweep();
    this.#unnamed.sweepAlone();
    this.#timer = setInterval(() => this.#safely(() => this.#tick()), intervalMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Looks at one content at once: a lease on it has ended. */
  review(ref: ContentRef): void {
    this.#safely(() => {
      if (this.#context.holds.review(ref)) this.#context.views.forget(ref);
    });
  }

  /** One pass over hosts and contents. Costs little when nothing has changed. */
  sweep(): void {
    const { registry, holds, views, damage } = this.#context;
    const hosts = registry.hosts();
    for (const host of hosts) if (this.#isDead(host)) this.#bury(host);
    const elsewhere = hosts.filter(({ bootId }) => bootId !== this.#kernel);
    for (const { host, silentMs } of this.#heartbeats.silent(elsewhere, performance.now())) {
      if (silentMs >= this.#context.deadAfterMs) declareDead(this.#context, host, 'gone', 'it was silent for too long');
      else if (host.state !== 'lapsed') this.#lapse(host);
    }
    for (const content of registry.contents()) {
      damage.look(content);
      if (content.state === 'ready') holds.settle(content);
      if (content.state !== 'draining') continue;
      if (holds.count(content) > 0) this.#hooks.onDraining(content);
      else if (holds.free(content)) views.forget(content);
    }
    if (this.#sweeps++ % sweepsPerUnnamed === 0) this.#unnamed.sweep();
  }

  /** A sweep that logs its failure; the next one tries again. */
  sweepSafely(): void {
    this.#safely(() => this.sweep());
  }

  #tick(): void {
    const { registry, log } = this.#context;
    if (registry.stillAttached()) {
      this.sweep();
      return;
    }
    this.stop();
    log.error({ event: 'host.lost' }, 'another host took this service for dead; it lets go of the region');
    this.#hooks.onLost();
  }

  /** The same failure is logged once, not four times a second. */
  #safely(work: () => void): void {
    try {
      work();
      this.#failing = undefined;
    } catch (error) {
      const { code, message } = error as { code?: string; message?: string };
      if (this.#failing === (code ?? message)) return;
      this.#failing = code ?? message;
      const text = 'the sweep of the region failed; it is tried again';
      this.#context.log.error({ event: 'sweep.failed', err: error }, text);
    }
  }

  /** A host of this kernel whose process is gone. False says nothing: it may live, or live elsewhere. */
  #isDead({ index, bootId }: Host): boolean {
    const { registry, region } = this.#context;
    return index !== registry.hostIndex && bootId === this.#kernel && !isRowLocked(region, index);
  }

  /** A silent host of another kernel: its claims are undone, with care, and its pins stay. It may only be paused. */
  #lapse(host: Host): void {
    const { registry } = this.#context;
    // Recovering: an attach or a survivor that was cut short.
    const fresh = registry.lapse(host);
    if (!fresh && host.state === 'live') return;
    this.#tell(host, fresh, registry.recover(host.index, 'lapsed'));
  }

  /** While hosts may not attach: a successor in the row would lose the bits that it has just set. */
  #bury(host: Host): void {
    const attaching = tryLockAttaching(this.#context.region);
    if (!attaching) return;
    try {
      if (this.#isDead(host)) this.#undo(host);
    } finally {
      attaching.release();
    }
  }

  /** Clears the bits of a dead host where no lock is left, and undoes its claims. Bits under a lock wait for their workers. */
  #undo(host: Host): void {
    const { registry, holds } = this.#context;
    const pinned = registry.contents().filter(({ mask }) => (mask & (1 << host.index)) !== 0);
    const free = pinned.filter((content) => !holds.isLocked(content));
    for (const content of free) registry.clearHostBit(content.index, host.index);
    const fresh = registry.lapse(host);
    const key = `${host.index}@${host.generation}`;
    if (!fresh && free.length === 0 && pinned.length > 0 && this.#undone.has(key)) return;
    this.#undone.add(key);
    this.#tell(host, fresh, { ...registry.recover(host.index), pins: free.length });
  }

  #tell(host: Host, fresh: boolean, undone: Recovered): void {
    const { log, emit } = this.#context;
    emitRecovered(emit, undone);
    if (!fresh) return;
    const fields = { event: 'host.recovered', host: host.name, ...recoveredCounts(undone) };
    log.info(fields, 'undid what a dead or silent host had claimed');
  }
}
