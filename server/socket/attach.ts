/** Finding, loading and waiting for the model of an attach, then the lease with its descriptors. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DaxfsError } from '../../daxfs/errors.ts';
import { serverError } from '../errors.ts';
import type { Services } from '../lifecycle.ts';
import type { Metrics } from '../metrics.ts';
import { errorOfLoad } from '../problem.ts';
import type { GrantedHandle, Model, ModelStore } from '../services.ts';
import type { AttachHandle, AttachModel } from './request.ts';

const WAIT_SECONDS_DEFAULT = 600;
/** Names that another host sets show up only in the region, so unknown ones are looked for at this pace. */
const LOOK_MS = 200;

export interface Peer {
  pid: number;
  uid: number;
}

async function lookUp(store: ModelStore, name: string): Promise<Model | null> {
  try {
    return await store.get(name);
  } catch (error) {
    if (error instanceof DaxfsError && error.kind === 'not_found') return null;
    throw error;
  }
}

function ended(model: Model): boolean {
  return model.state === 'failed' || model.state === 'cancelled';
}

/** Starts the load that `source` asks for when the name is unknown, or its last load came to nothing. */
async function loadUnknown(services: Services, request: AttachModel, metrics: Metrics): Promise<void> {
  const { source, model: name, revision } = request;
  if (source === undefined) return;
  const known = await lookUp(services.store, name);
  if (known && !ended(known)) return;
  try {
    const { outcome } = await services.store.load({ source, name, ...(revision !== undefined && { revision }) });
    metrics.countRequest(outcome);
  } catch (error) {
    metrics.countRequest('error');
    throw error;
  }
}

/** Resolves once the model is ready. @returns whether it had to wait */
async function untilReady(store: ModelStore, name: string, signal: AbortSignal): Promise<boolean> {
  for (let waited = false; ; waited = true) {
    const model = await lookUp(store, name);
    if (model?.state === 'ready') return waited;
    if (model && ended(model))
      throw errorOfLoad(model.error ?? { code: 'MODEL_FAILED', detail: `The load of ${name} failed.` });
    if (model?.state === 'loading') await store.settled(name, signal);
    // Draining or quarantined content never gets ready again, but its name can move to other content.
    else await sleep(LOOK_MS, undefined, { signal, ref: false });
  }
}

/** Waits as the request says. @throws ServerError MODEL_WAIT_TIMEOUT, or the reason why the load failed */
async function awaitModel(store: ModelStore, request: AttachModel, gone: AbortSignal): Promise<boolean> {
  if (!request.wait) return false;
  const seconds = request.timeoutSeconds ?? WAIT_SECONDS_DEFAULT;
  const timeout = AbortSignal.timeout(Math.ceil(seconds * 1000));
  try {
    return await untilReady(store, request.model, AbortSignal.any([gone, timeout]));
  } catch (error) {
    // A timer wraps the reason of its signal; the peer should read the reason itself.
    if (gone.aborted) throw gone.reason;
    if (!timeout.aborted || error instanceof DaxfsError) throw error;
    throw serverError('MODEL_WAIT_TIMEOUT', `${request.model} was not ready within ${seconds} s; wait longer.`);
  }
}

async function attachModel(services: Services, request: AttachModel, peer: Peer, metrics: Metrics, gone: AbortSignal) {
  const { v: _v, op: _op, model, wait: _wait, timeoutSeconds: _timeout, source: _source, ...wanted } = request;
  await loadUnknown(services, request, metrics);
  const waited = await awaitModel(services.store, request, gone);
  const startedAt = process.hrtime.bigint();
  const granted = await services.leases.attach(model, wanted, peer);
  metrics.countAttach(granted.handle.model, waited ? 'waited' : 'hit');
  return { granted, startedAt };
}

async function attachHandle(services: Services, request: AttachHandle, peer: Peer, metrics: Metrics) {
  const startedAt = process.hrtime.bigint();
  const granted = await services.leases.attachReserved(request.handle, request.token, peer);
  metrics.countAttach(granted.handle.model, 'hit');
  return { granted, startedAt };
}

/**
 * Answers one request with a lease.
 * @param gone aborts when the worker has left or the service stops
 * @returns the handle, and when its work began (waits for a load left out), in nanoseconds
 */
export async function attach(
  services: Services,
  request: AttachModel | AttachHandle,
  peer: Peer,
  metrics: Metrics,
  gone: AbortSignal,
): Promise<{ granted: GrantedHandle; startedAt: bigint }> {
  try {
    if ('handle' in request) return await attachHandle(services, request, peer, metrics);
    return await attachModel(services, request, peer, metrics, gone);
  } catch (error) {
    // Names out of refused requests are anybody's text; they must not become labels.
    metrics.countAttach('', 'error');
    throw error;
  }
}
