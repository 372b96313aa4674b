/** Memory that an image is written into: a device, a range of one, a file that stands for memory, or a DMA heap. */
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync, realpathSync, type Stats } from 'node:fs';
import { basename, join } from 'node:path';
import { type Mapping, native } from '../../native/index.ts';
import { openBacking } from '../backing.ts';
import { daxfsError } from '../errors.ts';
import { systemError, writeAll } from '../image-file.ts';
import { classifyFront } from '../region-format.ts';
import { formatBytes, roundUp } from '../units.ts';
import type { TargetChoice } from './options.ts';

/** How a kernel can mount what was written. */
export type MountSource = { dmaBuf: number } | { physical: number } | { reason: string };

/** Open memory. The image starts at offset 0 of it. */
export interface Memory {
  /** For messages. */
  name: string;
  /** Bytes allocated: at least what was asked for. */
  bytes: number;
  /** All of it, writable. */
  mapping: Mapping;
  source: MountSource;
  /** Stores bytes. @throws DaxfsError DAXFS_NO_SPACE, DAXFS_WRITE_FAILED */
  put(offset: number, bytes: Buffer): void;
  /** Zeroes everything. */
  clear(): void;
  /** The descriptors and the mapping; memory of a heap is gone then unless it was mounted. */
  close(): void;
}

interface Wish {
  /** What the image needs. */
  needed: number;
  /** What the user wants allocated. */
  sizeBytes: number | undefined;
  blockBytes: number;
}

const CLEAR_STEP = 2 ** 20;
const HEAD_BYTES = 4096;

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error);

function bad(message: string, cause?: unknown) {
  return daxfsError('DAXFS_BAD_BACKING', message, { cause });
}

function openDevice(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const what = codeOf(error) === 'ENOENT' ? 'is not there' : `cannot be opened (${codeOf(error)})`;
    throw bad(`${path} ${what}; give a device or file that this user may read and write.`, error);
  }
}

/** Bytes of a file or block device; undefined where nobody can tell (/dev/mem). */
function sizeOf(stat: Stats): number | undefined {
  if (stat.isFile()) return stat.size;
  if (!stat.isBlockDevice()) return undefined;
  const major = (stat.rdev >>> 8) & 0xfff;
  const minor = (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
}

/** Start of a device-dax device in physical memory, from sysfs. */
function physicalStart(path: string): number | undefined {
  try {
    const resource = join('/sys/bus/dax/devices', basename(realpathSync(path)), 'resource');
    const start = Number(readFileSync(resource, 'utf8').trim());
    return Number.isSafeInteger(start) && start > 0 ? start : undefined;
  } catch {
    return undefined;
  }
}

function physicalSource(path: string, stat: Stats, offset: number): MountSource {
  if (stat.isFile()) return { reason: `${path} is a file, which has no physical address to mount` };
  const start = physicalStart(path);
  if (start !== undefined) return { physical: start + offset };
  if (basename(path) === 'mem') return { physical: offset };
  return { reason: `sysfs does not tell the physical address of ${path}` };
}

/** What -D and -p name: where in it the image starts, and how much of it there is. */
interface Range {
  offset: number;
  available: number | undefined;
  alignment: number;
}

function rangeOf(path: string, stat: Stats, address: number | undefined, blockBytes: number): Range {
  if (address !== undefined) {
    if (address % blockBytes !== 0) throw bad(`-p must be a multiple of the block size, ${blockBytes}.`);
    const size = sizeOf(stat);
    return { offset: address, available: size === undefined ? undefined : size - address, alignment: blockBytes };
  }
  if (!stat.isCharacterDevice()) {
    throw bad(`${path} is not a device-dax device; add -p OFFSET to write at that offset of it.`);
  }
  // Refuses what is not device-dax, with the reason.
  const backing = openBacking({ path }, { write: true, create: false });
  closeSync(backing.fd);
  return { offset: 0, available: backing.sizeBytes, alignment: backing.mapAlignment };
}

function checkRoom(path: string, needed: number, available: number | undefined): void {
  if (available === undefined || needed <= available) return;
  throw daxfsError(
    'DAXFS_NO_SPACE',
    `${path} has ${Math.max(0, available)} bytes from there on, ${needed} are needed; give a smaller -O or -C, or more memory.`,
  );
}

/** Zeroes the part of a file without making its holes real. */
function clearFile(fd: number, start: number, length: number): void {
  const zeroes = Buffer.alloc(CLEAR_STEP);
  const bytes = Buffer.allocUnsafe(CLEAR_STEP);
  for (let done = 0; done < length; done += CLEAR_STEP) {
    const step = Math.min(CLEAR_STEP, length - done);
    const got = readSync(fd, bytes, 0, step, start + done);
    if (!bytes.subarray(0, got).equals(zeroes.subarray(0, got))) {
      writeAll(fd, zeroes.subarray(0, step), start + done);
    }
  }
}

/** A daxserve region may be in use, and nobody would find its models again. */
function refuseRegion(mapping: Mapping, path: string): void {
  if (mapping.size < HEAD_BYTES || classifyFront(mapping.read(0, HEAD_BYTES)) !== 'region') return;
  throw daxfsError(
    'DAXFS_ALREADY_CREATED',
    `${path} holds a daxserve region; delete it first with "daxserve region delete".`,
  );
}

function map(fd: number, offset: number, bytes: number, path: string): Mapping {
  try {
    return new native.Mapping(fd, offset, bytes, { write: true });
  } catch (error) {
    const fix = 'give memory that may be mapped for writing (for /dev/mem: as root, and not system RAM)';
    throw bad(`${path} cannot be mapped at offset ${offset}, ${formatBytes(bytes)} (${codeOf(error)}); ${fix}.`, error);
  }
}

function fileMemory(fd: number, offset: number, mapping: Mapping) {
  const worded = <T>(body: () => T): T => {
    try {
      return body();
    } catch (error) {
      throw systemError(error, 'writing the image');
    }
  };
  // Through the descriptor: a full file system is an error then, not a SIGBUS.
  return {
    put: (at: number, bytes: Buffer) => worded(() => writeAll(fd, bytes, offset + at)),
    clear: () => worded(() => clearFile(fd, offset, mapping.size)),
  };
}

const deviceMemory = (mapping: Mapping) => ({
  put: (at: number, bytes: Buffer) => mapping.write(at, bytes),
  clear: () => mapping.zero(0, mapping.size),
});

function openDeviceMemory(path: string, address: number | undefined, wish: Wish): Memory {
  const fd = openDevice(path);
  try {
    const stat = fstatSync(fd);
    const range = rangeOf(path, stat, address, wish.blockBytes);
    const wanted = wish.sizeBytes ?? wish.needed;
    checkRoom(path, wanted, range.available);
    const bytes = stat.isFile() ? wanted : roundUp(wanted, range.alignment);
    const mapping = map(fd, range.offset, bytes, path);
    const close = () => {
      mapping.close();
      closeSync(fd);
    };
    try {
      refuseRegion(mapping, path);
    } catch (error) {
      mapping.close();
      throw error;
    }
    const source = physicalSource(path, stat, range.offset);
    const access = stat.isFile() ? fileMemory(fd, range.offset, mapping) : deviceMemory(mapping);
    return { name: path, bytes, mapping, source, close, ...access };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openHeap(path: string): number {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      throw bad(
        `There is no DMA heap ${path}; this kernel offers those listed in /dev/dma_heap, if any (CONFIG_DMABUF_HEAPS). Use -D DEVICE or -o FILE instead.`,
        error,
      );
    }
    throw bad(`The DMA heap ${path} cannot be opened (${codeOf(error)}); run as a user who may.`, error);
  }
}

async function allocate(heap: number, path: string, bytes: number): Promise<number> {
  try {
    return await native.dmaHeapAllocate(heap, bytes);
  } catch (error) {
    if (codeOf(error) === 'ENOTTY') throw bad(`${path} is not a DMA heap; give one of /dev/dma_heap.`, error);
    if (codeOf(error) !== 'ENOMEM') throw bad(`${path} gives no memory (${(error as Error).message}).`, error);
    throw daxfsError('DAXFS_NO_SPACE', `${path} cannot give ${formatBytes(bytes)}; ask for less with -s, -O and -C.`, {
      cause: error,
    });
  }
}

async function openHeapMemory(path: string, wish: Wish): Promise<Memory> {
  const bytes = roundUp(wish.sizeBytes ?? wish.needed, wish.blockBytes);
  const heap = openHeap(path);
  try {
    const dmaBuf = await allocate(heap, path, bytes);
    const mapping = map(dmaBuf, 0, bytes, path);
    native.dmaBufSync(dmaBuf, false);
    const close = () => {
      mapping.close();
      native.dmaBufSync(dmaBuf, true);
      closeSync(dmaBuf);
    };
    // The kernel hands out zeroed memory.
    return { name: path, bytes, mapping, source: { dmaBuf }, ...deviceMemory(mapping), clear: () => {}, close };
  } finally {
    closeSync(heap);
  }
}

/**
 * Opens what -H or -D names, with room for the image.
 * @throws DaxfsError DAXFS_BAD_BACKING, DAXFS_NO_SPACE, DAXFS_ALREADY_CREATED
 */
export async function openMemory(choice: Exclude<TargetChoice, { kind: 'file' }>, wish: Wish): Promise<Memory> {
  if (choice.kind === 'heap') return openHeapMemory(choice.path, wish);
  return openDeviceMemory(choice.path, choice.address, wish);
}
