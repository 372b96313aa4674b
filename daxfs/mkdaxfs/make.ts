/** Makes what a request of mkdaxfs asks for. */
import { closeSync, fsyncSync, ftruncateSync, openSync } from 'node:fs';
import { native } from '../../native/index.ts';
import { type ByteSource, fileSource, mappingSource } from '../byte-source.ts';
import { offsetOf } from '../codec.ts';
import { daxfsError } from '../errors.ts';
import { validateFront } from '../front-validate.ts';
import {
  copyInto,
  copyIntoFile,
  countTree,
  type ImageSummary,
  readTree,
  replaceFile,
  systemError,
  writeAll,
  writeImageFile,
} from '../image-file.ts';
import { type ImagePlan, planImage } from '../image-plan.ts';
import type { TreeEntry } from '../image-tree.ts';
import { validateImage } from '../image-validate.ts';
import { CONSTANTS, pageCacheHeader } from '../layout.ts';
import { defaultSlots, type Front, frontPieces, frontSuperblock, type Piece, planFront } from './front.ts';
import { checkMountable, mountImage } from './mount.ts';
import type { Request } from './options.ts';
import { type Prewarmed, prewarm } from './prewarm.ts';
import { type Memory, openMemory } from './target.ts';

export interface MakeOptions {
  signal?: AbortSignal;
  /** Bytes of file data done and to do. */
  onProgress?: (done: number, total: number) => void;
  onSpecial?: (path: Buffer, kind: string) => void;
}

/** What was made. */
export interface Made {
  /** Where. */
  target: string;
  /** Of the image. */
  bytes: number;
  /** Of the tree; absent for an empty file system. */
  tree?: ImageSummary;
  front?: Front;
  backing?: { path: string; bytes: number };
  prewarmed?: Prewarmed;
}

/** Everything about the image before a byte is written. */
interface Plan {
  entries: readonly TreeEntry[];
  image?: ImagePlan;
  front?: Front;
  totalBytes: number;
  /** Superblock apart: it goes last. */
  head: Buffer;
  pieces: Piece[];
}

const FINDINGS_SHOWN = 10;
const PAGES_MAX = CONSTANTS.pageIndexMax.value + 1;

/** Pages have 20-bit numbers: in split mode those of the whole backing file, in export mode of each file. */
function checkLimits(plan: ImagePlan, { mode, blockBytes }: Request): void {
  for (const { path, offset, size } of plan.files) {
    if (size === 0 || Math.floor((offset + size - 1) / blockBytes) < PAGES_MAX) continue;
    const limit = `${PAGES_MAX} pages of ${blockBytes} bytes`;
    const text =
      mode === 'split'
        ? `${path} ends at byte ${offset + size} of the backing file, which has at most ${limit}; use export mode (-X), a larger --block-size, or fewer files.`
        : `${path} has ${size} bytes; a file in export mode has at most ${limit}: use a larger --block-size, or a static image.`;
    throw daxfsError('DAXFS_FILE_TOO_LARGE', text);
  }
}

function slotsOf({ mode, slots, blockBytes }: Request, plan: ImagePlan | undefined, names: number): number {
  if (slots !== undefined) return slots;
  if (mode === 'split') return defaultSlots(plan!.backingBytes / blockBytes);
  return mode === 'export' ? defaultSlots(names) : 0;
}

function planStatic(request: Request, entries: readonly TreeEntry[]): Plan {
  const image = planImage(entries, { blockBytes: request.blockBytes });
  const [head, ...pieces] = image.metadata;
  return { entries, image, totalBytes: image.totalSize, head: head!.bytes, pieces };
}

function planWithFront(request: Request, entries: readonly TreeEntry[]): Plan {
  const { mode, blockBytes, bucketCount, poolBytes } = request;
  const data = mode === 'split' ? 'backing' : 'export';
  const image = mode === 'empty' ? undefined : planImage(entries, { blockBytes, data });
  if (image) checkLimits(image, request);
  const slots = slotsOf(request, image, entries.length);
  const base = { planBytes: image?.totalSize ?? 0, inodeCount: image?.inodeCount ?? 0 };
  const front = planFront({ blockBytes, bucketCount, poolBytes, slots, isPrivate: request.private, ...base });
  const [head, ...metadata] = image?.metadata ?? [];
  return {
    entries,
    front,
    totalBytes: front.totalBytes,
    head: frontSuperblock(front, head?.bytes),
    pieces: [...metadata, ...frontPieces(front)],
    ...(image && { image }),
  };
}

/** @throws DaxfsError DAXFS_BAD_TREE, DAXFS_SPECIAL_FILE, DAXFS_FILE_TOO_LARGE, DAXFS_BAD_SIZE, DAXFS_NO_SPACE */
function planRequest(request: Request, options: MakeOptions): Plan {
  const { directory, skipSpecial, sizeBytes } = request;
  const { onSpecial } = options;
  const scan = skipSpecial && onSpecial ? { onSpecial } : {};
  const entries = directory === undefined ? [] : readTree(directory, scan);
  const plan = request.mode === 'static' ? planStatic(request, entries) : planWithFront(request, entries);
  if (sizeBytes !== undefined && plan.totalBytes > sizeBytes) {
    throw daxfsError(
      'DAXFS_NO_SPACE',
      `The image needs ${plan.totalBytes} bytes, the size given is ${sizeBytes}; raise -s, or lower -O, -B or -C.`,
    );
  }
  return plan;
}

/** @throws Error with the first broken rules */
function check(source: ByteSource): void {
  const image = validateImage(source, { findingsMax: FINDINGS_SHOWN });
  const front = validateFront(source, { findingsMax: FINDINGS_SHOWN });
  const total = image.total + front.total;
  if (total === 0) return;
  const findings = [...image.findings, ...front.findings];
  const lines = findings.map(({ rule, offset, detail }) => `  ${rule} at byte ${offset}: ${detail}`);
  throw new Error(`The image breaks ${total} rules and was not kept; a file may have changed:\n${lines.join('\n')}`);
}

async function makeStaticFile(request: Request, path: string, options: MakeOptions): Promise<Made> {
  const { signal, onProgress, onSpecial } = options;
  const tree = await writeImageFile(request.directory!, path, {
    blockBytes: request.blockBytes,
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
    ...(request.sizeBytes !== undefined && { sizeMax: request.sizeBytes }),
    ...(request.validate && { check: (fd: number) => check(fileSource(fd)) }),
    ...(request.skipSpecial && onSpecial && { onSpecial }),
  });
  return { target: path, bytes: tree.bytes, tree };
}

async function makeEmptyFile(request: Request, path: string): Promise<Made> {
  const { front, head, pieces, totalBytes } = planRequest(request, {});
  await replaceFile(path, undefined, async (fd) => {
    try {
      ftruncateSync(fd, totalBytes);
      for (const { offset, bytes } of [...pieces, { offset: 0, bytes: head }]) writeAll(fd, bytes, offset);
      fsyncSync(fd);
    } catch (error) {
      throw systemError(error, `writing ${path}`);
    }
    if (request.validate) check(fileSource(fd));
  });
  return { target: path, bytes: totalBytes, front: front! };
}

/** The file that holds the bytes of all files in split mode; none where there are no bytes. */
async function writeBacking(request: Request, { image }: Plan, options: MakeOptions): Promise<void> {
  const { backing, directory } = request;
  const { backingBytes, files } = image!;
  if (backingBytes === 0) return;
  await replaceFile(backing!, directory, async (fd) => {
    try {
      ftruncateSync(fd, backingBytes);
    } catch (error) {
      throw systemError(error, `writing ${backing}`);
    }
    await copyIntoFile(fd, backingBytes, files, backing!, options);
    fsyncSync(fd);
  });
}

/** Whoever opens the image later sees whether the pages in the cache are of the source that it finds. */
async function stampSource({ mode, backing, directory }: Request, front: Front, memory: Memory): Promise<void> {
  const path = backing ?? directory!;
  const fd = openSync(path, 'r');
  const cache = new native.PageCache(memory.mapping);
  try {
    const errno = await cache.open(null, { fd, tree: mode === 'export' });
    if (errno !== 0) {
      throw daxfsError(
        'DAXFS_SOURCE_CHANGED',
        `${path} changed while the image was made (errno ${-errno}); run it again.`,
      );
    }
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(`0x${cache.facts().sourceStamp}`));
    memory.put(front.pageCacheOffset + offsetOf(pageCacheHeader, 'source_stamp'), bytes);
  } finally {
    cache.close();
    closeSync(fd);
  }
}

/** Writes the image into memory; the word that makes it one comes last. */
async function fillMemory(request: Request, plan: Plan, memory: Memory, options: MakeOptions) {
  const { head, pieces, image, front, totalBytes } = plan;
  memory.clear();
  for (const { offset, bytes } of pieces) memory.put(offset, bytes);
  if (request.mode === 'static') await copyInto(memory.mapping, image!.files, memory.name, options);
  const put = (at: number, bytes: Buffer) => memory.put(at, bytes);
  const prewarmed = request.prewarm ? prewarm(front!, image!.files, request.backing, put) : undefined;
  options.signal?.throwIfAborted();
  memory.put(8, head.subarray(8));
  memory.put(0, head.subarray(0, 8));
  if (prewarmed && prewarmed.pages > 0) await stampSource(request, front!, memory);
  if (request.validate) {
    try {
      check(mappingSource(memory.mapping, 0, totalBytes));
    } catch (error) {
      memory.put(0, Buffer.alloc(8));
      throw error;
    }
  }
  return prewarmed;
}

async function makeInMemory(request: Request, memoryChoice: Parameters<typeof openMemory>[0], options: MakeOptions) {
  const plan = planRequest(request, options);
  const { entries, front, image, totalBytes } = plan;
  const { sizeBytes, blockBytes, mode, backing } = request;
  const memory = await openMemory(memoryChoice, { needed: totalBytes, sizeBytes, blockBytes });
  try {
    checkMountable(request, memory);
    if (mode === 'split') await writeBacking(request, plan, options);
    const prewarmed = await fillMemory(request, plan, memory, options);
    if (request.mountpoint !== undefined) await mountImage(request, memory);
    const made: Made = { target: memory.name, bytes: totalBytes };
    if (image) made.tree = countTree(entries, image);
    if (front) made.front = front;
    if (mode === 'split') made.backing = { path: backing!, bytes: image!.backingBytes };
    if (prewarmed) made.prewarmed = prewarmed;
    return made;
  } finally {
    memory.close();
  }
}

/**
 * Makes an image, and mounts it where that is asked for.
 * @throws DaxfsError as the steps say; Error when the finished image breaks a rule
 */
export async function make(request: Request, options: MakeOptions = {}): Promise<Made> {
  const { target, mode } = request;
  if (target.kind !== 'file') return makeInMemory(request, target, options);
  return mode === 'static' ? makeStaticFile(request, target.path, options) : makeEmptyFile(request, target.path);
}
