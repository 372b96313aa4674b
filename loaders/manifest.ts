/** The manifest of a content: what it holds, with digests. It is the file `.daxserve/manifest.json` of its first image. */
import { createHash } from 'node:crypto';
import { eachStep, pace, runToEnd, type Steps, sortSteps } from '../daxfs/pace.ts';
import { loaderError } from './errors.ts';
import { limit } from './limits.ts';
import { manifestDecodeSteps } from './manifest-decode.ts';
import type { Manifest, ManifestFile } from './manifest-schema.ts';
import { MANIFEST_PATH } from './selection.ts';
import type { TensorInfo } from './tensor.ts';
import { compareUtf8 } from './utf8-order.ts';

export { MANIFEST_VERSION, type Manifest, type ManifestFile } from './manifest-schema.ts';
export { MANIFEST_PATH };

const pickFile = ({ path, size, digest }: ManifestFile): ManifestFile => ({ path, size, digest });

function pickTensor({ name, dtype, shape, file, offset, length }: TensorInfo): TensorInfo {
  return { name, dtype, shape, file, offset, length };
}

/** @param pick what of an item is written, in this order */
function* listSteps<T>(name: string, items: readonly T[], pick: (item: T) => T, out: Buffer[]): Steps<void> {
  let text = `"${name}":[`;
  for (const [i, item] of items.entries()) {
    text += (i === 0 ? '' : ',') + JSON.stringify(pick(item));
    if (text.length > limit('stepBytesMax')) {
      out.push(Buffer.from(text));
      text = '';
    }
    yield;
  }
  out.push(Buffer.from(`${text}],`));
}

function* encodeSteps(manifest: Manifest): Steps<Buffer> {
  const { version, format, source, revision, metadata } = manifest;
  const out = [Buffer.from(`${JSON.stringify({ version, format, source, revision }).slice(0, -1)},`)];
  yield* listSteps('files', manifest.files, pickFile, out);
  yield* listSteps('tensors', manifest.tensors, pickTensor, out);
  out.push(Buffer.from(`"metadata":${JSON.stringify(metadata)}}`));
  return yield* concatSteps(out);
}

/** `Buffer.concat`: all of a large manifest in one go takes its time. */
function* concatSteps(parts: readonly Buffer[]): Steps<Buffer> {
  const whole = Buffer.allocUnsafe(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  yield* eachStep(parts, (part) => {
    at += part.copy(whole, at);
  });
  return whole;
}

/**
 * The bytes of a manifest. Digests have a fixed length, so the length of the result does not depend on them: an image
 * can be planned with any digests and written with the true ones. Small manifests only: see `encodeManifestPaced`.
 */
export function encodeManifest(manifest: Manifest): Buffer {
  return runToEnd(encodeSteps(manifest));
}

/** `encodeManifest` without blocking the event loop. */
export function encodeManifestPaced(manifest: Manifest, signal?: AbortSignal): Promise<Buffer> {
  return pace(encodeSteps(manifest), signal);
}

/** For whoever reads one out of a region: before there is memory for it. @throws LoaderError MANIFEST_TOO_LARGE */
export function checkManifestSize(bytes: number): void {
  const max = limit('manifestBytesMax');
  if (bytes <= max) return;
  throw loaderError(
    'MANIFEST_TOO_LARGE',
    `The manifest has ${bytes} bytes, at most ${max} are read; load the model again.`,
  );
}

function checkedSize(bytes: Buffer): Buffer {
  checkManifestSize(bytes.length);
  return bytes;
}

/**
 * Reads a manifest and checks every rule of its schema, and that tensors lie in their files.
 * Small manifests only: see `decodeManifestPaced`.
 * @throws LoaderError MANIFEST_*
 */
export function decodeManifest(bytes: Buffer): Manifest {
  return runToEnd(manifestDecodeSteps(checkedSize(bytes), MANIFEST_PATH));
}

/** `decodeManifest` without blocking the event loop. */
export async function decodeManifestPaced(bytes: Buffer, signal?: AbortSignal): Promise<Manifest> {
  return pace(manifestDecodeSteps(checkedSize(bytes), MANIFEST_PATH), signal);
}

function* digestSteps(files: readonly ManifestFile[]): Steps<string> {
  const hash = createHash('sha256');
  const sorted = yield* sortSteps(files, (a, b) => compareUtf8(a.path, b.path));
  yield* eachStep(sorted, ({ path, size, digest }) => hash.update(`${digest} ${size} ${path}\n`));
  return hash.digest('hex');
}

/**
 * The digest of a content: SHA-256, as 64 hex digits, over one line per file in the byte order of their paths:
 * `<XXH3-128 as 32 hex digits> <size in decimal> <path>\n`, in UTF-8. Paths hold no control characters, so the lines
 * are unambiguous. The manifest itself is no part of it.
 */
export function contentDigest(files: readonly ManifestFile[]): string {
  return runToEnd(digestSteps(files));
}

/** `contentDigest` without blocking the event loop. */
export function contentDigestPaced(files: readonly ManifestFile[], signal?: AbortSignal): Promise<string> {
  return pace(digestSteps(files), signal);
}
