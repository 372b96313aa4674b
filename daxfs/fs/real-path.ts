/** Where a path leads. */
import { checkPath, type PathLike, textOf } from './arguments.ts';
import { fsError } from './fs-error.ts';
import type { RegionFsSync } from './region-fs-sync.ts';

/** As the native walk has it. */
const LINKS_MAX = 40;

/** @throws FsError of realpath on the path that was asked for */
export function realPath(fs: RegionFsSync, path: PathLike): string {
  try {
    // What does not lead anywhere says so before its parts are looked at.
    fs.statSync(path);
    return walk(fs, textOf(checkPath(path)));
  } catch (error) {
    const { errno } = error as { errno?: number };
    throw errno === undefined ? error : fsError(errno, 'realpath', path);
  }
}

function walk(fs: RegionFsSync, path: string): string {
  const rest = path.split('/');
  let at = '';
  let links = 0;
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (name === '..') at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
    if (name === '' || name === '.' || name === '..') continue;
    const next = `${at}/${name}`;
    if (!fs.lstatSync(next).isSymbolicLink()) {
      at = next;
      continue;
    }
    links += 1;
    if (links > LINKS_MAX) throw fsError('ELOOP', 'realpath', path);
    const target = fs.readlinkSync(next);
    if (target.startsWith('/')) at = '';
    rest.unshift(...target.split('/'));
  }
  return at === '' ? '/' : at;
}
