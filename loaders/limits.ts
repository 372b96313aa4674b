/**
 * Every bound on untrusted input, with its reason and, where one is known, the largest real model.
 * docs/FORMATS.md shows this table; a test keeps both in step.
 */

export interface Limit {
  readonly value: number;
  readonly unit: string;
  readonly reason: string;
  /** The largest real case known to us, rounded; empty where the bound is the format's own or ours alone. */
  readonly largest: string;
}

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS = {
  safetensorsHeaderBytesMax: {
    value: 100_000_000,
    unit: 'bytes',
    reason: 'the reference reader refuses larger ones (CWE-770)',
    largest: 'about 10 MB, a model of 90,000 tensors in one file',
  },
  sizeMax: {
    value: 2 ** 48 - 1,
    unit: 'count or bytes',
    reason:
      'the published schema of the safetensors header caps sizes at 48 bits; we cap all sizes, offsets and dimensions so',
    largest: 'shards of 5 to 50 GB',
  },
  jsonDepthMax: {
    value: 8,
    unit: 'levels',
    reason: 'of a member that the format does not know; a bound keeps the stack small (CWE-674)',
    largest: '1',
  },
  jsonSpaceBytesMax: {
    value: 1 * MIB,
    unit: 'bytes',
    reason: 'white space in a row inside the JSON is stepped over in one go; padding at the end is not bounded',
    largest: 'under 100',
  },
  tensorNameBytesMax: {
    value: 4 * KIB,
    unit: 'bytes',
    reason: 'names are keys of every listing and of the manifest',
    largest: 'under 200',
  },
  textBytesMax: {
    value: 64 * KIB - 1,
    unit: 'bytes',
    reason: 'keys of metadata, and whatever else is read in one step',
    largest: 'under 200',
  },
  metadataValueBytesMax: {
    value: 4 * MIB,
    unit: 'bytes',
    reason: 'one value is decoded in one piece, in a few milliseconds',
    largest: 'hundreds of kilobytes (notes and previews in adapters)',
  },
  dimensionsMax: {
    value: 64,
    unit: 'dimensions',
    reason: 'numpy and torch have no more',
    largest: '5',
  },
  tensorsMax: {
    value: 500_000,
    unit: 'tensors in a content',
    reason: 'each is a row of the manifest; about 150 bytes there and 300 in the service',
    largest: 'about 140,000 (a mixture of 384 experts, with scales)',
  },
  shardIndexBytesMax: {
    value: 100_000_000,
    unit: 'bytes',
    reason: 'as for a header: it names every tensor once',
    largest: '9 MB (91,000 tensors in 163 shards)',
  },
  ggufHeaderBytesMax: {
    value: 128 * MIB,
    unit: 'bytes',
    reason: 'it is read in windows, so the bound is on time, not on memory (CWE-400)',
    largest: 'about 16 MB (262,144 tokens and 514,906 merges)',
  },
  ggufKeysMax: {
    value: 65_536,
    unit: 'keys',
    reason: 'each key is kept to find duplicates',
    largest: 'under 100; some tools add one per tensor',
  },
  ggufKeyBytesMax: { value: 65_535, unit: 'bytes', reason: 'the format says so', largest: '' },
  ggufStringBytesMax: {
    value: 16 * MIB,
    unit: 'bytes',
    reason: 'one string is read in one piece',
    largest: 'tens of kilobytes (chat templates); licences of 100 KB',
  },
  ggufArrayDepthMax: {
    value: 4,
    unit: 'levels',
    reason: 'the format allows nesting without a bound (CWE-674); ggml itself reads only 1',
    largest: '1',
  },
  ggufTensorNameBytesMax: { value: 64, unit: 'bytes', reason: 'the format says so', largest: '' },
  ggufDimensionsMax: { value: 4, unit: 'dimensions', reason: 'the format says so', largest: '' },
  ggufAlignmentMax: {
    value: 2 * MIB,
    unit: 'bytes',
    reason: 'larger than any page; padding before data is skipped, not read',
    largest: '4096',
  },
  keptTextBytesMax: {
    value: 64 * KIB,
    unit: 'bytes',
    reason: 'longer metadata stays in its file and only its length is listed',
    largest: '',
  },
  keptMetadataBytesMax: {
    value: 1 * MIB,
    unit: 'bytes',
    reason: 'all listed metadata of a content together; the files keep the rest',
    largest: '',
  },
  filesMax: {
    value: 100_000,
    unit: 'files',
    reason: 'each is an inode of the image and a row of the manifest',
    largest: 'a few hundred',
  },
  directoryDepthMax: { value: 32, unit: 'directories', reason: 'bounds the walk (CWE-674)', largest: '3' },
  pathBytesMax: { value: 4095, unit: 'bytes', reason: 'PATH_MAX of Linux without the NUL', largest: '' },
  nameBytesMax: { value: 255, unit: 'bytes', reason: 'the longest name of the DAXFS format', largest: '' },
  revisionBytesMax: { value: 96, unit: 'bytes', reason: 'what a registry row holds', largest: '40 (a commit)' },
  globsMax: { value: 64, unit: 'patterns', reason: 'each is tried on every file', largest: '' },
  globBytesMax: { value: 1 * KIB, unit: 'bytes', reason: 'bounds the work of matching', largest: '' },
  manifestBytesMax: {
    value: 512 * MIB,
    unit: 'bytes',
    reason: 'as many tensors and files as the bounds above allow, with room',
    largest: 'about 20 MB',
  },
  readBytesMax: { value: 1 * MIB, unit: 'bytes', reason: 'one pread of a header', largest: '' },
  stepBytesMax: {
    value: 16 * KIB,
    unit: 'bytes',
    reason: 'input handled between two looks at the clock',
    largest: '',
  },
} as const satisfies Record<string, Limit>;

export type LimitName = keyof typeof LIMITS;

/** The value of a bound. */
export function limit(name: LimitName): number {
  return LIMITS[name].value;
}
