/** Abort signals that follow a connection. */
import type { ServerResponse } from 'node:http';

/** Aborts when the peer is gone before its answer was sent, or with `stop`. */
export function closeSignal(response: ServerResponse, stop: AbortSignal): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => gone.abort(new Error('the peer closed the connection')));
  return AbortSignal.any([gone.signal, stop]);
}

/** As `work`, or rejects with the signal's reason; leaves no listener behind. */
export function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
