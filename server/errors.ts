/** Errors of the service: one code per reason to refuse, one sentence a stranger understands, with the fix. */
import { DaxfsError, type ErrorDetails, type ErrorTable } from '../daxfs/errors.ts';

export const SERVER_ERRORS = {
  SERVER_BAD_CONFIG: { kind: 'invalid', title: 'The configuration is not valid' },
  SERVER_BAD_REQUEST: { kind: 'invalid', title: 'The request breaks its schema' },
  SERVER_BODY_TOO_LARGE: { kind: 'invalid', title: 'The request body is too large' },
  SERVER_MEDIA_TYPE: { kind: 'invalid', title: 'The request body is not JSON' },
  SERVER_UNAUTHORIZED: { kind: 'unauthorized', title: 'A bearer token is needed' },
  SERVER_SCOPE: { kind: 'forbidden', title: 'The token may not do this' },
  SERVER_BAD_HOST: { kind: 'forbidden', title: 'The Host header is not one of ours' },
  SERVER_BAD_ORIGIN: { kind: 'forbidden', title: 'The Origin header is not one of ours' },
  SERVER_NO_ROUTE: { kind: 'not_found', title: 'There is no such call' },
  SERVER_STARTING: { kind: 'unavailable', title: 'The region is being prepared' },
  SERVER_STOPPING: { kind: 'unavailable', title: 'The service is stopping' },
  SERVER_INTERNAL: { kind: 'corrupt', title: 'The service failed' },
  SERVER_UNSUPPORTED: { kind: 'unsupported', title: 'Not possible here' },
  SERVER_LISTEN: { kind: 'conflict', title: 'The address cannot be listened on' },
  SERVER_SOCKET_IN_USE: { kind: 'conflict', title: 'Another service has the worker socket' },
  SERVER_SOCKET_BAD_PATH: { kind: 'invalid', title: 'The worker socket cannot be there' },
  SOCKET_BAD_LINE: { kind: 'invalid', title: 'The line breaks the worker protocol' },
  SOCKET_LINE_TOO_LONG: { kind: 'invalid', title: 'The line is too long' },
  SOCKET_IDLE: { kind: 'timeout', title: 'No line came in time' },
  SOCKET_TOO_MANY: { kind: 'exhausted', title: 'Too many connections of one user' },
  SOCKET_UID: { kind: 'forbidden', title: 'This user may not attach' },
  SOCKET_SLOW_PEER: { kind: 'timeout', title: 'The worker does not read its answer' },
  MODEL_NOT_FOUND: { kind: 'not_found', title: 'There is no such model' },
  MODEL_NOT_READY: { kind: 'conflict', title: 'The model is not ready' },
  MODEL_NAME_TAKEN: { kind: 'conflict', title: 'The name points to other content' },
  MODEL_LEASED: { kind: 'conflict', title: 'The model is leased' },
  MODEL_MISMATCH: { kind: 'conflict', title: 'The model has another revision or digest' },
  MODEL_FAILED: { kind: 'conflict', title: 'The load failed' },
  MODEL_CANCELLED: { kind: 'cancelled', title: 'The load was cancelled' },
  MODEL_WAIT_TIMEOUT: { kind: 'timeout', title: 'The model was not ready in time' },
  MODEL_ROWS_FULL: { kind: 'full', title: 'All rows of the registry are taken' },
  TENSOR_NOT_FOUND: { kind: 'not_found', title: 'There is no such tensor or file in the model' },
  HOST_NOT_FOUND: { kind: 'not_found', title: 'There is no such host' },
  HOST_ALIVE: { kind: 'conflict', title: 'The host is alive' },
  HANDLE_NOT_FOUND: { kind: 'not_found', title: 'There is no such handle' },
  HANDLE_EXPIRED: { kind: 'stale', title: 'The handle has ended' },
  HANDLE_BAD_TOKEN: { kind: 'forbidden', title: 'The token does not belong to the handle' },
  HANDLE_LIMIT: { kind: 'exhausted', title: 'Too many handles are held' },
  HANDLE_ATTACHED: { kind: 'conflict', title: 'The handle is attached already' },
} as const satisfies ErrorTable;

export type ServerErrorCode = keyof typeof SERVER_ERRORS;

/** An error of the service. */
export class ServerError extends DaxfsError {}

/** Makes an error of this layer. @param message one sentence with the fix */
export function serverError(code: ServerErrorCode, message: string, details?: ErrorDetails): ServerError {
  return new ServerError(SERVER_ERRORS, code, message, details);
}
