/**
 * The hub cache of Hugging Face: `<cache>/models--ORG--NAME/{blobs, refs, snapshots/COMMIT}`. The files of a snapshot
 * are links into the blobs of the same entry.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { loaderError, shown } from './errors.ts';
import { namePart } from './name.ts';

export interface HubEntry {
  /** `models--ORG--NAME`, absolute. */
  root: string;
  blobs: string;
  commit: string;
  /** The snapshot directory, absolute. */
  snapshot: string;
  /** `org/name` as a model name. */
  name: string;
}

const folderPrefix = 'models--';
const commitPattern = /^[0-9a-f]{6,64}$/i;
const refBytesMax = 256;

const hasFolderName = (path: string) => basename(path).startsWith(folderPrefix);

/** `models--org--name` -> `org/name`. */
function hubName(root: string): string {
  const [first = '', ...rest] = basename(root).slice(folderPrefix.length).split('--');
  return rest.length === 0 ? namePart(first) : `${namePart(first)}/${namePart(rest.join('--'))}`;
}

/** The cache entry that a resolved directory belongs to: a snapshot, or a directory in one. */
export function hubEntryOf(directory: string): HubEntry | undefined {
  for (let snapshot = directory; dirname(snapshot) !== snapshot; snapshot = dirname(snapshot)) {
    const root = dirname(dirname(snapshot));
    if (basename(dirname(snapshot)) !== 'snapshots' || !hasFolderName(root)) continue;
    return { root, blobs: join(root, 'blobs'), commit: basename(snapshot), snapshot, name: hubName(root) };
  }
  return undefined;
}

const isDirectory = (path: string) =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** True for the folder of a repository in the cache, whose snapshots lie below. */
export async function isHubFolder(directory: string): Promise<boolean> {
  return hasFolderName(directory) && (await isDirectory(join(directory, 'snapshots')));
}

/** The commit that a ref names, or undefined. */
async function readRef(root: string, ref: string): Promise<string | undefined> {
  if (ref.split('/').some((part) => part === '' || part === '.' || part === '..')) return undefined;
  const path = join(root, 'refs', ref);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile() || found.size > refBytesMax) return undefined;
  const commit = (await readFile(path, 'latin1')).trim();
  return commitPattern.test(commit) ? commit : undefined;
}

/** The snapshot of a hub folder for a ref or commit (default `main`). @throws LoaderError SOURCE_REVISION */
export async function snapshotOf(folder: string, revision = 'main'): Promise<string> {
  const commit = (await readRef(folder, revision)) ?? (commitPattern.test(revision) ? revision : undefined);
  const snapshot = commit === undefined ? undefined : join(folder, 'snapshots', commit);
  if (snapshot && (await isDirectory(snapshot))) return snapshot;
  throw loaderError(
    'SOURCE_REVISION',
    `${shown(basename(folder))} has no snapshot for the revision ${shown(revision)}; download it, or name a snapshot directory.`,
  );
}

/** A snapshot was named together with a revision: they must agree. @throws LoaderError SOURCE_REVISION */
export async function checkSnapshotRevision(entry: HubEntry, revision: string | undefined): Promise<void> {
  if (revision === undefined || revision === entry.commit) return;
  if ((await readRef(entry.root, revision)) === entry.commit) return;
  throw loaderError(
    'SOURCE_REVISION',
    `The snapshot is of commit ${shown(entry.commit)}, not of the revision ${shown(revision)}; leave the revision out.`,
  );
}
