/** Errors of the Node worker. Refusals of the service keep the service's code; the codes here are our own. */

export const WORKER_ERRORS = {
  WORKER_NO_SERVICE: 'No service answers on the socket',
  WORKER_LOST: 'The service closed the connection',
  WORKER_TIMEOUT: 'The service did not answer in time',
  WORKER_BAD_ARGUMENT: 'An argument is not valid',
  WORKER_BAD_ANSWER: 'The answer breaks the worker protocol',
  WORKER_BAD_HANDLE: 'The handle does not fit its descriptor',
  WORKER_BAD_MANIFEST: 'The manifest breaks its schema',
  WORKER_MAP_FAILED: 'The region could not be mapped',
  WORKER_CLOSED: 'The model is closed',
  WORKER_NO_TENSOR: 'There is no such tensor in the attached files',
  WORKER_NO_FILE: 'There is no such file in the attached files',
  WORKER_NOT_CONTIGUOUS: 'The bytes do not lie in one piece',
} as const;

export type WorkerErrorCode = keyof typeof WORKER_ERRORS;

/** Everything that this module throws on purpose. `code` is stable, the message is one sentence with the fix. */
export class DaxserveError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DaxserveError';
    this.code = code;
  }
}

/** Makes an error with one of our own codes. */
export function workerError(code: WorkerErrorCode, message: string, cause?: unknown): DaxserveError {
  return new DaxserveError(code, message, cause);
}
