/**
 * The header of a GGUF file -> tensors. Layout, little-endian: magic, version, tensor count, key count; key-value
 * pairs; tensor infos; padding to `general.alignment`; data. Every rule is one check (docs/FORMATS.md#gguf).
 */

import { pace, type Steps, sortSteps } from '../daxfs/pace.ts';
import type { ByteSource } from './byte-source.ts';
import { byteLength, GGML_DTYPES, GGML_REMOVED, type GgmlDtypeName, ggmlDtype } from './dtype.ts';
import { type LoaderError, shown } from './errors.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { type GgufValue, integerOf, isUint32, keyValueSteps } from './gguf-values.ts';
import { limit } from './limits.ts';
import type { MetadataValue } from './metadata.ts';
import { checkedProduct, checkedSum, type TensorInfo } from './tensor.ts';

/** How a file says that it is one part of several. */
export interface GgufSplit {
  /** From 0. */
  no: number;
  count: number;
  /** Tensors of all parts together. */
  tensors: number;
}

export interface GgufHeader {
  version: number;
  /** Bytes. */
  alignment: number;
  /** In the order of their bytes; shapes row-major (the file stores them reversed). */
  tensors: TensorInfo[];
  metadata: Map<string, MetadataValue>;
  /** Undefined for a model in one file; `keys` tells which split keys are there. */
  split: GgufSplit | undefined;
  /** Split keys that the file has. */
  splitKeys: string[];
}

const MAGIC = 0x46554747;
const alignmentDefault = 32;
const SPLIT_KEYS = ['split.no', 'split.count', 'split.tensors.count'] as const;

interface Info {
  name: string;
  dtype: GgmlDtypeName;
  shape: number[];
  /** Relative to the data. */
  begin: number;
  length: number;
  /** Of the info in the file. */
  at: number;
}

function* preamble(cursor: GgufCursor): Steps<{ version: number; tensors: number; keys: number }> {
  const magic = yield* cursor.u32();
  if (magic !== MAGIC) throw cursor.error('GGUF_MAGIC', 'the file does not begin with "GGUF"', 0);
  const version = yield* cursor.u32();
  if (version !== 0 && version % 0x10000 === 0) {
    throw cursor.error('GGUF_BIG_ENDIAN', 'the file is big-endian; convert it to little-endian', 4);
  }
  if (version !== 2 && version !== 3) {
    throw cursor.error('GGUF_VERSION', `the version is ${version}, only 2 and 3 are read; convert the file`, 4);
  }
  const tensors = yield* cursor.count();
  if (tensors > limit('tensorsMax')) {
    throw cursor.error(
      'GGUF_TENSOR_COUNT',
      `the file says ${tensors} tensors, at most ${limit('tensorsMax')} are read`,
      8,
    );
  }
  const keys = yield* cursor.count();
  if (keys > limit('ggufKeysMax')) {
    throw cursor.error('GGUF_KEY_COUNT', `the file says ${keys} keys, at most ${limit('ggufKeysMax')} are read`, 16);
  }
  return { version, tensors, keys };
}

function alignmentOf(pairs: ReadonlyMap<string, GgufValue>, cursor: GgufCursor): number {
  const entry = pairs.get('general.alignment');
  if (!entry) return alignmentDefault;
  const { value } = entry;
  const max = limit('ggufAlignmentMax');
  if (
    isUint32(entry) &&
    typeof value === 'number' &&
    value >= 8 &&
    value <= max &&
    Number.isInteger(Math.log2(value))
  ) {
    return value;
  }
  const what = `general.alignment must be a uint32 and a power of two from 8 to ${max}; write the file again`;
  throw cursor.error('GGUF_ALIGNMENT', what);
}

function* dimensions(cursor: GgufCursor, name: string): Steps<number[]> {
  const count = yield* cursor.u32();
  if (count > limit('ggufDimensionsMax')) {
    throw cursor.error(
      'GGUF_DIMENSIONS',
      `tensor ${shown(name)} has ${count} dimensions, at most ${limit('ggufDimensionsMax')} are allowed`,
    );
  }
  const sizes: number[] = [];
  for (let i = 0; i < count; i++) sizes.push(yield* cursor.count());
  return sizes;
}

function* dtype(cursor: GgufCursor, name: string): Steps<GgmlDtypeName> {
  const at = cursor.offset;
  const number = yield* cursor.u32();
  const known = ggmlDtype(number);
  if (known) return known;
  const removed = GGML_REMOVED.get(number);
  const what = removed ? `the removed type ${removed}` : `the unknown type ${number}`;
  throw cursor.error('GGUF_DTYPE', `tensor ${shown(name)} has ${what}; quantise the model again`, at);
}

/** @param sizes fastest first, as in the file */
function lengthOf(cursor: GgufCursor, name: string, type: GgmlDtypeName, sizes: number[], at: number): number {
  const text = `tensor ${shown(name)} of type ${type} and dimensions [${sizes}]`;
  const elements = checkedProduct(sizes);
  if (elements === undefined) throw cursor.error('GGUF_SHAPE', `${text} is larger than can be counted`, at);
  const block = GGML_DTYPES[type].elements;
  if ((sizes[0] ?? 1) % block !== 0) {
    throw cursor.error('GGUF_BLOCK', `${text}: the first dimension is no multiple of the block of ${block}`, at);
  }
  const bytes = byteLength(type, elements);
  if (bytes === undefined) throw cursor.error('GGUF_SHAPE', `${text} is larger than can be counted`, at);
  return bytes;
}

function* tensorInfo(cursor: GgufCursor, alignment: number): Steps<Info> {
  const at = cursor.offset;
  const name = (yield* cursor.text(limit('ggufTensorNameBytesMax'), 'GGUF_TENSOR_NAME')).toString('utf8');
  if (name === '') throw cursor.error('GGUF_TENSOR_NAME', 'a tensor has no name; write the file again', at);
  const sizes = yield* dimensions(cursor, name);
  const type = yield* dtype(cursor, name);
  const begin = yield* cursor.count();
  const length = lengthOf(cursor, name, type, sizes, at);
  if (begin % alignment !== 0) {
    throw cursor.error(
      'GGUF_OFFSET',
      `tensor ${shown(name)} begins at ${begin}, no multiple of the alignment ${alignment}`,
      at,
    );
  }
  return { name, dtype: type, shape: sizes.reverse(), begin, length, at };
}

function* tensorInfos(cursor: GgufCursor, count: number, alignment: number): Steps<Info[]> {
  const infos: Info[] = [];
  const names = new Set<string>();
  for (let i = 0; i < count; i++) {
    const info = yield* tensorInfo(cursor, alignment);
    if (names.has(info.name)) {
      throw cursor.error(
        'GGUF_DUPLICATE_TENSOR',
        `tensor ${shown(info.name)} appears twice; write the file again`,
        info.at,
      );
    }
    names.add(info.name);
    infos.push(info);
    yield;
  }
  return yield* sortSteps(infos, (a, b) => a.begin - b.begin || a.length - b.length);
}

const alignUp = (value: number, alignment: number) => Math.ceil(value / alignment) * alignment;

/** Each tensor begins where the padding after the one before it ends. @returns end of the last one */
function* checkLayout(cursor: GgufCursor, infos: readonly Info[], alignment: number): Steps<number> {
  let end = 0;
  for (const { name, begin, length, at } of infos) {
    if (begin < end)
      throw cursor.error('GGUF_OVERLAP', `tensor ${shown(name)} begins in the bytes of another tensor`, at);
    const hole = begin - alignUp(end, alignment);
    if (hole > 0) throw cursor.error('GGUF_HOLE', `no tensor holds the ${hole} bytes before ${shown(name)}`, at);
    const next = checkedSum(begin, length);
    if (next === undefined) throw cursor.error('GGUF_END', `tensor ${shown(name)} ends beyond what can be counted`, at);
    end = next;
    yield;
  }
  return end;
}

function endError(cursor: GgufCursor, wanted: number, size: number): LoaderError {
  const what = size < wanted ? 'it is truncated; copy it again' : 'bytes of no tensor follow; write it again';
  return cursor.error('GGUF_END', `header and tensors fill ${wanted} bytes, the file has ${size}: ${what}`, wanted);
}

function splitOf(pairs: ReadonlyMap<string, GgufValue>): GgufSplit | undefined {
  const [no, count, tensors] = SPLIT_KEYS.map((key) => integerOf(pairs.get(key)));
  if (no === undefined || count === undefined || tensors === undefined) return undefined;
  return { no, count, tensors };
}

/** Parses the header of a GGUF file of `size` bytes. */
export function* ggufSteps(source: ByteSource): Steps<GgufHeader> {
  const { name: file, size } = source;
  const cursor = new GgufCursor(source);
  const { version, tensors: tensorCount, keys } = yield* preamble(cursor);
  const pairs = yield* keyValueSteps(cursor, keys);
  const alignment = alignmentOf(pairs, cursor);
  const infos = yield* tensorInfos(cursor, tensorCount, alignment);
  const headerEnd = cursor.offset;
  const dataOffset = alignUp(headerEnd, alignment);
  const dataBytes = yield* checkLayout(cursor, infos, alignment);
  const least = infos.length === 0 ? headerEnd : dataOffset + dataBytes;
  if (size < least) throw endError(cursor, least, size);
  if (size > dataOffset + alignUp(dataBytes, alignment)) throw endError(cursor, dataOffset + dataBytes, size);
  const tensors: TensorInfo[] = [];
  for (const { name, dtype, shape, begin, length } of infos) {
    tensors.push({ name, dtype, shape, file, offset: dataOffset + begin, length });
    yield;
  }
  const metadata = new Map([...pairs].map(([key, { value }]) => [key, value]));
  const splitKeys = SPLIT_KEYS.filter((key) => pairs.has(key));
  return { version, alignment, tensors, metadata, split: splitOf(pairs), splitKeys };
}

/** Reads and checks the header of a GGUF file. @throws LoaderError GGUF_* */
export function readGguf(source: ByteSource, signal?: AbortSignal): Promise<GgufHeader> {
  return pace(ggufSteps(source), signal);
}
