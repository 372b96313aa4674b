/** Abort signals that follow a connection. */
import type { ServerResponse } from 'node:http';

/** Aborts when the peer is gone before its answer was sent, or with `stop`. */
export function closeSignal(response: ServerResponse, stop: AbortSignal): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => gone.abort(new Error('the peer closed the connection')));
  return AbortSignal.any([gone.signal, stop]);
}
