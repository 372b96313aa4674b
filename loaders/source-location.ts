/** Where a source lies: paths, URLs, hub folders, a file or a directory. */
import type { Stats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sourceIoError } from './byte-source.ts';
import { loaderError, shown } from './errors.ts';
import { parsePartName } from './gguf-split.ts';
import { checkSnapshotRevision, type HubEntry, hubEntryOf, isHubFolder, snapshotOf } from './hub.ts';
import { limit } from './limits.ts';
import { namePart } from './name.ts';
import { isShardIndex } from './shard-index.ts';
import { requireInsideRoots } from './source-roots.ts';

export interface Location {
  /** The directory that holds the files, links resolved. */
  directory: string;
  /** What was named: the directory itself, or a file in it. Absolute. */
  path: string;
  /** As the user wrote it. */
  shownPath: string;
  /** Name of the file that was named, when it was a file. */
  file: string | undefined;
  hub: HubEntry | undefined;
  defaultName: string;
}

const laterSchemes: Readonly<Record<string, string>> = {
  'http:': 'Loading over HTTP',
  'https:': 'Loading over HTTPS',
  's3:': 'Loading from S3',
  'hf:': 'Downloading from the Hugging Face hub',
};

function pathOfUrl(source: string): string {
  if (!/^file:\/\/(localhost)?\//i.test(source)) {
    throw loaderError(
      'SOURCE_URL',
      `${shown(source)} is no local file URL; write file:///absolute/path or a plain path.`,
    );
  }
  try {
    return fileURLToPath(source);
  } catch (cause) {
    throw loaderError('SOURCE_URL', `${shown(source)} is no usable file URL; write file:///absolute/path.`, { cause });
  }
}

/** The absolute path that a source string means, links not yet resolved. */
function pathOf(source: string): string {
  const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:/.exec(source)?.[0].toLowerCase();
  if (scheme !== undefined && scheme !== 'file:') {
    const what = laterSchemes[scheme];
    throw loaderError(
      'SOURCE_SCHEME',
      what
        ? `${what} is a later feature; download the model and load its directory (${shown(source)}).`
        : `Sources of the scheme ${shown(scheme)} are not known; write ./${source} if this is a path.`,
    );
  }
  const path = scheme ? pathOfUrl(source) : source;
  if (path === '' || path.includes('\0') || Buffer.byteLength(path) > limit('pathBytesMax')) {
    throw loaderError('SOURCE_URL', `${shown(source)} is no path; it is empty, too long or holds a NUL.`);
  }
  return resolve(path);
}

/** The closest directory above a missing path that can be resolved. */
async function nearestExisting(path: string): Promise<string> {
  let above = dirname(path);
  for (;;) {
    const found = await realpath(above).catch(() => undefined);
    if (found !== undefined) return found;
    if (above === '/') return above;
    above = dirname(above);
  }
}

/** Resolves links; says "outside" before "missing", so that nothing can be learned about other places. */
async function resolvedInside(path: string, roots: readonly string[], shownPath: string): Promise<string> {
  const found = await realpath(path).catch(async (error: unknown) => {
    requireInsideRoots(await nearestExisting(path), roots, shownPath);
    throw sourceIoError(error, shownPath);
  });
  requireInsideRoots(found, roots, shownPath);
  return found;
}

async function statSource(path: string, shownPath: string): Promise<Stats> {
  return stat(path).catch((error: unknown) => {
    throw sourceIoError(error, shownPath);
  });
}

/** Finds the directory and what was meant in it. @throws LoaderError SOURCE_* */
export async function locate(
  source: string,
  roots: readonly string[],
  revision: string | undefined,
): Promise<Location> {
  const path = pathOf(source);
  const real = await resolvedInside(path, roots, source);
  const found = await statSource(real, source);
  if (found.isFile()) return locateFile(path, source, roots, revision);
  if (!found.isDirectory()) {
    throw loaderError(
      'SOURCE_SPECIAL_FILE',
      `${shown(source)} is neither a directory nor a regular file; name one of those.`,
    );
  }
  const folder = await isHubFolder(real);
  const directory = folder ? await resolvedInside(await snapshotOf(real, revision), roots, source) : real;
  const hub = hubEntryOf(directory);
  if (hub && !folder) await checkSnapshotRevision(hub, revision);
  const defaultName = hub?.snapshot === directory ? hub.name : namePart(basename(directory));
  return { directory, path: directory, shownPath: source, file: undefined, hub, defaultName };
}

async function locateFile(
  path: string,
  source: string,
  roots: readonly string[],
  revision: string | undefined,
): Promise<Location> {
  const directory = await resolvedInside(dirname(path), roots, source);
  const file = basename(path);
  const hub = hubEntryOf(directory);
  if (hub) await checkSnapshotRevision(hub, revision);
  const part = parsePartName(file);
  const named = isShardIndex(file) ? basename(directory) : part ? `${part.base}.gguf` : file;
  return { directory, path: join(directory, file), shownPath: source, file, hub, defaultName: namePart(named) };
}
