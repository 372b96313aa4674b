/** Errors of the filesystem layer: one code per broken rule, one sentence a stranger understands, with the fix. */

/** What kind of failure a code is; only server/problem.ts knows which HTTP status that means. */
export type ErrorKind =
  | 'invalid'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'stale'
  | 'range'
  | 'malformed'
  | 'corrupt'
  | 'unavailable'
  | 'unsupported'
  | 'closed'
  | 'exhausted'
  | 'full'
  | 'timeout'
  | 'cancelled';

/** Table of one layer's codes. */
export type ErrorTable = Readonly<Record<string, { kind: ErrorKind; title: string }>>;

export interface ErrorDetails {
  /** Byte offset in the input at which a rule broke. */
  offset?: number;
  cause?: unknown;
  /** Further members for a problem document (free bytes, limits, ...). */
  extra?: Record<string, unknown>;
}

export const DAXFS_ERRORS = {
  DAXFS_CLOSED: { kind: 'closed', title: 'The region is closed' },
  DAXFS_TOO_SMALL: { kind: 'invalid', title: 'The region is too small' },
  DAXFS_NOT_A_REGION: { kind: 'malformed', title: 'Not a daxserve region' },
  DAXFS_OTHER_LAYOUT: { kind: 'conflict', title: 'The region has another layout' },
  DAXFS_NEWER_VERSION: { kind: 'conflict', title: 'The region is of a newer version' },
  DAXFS_NO_REGION: { kind: 'not_found', title: 'No region there' },
  DAXFS_UNFINISHED: { kind: 'conflict', title: 'The creation of the region was interrupted' },
  DAXFS_CREATING: { kind: 'unavailable', title: 'The region is being created' },
  DAXFS_BAD_SIZE: { kind: 'invalid', title: 'Not a size' },
  DAXFS_STALE_BUILD: { kind: 'unavailable', title: 'The native addon belongs to another version' },
  DAXFS_TRUNCATED: { kind: 'corrupt', title: 'The region is truncated' },
  DAXFS_ALREADY_CREATED: { kind: 'conflict', title: 'A region exists there already' },
  DAXFS_NO_SPACE: { kind: 'full', title: 'Not enough memory for the region' },
  DAXFS_BAD_BACKING: { kind: 'invalid', title: 'This backing cannot hold a region' },
  DAXFS_CORRUPT: { kind: 'corrupt', title: 'The region holds bytes that break a rule' },
  DAXFS_HOST_BUSY: { kind: 'conflict', title: 'This host id is already serving the region' },
  DAXFS_HOST_LOST: { kind: 'stale', title: 'This host was taken for dead' },
  DAXFS_HOSTS_FULL: { kind: 'exhausted', title: 'All host rows are taken' },
  DAXFS_IN_USE: { kind: 'conflict', title: 'The region is in use' },
  DAXFS_BAD_TREE: { kind: 'invalid', title: 'The file tree cannot become an image' },
  DAXFS_SPECIAL_FILE: { kind: 'invalid', title: 'The file tree holds a device, FIFO or socket' },
  DAXFS_SOURCE_CHANGED: { kind: 'stale', title: 'A source file changed while it was read' },
  DAXFS_WRITE_FAILED: { kind: 'unavailable', title: 'The image could not be written' },
  DAXFS_BAD_IMAGE: { kind: 'malformed', title: 'The image breaks a rule of the format' },
  DAXFS_NO_ENTRY: { kind: 'not_found', title: 'No such file in the image' },
  DAXFS_MOUNT_FAILED: { kind: 'unavailable', title: 'The image could not be mounted' },
  DAXFS_FILE_TOO_LARGE: { kind: 'invalid', title: 'A file is larger than the format can address' },
  DAXFS_WRONG_TYPE: { kind: 'invalid', title: 'The file in the image is of another type' },
} as const satisfies ErrorTable;

/** Base of every error that daxserve throws on purpose. */
export class DaxfsError extends Error {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly title: string;
  readonly offset?: number;
  readonly extra?: Record<string, unknown>;

  constructor(table: ErrorTable, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    const entry = table[code];
    if (!entry) throw new TypeError(`unknown error code ${code}`);
    this.name = new.target.name;
    this.code = code;
    this.kind = entry.kind;
    this.title = entry.title;
    if (details.offset !== undefined) this.offset = details.offset;
    if (details.extra !== undefined) this.extra = details.extra;
  }
}

/** Makes an error of this layer. @param message one sentence with the fix */
export function daxfsError(code: keyof typeof DAXFS_ERRORS, message: string, details?: ErrorDetails): DaxfsError {
  return new DaxfsError(DAXFS_ERRORS, code, message, details);
}
