/** Every error code that the service may answer with, over all layers. */
import { DAXFS_ERRORS, type ErrorTable } from '../daxfs/errors.ts';
import { LOADER_ERRORS } from '../loaders/errors.ts';
import { SERVER_ERRORS } from './errors.ts';

export type CodeEntry = ErrorTable[string];

export const ALL_CODES: ErrorTable = { ...DAXFS_ERRORS, ...LOADER_ERRORS, ...SERVER_ERRORS };

export function findCode(code: string): CodeEntry | undefined {
  return Object.hasOwn(ALL_CODES, code) ? ALL_CODES[code] : undefined;
}
