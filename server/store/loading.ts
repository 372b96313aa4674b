/** Runs one load to its end: ingest, wait for another host's claim of the same source, point the name at the content. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ingest } from '../../loaders/index.ts';
import type { ContentRef } from '../../native/index.ts';
import { serverError } from '../errors.ts';
import { evictableBytes, evictOne } from './eviction.ts';
import type { LoadJob } from './load-job.ts';
import type { Names } from './names.ts';
import type { StoreContext } from './store-context.ts';

const pollMs = 50;

/** Resolves to true once the row is READY, to false when its claim is gone without that. */
async function becomesReady(context: StoreContext, job: LoadJob, ref: ContentRef): Promise<boolean> {
  for (;;) {
    job.controller.signal.throwIfAborted();
    const content = context.registry.content(ref.index);
    if (!content || content.generation !== ref.generation) return false;
    if (content.state === 'ready') return true;
    if (content.state === 'draining' || content.state === 'freeing' || content.state === 'quarantined') return false;
    job.bytes(content.bytesDone);
    await sleep(pollMs, undefined, { signal: job.controller.signal });
  }
}

async function loadOnce(context: StoreContext, job: LoadJob, changed: () => void): Promise<ContentRef> {
  const enter = (phase: Parameters<LoadJob['enter']>[0]) => {
    context.emit({ type: 'phase', ...job.enter(phase) });
    changed();
  };
  for (;;) {
    const { outcome, ref } = await ingest(context.region, context.registry, job.source, {
      verify: job.request.verify ?? false,
      keep: job.request.keep ?? false,
      signal: job.controller.signal,
      onPhase: enter,
      onBytes: (done) => {
        job.bytes(done);
        changed();
      },
      makeRoom: async (bytes) => evictOne(context, bytes),
      evictableBytes: () => evictableBytes(context),
    });
    if (outcome === 'loaded' || (await becomesReady(context, job, ref))) return ref;
  }
}

function failure(error: unknown): { code: string; detail: string } {
  const { code, message } = error as { code?: unknown; message?: string };
  return { code: typeof code === 'string' ? code : 'SERVER_INTERNAL', detail: message ?? String(error) };
}

/** Ends `job` as ready, failed or cancelled; never rejects. */
export async function runLoad(context: StoreContext, names: Names, job: LoadJob, changed: () => void): Promise<void> {
  try {
    const ref = await loadOnce(context, job, changed);
    nameContent(names, job, ref, context);
    context.emit({ type: 'phase', ...job.enter('done') });
    context.emit({ type: 'loaded', scheme: 'file', bytes: job.bytesTotal });
    context.log.info(
      { event: 'model.ready', model: job.name.full, bytes: job.bytesTotal, phases: job.phases },
      'loaded',
    );
    job.state = 'ready';
  } catch (error) {
    const cancelled = job.controller.signal.aborted;
    job.state = cancelled ? 'cancelled' : 'failed';
    job.error = cancelled
      ? { code: 'MODEL_CANCELLED', detail: 'The load was cancelled; post it again.' }
      : failure(error);
    context.emit({ type: 'load-failed', reason: job.error.code });
    context.log.warn(
      { event: 'model.failed', model: job.name.full, err: error, code: job.error.code },
      job.error.detail,
    );
  }
  changed();
}

/** A content that cannot get its name and has no other goes away again. */
function nameContent(names: Names, job: LoadJob, ref: ContentRef, context: StoreContext): void {
  try {
    if (!names.content(ref)) throw serverError('MODEL_NOT_FOUND', `${job.name.full} was removed while it was loaded.`);
    names.claim(job.name.full, ref);
  } catch (error) {
    if (names.of(ref).length === 0) context.registry.drain(ref);
    throw error;
  }
}
