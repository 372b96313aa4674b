/** One load in this service: its progress, its phases and how it ended. Kept after a failure until it is posted again. */
import type { Source } from '../../loaders/index.ts';
import type { LoadRequest, Model, Progress } from '../services.ts';

export type JobState = 'loading' | 'ready' | 'failed' | 'cancelled';

/** Progress of a load, from byte counts at known times. */
class Rate {
  #startedMs = 0;
  bytesDone = 0;

  start(nowMs: number): void {
    this.#startedMs = nowMs;
  }

  bytesPerSecond(nowMs: number): number {
    const seconds = (nowMs - this.#startedMs) / 1000;
    return this.#startedMs > 0 && seconds > 0 ? Math.round(this.bytesDone / seconds) : 0;
  }
}

export class LoadJob {
  readonly controller = new AbortController();
  readonly createdAtMs: number;
  readonly name: { name: string; tag: string; full: string };
  readonly source: Source;
  readonly request: LoadRequest;
  readonly bytesTotal: number;
  readonly phases: Record<string, number> = {};
  state: JobState = 'loading';
  error: { code: string; detail: string } | undefined;
  /** Settles when the load has ended, however it ended. */
  done: Promise<void> = Promise.resolve();
  #phase: Progress['phase'] = 'resolving';
  #phaseStartedMs: number;
  readonly #rate = new Rate();
  readonly #now: () => number;

  /** @param askedMs when resolving the source began */
  constructor(name: LoadJob['name'], source: Source, request: LoadRequest, now: () => number, askedMs: number) {
    this.name = name;
    this.source = source;
    this.request = request;
    this.#now = now;
    this.createdAtMs = askedMs;
    this.#phaseStartedMs = askedMs;
    this.bytesTotal = source.bytes;
  }

  get keyHex(): string {
    return this.source.key.toString('hex');
  }

  /** Ends the phase in hand and begins the next; returns what ended and how long it took. */
  enter(phase: Progress['phase']): { phase: string; seconds: number } {
    const now = this.#now();
    const ended = { phase: this.#phase, seconds: (now - this.#phaseStartedMs) / 1000 };
    this.phases[ended.phase] = (this.phases[ended.phase] ?? 0) + ended.seconds;
    this.#phase = phase;
    this.#phaseStartedMs = now;
    if (phase === 'copying') this.#rate.start(now);
    return ended;
  }

  bytes(done: number): void {
    this.#rate.bytesDone = done;
  }

  progress(): Progress {
    const bytesDone = this.#rate.bytesDone;
    const bytesPerSecond = this.#rate.bytesPerSecond(this.#now());
    const left = this.bytesTotal - bytesDone;
    const etaSeconds = bytesPerSecond > 0 ? Math.ceil(left / bytesPerSecond) : null;
    return { phase: this.#phase, bytesDone, bytesTotal: this.bytesTotal, bytesPerSecond, etaSeconds };
  }

  /** The model as the API shows it while this job speaks for its name. */
  model(): Model {
    return {
      name: this.name.name,
      tag: this.name.tag,
      revision: this.source.revision,
      digest: null,
      state: this.state,
      placement: 'resident',
      format: null,
      bytes: this.bytesTotal,
      tensorCount: 0,
      progress: this.progress(),
      leases: 0,
      keep: this.request.keep ?? false,
      createdAt: new Date(this.createdAtMs).toISOString(),
      readyAt: null,
      lastAccessAt: null,
      loadSeconds: null,
      phases: this.phases,
      ...(this.error ? { error: this.error } : {}),
    };
  }
}
