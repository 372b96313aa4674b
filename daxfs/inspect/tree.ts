/** `daxfs-inspect tree`: every name, its size, and where its bytes live. */
import type { ByteSource } from '../byte-source.ts';
import { DaxfsError } from '../errors.ts';
import { type FrontInode, FrontReader } from '../front-read.ts';
import type { InodeType } from '../image.ts';
import { EntryClassifier } from '../overlay-census.ts';
import { SLOT_STATE } from '../page-cache-word.ts';

/** Bytes of one file by place; together its size. */
export interface Places {
  /** In the base image. */
  base: number;
  overlay: number;
  pageCache: number;
  /** Only in the backing file or the exported tree. */
  backing: number;
  hole: number;
}

export interface TreeItem {
  /** Without a slash in front; '' is the root. */
  path: string;
  ino: number;
  type: InodeType | 'missing';
  /** Permission bits in octal, four digits. */
  mode: string;
  uid: number;
  gid: number;
  size: number;
  /** Where the name itself is. */
  name: 'base' | 'overlay';
  places?: Places;
  /** Of a symbolic link; bytes shown as UTF-8. */
  target?: string;
  /** What is wrong with it. */
  damage?: string;
}

/** No path that a kernel takes is deeper. */
const DEPTH_MAX = 2048;

/** Pages of every inode that the overlay holds, and slots by tag: one pass instead of a search per page. */
class PageMap {
  readonly overlay = new Map<number, number[]>();
  readonly slots = new Map<number, bigint[]>();

  constructor(front: FrontReader) {
    const { overlay, pageCache } = front;
    if (overlay) {
      for (const { kind, ino, low } of new EntryClassifier(overlay).all()) {
        if (kind === 'page') add(this.overlay, ino, low);
      }
    }
    for (const { state, ino, tag } of pageCache?.slots() ?? []) {
      if (state === SLOT_STATE.VALID) add(this.slots, ino, tag);
    }
  }
}

function add<T>(map: Map<number, T[]>, key: number, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** Where the bytes of a file or link live. */
function placesOf(front: FrontReader, pages: PageMap, node: FrontInode): Places {
  const block = front.blockBytes;
  const { size, base, ino } = node;
  const lengthOf = (page: number, end: number) => Math.max(0, Math.min(block, end - page * block));
  const baseEnd = base ? Math.min(size, base.size, node.basePages * block) : 0;
  const places: Places = { base: 0, overlay: 0, pageCache: 0, backing: 0, hole: 0 };
  const stored = new Set(pages.overlay.get(ino));
  let below = baseEnd;
  for (const page of stored) {
    places.overlay += lengthOf(page, size);
    below -= lengthOf(page, baseEnd);
  }
  if (base && node.type === 'file' && front.pageCache) {
    const first = front.tag(base, 0);
    for (const tag of new Set(pages.slots.get(ino))) {
      const page = Number(tag - first);
      const counts = page >= 0 && !stored.has(page) && front.pageCache.find(tag) !== undefined;
      if (counts) places.pageCache += lengthOf(page, baseEnd);
    }
    places.backing = below - places.pageCache;
  } else places.base = below;
  places.hole = size - places.overlay - below;
  return places;
}

const messageOf = (error: unknown): string => {
  if (error instanceof DaxfsError) return error.message;
  throw error;
};

/** A name to be visited. */
interface Pending {
  path: string;
  ino: number;
  name: TreeItem['name'];
  depth: number;
}

/** Walks the tree, parents first. What is damaged is listed with the reason, and the walk goes on. */
class TreeWalk {
  readonly #front: FrontReader;
  readonly #pages: PageMap;
  readonly #seen = new Set<number>();

  constructor(source: ByteSource) {
    this.#front = new FrontReader(source);
    this.#front.overlay?.prepareForAll(this.#front.image?.inodeCount ?? 0);
    this.#pages = new PageMap(this.#front);
  }

  *items(): Generator<TreeItem> {
    const root: Pending = {
      path: '',
      ino: this.#front.rootIno,
      name: this.#front.image ? 'base' : 'overlay',
      depth: 0,
    };
    const open = [root];
    for (let next = open.pop(); next; next = open.pop()) {
      const { path, ino, name, depth } = next;
      const item: TreeItem = { path, ino, type: 'missing', mode: '0000', uid: 0, gid: 0, size: 0, name };
      const children = this.#visit(item, depth);
      yield item;
      for (const child of children.reverse()) open.push(child);
    }
  }

  /** Fills in what is known of an item; the names below it. */
  #visit(item: TreeItem, depth: number): Pending[] {
    const children: Pending[] = [];
    try {
      const node = this.#front.inode(item.ino);
      if (!node) item.damage = `there is no inode ${item.ino}`;
      else {
        this.#describe(item, node);
        if (node.type === 'directory') this.#children(item, node, depth + 1, children);
      }
    } catch (error) {
      item.damage = messageOf(error);
    }
    return children;
  }

  #describe(item: TreeItem, node: FrontInode): void {
    const { type, uid, gid, size } = node;
    Object.assign(item, { type, uid, gid, size, mode: (node.mode & 0o7777).toString(8).padStart(4, '0') });
    if (type !== 'file' && type !== 'symlink') return;
    item.places = placesOf(this.#front, this.#pages, node);
    if (type === 'symlink') item.target = this.#front.link(node, item.path).toString();
  }

  #children(item: TreeItem, node: FrontInode, depth: number, children: Pending[]): void {
    if (this.#seen.has(node.ino) || depth > DEPTH_MAX) {
      item.damage = 'the directory has a second name, or contains itself';
      return;
    }
    this.#seen.add(node.ino);
    for (const { name, ino, from } of this.#front.names(node)) {
      const path = item.path === '' ? name.toString() : `${item.path}/${name}`;
      children.push({ path, ino, name: from, depth });
    }
  }
}

/** @throws DaxfsError DAXFS_BAD_IMAGE when there is nothing to walk */
export function treeItems(source: ByteSource): Generator<TreeItem> {
  return new TreeWalk(source).items();
}

const LETTERS = { file: '-', directory: 'd', symlink: 'l', other: '?', missing: '!' } as const;

function placesText({ base, overlay, pageCache, backing, hole }: Places): string {
  const parts: [string, number][] = [
    ['base', base],
    ['overlay', overlay],
    ['cache', pageCache],
    ['backing', backing],
    ['hole', hole],
  ];
  return parts
    .filter(([, bytes]) => bytes > 0)
    .map(([name, bytes]) => `${name} ${bytes}`)
    .join(', ');
}

/** A name may hold anything: control characters must not reach the terminal. */
const shown = (text: string) => text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);

export function treeLine({ path, type, mode, uid, gid, size, places, target, damage }: TreeItem): string {
  const name = path === '' ? '/' : `/${shown(path)}`;
  const where = places ? placesText(places) : '';
  const arrow = target === undefined ? '' : ` -> ${shown(target)}`;
  const note = damage === undefined ? '' : `  ! ${shown(damage)}`;
  const head = `${LETTERS[type]}${mode} ${uid}:${gid}`;
  return `${head.padEnd(12)} ${String(size).padStart(12)} ${name}${arrow}${where === '' ? '' : `  [${where}]`}${note}\n`;
}
