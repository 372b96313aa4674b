/** Kills a service at a chosen point of a load: told by the region itself, not by a clock. */
import { readFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { Region, Registry } from '../../daxfs/index.ts';
import type { Service } from './service.ts';
import { until } from './until.ts';

export interface KillPoint {
  source: string;
  name: string;
  /** Of the load, filled to their end; 0 is the claim of its row. */
  chunks: number;
}

const markBytes = 8;

/** The ends of the chunks that are free: zero until somebody fills them. */
class Marks {
  readonly #region: Region;
  readonly #places: number[] = [];

  constructor(region: Region, registry: Registry) {
    this.#region = region;
    for (let chunk = 0; chunk < region.chunkCount; chunk++) {
      if (registry.chunk(chunk).state !== 'free') continue;
      const place = region.chunkOffset(chunk) + region.chunkBytes - markBytes;
      region.mapping.write(place, Buffer.alloc(markBytes));
      this.#places.push(place);
    }
  }

  filled(): number {
    return this.#places.filter((place) => this.#region.mapping.load64(place) !== 0n).length;
  }
}

/** Stops every thread of the process, so that what is seen afterwards stays. */
async function freeze(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await until(() => / T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')), 'the process was stopped');
}

/** Posts a load and kills the service there, or after its end when it was quicker. @returns whether the kill cut it short */
export async function killDuringLoad(service: Service, { source, name, chunks }: KillPoint): Promise<boolean> {
  const region = await Region.open({ path: service.region });
  try {
    const registry = new Registry(region);
    const marks = new Marks(region, registry);
    const isLoading = () => registry.contents().some(({ state }) => state === 'claiming' || state === 'loading');
    let ended = false;
    const posted = service.call('POST', '/models?wait=true', { source, name }).then(
      () => (ended = true),
      () => (ended = true),
    );
    while (!ended && !(isLoading() && marks.filled() >= chunks)) await turn();
    await freeze(service.child!.pid!);
    const cut = isLoading();
    await service.stop('SIGKILL');
    await posted;
    return cut;
  } finally {
    region.close();
  }
}
