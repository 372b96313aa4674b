/** The options of mkdaxfs, and what a set of them asks for. */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { BIN_CELLS } from '../overlay-key.ts';
import { parseSize } from '../units.ts';

/** As the command line gives them. */
export interface MkdaxfsOptions {
  directory?: string;
  output?: string;
  heap?: string;
  dax?: string;
  phys?: number;
  mountpoint?: string;
  size?: number;
  validate?: boolean;
  pcacheSlots?: number;
  overlay?: number;
  buckets?: number;
  empty?: boolean;
  export?: boolean;
  blockSize?: number;
  prewarm?: boolean;
  private?: boolean;
  skipSpecial?: boolean;
}

export type Mode = 'static' | 'split' | 'export' | 'empty';

/** Where the image goes. */
export type TargetChoice =
  | { kind: 'file'; path: string }
  | { kind: 'heap'; path: string }
  /** `address`: offset in the file or device; undefined = a device-dax device as a whole. */
  | { kind: 'device'; path: string; address?: number };

/** What is to be made; every combination that makes no sense is refused before. */
export interface Request {
  mode: Mode;
  target: TargetChoice;
  /** Static, split, export. */
  directory?: string;
  /** Split: file that gets the bytes of all files. */
  backing?: string;
  mountpoint?: string;
  /** Bytes to allocate; default: what is needed. */
  sizeBytes?: number;
  blockBytes: number;
  poolBytes: number;
  bucketCount: number;
  /** Default by mode. */
  slots?: number;
  validate: boolean;
  prewarm: boolean;
  /** A front that no kernel mounts. */
  private: boolean;
  skipSpecial: boolean;
  /** Options that have no meaning in this mode, for a remark. */
  ignored: string[];
}

/** A combination of options that makes no sense: exit code 2. */
export class UsageError extends Error {}

const DEFAULT_POOL_BYTES = 64 * 2 ** 20;
const DEFAULT_BUCKETS = 65536;
/** Counts are 32 bits wide in the superblock and powers of two. */
const COUNT_MAX = 2 ** 31;
const SLOTS_MIN = 8;
/** Offsets in the pool's free lists have 48 bits, all ones meaning empty. */
const POOL_BYTES_MAX = 2 ** 48 - 2 ** 16;
const BLOCK_SIZES = [4096, 16384, 65536];

const isHex = (text: string) => /^0x[0-9a-f]{1,13}$/i.test(text);

/** Sizes as the format's own tool takes them: also hexadecimal. */
function sizeOption(text: string): number {
  try {
    return isHex(text) ? Number(text) : parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** An address, unlike a size, may be 0. */
export function addressOption(text: string): number {
  return /^(0x)?0+$/i.test(text) ? 0 : sizeOption(text);
}

const powerOption = (least: number) => (text: string) => {
  const count = isHex(text) || /^\d+$/.test(text) ? Number(text) : sizeOption(text);
  if (count < least || count > COUNT_MAX || Math.log2(count) % 1 !== 0) {
    throw new InvalidArgumentError(`It must be a power of two from ${least} to ${COUNT_MAX}.`);
  }
  return count;
};

function poolOption(text: string): number {
  const bytes = sizeOption(text);
  if (bytes < BLOCK_SIZES[0]! || bytes > POOL_BYTES_MAX) {
    throw new InvalidArgumentError('It must be 4096 bytes or more and below 2^48.');
  }
  return bytes;
}

function blockOption(text: string): number {
  const bytes = sizeOption(text);
  if (!BLOCK_SIZES.includes(bytes)) throw new InvalidArgumentError('It must be 4096, 16K or 64K.');
  return bytes;
}

/** Every option, in the order of the help text. */
export const OPTIONS: readonly Option[] = [
  new Option('-d, --directory <dir>', 'source tree'),
  new Option('-o, --output <file>', 'image file; in split mode the backing file. Appears when it is whole'),
  new Option('-H, --heap <path>', 'allocate from a DMA heap such as /dev/dma_heap/system, write, mount (needs -m)'),
  new Option('-D, --dax <path>', 'write to a device-dax device; with -p to any file or device that can be mapped'),
  new Option('-p, --phys <addr>', 'offset in the file or device of -D (of /dev/mem: physical address)').argParser(
    addressOption,
  ),
  new Option('-m, --mountpoint <dir>', 'mount it there afterwards'),
  new Option('-s, --size <size>', 'bytes to allocate (K, M, G, T); default: what is needed').argParser(sizeOption),
  new Option('-V, --validate', 'check the finished image against every rule of the format, and when mounting'),
  new Option('-C, --pcache-slots <n>', 'slots of the page cache, a power of two').argParser(powerOption(SLOTS_MIN)),
  new Option('-O, --overlay <size>', 'bytes of the overlay pool (default 64M)').argParser(poolOption),
  new Option('-B, --buckets <n>', 'buckets of the overlay, a power of two (default 65536)').argParser(powerOption(1)),
  new Option('-E, --empty', 'an empty file system without a source tree'),
  new Option('-X, --export', 'export mode: file bytes stay in the source tree (needs -d and -H or -D)'),
  new Option('--block-size <size>', 'block size: 4096, 16K or 64K; default: the page size of this machine').argParser(
    blockOption,
  ),
  new Option('--prewarm', 'split and export mode: fill the page cache with the first pages of every file'),
  new Option(
    '--private',
    'split and export mode: a front for processes alone, which uses its space again; no kernel mounts it',
  ),
  new Option('--skip-special', 'leave devices, FIFOs and sockets out instead of refusing the tree'),
];

/** Page size of this machine, from the vector that the kernel gives every process. */
export function machinePageBytes(auxv: Buffer = readFileSync('/proc/self/auxv')): number {
  const pageSizeTag = 6n;
  for (let at = 0; at + 16 <= auxv.length; at += 16) {
    if (auxv.readBigUInt64LE(at) === pageSizeTag) return Number(auxv.readBigUInt64LE(at + 8));
  }
  return BLOCK_SIZES[0]!;
}

function refuse(message: string): never {
  throw new UsageError(message);
}

function refuseContradictions(options: MkdaxfsOptions): void {
  const { directory, output, heap, dax, phys, mountpoint } = options;
  if (options.empty && directory !== undefined) refuse('-E makes an empty file system; leave -d DIR away');
  if (options.empty && options.export) refuse('-E makes an empty file system, which exports nothing; leave -X away');
  if (!options.empty && directory === undefined) refuse('-d DIR is missing (or -E for an empty file system)');
  if (heap !== undefined && dax !== undefined) refuse('-H and -D are two targets; give one');
  if (phys !== undefined && dax === undefined)
    refuse('-p ADDR is an offset in the device of -D PATH, which is missing');
  if (options.export && output !== undefined) refuse('-X is export mode: file bytes stay in the tree; leave -o away');
  if (options.export && heap === undefined && dax === undefined) refuse('-X needs memory to write to: -H or -D');
  if (heap === undefined && dax === undefined && output === undefined) refuse('-o FILE is missing (or -D or -H)');
  if (heap !== undefined && mountpoint === undefined) {
    refuse('-H needs -m DIR: memory of a heap lives only as long as something, such as a mount, holds it');
  }
  if (mountpoint !== undefined && heap === undefined && dax === undefined) {
    refuse('-m mounts memory, and an image file is none; write it to a device with -D, or use -H');
  }
  if (options.empty && output !== undefined && (heap ?? dax) !== undefined) {
    refuse('-o and a device are two targets for an empty file system; give one');
  }
}

function targetOf({ output, heap, dax, phys }: MkdaxfsOptions): TargetChoice {
  if (heap !== undefined) return { kind: 'heap', path: heap };
  if (dax !== undefined) return { kind: 'device', path: dax, ...(phys === undefined ? {} : { address: phys }) };
  return { kind: 'file', path: output! };
}

function modeOf({ empty, export: exports, output, heap, dax }: MkdaxfsOptions): Mode {
  if (empty) return 'empty';
  if (exports) return 'export';
  return output !== undefined && (heap ?? dax) !== undefined ? 'split' : 'static';
}

function ignoredIn(mode: Mode, options: MkdaxfsOptions): string[] {
  const given: [string, unknown][] = [
    ['-O', options.overlay],
    ['-B', options.buckets],
    ['-C', options.pcacheSlots],
  ];
  return mode === 'static' ? given.flatMap(([name, value]) => (value === undefined ? [] : [name])) : [];
}

function refusePrivate(mode: Mode, { mountpoint, heap, buckets = DEFAULT_BUCKETS }: MkdaxfsOptions): void {
  if (mode !== 'split' && mode !== 'export') {
    refuse('--private is for split mode (-d, -o and a device) and export mode (-X); a region is private anyway');
  }
  if (mountpoint !== undefined || heap !== undefined)
    refuse('--private makes what no kernel mounts; leave -m and -H away');
  if (buckets < BIN_CELLS) refuse(`--private needs at least ${BIN_CELLS} buckets; raise -B`);
}

/** @throws UsageError with the option that is missing or too many */
export function toRequest(options: MkdaxfsOptions): Request {
  refuseContradictions(options);
  const mode = modeOf(options);
  const { directory, output, mountpoint, size, pcacheSlots } = options;
  if (options.prewarm && mode !== 'split' && mode !== 'export') {
    refuse(
      '--prewarm fills a page cache from files; only split mode (-d, -o and a device) and export mode (-X) have one',
    );
  }
  if (options.private) refusePrivate(mode, options);
  return {
    mode,
    target: targetOf(options),
    blockBytes: options.blockSize ?? machinePageBytes(),
    poolBytes: options.overlay ?? DEFAULT_POOL_BYTES,
    bucketCount: options.buckets ?? DEFAULT_BUCKETS,
    validate: options.validate === true,
    prewarm: options.prewarm === true,
    private: options.private === true,
    skipSpecial: options.skipSpecial === true,
    ignored: ignoredIn(mode, options),
    ...(directory !== undefined && { directory }),
    ...(mode === 'split' && { backing: output! }),
    ...(mountpoint !== undefined && { mountpoint }),
    ...(size !== undefined && { sizeBytes: size }),
    ...(pcacheSlots !== undefined && { slots: pcacheSlots }),
  };
}
