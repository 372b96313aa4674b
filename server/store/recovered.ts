/** Telling what was undone of a dead host. */
import type { Recovered } from '../../native/index.ts';
import type { StoreEvent } from '../services.ts';

type Kind = Extract<StoreEvent, { type: 'recovered' }>['kind'];

/** By the kinds that events and logs use. */
export function recoveredCounts({ contents, chunks, names, pins }: Recovered): Record<Kind, number> {
  return { content: contents, chunk: chunks, name: names, 'host-bit': pins };
}

/** One event for each kind of which there was something. */
export function emitRecovered(emit: (event: StoreEvent) => void, recovered: Recovered): void {
  for (const [kind, count] of Object.entries(recoveredCounts(recovered)))
    if (count > 0) emit({ type: 'recovered', kind: kind as Kind, count });
}
