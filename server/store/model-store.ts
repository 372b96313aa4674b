/** The models of the region: names with their contents, and the loads of this service. */
import { EventEmitter } from 'node:events';
import type { Content } from '../../daxfs/index.ts';
import { FORMATS, parseModelName, resolveSource, type TensorInfo } from '../../loaders/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import type { LoadOutcome, LoadRequest, Model, ModelState, ModelStore, StoreEvent } from '../services.ts';
import { unlessAborted } from '../signals.ts';
import { LoadJob } from './load-job.ts';
import { runLoad } from './loading.ts';
import { isSound, keyOf, Names, nameTaken, sameRef } from './names.ts';
import { RecentMap } from './recent-map.ts';
import type { StoreContext } from './store-context.ts';

const jobsKeptMax = 1000;
const rememberedMax = 4096;
const changeIntervalMs = 100;

export class RegionModelStore implements ModelStore {
  readonly names: Names;
  readonly #context: StoreContext;
  readonly #jobs = new Map<string, LoadJob>();
  /** Contents found for another source of the same bytes: source key -> content. */
  readonly #aliases = new RecentMap<string, ContentRef>(rememberedMax);
  /** Seconds by phase of what was loaded here. */
  readonly #phases = new RecentMap<number, Record<string, number>>(rememberedMax);
  /** What lists showed last, by name: good while content and leases are the same. */
  readonly #shown = new Map<string, { content: Content; model: Model }>();
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
    this.#checkOpen();
    if (request.placement === 'cached') {
      throw serverError('SERVER_UNSUPPORTED', 'Placement "cached" is not built yet; load with placement "resident".');
    }
    const askedMs = this.#context.now();
    const { revision, include, exclude } = request;
    const source = await resolveSource(request.source, this.#context.sources, {
      ...(revision === undefined ? {} : { revision }),
      ...(include === undefined ? {} : { include }),
      ...(exclude === undefined ? {} : { exclude }),
    });
    const name = parseModelName(request.name ?? source.defaultName);
    this.#checkOpen();
    return this.#start(new LoadJob(name, source, request, this.#context.now, askedMs));
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
    if (ready && this.#nameReady(full, ready)) {
      this.#jobs.delete(full);
      this.#touch(ready, job.request.keep);
      return { outcome: 'hit', model: this.#ofContent(full, this.names.find(full) ?? ready) };
    }
    if (isSound(this.names.find(full))) throw nameTaken(full);
    const twin = [...this.#jobs.values()].find((other) => other.state === 'loading' && other.keyHex === job.keyHex);
    this.#run(job);
    return { outcome: twin ? 'joined' : 'miss', model: job.model() };
  }

  #checkOpen(): void {
    if (this.#closing)
      throw serverError('SERVER_STOPPING', 'The service is stopping; post the model again when it is back.');
  }

  /** False when the content was drained before its name could keep it. @throws MODEL_NAME_TAKEN */
  #nameReady(full: string, ready: Content): boolean {
    this.names.claim(full, ready);
    return isSound(this.names.content(ready));
  }

  #readyContent({ keyHex }: LoadJob): Content | undefined {
    const alias = this.#aliases.get(keyHex);
    const aliased = alias && this.names.content(alias);
    if (aliased && isSound(aliased)) return aliased;
    this.#aliases.delete(keyHex);
    return this.#context.registry.contents().find((content) => content.sourceKey === keyHex && isSound(content));
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
    job.done = runLoad(this.#context, this.names, job, changed).then((content) => {
      if (!content) return;
      this.#remember(job, content);
      if (this.#jobs.get(full) === job) this.#jobs.delete(full);
      this.#changes.emit(full);
    });
  }

  /** Only a content that another source brought needs an alias: its own source key is in its row. */
  #remember({ keyHex, phases }: LoadJob, ref: ContentRef): void {
    if (this.#context.registry.content(ref.index)?.sourceKey === keyHex) this.#phases.set(keyOf(ref), phases);
    else this.#aliases.set(keyHex, ref);
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
      const job = this.#jobs.get(full);
      if (job?.state !== 'loading') break;
      await unlessAborted(job.done, signal);
      // Its name may have been pointed elsewhere meanwhile: that is no success of this load.
      if (job.error) return job.model();
    }
    const model = this.#find(full);
    if (!model) throw notFound(full);
    return model;
  }

  list(state?: ModelState): Model[] {
    const named = this.names.list();
    const models = named.map(({ full, content }) => this.#shownModel(full, content));
    if (this.#shown.size > 2 * named.length + 64) this.#shown.clear();
    const all = this.#jobs.size === 0 ? models : this.#withJobs(models, new Set(named.map(({ full }) => full)));
    return state ? all.filter((model) => model.state === state) : all;
  }

  /** Adds the loads, running or ended, of names that have no content. */
  #withJobs(models: Model[], named: ReadonlySet<string>): Model[] {
    const others = [...this.#jobs].filter(([full]) => !named.has(full)).map(([, job]) => job.model());
    return others.length === 0 ? models : [...models, ...others].sort(byName);
  }

  /** As lists show a name that has a content. */
  #shownModel(full: string, content: Content): Model {
    const job = this.#speaker(full, content);
    if (job) return job.model();
    const shown = this.#shown.get(full);
    const leases = this.#context.holds.count(content);
    if (shown?.content === content && shown.model.leases === leases) return shown.model;
    const model = this.#ofContent(full, content);
    this.#shown.set(full, { content, model });
    return model;
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
    if (content.state !== 'ready')
      throw serverError('MODEL_NOT_READY', `The content ${digest} is being removed; load its source again.`);
    const previous = this.names.move(full, content);
    if (this.#jobs.get(full)?.state !== 'loading') this.#jobs.delete(full);
    if (previous && !sameRef(previous, content)) this.#drainUnnamed(previous);
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
      // Another host may have taken the other name off at the same time.
      this.#drainUnnamed(content);
      this.#changes.emit(full);
      return { outcome: 'freed' as const, model };
    }
    if (!drain && this.#isUsed(content)) throw leased(full, model.leases);
    const freed = this.#drain(content, { unpinned: !drain });
    if (freed === undefined) throw leased(full, model.leases);
    // What is quarantined is freed when its host is proved dead, however long that takes: it needs no name for that.
    if (freed || content.state === 'quarantined') this.names.remove(full, content);
    this.#changes.emit(full);
    return {
      outcome: freed ? ('freed' as const) : ('draining' as const),
      model: { ...model, state: 'draining' as const },
    };
  }

  #isUsed(content: Content): boolean {
    const { holds } = this.#context;
    return holds.isHeld(content) || holds.isPinnedElsewhere(content);
  }

  /** Stops new attaches; true when the bytes are free already, undefined when it is pinned and must not be. */
  #drain(content: Content, { unpinned = false } = {}): boolean | undefined {
    const { registry, holds, views } = this.#context;
    if (content.state === 'ready' && !registry.drain(content, { unpinned })) {
      if (this.names.content(content)?.state === 'ready') return undefined;
    }
    this.#changes.emit('draining', content);
    const now = this.names.content(content);
    const freed = !now || holds.free(now);
    if (freed) views.forget(content);
    return freed;
  }

  #drainUnnamed(ref: ContentRef): void {
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

  /** Tells when a content starts to drain, here or (again at every sweep) on another host. */
  onDraining(listener: (content: Content) => void): () => void {
    this.#changes.on('draining', listener);
    return () => void this.#changes.off('draining', listener);
  }

  /** The reaper's word that a content with leases of ours drains. */
  tellDraining(content: Content): void {
    this.#changes.emit('draining', content);
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
    const content = this.names.findRecent(full);
    const job = this.#jobs.get(full);
    if (content && isSound(content)) return content;
    if (!job && content?.corrupt)
      throw serverError(
        'MODEL_NOT_READY',
        `${full} is damaged in the region (${content.corrupt}); load it again with POST /models.`,
      );
    if (!content && !job) throw notFound(full);
    const state = job?.state ?? content!.state;
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
    const content = this.names.find(full);
    return this.#speaker(full, content)?.model() ?? (content && this.#ofContent(full, content));
  }

  /** The load that speaks for a name: one under way, or one that came to nothing while the content there is not ready. */
  #speaker(full: string, content: Content | undefined): LoadJob | undefined {
    const job = this.#jobs.get(full);
    return job && (job.state === 'loading' || !isSound(content)) ? job : undefined;
  }

  async #withFiles(full: string, model: Model): Promise<Model> {
    const content = this.names.find(full);
    if (!content || model.digest === null) return model;
    // What drains may be freed while it is read.
    if (content.state !== 'ready' && !this.#context.views.has(content)) return model;
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
      phases: this.#phases.get(keyOf(content)) ?? {},
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

function leased(full: string, leases: number): Error {
  const text = `${full} is leased by ${leases || 'other'} worker(s); stop them, or delete with ?drain=true.`;
  return serverError('MODEL_LEASED', text);
}

const byName = (a: Model, b: Model) => (`${a.name}:${a.tag}` < `${b.name}:${b.tag}` ? -1 : 1);
