/**
 * `/models`: the registry as read-only files. `/models/<name>` is the content that the name points to at this moment, with
 * the files of its images; a name `org/model` lies in the directory `org`, the tag `latest` needs no saying.
 */
import { constants } from 'node:fs';
import type { OverlayStat } from '../../native/index.ts';
import { contentFiles, type FilePlace } from '../content-files.ts';
import type { Content } from '../content-row.ts';
import { daxfsError } from '../errors.ts';
import { CONSTANTS } from '../layout.ts';
import type { Region } from '../region.ts';
import type { Registry } from '../registry.ts';
import { ContentHolds } from './content-holds.ts';
import { fsError } from './fs-error.ts';
import type { OpenFile } from './open-file.ts';
import { RegionStats } from './stats.ts';

/** Directory of the view, at the root. */
export const MODELS = 'models';

export interface ViewName {
  name: string;
  mode: number;
}

type Entry = Map<string, Entry> | FilePlace;

interface Found {
  entry: Entry;
  /** Undefined above the models. */
  content: Content | undefined;
}

const FILE_MODE = constants.S_IFREG | 0o444;
const DIRECTORY_MODE = constants.S_IFDIR | 0o555;
const LATEST = ':latest';
/** No overlay has inode numbers from here on. */
const INO_BASE = 2 ** 44;

const isDirectory = (entry: Entry): entry is Map<string, Entry> => entry instanceof Map;

/** Puts a value at a path of nested directories. */
function place(root: Map<string, Entry>, parts: string[], entry: Entry): void {
  let at = root;
  for (const part of parts.slice(0, -1)) {
    const next = at.get(part);
    const child: Map<string, Entry> = next && isDirectory(next) ? next : new Map();
    at.set(part, child);
    at = child;
  }
  at.set(parts.at(-1)!, entry);
}

export class ModelsView {
  readonly #region: Region;
  readonly #registry: Registry;
  readonly #holds: ContentHolds;
  /** Trees of contents; contents never change. */
  readonly #trees = new Map<string, Map<string, Entry>>();
  #handles = 0;

  constructor(region: Region, registry: Registry) {
    this.#region = region;
    this.#registry = registry;
    this.#holds = new ContentHolds(region, registry);
  }

  stat(parts: readonly string[], syscall: string, path: string): RegionStats {
    return this.#stats(this.#find(parts, syscall, path));
  }

  readdir(parts: readonly string[], path: string): ViewName[] {
    const { entry } = this.#find(parts, 'scandir', path);
    if (!isDirectory(entry)) throw fsError('ENOTDIR', 'scandir', path);
    return [...entry].map(([name, child]) => ({ name, mode: isDirectory(child) ? DIRECTORY_MODE : FILE_MODE }));
  }

  /** A file for reading; it keeps the content in memory until `close`. */
  open(parts: readonly string[], path: string): OpenFile {
    const { entry, content } = this.#find(parts, 'open', path);
    if (isDirectory(entry)) throw fsError('EISDIR', 'read');
    const release = this.#hold(content!, path);
    const { mapping } = this.#region;
    const stat = () => this.#stats({ entry, content });
    return new ImageFile(path, stat, release, (position, bytes) => {
      const length = Math.max(0, Math.min(bytes.length, entry.size - position));
      // The same bytes under the same offset: a window of its own would be kept for as long as the mapping is.
      if (length > 0) bytes.set(mapping.read(entry.offset + position, length));
      return length;
    });
  }

  /**
   * The file's bytes where they are. The content stays in memory until the region is closed, which detaches the view.
   * @throws RangeError for files of more than 4 GiB
   */
  window(parts: readonly string[], path: string): Buffer {
    const { entry, content } = this.#find(parts, 'open', path);
    if (isDirectory(entry)) throw fsError('EISDIR', 'read');
    this.#hold(content!, path);
    return Buffer.from(this.#region.mapping.window(entry.offset, entry.size));
  }

  close(): void {
    this.#holds.close();
  }

  /** Open files and views. */
  get handles(): number {
    return this.#handles;
  }

  #hold(content: Content, path: string): () => void {
    const release = this.#holds.take(content);
    if (!release) throw fsError('ENOENT', 'open', path);
    this.#handles += 1;
    return () => {
      this.#handles -= 1;
      release();
    };
  }

  #stats({ entry, content }: Found): RegionStats {
    const { blockBytes } = { blockBytes: CONSTANTS.blockBytes.value };
    const ino = INO_BASE + (content?.index ?? CONSTANTS.chunkBytes.value);
    const shared = { ino, uid: 0, gid: 0 };
    const stat: OverlayStat = isDirectory(entry)
      ? { ...shared, mode: DIRECTORY_MODE, size: 0, nlink: 2 }
      : { ...shared, mode: FILE_MODE, size: entry.size, nlink: 1 };
    return new RegionStats(stat, blockBytes);
  }

  /** Walks names, then the files of the content. */
  #find(parts: readonly string[], syscall: string, path: string): Found {
    const names = this.#names();
    let entry: Entry = names.tree;
    let content: Content | undefined;
    for (const [i, part] of parts.entries()) {
      if (!isDirectory(entry)) throw fsError('ENOTDIR', syscall, path);
      const named: Content | undefined = content ? undefined : names.contents.get(parts.slice(0, i + 1).join('/'));
      const next: Entry | undefined = named ? this.#tree(named) : entry.get(part);
      if (!next) throw fsError('ENOENT', syscall, path);
      content ??= named;
      entry = next;
    }
    return { entry, content };
  }

  /** Ready models by name, both ways to write `latest`, and the directories that list them. */
  #names(): { tree: Map<string, Entry>; contents: Map<string, Content> } {
    const tree = new Map<string, Entry>();
    const contents = new Map<string, Content>();
    for (const { name, target } of this.#registry.names()) {
      const content = this.#registry.content(target.index);
      if (content?.generation !== target.generation || content.state !== 'ready' || content.corrupt) continue;
      const short = name.endsWith(LATEST) ? name.slice(0, -LATEST.length) : name;
      contents.set(name, content).set(short, content);
      place(tree, short.split('/'), new Map());
    }
    return { tree, contents };
  }

  #tree(content: Content): Map<string, Entry> {
    const key = `${content.index}@${content.generation}`;
    const known = this.#trees.get(key);
    if (known) return known;
    const release = this.#holds.take(content);
    if (!release) throw daxfsError('DAXFS_IN_USE', 'The model was just removed; list the models again.');
    try {
      const tree = new Map<string, Entry>();
      for (const [file, where] of contentFiles(this.#region, content)) place(tree, file.split('/'), where);
      this.#trees.set(key, tree);
      return tree;
    } finally {
      release();
    }
  }
}

/** A file of an image: immutable, read by copying. */
class ImageFile implements OpenFile {
  readonly path: string;
  readonly ino: number;
  readonly stat: () => RegionStats;
  readonly #release: () => void;
  readonly #read: (position: number, bytes: Uint8Array) => number;

  constructor(
    path: string,
    stat: () => RegionStats,
    release: () => void,
    read: (position: number, bytes: Uint8Array) => number,
  ) {
    this.path = path;
    this.ino = stat().ino;
    this.stat = stat;
    this.#release = release;
    this.#read = read;
  }

  async read(position: number, bytes: Uint8Array): Promise<number> {
    return this.#read(position, bytes);
  }
  readSync(position: number, bytes: Uint8Array): number {
    return this.#read(position, bytes);
  }
  write(): Promise<number> {
    throw fsError('EBADF', 'write');
  }
  writeSync(): void {
    throw fsError('EBADF', 'write');
  }
  truncate(): Promise<void> {
    throw fsError('EINVAL', 'ftruncate');
  }
  truncateSync(): void {
    throw fsError('EINVAL', 'ftruncate');
  }
  chmod(): void {
    throw fsError('EROFS', 'fchmod', this.path);
  }
  chown(): void {
    throw fsError('EROFS', 'fchown', this.path);
  }
  close(): void {
    this.#release();
  }
}
