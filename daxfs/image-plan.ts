/**
 * Lays out a static DAXFS v8 image: where every structure and file goes, and the bytes of all that is not file data.
 * Order: superblock, inode table, then the objects in scan order, each from a block boundary. With `largeFileAlign`
 * large files come after everything else, so that the holes their alignment makes are few.
 */
import { constants } from 'node:fs';
import { encode, offsetOf } from './codec.ts';
import { daxfsError } from './errors.ts';
import { type FileOrigin, parentSteps, type TreeEntry } from './image-tree.ts';
import { CONSTANTS, dirent, inode, superblock } from './layout.ts';
import { eachStep, itemsPerStep, mapStep, pace, runToEnd, type Steps, sortSteps } from './pace.ts';
import { roundUp } from './units.ts';

/** A regular file of the image; further hard-linked names are not listed. */
export interface PlannedFile {
  /** As given (bytes shown as UTF-8). */
  path: string;
  /** From the start of the image; of the backing file with `data: 'backing'`; 0 with `data: 'export'`. */
  offset: number;
  size: number;
  origin: FileOrigin;
  ino: number;
}

/** Every byte of [0, totalSize) is in exactly one of metadata, files (those with a path as origin) and zero. */
export interface ImagePlan {
  totalSize: number;
  inodeCount: number;
  /** Superblock, inode table, directories, links and files given as bytes; offsets from the start of the image. */
  metadata: { offset: number; bytes: Buffer }[];
  /** All regular files with their places, those given as bytes (already in metadata) included. */
  files: PlannedFile[];
  /** What lies between. A target that is zero already needs no writes there. */
  zero: { offset: number; length: number }[];
  /** Of the backing file, whole blocks; 0 where file data is elsewhere. */
  backingBytes: number;
}

export interface PlanOptions {
  /** Files of at least this size start on multiples of it (a power of two of at least a block). */
  largeFileAlign?: number;
  /** Default 4096; 16384 or 65536 for machines with such pages. */
  blockBytes?: number;
  /**
   * Where the bytes of regular files are to be: in the image (default), one after another in a backing file (split mode),
   * or in the tree itself (export mode). Other than `inside`, `metadata` and `zero` alone cover the image.
   */
  data?: 'inside' | 'backing' | 'export';
}

/** An inode to be: its entry, its number, and for a directory its names. */
interface Node {
  entry: TreeEntry;
  ino: number;
  mode: number;
  nlink: number;
  size: number;
  /** From the start of the image (a file outside of it: of where it is); 0 for an empty directory. */
  offset: number;
  /** Names with one character per byte. */
  children: { name: string; node: Node }[];
}

const BLOCK = CONSTANTS.blockBytes.value;
const STRIDE = CONSTANTS.direntStride.value;
const TYPE_BITS = { file: constants.S_IFREG, directory: constants.S_IFDIR, symlink: constants.S_IFLNK };

const INODE = {
  ino: offsetOf(inode, 'ino'),
  mode: offsetOf(inode, 'mode'),
  uid: offsetOf(inode, 'uid'),
  gid: offsetOf(inode, 'gid'),
  size: offsetOf(inode, 'size'),
  dataOffset: offsetOf(inode, 'data_offset'),
  nlink: offsetOf(inode, 'nlink'),
};
const DIRENT = {
  ino: offsetOf(dirent, 'ino'),
  mode: offsetOf(dirent, 'mode'),
  nameLength: offsetOf(dirent, 'name_len'),
  name: offsetOf(dirent, 'name'),
};

function refuse(path: string | Buffer, reason: string): never {
  throw daxfsError('DAXFS_BAD_TREE', `${JSON.stringify(path.toString())} ${reason}.`);
}

function checkName(path: string | Buffer, name: string): void {
  if (name.length === 0) refuse(path, 'has an empty part; write paths relative, without double slashes');
  if (name.length > CONSTANTS.nameBytesMax.value) refuse(path, 'has a name of more than 255 bytes');
  if (name === '.' || name === '..') refuse(path, 'has a part "." or ".."');
}

function sizeOf({ path, type, size, target, origin }: TreeEntry): number {
  if (type === 'directory') return 0;
  if (type === 'symlink') {
    if (!target || target.length === 0 || target.includes(0))
      refuse(path, 'is a link with an empty target or a NUL in it');
    return target.length;
  }
  if (!origin) refuse(path, 'is a file without an origin');
  const bytes = 'bytes' in origin ? origin.bytes.length : size;
  if (bytes === undefined || !Number.isSafeInteger(bytes) || bytes < 0) refuse(path, 'has no valid size');
  return bytes;
}

/**
 * One character per byte, '/' as NUL: sorted, a directory's entries follow it at once, by the bytes of their names.
 */
function sortKey(path: string | Buffer): string {
  const ascii = typeof path === 'string' && !/[\u0080-\uffff]/.test(path);
  const key = ascii ? path : Buffer.from(path).toString('latin1');
  if (key.includes('\0')) refuse(path, 'has a NUL in it');
  return key.replaceAll('/', '\0');
}

/** Builds the inodes: parents checked, names sorted, hard links joined, numbers given in pre-order. */
class TreeBuilder {
  readonly nodes: Node[] = [];
  readonly #linked = new Map<string, Node>();
  /** Open directories from the root to where we are, with their path length in the key. */
  readonly #stack: { key: string; node: Node }[] = [];
  #previousKey: string | undefined;

  add(key: string, entry: TreeEntry): void {
    if (key === this.#previousKey) refuse(entry.path, 'is there twice');
    this.#previousKey = key;
    const node = this.#inode(entry);
    if (key !== '') this.#attach(key, entry, node);
    else if (entry.type !== 'directory') refuse(entry.path, 'is the root but not a directory');
    if (entry.type === 'directory') this.#stack.push({ key, node });
  }

  #inode(entry: TreeEntry): Node {
    const first = entry.linkKey === undefined ? undefined : this.#linked.get(entry.linkKey);
    if (first && entry.type === 'file') {
      first.nlink++;
      return first;
    }
    const size = sizeOf(entry);
    const mode = TYPE_BITS[entry.type] | (entry.mode & 0o7777);
    const nlink = entry.type === 'directory' ? 2 : 1;
    const node = { entry, ino: this.nodes.length + 1, mode, nlink, size, offset: 0, children: [] };
    this.nodes.push(node);
    if (entry.linkKey !== undefined && entry.type === 'file') this.#linked.set(entry.linkKey, node);
    return node;
  }

  #attach(key: string, entry: TreeEntry, node: Node): void {
    const cut = key.lastIndexOf('\0');
    const parentKey = key.slice(0, Math.max(0, cut));
    while (this.#stack.length > 0 && this.#stack.at(-1)!.key !== parentKey) this.#stack.pop();
    const parent = this.#stack.at(-1)?.node;
    if (!parent) refuse(entry.path, 'has no parent directory in the tree');
    const name = key.slice(cut + 1);
    if (cut === 0) refuse(entry.path, 'starts with a slash; write paths relative');
    checkName(entry.path, name);
    parent.children.push({ name, node });
    if (entry.type === 'directory') parent.nlink++;
  }
}

function* buildTree(entries: readonly TreeEntry[]): Steps<Node[]> {
  const builder = new TreeBuilder();
  const keyed = yield* mapStep(entries, (entry) => ({ key: sortKey(entry.path), entry }));
  const sorted = yield* sortSteps(keyed, (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  yield* eachStep(sorted, ({ key, entry }) => builder.add(key, entry));
  if (builder.nodes.length === 0) throw daxfsError('DAXFS_BAD_TREE', 'The tree is empty; it needs at least a root.');
  return builder.nodes;
}

function* directoryBytes(node: Node): Steps<Buffer> {
  const bytes = Buffer.alloc(node.children.length * STRIDE);
  yield* eachStep(node.children, ({ name, node: child }, i) => {
    const at = i * STRIDE;
    bytes.writeUInt32LE(child.ino, at + DIRENT.ino);
    bytes.writeUInt32LE(child.mode, at + DIRENT.mode);
    bytes.writeUInt16LE(name.length, at + DIRENT.nameLength);
    bytes.write(name, at + DIRENT.name, 'latin1');
  });
  return bytes;
}

const plannedFile = ({ entry, offset, size, ino }: Node): PlannedFile => ({
  path: entry.path.toString(),
  offset,
  size,
  origin: entry.origin!,
  ino,
});

/** Walks the image from its start: everything placed is written or zero. */
class Layout {
  readonly metadata: ImagePlan['metadata'] = [];
  readonly files: PlannedFile[] = [];
  readonly zero: ImagePlan['zero'] = [];
  #end = 0;

  /** Zeroes up to the next multiple of `unit`; the offset there. */
  align(unit: number): number {
    const next = roundUp(this.#end, unit);
    if (!Number.isSafeInteger(next)) throw daxfsError('DAXFS_BAD_TREE', 'The image would be larger than 2^53 bytes.');
    if (next > this.#end) this.zero.push({ offset: this.#end, length: next - this.#end });
    this.#end = next;
    return next;
  }

  write(bytes: Buffer): void {
    this.metadata.push({ offset: this.#end, bytes });
    this.#end += bytes.length;
  }

  file(node: Node): void {
    const { origin } = node.entry;
    this.files.push(plannedFile(node));
    if ('bytes' in origin!) {
      if (node.size > 0) this.write(origin.bytes);
    } else this.#end += node.size;
  }

  *place(nodes: readonly Node[], unit: number): Steps<void> {
    for (const [i, node] of nodes.entries()) {
      if (i % itemsPerStep === 0) yield;
      const { entry, children } = node;
      if (entry.type === 'directory' && children.length === 0) continue;
      node.offset = this.align(unit);
      if (entry.type === 'file') this.file(node);
      else if (entry.type === 'symlink') this.write(Buffer.concat([entry.target!, Buffer.alloc(1)]));
      else {
        node.size = children.length * CONSTANTS.direntSizeUnit.value;
        this.write(yield* directoryBytes(node));
      }
    }
  }
}

/** Gives files their places outside of the image; returns the bytes that they take, whole blocks. */
function* placeOutside(files: readonly Node[], block: number, inOne: boolean): Steps<number> {
  let end = 0;
  yield* eachStep(files, (node) => {
    node.offset = end;
    if (inOne) end += roundUp(node.size, block);
    if (!Number.isSafeInteger(end)) throw daxfsError('DAXFS_BAD_TREE', 'The files together have more than 2^53 bytes.');
  });
  return end;
}

function* fillInodeTable(table: Buffer, nodes: readonly Node[], dataOffset: (node: Node) => number): Steps<void> {
  yield* eachStep(nodes, (node, i) => {
    const { ino, mode, entry, size, nlink } = node;
    const at = i * inode.size;
    table.writeUInt32LE(ino, at + INODE.ino);
    table.writeUInt32LE(mode, at + INODE.mode);
    table.writeUInt32LE(entry.uid, at + INODE.uid);
    table.writeUInt32LE(entry.gid, at + INODE.gid);
    table.writeBigUInt64LE(BigInt(size), at + INODE.size);
    table.writeBigUInt64LE(BigInt(dataOffset(node)), at + INODE.dataOffset);
    table.writeUInt32LE(nlink, at + INODE.nlink);
  });
}

function superblockBytes(totalSize: number, inodeCount: number, block: number): Buffer {
  return encode(superblock, {
    magic: CONSTANTS.superblockMagic.value,
    version: CONSTANTS.superblockVersion.value,
    block_size: block,
    total_size: BigInt(totalSize),
    base_offset: BigInt(block),
    base_size: BigInt(totalSize - block),
    inode_count: inodeCount,
    root_inode: 1,
    data_offset: BigInt(roundUp(inodeCount * inode.size, block)),
  });
}

/** Nodes by where their bytes are to go: into the image, large files last, or elsewhere. */
interface Sorted {
  small: Node[];
  large: Node[];
  outside: Node[];
}

/** A file whose bytes are not in the image. */
const isOutside = ({ entry }: Node, data: PlanOptions['data']) => data !== 'inside' && entry.type === 'file';

function* sortOut(nodes: readonly Node[], data: PlanOptions['data'], block: number, align: number): Steps<Sorted> {
  const sorted: Sorted = { small: [], large: [], outside: [] };
  yield* eachStep(nodes, (node) => {
    const isFile = node.entry.type === 'file';
    if (isOutside(node, data)) sorted.outside.push(node);
    else if (isFile && align > block && node.size >= align) sorted.large.push(node);
    else sorted.small.push(node);
  });
  return sorted;
}

function* planSteps(entries: readonly TreeEntry[], options: PlanOptions): Steps<ImagePlan> {
  const { blockBytes: block = BLOCK, largeFileAlign: align = block, data = 'inside' } = options;
  const nodes = yield* buildTree(entries);
  const { small, large, outside } = yield* sortOut(nodes, data, block, align);
  const layout = new Layout();
  const head = Buffer.alloc(superblock.size);
  const table = Buffer.alloc(nodes.length * inode.size);
  layout.write(head);
  layout.align(block);
  layout.write(table);
  layout.align(block);
  yield* layout.place(small, block);
  yield* layout.place(large, align);
  const totalSize = layout.align(block);
  const backingBytes = yield* placeOutside(outside, block, data === 'backing');
  superblockBytes(totalSize, nodes.length, block).copy(head);
  yield* fillInodeTable(table, nodes, (node) =>
    isOutside(node, data) || node.offset === 0 ? node.offset : node.offset - block,
  );
  const { metadata, zero } = layout;
  const files = [...layout.files, ...(yield* mapStep(outside, plannedFile))];
  return { totalSize, inodeCount: nodes.length, metadata, files, zero, backingBytes };
}

/**
 * Plans the image of a tree. Entries may come in any order; the root and every parent must be among them
 * (`withParents`). The image is deterministic: the same entries give the same bytes.
 * @throws DaxfsError DAXFS_BAD_TREE naming the path
 */
export function planImage(entries: readonly TreeEntry[], options: PlanOptions = {}): ImagePlan {
  return runToEnd(planSteps(entries, options));
}

function* filePlanSteps(files: readonly TreeEntry[], options: PlanOptions): Steps<ImagePlan> {
  return yield* planSteps(yield* parentSteps(files), options);
}

/** `planImage` of files and the directories above them, without blocking the event loop. */
export function planFilesPaced(
  files: readonly TreeEntry[],
  options: PlanOptions,
  signal?: AbortSignal,
): Promise<ImagePlan> {
  return pace(filePlanSteps(files, options), signal);
}
