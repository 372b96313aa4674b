/** Runs one load to its end: ingest, wait for another host's claim of the same source, point the name at the content. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DaxfsError } from '../../daxfs/index.ts';
import { type Ingested, ingest } from '../../loaders/index.ts';
import type { ContentRef } from '../../native/index.ts';
import type { LoadFailure, Progress } from '../services.ts';
import { evictableBytes, evictOne } from './eviction.ts';
import type { LoadJob } from './load-job.ts';
import { isSound, type Names } from './names.ts';
import type { StoreContext } from './store-context.ts';

const pollMs = 50;

/** Resolves to true once the row is READY, to false when its claim is gone without that. */
async function becomesReady({ registry }: StoreContext, job: LoadJob, ref: ContentRef): Promise<boolean> {
  const { signal } = job.controller;
  for (;;) {
    signal.throwIfAborted();
    const content = registry.content(ref.index);
    if (isSound(content) && content?.generation === ref.generation) return true;
    // A damaged row gives its source free, so that it can be loaded anew; its bytes stay while somebody maps them.
    if (content?.state === 'ready' && content.generation === ref.generation) registry.drain(ref);
    await sleep(pollMs, undefined, { signal });
    if (content?.generation !== ref.generation) return false;
    if (content.state !== 'claiming' && content.state !== 'loading') return false;
    job.bytes(content.bytesDone);
  }
}

function enter(context: StoreContext, job: LoadJob, phase: Progress['phase']): void {
  context.emit({ type: 'phase', ...job.enter(phase) });
}

function ingestOnce(context: StoreContext, job: LoadJob, changed: () => void): Promise<Ingested> {
  const { request, controller, source } = job;
  return ingest(context.region, context.registry, source, {
    verify: request.verify ?? false,
    keep: request.keep ?? false,
    signal: controller.signal,
    onPhase: (phase) => {
      enter(context, job, phase);
      changed();
    },
    onBytes: (done) => {
      job.bytes(done);
      changed();
    },
    makeRoom: async (bytes) => evictOne(context, bytes),
    evictableBytes: () => evictableBytes(context),
    hold: (ref) => context.holds.acquire(ref),
    drop: (ref) => {
      context.holds.release(ref);
      context.holds.review(ref);
    },
  });
}

/** As `ingestOnce`; a row of the content table is room too, and made when there is none. */
async function ingestEvicting(context: StoreContext, job: LoadJob, changed: () => void): Promise<Ingested> {
  for (;;) {
    try {
      return await ingestOnce(context, job, changed);
    } catch (error) {
      const full = error instanceof DaxfsError && error.code === 'INGEST_TABLE_FULL';
      if (!full || !evictOne(context, 0)) throw error;
    }
  }
}

/** Loads until a ready content has the name: whatever was found may be removed again before it is named. */
async function loadAndName(
  context: StoreContext,
  names: Names,
  job: LoadJob,
  changed: () => void,
): Promise<ContentRef> {
  const { signal } = job.controller;
  for (;;) {
    const { outcome, ref } = await context.gate.pass(signal, () => ingestEvicting(context, job, changed));
    if (outcome === 'loaded') {
      if (nameOwn(context, names, job, ref)) return ref;
    } else if ((await becomesReady(context, job, ref)) && nameReady(names, job, ref)) return ref;
  }
}

/** False when the content was drained before its name could keep it. @throws MODEL_NAME_TAKEN, the reason of a cancel */
function nameReady(names: Names, job: LoadJob, ref: ContentRef): boolean {
  job.controller.signal.throwIfAborted();
  if (!isSound(names.content(ref))) return false;
  names.claim(job.name.full, ref);
  return isSound(names.content(ref));
}

/** As `nameReady` for a content that this load made: when it does not get its name, and has no other, it goes at once. */
function nameOwn(context: StoreContext, names: Names, job: LoadJob, ref: ContentRef): boolean {
  try {
    return nameReady(names, job, ref);
  } catch (error) {
    if (names.of(ref).length === 0) {
      context.registry.drain(ref, { unpinned: true });
      context.holds.review(ref);
    }
    throw error;
  }
}

/** What the API shows: errors of ours as they are, anything else without its inner words. */
function failure(error: unknown): LoadFailure {
  if (error instanceof DaxfsError) {
    const { code, message: detail, offset, extra } = error;
    return { code, detail, ...(offset !== undefined && { offset }), ...(extra && { extra }) };
  }
  return { code: 'SERVER_INTERNAL', detail: 'The load failed inside the service; its log says why.' };
}

function end(context: StoreContext, job: LoadJob, error: unknown): void {
  const cancelled = job.controller.signal.aborted;
  job.state = cancelled ? 'cancelled' : 'failed';
  job.error = cancelled
    ? { code: 'MODEL_CANCELLED', detail: 'The load was cancelled; post it again.' }
    : failure(error);
  context.emit({ type: 'load-failed', reason: job.error.code });
  if (job.error.code === 'INGEST_VERIFY_FAILED') context.emit({ type: 'checksum-failed' });
  const fields = { event: cancelled ? 'model.cancelled' : 'model.failed', model: job.name.full, code: job.error.code };
  context.log.warn(cancelled ? fields : { ...fields, err: error }, job.error.detail);
}

/** Ends `job` as ready (with its content), failed or cancelled; never rejects. */
export async function runLoad(
  context: StoreContext,
  names: Names,
  job: LoadJob,
  changed: () => void,
): Promise<ContentRef | undefined> {
  let ref: ContentRef | undefined;
  try {
    enter(context, job, 'waiting');
    ref = await loadAndName(context, names, job, changed);
    job.state = 'ready';
    enter(context, job, 'done');
    context.emit({ type: 'loaded', scheme: 'file', bytes: job.bytesTotal });
    const fields = { event: 'model.ready', model: job.name.full, bytes: job.bytesTotal, phases: job.phases };
    context.log.info(fields, 'loaded');
  } catch (error) {
    end(context, job, error);
  }
  changed();
  return ref;
}
