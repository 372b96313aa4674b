/** The files that a source may have, by walking its directory. Names are checked here; links and types are not followed. */
import { isUtf8 } from 'node:buffer';
import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { sourceIoError } from './byte-source.ts';
import { loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';
import { isWalked, type Patterns } from './selection.ts';
import type { Location } from './source-location.ts';

/** A file that a source may have. */
export interface Candidate {
  /** Relative to the directory. */
  path: string;
  isLink: boolean;
  /** The user named this very file. */
  named: boolean;
}

/** Tells which files of the directory belong to a file that was named. */
export type Companions = (name: string) => boolean;

/** Names are kept as they are, so they must be text that shows what it is. */
function checkedName(bytes: Buffer, parent: string): string {
  const name = bytes.toString('utf8');
  const path = parent + name;
  const wrong = !isUtf8(bytes) ? 'is no valid UTF-8' : /\p{Cc}/u.test(name) ? 'holds a control character' : undefined;
  if (wrong === undefined && bytes.length <= limit('nameBytesMax') && Buffer.byteLength(path) <= limit('pathBytesMax'))
    return path;
  const shownName = shown(Buffer.concat([Buffer.from(parent), bytes]));
  throw loaderError('SOURCE_FILE_NAME', `The file name ${shownName} ${wrong ?? 'is too long'}; rename the file.`);
}

interface Walk {
  readonly location: Location;
  readonly patterns: Patterns;
  seen: number;
}

/** @param parent path of the directory in the source with a slash behind it; empty at the top */
async function* walk(state: Walk, parent: string, depth: number): AsyncGenerator<Candidate> {
  if (depth > limit('directoryDepthMax')) {
    throw loaderError(
      'SOURCE_TOO_DEEP',
      `${shown(parent)} lies more than ${limit('directoryDepthMax')} directories deep; move it up.`,
    );
  }
  // latin1 keeps every byte of the names; readdir in UTF-8 would replace what it cannot decode.
  const entries = await opendir(join(state.location.directory, parent), { encoding: 'latin1', bufferSize: 256 });
  for await (const entry of entries) {
    const path = checkedName(Buffer.from(entry.name, 'latin1'), parent);
    if (++state.seen > limit('filesMax')) {
      throw loaderError(
        'SOURCE_TOO_MANY_FILES',
        `${shown(state.location.shownPath)} holds more than ${limit('filesMax')} files; load a directory below it.`,
      );
    }
    if (entry.isDirectory()) {
      if (isWalked(`${path}/`, state.patterns)) yield* walk(state, `${path}/`, depth + 1);
    } else yield { path, isLink: entry.isSymbolicLink(), named: false };
  }
}

/**
 * Lists the files that the source may have. Special files come too: the caller refuses them if they are wanted.
 * @throws LoaderError SOURCE_*
 */
export async function* listCandidates(
  location: Location,
  belongs: Companions | undefined,
  patterns: Patterns,
): AsyncGenerator<Candidate> {
  try {
    if (belongs) yield* companionsOf(location, belongs);
    else yield* walk({ location, patterns, seen: 0 }, '', 1);
  } catch (error) {
    throw sourceIoError(error, location.shownPath);
  }
}

async function* companionsOf(location: Location, belongs: Companions): AsyncGenerator<Candidate> {
  const entries = await opendir(location.directory, { encoding: 'latin1', bufferSize: 256 });
  for await (const entry of entries) {
    const bytes = Buffer.from(entry.name, 'latin1');
    if (!isUtf8(bytes) || !belongs(bytes.toString('utf8'))) continue;
    const path = checkedName(bytes, '');
    if (!entry.isDirectory()) yield { path, isLink: entry.isSymbolicLink(), named: path === location.file };
  }
}
