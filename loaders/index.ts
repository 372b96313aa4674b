/** Public names of the loaders. */
export { type Description, describeSource } from './describe.ts';
export { DTYPES, type Dtype, type DtypeName } from './dtype.ts';
export { LOADER_ERRORS, type LoaderCode, LoaderError, loaderError } from './errors.ts';
export { FORMATS, type FormatName, formatIndex, formatName } from './formats.ts';
export { type Ingested, type IngestOptions, type IngestPhase, ingest } from './ingest.ts';
export { LIMITS, type Limit, type LimitName } from './limits.ts';
export {
  checkManifestSize,
  contentDigest,
  decodeManifest,
  decodeManifestPaced,
  encodeManifest,
  encodeManifestPaced,
  MANIFEST_PATH,
  MANIFEST_VERSION,
  type Manifest,
  type ManifestFile,
} from './manifest.ts';
export type { Metadata, MetadataValue } from './metadata.ts';
export { isFullName, type ModelName, NAME_PATTERN, parseModelName } from './name.ts';
export { type ResolveOptions, resolveSource, type Source, type SourceFile, type SourcePolicy } from './source.ts';
export type { TensorInfo } from './tensor.ts';
