/** Errors of the loaders: one code per broken rule of a format or of a source. docs/FORMATS.md tells each. */
import { DaxfsError, type ErrorDetails, type ErrorTable } from '../daxfs/errors.ts';
import { MANIFEST_ERRORS, MODEL_ERRORS, SOURCE_ERRORS } from './source-errors.ts';

/** The rules of every JSON document that we scan; their codes are `<document>_<rule>`. */
const jsonTitles = {
  JSON_SYNTAX: 'is not valid JSON',
  JSON_UTF8: 'holds bytes that are no UTF-8',
  JSON_DUPLICATE_KEY: 'names a key twice',
  JSON_NUMBER: 'holds a number out of range',
  JSON_STRING_TOO_LONG: 'holds a string that is too long',
} as const;

const SAFETENSORS_ERRORS = {
  SAFETENSORS_TOO_SHORT: { kind: 'malformed', title: 'The safetensors file is shorter than its length word' },
  SAFETENSORS_HEADER_TOO_LARGE: { kind: 'malformed', title: 'The safetensors header is too large' },
  SAFETENSORS_HEADER_LENGTH: { kind: 'malformed', title: 'The safetensors header ends after the file' },
  SAFETENSORS_HEADER_START: { kind: 'malformed', title: 'The safetensors header does not begin with {' },
  SAFETENSORS_PADDING: { kind: 'malformed', title: 'The safetensors header is padded with other bytes than spaces' },
  SAFETENSORS_JSON_SYNTAX: { kind: 'malformed', title: `The safetensors header ${jsonTitles.JSON_SYNTAX}` },
  SAFETENSORS_JSON_UTF8: { kind: 'malformed', title: `The safetensors header ${jsonTitles.JSON_UTF8}` },
  SAFETENSORS_JSON_DUPLICATE_KEY: {
    kind: 'malformed',
    title: `The safetensors header ${jsonTitles.JSON_DUPLICATE_KEY}`,
  },
  SAFETENSORS_JSON_NUMBER: { kind: 'malformed', title: `The safetensors header ${jsonTitles.JSON_NUMBER}` },
  SAFETENSORS_JSON_STRING_TOO_LONG: {
    kind: 'malformed',
    title: `The safetensors header ${jsonTitles.JSON_STRING_TOO_LONG}`,
  },
  SAFETENSORS_METADATA: { kind: 'malformed', title: 'The safetensors metadata is no map from strings to strings' },
  SAFETENSORS_ENTRY: { kind: 'malformed', title: 'A safetensors tensor entry has missing or unknown members' },
  SAFETENSORS_DTYPE: { kind: 'malformed', title: 'A safetensors tensor has an unknown dtype' },
  SAFETENSORS_SHAPE: { kind: 'malformed', title: 'A safetensors tensor has an impossible shape' },
  SAFETENSORS_SUB_BYTE: { kind: 'malformed', title: 'A sub-byte safetensors tensor does not end on a byte' },
  SAFETENSORS_OFFSETS: { kind: 'malformed', title: 'A safetensors tensor has impossible data offsets' },
  SAFETENSORS_SIZE: { kind: 'malformed', title: 'A safetensors tensor has another size than its shape' },
  SAFETENSORS_OVERLAP: { kind: 'malformed', title: 'Two safetensors tensors overlap' },
  SAFETENSORS_HOLE: { kind: 'malformed', title: 'The safetensors data has a hole' },
  SAFETENSORS_END: { kind: 'malformed', title: 'The safetensors data does not end with the file' },
} as const satisfies ErrorTable;

const SHARD_INDEX_ERRORS = {
  SHARD_INDEX_TOO_LARGE: { kind: 'malformed', title: 'The shard index is too large' },
  SHARD_INDEX_JSON_SYNTAX: { kind: 'malformed', title: `The shard index ${jsonTitles.JSON_SYNTAX}` },
  SHARD_INDEX_JSON_UTF8: { kind: 'malformed', title: `The shard index ${jsonTitles.JSON_UTF8}` },
  SHARD_INDEX_JSON_DUPLICATE_KEY: { kind: 'malformed', title: `The shard index ${jsonTitles.JSON_DUPLICATE_KEY}` },
  SHARD_INDEX_JSON_TOO_DEEP: { kind: 'malformed', title: 'The shard index is nested too deeply' },
  SHARD_INDEX_JSON_NUMBER: { kind: 'malformed', title: `The shard index ${jsonTitles.JSON_NUMBER}` },
  SHARD_INDEX_JSON_STRING_TOO_LONG: {
    kind: 'malformed',
    title: `The shard index ${jsonTitles.JSON_STRING_TOO_LONG}`,
  },
  SHARD_INDEX_WEIGHT_MAP: { kind: 'malformed', title: 'The shard index has no map from tensors to files' },
  SHARD_INDEX_SHARD_NAME: { kind: 'malformed', title: 'The shard index names a file outside its directory' },
  SHARD_INDEX_MISSING_SHARD: { kind: 'malformed', title: 'A shard is missing' },
  SHARD_INDEX_MISSING_TENSOR: { kind: 'malformed', title: 'A shard lacks a tensor that the index names' },
  SHARD_INDEX_UNLISTED_TENSOR: { kind: 'malformed', title: 'A shard holds a tensor that the index does not name' },
} as const satisfies ErrorTable;

const GGUF_ERRORS = {
  GGUF_TRUNCATED: { kind: 'malformed', title: 'The GGUF header ends after the file' },
  GGUF_MAGIC: { kind: 'malformed', title: 'The file is no GGUF file' },
  GGUF_VERSION: { kind: 'malformed', title: 'This GGUF version is not read' },
  GGUF_BIG_ENDIAN: { kind: 'malformed', title: 'Big-endian GGUF files are not read' },
  GGUF_HEADER_TOO_LARGE: { kind: 'malformed', title: 'The GGUF header is too large' },
  GGUF_TENSOR_COUNT: { kind: 'malformed', title: 'The GGUF file claims too many tensors' },
  GGUF_KEY_COUNT: { kind: 'malformed', title: 'The GGUF file claims too many keys' },
  GGUF_KEY: { kind: 'malformed', title: 'A GGUF key breaks the rules for keys' },
  GGUF_DUPLICATE_KEY: { kind: 'malformed', title: 'A GGUF key appears twice' },
  GGUF_VALUE_TYPE: { kind: 'malformed', title: 'A GGUF value has an unknown type' },
  GGUF_BOOL: { kind: 'malformed', title: 'A GGUF boolean is neither 0 nor 1' },
  GGUF_UTF8: { kind: 'malformed', title: 'A GGUF string is no UTF-8' },
  GGUF_STRING_TOO_LONG: { kind: 'malformed', title: 'A GGUF string is too long' },
  GGUF_ARRAY_TOO_DEEP: { kind: 'malformed', title: 'GGUF arrays are nested too deeply' },
  GGUF_ARRAY_TOO_LONG: { kind: 'malformed', title: 'A GGUF array is longer than the file' },
  GGUF_ALIGNMENT: { kind: 'malformed', title: 'The GGUF alignment is impossible' },
  GGUF_TENSOR_NAME: { kind: 'malformed', title: 'A GGUF tensor name is empty or too long' },
  GGUF_DUPLICATE_TENSOR: { kind: 'malformed', title: 'A GGUF tensor appears twice' },
  GGUF_DIMENSIONS: { kind: 'malformed', title: 'A GGUF tensor has too many dimensions' },
  GGUF_DTYPE: { kind: 'malformed', title: 'A GGUF tensor has an unknown type' },
  GGUF_SHAPE: { kind: 'malformed', title: 'A GGUF tensor has an impossible shape' },
  GGUF_BLOCK: { kind: 'malformed', title: 'A row of a GGUF tensor is no whole number of quantisation blocks' },
  GGUF_OFFSET: { kind: 'malformed', title: 'A GGUF tensor is not aligned' },
  GGUF_OVERLAP: { kind: 'malformed', title: 'Two GGUF tensors overlap' },
  GGUF_HOLE: { kind: 'malformed', title: 'The GGUF data has a hole' },
  GGUF_END: { kind: 'malformed', title: 'The GGUF data does not end with the file' },
  GGUF_SPLIT_NAME: { kind: 'malformed', title: 'The name of a GGUF part disagrees with its keys' },
  GGUF_SPLIT_KEYS: { kind: 'malformed', title: 'A GGUF part lacks its split keys' },
  GGUF_SPLIT_MISSING: { kind: 'malformed', title: 'A part of a split GGUF model is missing' },
  GGUF_SPLIT_TENSORS: { kind: 'malformed', title: 'A split GGUF model has another number of tensors than it says' },
} as const satisfies ErrorTable;

const INGEST_ERRORS = {
  INGEST_NO_ROOM: { kind: 'full', title: 'The region has no room for the model' },
  INGEST_VERIFY_FAILED: { kind: 'corrupt', title: 'The bytes in the region differ from the source' },
  INGEST_CLAIM_LOST: { kind: 'conflict', title: 'Another host took the load over' },
  INGEST_TABLE_FULL: { kind: 'full', title: 'The content table is full' },
} as const satisfies ErrorTable;

export const LOADER_ERRORS = {
  ...SAFETENSORS_ERRORS,
  ...SHARD_INDEX_ERRORS,
  ...GGUF_ERRORS,
  ...SOURCE_ERRORS,
  ...MODEL_ERRORS,
  ...MANIFEST_ERRORS,
  ...INGEST_ERRORS,
} as const satisfies ErrorTable;

export type LoaderCode = keyof typeof LOADER_ERRORS;

export class LoaderError extends DaxfsError {
  constructor(code: LoaderCode, message: string, details?: ErrorDetails) {
    super(LOADER_ERRORS, code, message, details);
  }
}

/** Makes an error of this layer. @param message one sentence with the fix */
export function loaderError(code: LoaderCode, message: string, details?: ErrorDetails): LoaderError {
  return new LoaderError(code, message, details);
}

const shownCharsMax = 120;

/** A name from untrusted input, quoted for a message: control and non-ASCII characters escaped, long ones cut. */
export function shown(text: string | Buffer): string {
  const plain = typeof text === 'string' ? text : text.toString('latin1');
  const cut = plain.length > shownCharsMax ? `${plain.slice(0, shownCharsMax)}...` : plain;
  const escaped = (char: string) => {
    const code = char.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  };
  return `"${cut.replace(/[^\x20-\x7e]|["\\]/g, escaped)}"`;
}
