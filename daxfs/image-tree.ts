/** The files of an image to be made: entries given by a caller, or found by scanning a directory tree. */
import { constants, lstatSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { daxfsError } from './errors.ts';
import { eachStep, runToEnd, type Steps } from './pace.ts';

/** Where the bytes of a regular file come from. */
export type FileOrigin =
  | {
      path: string | Buffer;
      /** What the file looked like when it was planned; a copy of another one fails with ESTALE. */
      mtimeNs: bigint;
      ino: bigint;
    }
  | { bytes: Buffer };

/** One name of the tree. */
export interface TreeEntry {
  /** Relative, parts separated by `/`; '' is the root. Bytes where the name is not UTF-8. */
  path: string | Buffer;
  type: 'file' | 'directory' | 'symlink';
  /** Permission bits; type bits are allowed and ignored. */
  mode: number;
  uid: number;
  gid: number;
  /** Regular files: bytes. */
  size?: number;
  /** Symlinks: without NUL. */
  target?: Buffer;
  /** Regular files with the same key are one inode. */
  linkKey?: string;
  /** Regular files. */
  origin?: FileOrigin;
}

export interface ScanOptions {
  /** Leave devices, FIFOs and sockets out instead of refusing the tree; called with each. */
  onSpecial?: (path: Buffer, kind: string) => void;
}

const SLASH = Buffer.from('/');

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** As `withParents`, in steps. */
export function* parentSteps(entries: readonly TreeEntry[], mode = 0o755): Steps<TreeEntry[]> {
  const known = new Set<string>();
  yield* eachStep(entries, ({ type, path }) => type === 'directory' && known.add(path.toString()));
  const added: TreeEntry[] = [];
  const add = (path: string) => {
    if (known.has(path)) return;
    known.add(path);
    added.push({ path, type: 'directory', mode, uid: 0, gid: 0 });
    if (path !== '') add(parentOf(path));
  };
  add('');
  yield* eachStep(entries, ({ path }) => path.length > 0 && add(parentOf(path.toString())));
  return [...added, ...entries];
}

/**
 * The entries with every missing parent directory and the root added (mode 0755, owner 0), in no particular order.
 * Paths must be strings.
 */
export function withParents(entries: readonly TreeEntry[], mode = 0o755): TreeEntry[] {
  return runToEnd(parentSteps(entries, mode));
}

function specialKind(mode: number): string {
  const kinds: Record<number, string> = {
    [constants.S_IFIFO]: 'a FIFO',
    [constants.S_IFSOCK]: 'a socket',
    [constants.S_IFCHR]: 'a character device',
    [constants.S_IFBLK]: 'a block device',
  };
  return kinds[mode & constants.S_IFMT] ?? 'of an unknown type';
}

/** A name or path as text while it is ASCII (cheap), as bytes otherwise: names need not be UTF-8. */
type PathBytes = string | Buffer;

const isAscii = (text: string) => !/[\u0080-\uffff]/.test(text);

function join(directory: PathBytes, name: PathBytes): PathBytes {
  if (directory.length === 0) return name;
  if (typeof directory === 'string' && typeof name === 'string') return `${directory}/${name}`;
  return Buffer.concat([Buffer.from(directory), SLASH, Buffer.from(name)]);
}

/** One scan: the list of entries grows depth first. */
class Scan {
  readonly entries: TreeEntry[] = [];
  readonly #options: ScanOptions;
  constructor(options: ScanOptions) {
    this.#options = options;
  }

  /** `full` is where the file is, `path` its name in the tree. */
  visit(full: PathBytes, path: PathBytes, stat = lstatSync(full, { bigint: true })): void {
    const common = { path, mode: Number(stat.mode), uid: Number(stat.uid), gid: Number(stat.gid) };
    if (stat.isDirectory()) {
      this.entries.push({ ...common, type: 'directory' });
      this.#children(full, path);
    } else if (stat.isSymbolicLink()) {
      this.entries.push({ ...common, type: 'symlink', target: readlinkSync(full, { encoding: 'buffer' }) });
    } else if (stat.isFile()) {
      const linkKey = stat.nlink > 1n ? { linkKey: `${stat.dev}:${stat.ino}` } : {};
      const origin = { path: full, mtimeNs: stat.mtimeNs, ino: stat.ino };
      this.entries.push({ ...common, type: 'file', size: Number(stat.size), origin, ...linkKey });
    } else this.#special(full, path, specialKind(common.mode));
  }

  #children(full: PathBytes, path: PathBytes): void {
    // One character per byte: sorted, this is the order of the bytes.
    for (const text of readdirSync(full, { encoding: 'latin1' }).sort()) {
      const name = isAscii(text) ? text : Buffer.from(text, 'latin1');
      this.visit(join(full, name), join(path, name));
    }
  }

  #special(full: PathBytes, path: PathBytes, kind: string): void {
    const { onSpecial } = this.#options;
    if (onSpecial) {
      onSpecial(Buffer.from(path), kind);
      return;
    }
    throw daxfsError(
      'DAXFS_SPECIAL_FILE',
      `${full.toString()} is ${kind}; an image holds only files, directories and links: move it away or skip special files.`,
    );
  }
}

/**
 * The entries of a directory tree: root first, depth first, names of a directory sorted by their bytes. Links are not
 * followed; names of one inode (device and inode number) share a `linkKey`. Blocks while it reads the directories.
 * @throws DaxfsError DAXFS_SPECIAL_FILE, DAXFS_BAD_TREE (not a directory); Node's own errors of reading
 */
export function scanTree(root: string | Buffer, options: ScanOptions = {}): TreeEntry[] {
  const scan = new Scan(options);
  const stat = statSync(root, { bigint: true });
  if (!stat.isDirectory()) throw daxfsError('DAXFS_BAD_TREE', `${root.toString()} is not a directory.`);
  scan.visit(root, '', stat);
  return scan.entries;
}
