/** `daxserve/worker`: model weights that a daxserve service holds in shared memory, as zero-copy views. */
export { type AttachHandleOptions, type AttachOptions, attach, attachHandle } from './attach.ts';
export type { TypedArray } from './dtype.ts';
export { DaxserveError, WORKER_ERRORS, type WorkerErrorCode } from './errors.ts';
export type { FileInfo } from './handle.ts';
export type { TensorInfo } from './manifest.ts';
export type { Model, Tensor } from './model.ts';
export { defaultSocketPath } from './protocol.ts';
