/** The models of the region: names with their contents, and the loads of this service. */
import { EventEmitter } from 'node:events';
import type { Content } from '../../daxfs/index.ts';
import { FORMATS, parseModelName, resolveSource, type TensorInfo } from '../../loaders/index.ts';
import { serverError } from '../errors.ts';
import type { LoadOutcome, LoadRequest, Model, ModelState, ModelStore, StoreEvent } from '../services.ts';
import { LoadJob } from './load-job.ts';
import { runLoad } from './loading.ts';
import { Names, nameTaken } from './names.ts';
import type { StoreContext } from './store-context.ts';

const jobsKeptMax = 1000;
const changeIntervalMs = 100;

export class RegionModelStore implements ModelStore {
  readonly names: Names;
  readonly #context: StoreContext;
  readonly #jobs = new Map<string, LoadJob>();
  /** Contents found for another source of the same bytes: source key -> content. */
  readonly #aliases = new Map<string, { index: number; generation: number }>();
  readonly #changes = new EventEmitter().setMaxListeners(0);
  readonly #events: EventEmitter;
  #closing = false;

  /** @param events carries `event` with StoreEvents; shared with the context's `emit` */
  constructor(context: StoreContext, events: EventEmitter) {
    this.#context = context;
    this.#events = events;
    this.names = new Names(context);
  }

  async load(request: LoadRequest): Promise<{ outcome: LoadOutcome; model: Model }> {
    if (this.#closing)
      throw serverError('SERVER_STOPPING', 'The service is stopping; post the model again when it is back.');
    if (request.placement === 'cached') {
      throw serverError('SERVER_UNSUPPORTED', 'Placement "cached" is not built yet; load with placement "resident".');
    }
    const { revision, include, exclude } = request;
    const source = await resolveSource(request.source, this.#context.sources, {
      ...(revision === undefined ? {} : { revision }),
      ...(include === undefined ? {} : { include }),
      ...(exclude === undefined ? {} : { exclude }),
    });
    const name = parseModelName(request.name ?? source.defaultName);
    return this.#start(new LoadJob(name, source, request, this.#context.now));
  }

  /** Finds, joins or starts; no await inside, so two requests of one service can't both start. */
  #start(job: LoadJob): { outcome: LoadOutcome; model: Model } {
    const { full } = job.name;
    const running = this.#jobs.get(full);
    if (running?.state === 'loading') {
      if (running.keyHex === job.keyHex) return { outcome: 'joined', model: running.model() };
      throw serverError(
        'MODEL_NAME_TAKEN',
        `${full} is being loaded from another source; wait, cancel it, or choose another name.`,
      );
    }
    const ready = this.#readyContent(job);
    if (ready) {
      this.names.claim(full, ready);
      this.#jobs.delete(full);
      this.#touch(ready, job.request.keep);
      return { outcome: 'hit', model: this.#ofContent(full, this.names.find(full) ?? ready) };
    }
    if (this.names.find(full)?.state === 'ready') throw nameTaken(full);
    const twin = [...this.#jobs.values()].find((other) => other.state === 'loading' && other.keyHex === job.keyHex);
    this.#run(job);
    return { outcome: twin ? 'joined' : 'miss', model: job.model() };
  }

  #readyContent(job: LoadJob): Content | undefined {
    const alias = this.#aliases.get(job.keyHex);
    const aliased = alias && this.names.content(alias);
    if (aliased?.state === 'ready') return aliased;
    return this.#context.registry
      .contents()
      .find(({ state, sourceKey }) => state === 'ready' && sourceKey === job.keyHex);
  }

  #touch(content: Content, keep: boolean | undefined): void {
    this.#context.registry.touch(content.index, this.#context.now());
    if (keep !== undefined && keep !== content.keep) this.#context.registry.setKeep(content, keep);
  }

  #run(job: LoadJob): void {
    const { full } = job.name;
    this.#jobs.delete(full);
    if (this.#jobs.size >= jobsKeptMax) this.#forgetOldest();
    this.#jobs.set(full, job);
    const changed = this.#throttled(full);
    job.done = runLoad(this.#context, this.names, job, changed).then(() => {
      if (job.state !== 'ready') return;
      const target = this.#context.registry.findName(full);
      if (target) this.#aliases.set(job.keyHex, target);
      if (this.#jobs.get(full) === job) this.#jobs.delete(full);
      this.#changes.emit(full);
    });
  }

  #forgetOldest(): void {
    for (const [full, job] of this.#jobs) {
      if (job.state === 'loading') continue;
      this.#jobs.delete(full);
      return;
    }
  }

  /** Emits at most ten changes a second for `full`, and always the last one. */
  #throttled(full: string): () => void {
    let pending = false;
    return () => {
      if (pending) return;
      pending = true;
      setTimeout(() => {
        pending = false;
        this.#changes.emit(full);
      }, changeIntervalMs).unref();
    };
  }

  async settled(name: string, signal?: AbortSignal): Promise<Model> {
    const { full } = parseModelName(name);
    for (;;) {
      signal?.throwIfAborted();
      const model = this.#find(full);
      if (!model) throw notFound(full);
      if (model.state !== 'loading') return model;
      const job = this.#jobs.get(full)!;
      await Promise.race([job.done, aborted(signal)]);
    }
  }

  list(state?: ModelState): Model[] {
    const models = new Map<string, Model>();
    for (const { full, content } of this.names.list()) models.set(full, this.#ofContent(full, content));
    for (const [full, job] of this.#jobs) {
      if (!models.has(full) || job.state === 'loading') models.set(full, job.model());
    }
    const sorted = [...models].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, model]) => model);
    return state ? sorted.filter((model) => model.state === state) : sorted;
  }

  async get(name: string): Promise<Model> {
    const { full } = parseModelName(name);
    const model = this.#find(full);
    if (!model) throw notFound(full);
    return this.#withFiles(full, model);
  }

  async getByDigest(digest: string): Promise<Model> {
    const content = this.#byDigest(digest);
    const full = this.names.of(content)[0];
    if (!full) throw notFound(digest);
    return this.#withFiles(full, this.#ofContent(full, content));
  }

  async tensors(name: string): Promise<TensorInfo[]> {
    const { full } = parseModelName(name);
    return (await this.#context.views.view(this.readyContent(full))).manifest.tensors;
  }

  async retarget(name: string, digest: string): Promise<Model> {
    const { full } = parseModelName(name);
    const content = this.#byDigest(digest);
    if (content.state !== 'ready') throw serverError('MODEL_NOT_READY', `The content ${digest} is not ready.`);
    const previous = this.names.move(full, content);
    if (previous && previous.index !== content.index) this.#drainUnnamed(previous);
    this.#changes.emit(full);
    return this.get(full);
  }

  async remove(
    name: string,
    { drain }: { drain: boolean },
  ): Promise<{ outcome: 'freed' | 'draining' | 'cancelling'; model: Model }> {
    const { full } = parseModelName(name);
    const job = this.#jobs.get(full);
    if (job?.state === 'loading') {
      job.controller.abort();
      return { outcome: 'cancelling', model: job.model() };
    }
    this.#jobs.delete(full);
    const content = this.names.find(full);
    if (content) return this.#removeContent(full, content, drain);
    if (job) return { outcome: 'freed', model: job.model() };
    throw notFound(full);
  }

  #removeContent(full: string, content: Content, drain: boolean) {
    const model = this.#ofContent(full, content);
    if (content.state === 'ready' && this.names.of(content).length > 1) {
      this.names.remove(full, content);
      return { outcome: 'freed' as const, model };
    }
    if (!drain && (this.#context.holds.isHeld(content) || (content.mask & ~this.#context.registry.hostBit) !== 0)) {
      throw serverError(
        'MODEL_LEASED',
        `${full} is leased by ${model.leases || 'other'} worker(s); stop them, or delete with ?drain=true.`,
      );
    }
    const freed = this.#drain(content);
    if (freed) this.names.remove(full, content);
    this.#changes.emit(full);
    return {
      outcome: freed ? ('freed' as const) : ('draining' as const),
      model: { ...model, state: 'draining' as const },
    };
  }

  /** Stops new attaches; true when the bytes are free already. */
  #drain(content: Content): boolean {
    const { registry, holds, views } = this.#context;
    if (content.state === 'ready') registry.drain(content);
    this.#changes.emit('draining', content);
    const now = registry.content(content.index);
    if (!now || now.generation !== content.generation) return true;
    const freed = holds.free(now);
    if (freed) views.forget(content);
    return freed;
  }

  #drainUnnamed(ref: { index: number; generation: number }): void {
    const content = this.names.content(ref);
    if (content?.state === 'ready' && this.names.of(ref).length === 0) this.#drain(content);
  }

  watch(name: string, listener: (model: Model) => void): () => void {
    const { full } = parseModelName(name);
    const tell = () => {
      const model = this.#find(full);
      if (model) listener(model);
    };
    this.#changes.on(full, tell);
    return () => void this.#changes.off(full, tell);
  }

  onEvent(listener: (event: StoreEvent) => void): () => void {
    this.#events.on('event', listener);
    return () => void this.#events.off('event', listener);
  }

  onDraining(listener: (content: Content) => void): () => void {
    this.#changes.on('draining', listener);
    return () => void this.#changes.off('draining', listener);
  }

  /** Cancels running loads and waits for them. */
  async close(): Promise<void> {
    this.#closing = true;
    const running = [...this.#jobs.values()].filter((job) => job.state === 'loading');
    for (const job of running) job.controller.abort();
    await Promise.all(running.map((job) => job.done));
  }

  /** The ready content of a name. @throws MODEL_NOT_FOUND, MODEL_NOT_READY */
  readyContent(full: string): Content {
    const content = this.names.find(full);
    const job = this.#jobs.get(full);
    if (content?.corrupt)
      throw serverError(
        'MODEL_NOT_READY',
        `${full} is damaged in the region (${content.corrupt}); delete it and load it again.`,
      );
    if (content?.state === 'ready') return content;
    if (!content && !job) throw notFound(full);
    const state = job?.state === 'loading' || !content ? job!.state : content.state;
    throw serverError(
      'MODEL_NOT_READY',
      `${full} is ${state}${job?.error ? ` (${job.error.detail})` : ''}; only a ready model can be attached.`,
    );
  }

  #byDigest(digest: string): Content {
    const wanted = digest.replace(/^sha256:/, '');
    const found = this.#context.registry.contents().filter((content) => content.digest === wanted);
    const content = found.find(({ state }) => state === 'ready') ?? found[0];
    if (!content) throw notFound(digest);
    return content;
  }

  #find(full: string): Model | undefined {
    const job = this.#jobs.get(full);
    const content = this.names.find(full);
    if (job && (job.state === 'loading' || !content)) return job.model();
    return content && this.#ofContent(full, content);
  }

  async #withFiles(full: string, model: Model): Promise<Model> {
    const content = this.names.find(full);
    if (!content || content.corrupt || model.state === 'loading') return model;
    return { ...model, files: [...(await this.#context.views.view(content)).manifest.files] };
  }

  #ofContent(full: string, content: Content): Model {
    const { name, tag } = parseModelName(full);
    const iso = (ms: number) => (ms > 0 ? new Date(ms).toISOString() : null);
    const { bytes } = content;
    return {
      name,
      tag,
      revision: content.revision,
      digest: content.digest,
      state: shownState(content),
      placement: content.placement,
      format: FORMATS[content.format] ?? null,
      bytes,
      tensorCount: content.tensorCount,
      progress: { phase: 'done', bytesDone: bytes, bytesTotal: bytes, bytesPerSecond: 0, etaSeconds: 0 },
      leases: this.#context.holds.count(content),
      keep: content.keep,
      createdAt: new Date(content.createdAtMs).toISOString(),
      readyAt: iso(content.readyAtMs),
      lastAccessAt: iso(content.lastAccessMs),
      loadSeconds: content.loadMs / 1000,
      phases: {},
    };
  }
}

function shownState({ corrupt, state }: Content): ModelState {
  if (corrupt || state === 'quarantined') return 'quarantined';
  return state === 'draining' ? 'draining' : 'ready';
}

function notFound(name: string): Error {
  return serverError('MODEL_NOT_FOUND', `There is no model ${name}; load it with POST /models or \`daxserve load\`.`);
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
