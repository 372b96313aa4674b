/** Judging hosts of other kernels: there only the heartbeat speaks, by the clock of whoever watches. */
import type { Host } from '../../daxfs/index.ts';

interface Seen {
  generation: number;
  heartbeat: bigint;
  /** When it last moved, on our clock. */
  movedAt: number;
}

export class Heartbeats {
  readonly #limitMs: number;
  readonly #seen = new Map<number, Seen>();
  #lookedAt = Number.NEGATIVE_INFINITY;

  /** @param limitMs silence that makes a host lapse */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /**
   * The hosts that have not beaten for the limit while we looked, and for how long (milliseconds).
   * @param hosts of other kernels
   * @param now milliseconds of a clock that does not jump
   */
  silent(hosts: readonly Host[], now: number): { host: Host; silentMs: number }[] {
    // After a pause of our own nothing is known: the others may have been paused with us.
    if (now - this.#lookedAt > this.#limitMs / 2) this.#seen.clear();
    this.#lookedAt = now;
    return hosts
      .map((host) => ({ host, silentMs: now - this.#movedAt(host, now) }))
      .filter(({ silentMs }) => silentMs >= this.#limitMs);
  }

  #movedAt({ index, generation, heartbeat }: Host, now: number): number {
    const seen = this.#seen.get(index);
    if (seen?.generation === generation && seen.heartbeat === heartbeat) return seen.movedAt;
    this.#seen.set(index, { generation, heartbeat, movedAt: now });
    return now;
  }
}
