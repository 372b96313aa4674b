/** What the service counts, for Prometheus. One registry per app; gauges are taken from snapshots at the scrape. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Lifecycle, Services } from './lifecycle.ts';
import type { HandleKind, LoadOutcome, ModelState, Placement, StoreEvent } from './services.ts';
import { VERSION } from './version.ts';

const STATES: readonly ModelState[] = ['loading', 'ready', 'failed', 'cancelled', 'draining', 'quarantined'];
const PLACEMENTS: readonly Placement[] = ['resident', 'cached'];
const ATTACH_BUCKETS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];
const LOAD_BUCKETS = [0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];

/** A gauge per model whose values are all new at each scrape: no hashing of labels, and a deleted model is gone. */
class ModelGauge extends Gauge<'model'> {
  #values: { value: number; labels: { model: string } }[] = [];

  replace(values: { value: number; labels: { model: string } }[]): void {
    this.#values = values;
  }

  override async get() {
    return { ...(await super.get()), values: this.#values };
  }
}

/** hit: the model was ready; waited: the attach waited for its load; error: refused. */
export type AttachResult = 'hit' | 'waited' | 'error';

const counter = (registry: Registry, name: string, help: string, labelNames: string[] = []) =>
  new Counter({ name: `daxserve_${name}`, help, labelNames, registers: [registry] });
const gauge = (registry: Registry, name: string, help: string, labelNames: string[] = []) =>
  new Gauge({ name: `daxserve_${name}`, help, labelNames, registers: [registry] });
const modelGauge = (registry: Registry, name: string, help: string) =>
  new ModelGauge({ name: `daxserve_${name}`, help, labelNames: ['model'], registers: [registry] });
const histogram = (registry: Registry, name: string, help: string, labelNames: string[], buckets: number[]) =>
  new Histogram({ name: `daxserve_${name}`, help, labelNames, buckets, registers: [registry] });

function counters(registry: Registry) {
  return {
    requests: counter(registry, 'model_requests_total', 'Requests to load a model, by what was found.', ['result']),
    attaches: counter(registry, 'model_attach_total', 'Attaches of workers.', ['model', 'result']),
    attachSeconds: histogram(
      registry,
      'attach_seconds',
      'Time from the request of a worker to its descriptors, waits for a load left out.',
      ['kind'],
      ATTACH_BUCKETS,
    ),
    loadSeconds: histogram(registry, 'model_load_seconds', 'Time of a load in each phase.', ['phase'], LOAD_BUCKETS),
    loadBytes: counter(registry, 'model_load_bytes_total', 'Bytes loaded, by kind of source.', ['source']),
    loadErrors: counter(registry, 'model_load_errors_total', 'Loads that failed, by error code.', ['reason']),
    evictions: counter(registry, 'model_evicted_bytes_total', 'Bytes of contents evicted to make room.'),
    expired: counter(registry, 'leases_expired_total', 'Leases that ended at their time limit.'),
    checksums: counter(
      registry,
      'checksum_failures_total',
      'Loads that read back other bytes than they wrote, and content rows with a wrong checksum.',
    ),
    recovered: counter(registry, 'recovered_claims_total', 'Claims of dead hosts that were undone.', ['kind']),
  };
}

function gauges(registry: Registry) {
  return {
    build: gauge(registry, 'build_info', 'Version of the service; always 1.', ['version', 'node']),
    regionInfo: gauge(registry, 'region_info', 'The region; always 1.', ['region', 'path', 'backing']),
    regionBytes: gauge(registry, 'region_bytes', 'Size of a part of the region.', ['area']),
    usedBytes: gauge(registry, 'region_used_bytes', 'Bytes in use in a part of the region.', ['area']),
    largestFree: gauge(registry, 'region_largest_free_bytes', 'Longest run of free chunks.'),
    quarantined: gauge(registry, 'quarantined_bytes', 'Chunks not reused because a lapsed host may still write them.'),
    models: gauge(registry, 'models', 'Models by state and placement.', ['state', 'placement']),
    modelBytes: modelGauge(registry, 'model_bytes', 'Sum of the file sizes of a model.'),
    residentBytes: modelGauge(registry, 'model_resident_bytes', 'Bytes of a model that are in the region.'),
    loading: gauge(registry, 'loads_in_progress', 'Loads that run now.'),
    leases: gauge(registry, 'leases', 'Leases held now.', ['kind']),
    overlayBuckets: gauge(registry, 'overlay_used_buckets', 'Buckets in use in the table of the front.'),
    overlayPool: gauge(registry, 'overlay_pool_used_bytes', 'Bytes of the pool of the front that were handed out.'),
    hosts: gauge(registry, 'hosts', 'Hosts attached to the region.', ['state']),
  };
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #counters = counters(this.#registry);
  readonly #gauges = gauges(this.#registry);
  readonly #lifecycle: Lifecycle;

  constructor(lifecycle: Lifecycle) {
    this.#lifecycle = lifecycle;
    collectDefaultMetrics({ register: this.#registry });
    // Gauges with the suffix of counters, which the linter of Prometheus refuses; the same by type stay.
    for (const kind of ['handles', 'requests', 'resources'])
      this.#registry.removeSingleMetric(`nodejs_active_${kind}_total`);
    this.#gauges.build.set({ version: VERSION, node: process.version }, 1);
    for (const result of ['hit', 'joined', 'miss', 'error']) this.#counters.requests.inc({ result }, 0);
    for (const kind of ['content', 'chunk', 'name', 'host-bit']) this.#counters.recovered.inc({ kind }, 0);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The text of one scrape. */
  async scrape(): Promise<string> {
    const services = this.#lifecycle.peek();
    if (services) await this.#snapshot(services);
    return this.#registry.metrics();
  }

  countRequest(result: LoadOutcome | 'error'): void {
    this.#counters.requests.inc({ result });
  }

  countAttach(model: string, result: AttachResult): void {
    this.#counters.attaches.inc({ model, result });
  }

  observeAttach(kind: HandleKind, seconds: number): void {
    this.#counters.attachSeconds.observe({ kind }, seconds);
  }

  /** Listener for ModelStore.onEvent. */
  readonly onStoreEvent = (event: StoreEvent): void => {
    const { loadSeconds, loadBytes, loadErrors, evictions, checksums, recovered, expired } = this.#counters;
    if (event.type === 'phase') loadSeconds.observe({ phase: event.phase }, event.seconds);
    else if (event.type === 'loaded') loadBytes.inc({ source: event.scheme }, event.bytes);
    else if (event.type === 'load-failed') loadErrors.inc({ reason: event.reason });
    else if (event.type === 'evicted') evictions.inc(event.bytes);
    else if (event.type === 'checksum-failed') checksums.inc();
    else if (event.type === 'recovered') recovered.inc({ kind: event.kind }, event.count);
    else expired.inc();
  };

  async #snapshot({ store, leases, region }: Services): Promise<void> {
    this.#snapshotModels(store.list());
    this.#snapshotRegion(region);
    await this.#snapshotOverlay(region);
    for (const [kind, count] of Object.entries(leases.counts())) this.#gauges.leases.set({ kind }, count);
  }

  #snapshotModels(models: ReturnType<Services['store']['list']>): void {
    const { models: byState, modelBytes, residentBytes, loading } = this.#gauges;
    const counts = new Map(STATES.map((state) => [state, { resident: 0, cached: 0 }]));
    const inRegion = models.filter(({ state }) => state !== 'failed' && state !== 'cancelled');
    const labels = inRegion.map(({ name, tag }) => ({ model: `${name}:${tag}` }));
    modelBytes.replace(inRegion.map(({ bytes }, i) => ({ value: bytes, labels: labels[i]! })));
    residentBytes.replace(inRegion.map(({ progress }, i) => ({ value: progress.bytesDone, labels: labels[i]! })));
    for (const model of models) {
      const count = counts.get(model.state);
      if (count) count[model.placement] += 1;
    }
    for (const [state, count] of counts)
      for (const placement of PLACEMENTS) byState.set({ state, placement }, count[placement]);
    loading.set((counts.get('loading')?.resident ?? 0) + (counts.get('loading')?.cached ?? 0));
  }

  /** A damaged front has no such numbers: what is shown stays as it was. */
  async #snapshotOverlay(region: Services['region']): Promise<void> {
    const { usedBuckets, poolUsedBytes } = await region.overlay();
    if (usedBuckets !== undefined) this.#gauges.overlayBuckets.set(usedBuckets);
    if (poolUsedBytes !== undefined) this.#gauges.overlayPool.set(poolUsedBytes);
  }

  #snapshotRegion(region: Services['region']): void {
    const info = region.info();
    const { regionInfo, regionBytes, usedBytes, largestFree, quarantined, hosts } = this.#gauges;
    regionInfo.set({ region: info.uuid, path: info.path ?? '', backing: info.backing }, 1);
    for (const { area, size, used } of info.areas) {
      regionBytes.set({ area }, size);
      if (used !== undefined) usedBytes.set({ area }, used);
    }
    largestFree.set(info.largestFreeBytes);
    quarantined.set(info.quarantinedBytes);
    const counts = { live: 0, lapsed: 0, recovering: 0 };
    for (const { state } of region.hosts()) counts[state] += 1;
    for (const [state, count] of Object.entries(counts)) hosts.set({ state }, count);
  }
}
