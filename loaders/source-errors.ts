/** Codes about sources, model names and manifests; part of the one table in errors.ts. */
import type { ErrorTable } from '../daxfs/errors.ts';

export const SOURCE_ERRORS = {
  SOURCE_URL: { kind: 'invalid', title: 'The source is no path and no usable URL' },
  SOURCE_SCHEME: { kind: 'unsupported', title: 'Sources of this kind are not read yet' },
  SOURCE_NOT_FOUND: { kind: 'not_found', title: 'The source does not exist' },
  SOURCE_UNREADABLE: { kind: 'forbidden', title: 'The service may not read the source' },
  SOURCE_OUTSIDE_ROOTS: { kind: 'forbidden', title: 'The source lies outside the source roots' },
  SOURCE_LINK_OUTSIDE: { kind: 'forbidden', title: 'A link leads out of the source' },
  SOURCE_LINK_DIRECTORY: { kind: 'malformed', title: 'A link leads to a directory' },
  SOURCE_LINK_BROKEN: { kind: 'malformed', title: 'A link leads nowhere' },
  SOURCE_SPECIAL_FILE: { kind: 'malformed', title: 'The source holds something that is no regular file' },
  SOURCE_FILE_NAME: { kind: 'malformed', title: 'The source holds a file name that is not allowed' },
  SOURCE_RESERVED_PATH: { kind: 'malformed', title: 'The source holds a path that daxserve keeps for itself' },
  SOURCE_PICKLE: { kind: 'malformed', title: 'The source holds pickled weights' },
  SOURCE_EMPTY: { kind: 'malformed', title: 'The source holds no files' },
  SOURCE_TOO_MANY_FILES: { kind: 'malformed', title: 'The source holds too many files' },
  SOURCE_TOO_MANY_TENSORS: { kind: 'malformed', title: 'The source holds too many tensors' },
  SOURCE_TOO_DEEP: { kind: 'malformed', title: 'The directories of the source are nested too deeply' },
  SOURCE_TOO_LARGE: { kind: 'malformed', title: 'The source is larger than sizes can be counted' },
  SOURCE_TENSOR_TWICE: { kind: 'malformed', title: 'Two files of the source name the same tensor' },
  SOURCE_CHANGED: { kind: 'conflict', title: 'The source changed while it was read' },
  SOURCE_IO: { kind: 'unavailable', title: 'The source could not be read' },
  SOURCE_GLOB: { kind: 'invalid', title: 'An include or exclude pattern is not usable' },
  SOURCE_REVISION: { kind: 'invalid', title: 'The source does not have this revision' },
} as const satisfies ErrorTable;

export const MODEL_ERRORS = {
  MODEL_NAME: { kind: 'invalid', title: 'The model name is not allowed' },
} as const satisfies ErrorTable;

/** A manifest is read back from the region, so what is wrong with it is damage, not a bad request. */
export const MANIFEST_ERRORS = {
  MANIFEST_TOO_LARGE: { kind: 'corrupt', title: 'The manifest is too large' },
  MANIFEST_JSON_SYNTAX: { kind: 'corrupt', title: 'The manifest is not valid JSON' },
  MANIFEST_JSON_UTF8: { kind: 'corrupt', title: 'The manifest holds bytes that are no UTF-8' },
  MANIFEST_JSON_DUPLICATE_KEY: { kind: 'corrupt', title: 'The manifest names a key twice' },
  MANIFEST_JSON_NUMBER: { kind: 'corrupt', title: 'The manifest holds a number out of range' },
  MANIFEST_JSON_STRING_TOO_LONG: { kind: 'corrupt', title: 'The manifest holds a string that is too long' },
  MANIFEST_VERSION: { kind: 'corrupt', title: 'The manifest has another version' },
  MANIFEST_FIELD: { kind: 'corrupt', title: 'A member of the manifest breaks its schema' },
} as const satisfies ErrorTable;
