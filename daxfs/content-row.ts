/** Content rows: what the bytes of a row mean, and every rule that a row must keep before anything in it is followed. */
import { decodeWord, encode, offsetOf, timeMax } from './codec.ts';
import { CONSTANTS, CONTENT_STATE, contentRow, contentWord, imageExtent, NO_HOST } from './layout.ts';

export type ContentState =
  | 'reserved'
  | 'claiming'
  | 'loading'
  | 'ready'
  | 'draining'
  | 'freeing'
  | 'quarantined'
  | 'unknown';

/** One image of a content: contiguous chunks of the region. */
export interface ContentImage {
  firstChunk: number;
  chunkCount: number;
  /** Size of the image; at most `chunkCount` chunks. */
  bytes: number;
}

/** A decoded row. Sizes in bytes, times in Unix milliseconds (0 = not yet). */
export interface Content {
  index: number;
  generation: number;
  state: ContentState;
  /** The host at work while reserved, claiming, loading, freeing. */
  claimHost: { index: number; generation: number } | null;
  /** Bit i: host row i holds a right to the bytes. */
  mask: number;
  /** Identity of the source, 32 hex digits. */
  sourceKey: string;
  /** 64 hex digits; null until ready. */
  digest: string | null;
  bytes: number;
  bytesDone: number;
  createdAtMs: number;
  readyAtMs: number;
  lastAccessMs: number;
  loadMs: number;
  fileCount: number;
  tensorCount: number;
  /** Empty until ready, and in a corrupt row. */
  images: readonly ContentImage[];
  keep: boolean;
  placement: 'resident' | 'cached';
  /** Number of the format; loaders know which. */
  format: number;
  revision: string | null;
  /** The rule that the row breaks: nothing in it may be followed. */
  corrupt?: string;
  corruptRule?: ContentRule;
}

/** What publishing writes. */
export interface ContentFields {
  /** 64 hex digits. */
  digest: string;
  bytes: number;
  createdAtMs: number;
  readyAtMs: number;
  /** Default: from createdAtMs to readyAtMs. */
  loadMs?: number;
  fileCount: number;
  tensorCount: number;
  images: readonly ContentImage[];
  keep: boolean;
  placement: 'resident' | 'cached';
  format: number;
  /** At most 96 bytes of UTF-8. */
  revision: string | null;
}

const STATES: readonly (ContentState | 'free')[] = Object.entries(CONTENT_STATE)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name.toLowerCase() as ContentState);
const PUBLISHED: ReadonlySet<ContentState> = new Set(['ready', 'draining', 'quarantined']);
const KEEP = 1;
const { chunkBytes, imagesPerContentMax } = CONSTANTS;

const at = (name: Parameters<typeof offsetOf<typeof contentRow>>[1]) => offsetOf(contentRow, name);
const AT = {
  word: at('word'),
  sourceKey: at('source_key_lo'),
  digest: at('digest'),
  bytes: at('bytes'),
  bytesDone: at('bytes_done'),
  createdAtMs: at('created_at_ms'),
  readyAtMs: at('ready_at_ms'),
  lastAccessMs: at('last_access_ms'),
  loadMs: at('load_ms'),
  fileCount: at('file_count'),
  tensorCount: at('tensor_count'),
  imageCount: at('image_count'),
  flags: at('flags'),
  placement: at('placement'),
  format: at('format'),
  revisionLength: at('revision_len'),
  revision: at('revision'),
  images: at('images'),
  sequence: at('sequence'),
  checksum: at('checksum'),
};
const revisionBytesMax = AT.images - AT.revision;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Numbers above `max` become Infinity, which breaks every range rule. */
function readNumber(row: Buffer, offset: number, max = Number.MAX_SAFE_INTEGER): number {
  const value = row.readBigUInt64LE(offset);
  return value > BigInt(max) ? Number.POSITIVE_INFINITY : Number(value);
}

/** What is shown of a number that no rule has looked at: 0 when it is out of range. */
function shownNumber(row: Buffer, offset: number, max?: number): number {
  const value = readNumber(row, offset, max);
  return Number.isFinite(value) ? value : 0;
}

function readImages(row: Buffer): ContentImage[] {
  const count = Math.min(row.readUInt32LE(AT.imageCount), imagesPerContentMax.value);
  return Array.from({ length: count }, (_, i) => {
    const offset = AT.images + i * imageExtent.size;
    return {
      firstChunk: row.readUInt32LE(offset),
      chunkCount: row.readUInt32LE(offset + 4),
      bytes: readNumber(row, offset + 8),
    };
  });
}

/** Null when the bytes are no UTF-8 or too many. */
function readRevision(row: Buffer): string | null {
  const length = row.readUInt16LE(AT.revisionLength);
  if (length > revisionBytesMax) return null;
  try {
    return utf8.decode(row.subarray(AT.revision, AT.revision + length));
  } catch {
    return null;
  }
}

/** What a published row must keep. */
export type ContentRule = 'checksum' | 'sequence' | 'image-count' | 'placement' | 'revision' | 'number' | 'images';

/** A broken rule, in words. */
export interface BrokenRule {
  rule: ContentRule;
  text: string;
}

/** The first rule that the images break, or undefined. */
function brokenImages(images: readonly ContentImage[], chunkCount: number): string | undefined {
  const sorted = [...images].sort((a, b) => a.firstChunk - b.firstChunk);
  let end = 0;
  for (const image of sorted) {
    if (image.chunkCount === 0) return 'an image has no chunks';
    if (image.firstChunk + image.chunkCount > chunkCount) return 'an image ends outside the region';
    if (image.bytes === 0 || image.bytes > image.chunkCount * chunkBytes.value)
      return 'an image does not fit its chunks';
    if (image.firstChunk < end) return 'two images overlap';
    end = image.firstChunk + image.chunkCount;
  }
  return undefined;
}

/**
 * The first rule that the body of a published row breaks, or undefined.
 * @param checksum what the row's checksum has to be
 * @param chunkCount chunks of the region
 */
export function brokenContentRule(row: Buffer, checksum: bigint, chunkCount: number): BrokenRule | undefined {
  const broken = (rule: ContentRule, text: string): BrokenRule => ({ rule, text });
  if (row.readBigUInt64LE(AT.checksum) !== checksum) return broken('checksum', 'the checksum does not match');
  if (row.readBigUInt64LE(AT.sequence) % 2n !== 0n) return broken('sequence', 'the row was left half written');
  const imageCount = row.readUInt32LE(AT.imageCount);
  if (imageCount < 1 || imageCount > imagesPerContentMax.value)
    return broken('image-count', `image_count is ${imageCount}`);
  const placement = row.readUInt8(AT.placement);
  if (placement > 1) return broken('placement', `placement is ${placement}`);
  if (readRevision(row) === null) return broken('revision', 'the revision is no UTF-8 of at most 96 bytes');
  const times = [AT.createdAtMs, AT.readyAtMs].map((offset) => readNumber(row, offset, timeMax));
  if (![readNumber(row, AT.bytes), ...times].every(Number.isFinite))
    return broken('number', 'a size is above 2^53, or a time is none');
  const text = brokenImages(readImages(row), chunkCount);
  return text === undefined ? undefined : broken('images', text);
}

/** The bytes of a row that its checksum covers, with the fields that change later taken as 0. Twin: ContentChecksum */
export function checksummedBytes(row: Buffer): Buffer {
  const body = Buffer.from(row);
  body.fill(0, AT.bytesDone, AT.bytesDone + 8);
  body.fill(0, AT.lastAccessMs, AT.lastAccessMs + 8);
  body.fill(0, AT.flags, AT.flags + 4);
  return body.subarray(AT.digest, AT.sequence);
}

function decodeFields(index: number, row: Buffer): Content {
  const word = decodeWord(contentWord, row.readBigUInt64LE(AT.word));
  const { host = NO_HOST, host_generation: hostGeneration = 0 } = word;
  const state = STATES[word.state ?? 0];
  return {
    index,
    generation: word.generation ?? 0,
    state: state === undefined || state === 'free' ? 'unknown' : state,
    claimHost: host === NO_HOST ? null : { index: host, generation: hostGeneration },
    mask: word.mask ?? 0,
    sourceKey: row.toString('hex', AT.sourceKey, AT.sourceKey + 16),
    digest: row.toString('hex', AT.digest, AT.digest + 32),
    bytes: shownNumber(row, AT.bytes),
    bytesDone: shownNumber(row, AT.bytesDone),
    createdAtMs: shownNumber(row, AT.createdAtMs, timeMax),
    readyAtMs: shownNumber(row, AT.readyAtMs, timeMax),
    lastAccessMs: shownNumber(row, AT.lastAccessMs, timeMax),
    loadMs: row.readUInt32LE(AT.loadMs),
    fileCount: row.readUInt32LE(AT.fileCount),
    tensorCount: row.readUInt32LE(AT.tensorCount),
    images: readImages(row),
    keep: (row.readUInt32LE(AT.flags) & KEEP) !== 0,
    placement: row.readUInt8(AT.placement) === 1 ? 'cached' : 'resident',
    format: row.readUInt8(AT.format),
    revision: readRevision(row) || null,
  };
}

/**
 * Decodes a copied row. A published row that breaks a rule comes back with `corrupt` set and nothing to follow in it.
 * @param checksum what the row's checksum has to be (native `checksumContent`)
 * @param chunkCount chunks of the region
 */
export function decodeContent(index: number, row: Buffer, checksum: bigint, chunkCount: number): Content {
  const content = decodeFields(index, row);
  const nothing = { digest: null, images: [] };
  if (content.state === 'unknown') return { ...content, ...nothing, corrupt: 'the state is unknown' };
  // A row that a lapsed host was loading has nothing to follow either.
  if (!PUBLISHED.has(content.state) || content.claimHost !== null) return { ...content, ...nothing };
  const broken = brokenContentRule(row, checksum, chunkCount);
  return broken ? { ...content, ...nothing, corrupt: broken.text, corruptRule: broken.rule } : content;
}

const imageRow = (image: ContentImage | undefined) => ({
  first_chunk: image?.firstChunk ?? 0,
  chunk_count: image?.chunkCount ?? 0,
  bytes: BigInt(image?.bytes ?? 0),
});

/** The row that `publishContent` takes. @throws RangeError for what a row can't hold */
export function encodeContent(fields: ContentFields): Buffer {
  const revision = Buffer.from(fields.revision ?? '', 'utf8');
  const digest = Buffer.from(fields.digest, 'hex');
  if (revision.length > revisionBytesMax) throw new RangeError(`a revision has at most ${revisionBytesMax} bytes`);
  if (digest.length !== 32) throw new RangeError('a digest has 64 hex digits');
  if (fields.images.length < 1 || fields.images.length > imagesPerContentMax.value) {
    throw new RangeError(`a content has 1 to ${imagesPerContentMax.value} images`);
  }
  return encode(contentRow, {
    digest,
    bytes: BigInt(fields.bytes),
    bytes_done: BigInt(fields.bytes),
    created_at_ms: BigInt(fields.createdAtMs),
    ready_at_ms: BigInt(fields.readyAtMs),
    last_access_ms: BigInt(fields.readyAtMs),
    load_ms: Math.min(2 ** 32 - 1, Math.max(0, Math.round(fields.loadMs ?? fields.readyAtMs - fields.createdAtMs))),
    file_count: fields.fileCount,
    tensor_count: fields.tensorCount,
    image_count: fields.images.length,
    flags: fields.keep ? KEEP : 0,
    placement: fields.placement === 'cached' ? 1 : 0,
    format: fields.format,
    revision_len: revision.length,
    revision,
    images: Array.from({ length: imagesPerContentMax.value }, (_, i) => imageRow(fields.images[i])),
  });
}
