/**
 * A source string -> the files to load. Only names, sizes and links are looked at here; formats are `describe.ts`'s.
 * docs/FORMATS.md#sources says what is accepted and what is refused.
 */
import { createHash } from 'node:crypto';
import { lstat, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { pace, type Steps, sortSteps } from '../daxfs/pace.ts';
import { sourceIoError } from './byte-source.ts';
import { loaderError, shown } from './errors.ts';
import { type PartName, parsePartName } from './gguf-split.ts';
import { limit } from './limits.ts';
import { compilePatterns, isSelected } from './selection.ts';
import { readShardIndex } from './shard-files.ts';
import { isShardIndex, shardsOf } from './shard-index.ts';
import { type Location, locate } from './source-location.ts';
import { isInside, requireInsideRoots, resolvedRoots } from './source-roots.ts';
import { type Candidate, type Companions, listCandidates } from './source-walk.ts';
import { compareUtf8 } from './utf8-order.ts';

export interface SourcePolicy {
  /** Directories that sources must lie under; links in them are resolved. Those that do not exist are left out. */
  readonly roots: readonly string[];
}

export interface ResolveOptions {
  /** A hub folder: the ref or commit to take. A hub snapshot: must be its commit or a ref to it. Else: a word to keep. */
  revision?: string;
  /** Patterns of glob.ts; when given, only files that match one are taken. */
  include?: readonly string[];
  /** Patterns of files that are left out. */
  exclude?: readonly string[];
  signal?: AbortSignal;
}

export interface SourceFile {
  /** Path in the content, divided by `/`. */
  path: string;
  /** Absolute path with all links resolved. */
  origin: string;
  /** Bytes. */
  size: number;
  mtimeNs: bigint;
  ino: bigint;
  /** st_mode. */
  mode: number;
}

export interface Source {
  /** `file:` URL of the directory or file. */
  uri: string;
  /** `uri` and the hash of everything that makes the source what it is, as text. */
  identity: string;
  /** First 16 bytes of that hash: the key of the registry. */
  key: Buffer;
  /** A model name without tag. */
  defaultName: string;
  revision: string | null;
  /** In the byte order of their paths. */
  files: SourceFile[];
  /** Sum of the file sizes. */
  bytes: number;
}

/** A candidate with its link resolved, inside the source and the roots, and a regular file. */
async function resolveFile(candidate: Candidate, location: Location, roots: readonly string[]): Promise<SourceFile> {
  const { path, isLink } = candidate;
  const absolute = join(location.directory, path);
  try {
    const origin = isLink ? await realpath(absolute) : absolute;
    if (isLink) checkLink(candidate, origin, location);
    requireInsideRoots(origin, roots, path);
    const stat = await lstat(origin, { bigint: true });
    if (stat.isDirectory()) {
      throw loaderError(
        'SOURCE_LINK_DIRECTORY',
        `${shown(path)} is a link to a directory; load that directory, or copy it here.`,
      );
    }
    if (!stat.isFile()) {
      throw loaderError(
        'SOURCE_SPECIAL_FILE',
        `${shown(path)} is no regular file; remove it or leave it out with exclude.`,
      );
    }
    return { path, origin, size: Number(stat.size), mtimeNs: stat.mtimeNs, ino: stat.ino, mode: Number(stat.mode) };
  } catch (error) {
    throw isLink && isMissing(error) ? brokenLink(path, error) : sourceIoError(error, path);
  }
}

const isMissing = (error: unknown) =>
  error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');

function brokenLink(path: string, cause: unknown): Error {
  const what = `${shown(path)} is a link that leads nowhere; download the file again or leave it out with exclude.`;
  return loaderError('SOURCE_LINK_BROKEN', what, { cause });
}

/** Links may stay in the source's own directory, or go to the blobs of the same hub cache entry. */
function checkLink(candidate: Candidate, origin: string, location: Location): void {
  if (candidate.named || isInside(location.directory, origin)) return;
  if (location.hub && isInside(location.hub.blobs, origin)) return;
  const allowed = location.hub ? "its hub cache entry's blobs" : 'its directory';
  throw loaderError(
    'SOURCE_LINK_OUTSIDE',
    `${shown(candidate.path)} is a link out of the source; only links within ${allowed} are followed: copy the file here.`,
  );
}

/**
 * What a named file brings with it: the other parts of a split GGUF model, the shards of an index.
 * Undefined when a directory was named: everything in it.
 */
async function companions(location: Location, roots: readonly string[]): Promise<Companions | undefined> {
  const { file } = location;
  if (file === undefined) return undefined;
  const part = parsePartName(file);
  if (part) return (name) => isSamePart(parsePartName(name), part);
  if (!isShardIndex(file)) return (name) => name === file;
  const index = await resolveFile({ path: file, isLink: true, named: true }, location, roots);
  const shards = new Set(shardsOf(await readShardIndex(index)));
  return (name) => name === file || shards.has(name);
}

const isSamePart = (other: PartName | undefined, part: PartName) =>
  other?.base === part.base && other.count === part.count;

async function resolveFiles(
  location: Location,
  options: ResolveOptions,
  roots: readonly string[],
): Promise<Pick<Source, 'files' | 'bytes'>> {
  const patterns = compilePatterns(options);
  const belongs = await companions(location, roots);
  const files: SourceFile[] = [];
  let bytes = 0;
  for await (const candidate of listCandidates(location, belongs, patterns)) {
    if (!isSelected(candidate.path, patterns)) continue;
    options.signal?.throwIfAborted();
    const file = await resolveFile(candidate, location, roots);
    bytes += file.size;
    if (bytes > limit('sizeMax')) {
      throw loaderError('SOURCE_TOO_LARGE', `${shown(file.path)} makes the source larger than 2^48 bytes; split it.`);
    }
    files.push(file);
  }
  if (files.length > 0) {
    const sorted = sortSteps(files, (a, b) => compareUtf8(a.path, b.path));
    return { files: await pace(sorted, options.signal), bytes };
  }
  const what = options.include || options.exclude ? 'no files that include and exclude let through' : 'no files';
  throw loaderError('SOURCE_EMPTY', `${shown(location.shownPath)} holds ${what}; check the path and the patterns.`);
}

/**
 * Hashes what makes a source recognisable. Two loads with the same hash are the same load: path, place, inode, size and
 * mtime of every file, the patterns and the revision.
 */
function* identitySteps(files: readonly SourceFile[], revision: string | null, options: ResolveOptions): Steps<Buffer> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(['daxserve-source-1', revision, options.include ?? null, options.exclude ?? null]));
  for (const { path, origin, ino, size, mtimeNs } of files) {
    hash.update(JSON.stringify([path, origin, `${ino}`, size, `${mtimeNs}`]));
    yield;
  }
  return hash.digest();
}

function checkRevision(revision: string | undefined): void {
  if (revision === undefined) return;
  const max = limit('revisionBytesMax');
  if (revision !== '' && !/[\p{Cc}\s]/u.test(revision) && Buffer.byteLength(revision) <= max) return;
  throw loaderError(
    'SOURCE_REVISION',
    `${shown(revision)} is no revision; use a ref or commit of at most ${max} bytes.`,
  );
}

/**
 * Finds the files of a source.
 * @param source a path, a `file:` URL, a hub snapshot or a hub cache folder
 * @throws LoaderError SOURCE_* with one sentence that says what to do
 */
export async function resolveSource(
  source: string,
  policy: SourcePolicy,
  options: ResolveOptions = {},
): Promise<Source> {
  checkRevision(options.revision);
  const roots = await resolvedRoots(policy.roots);
  const location = await locate(source, roots, options.revision);
  const { files, bytes } = await resolveFiles(location, options, roots);
  const revision = location.hub?.commit ?? options.revision ?? null;
  const hash = await pace(identitySteps(files, revision, options), options.signal);
  const uri = pathToFileURL(location.path).href;
  const identity = `${uri} sha256:${hash.toString('hex')}`;
  return { uri, identity, key: hash.subarray(0, 16), defaultName: location.defaultName, revision, files, bytes };
}
