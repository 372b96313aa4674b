/**
 * The header of a safetensors file -> tensors. Layout: a little-endian u64 length n, n bytes of JSON, then the data.
 * Every rule of the format is one check with a code of its own (docs/FORMATS.md#safetensors); the data is not read.
 */

import { pace, type Steps, sortSteps } from '../daxfs/pace.ts';
import type { ByteSource } from './byte-source.ts';
import { byteLength, isSafetensorsDtype, SAFETENSORS_DTYPES, type SafetensorsDtypeName } from './dtype.ts';
import { type LoaderCode, type LoaderError, loaderError, shown } from './errors.ts';
import { JsonScanner } from './json-scan.ts';
import { limit } from './limits.ts';
import { checkedProduct, type TensorInfo } from './tensor.ts';

/** What a safetensors header says. */
export interface SafetensorsHeader {
  /** In the order of their bytes. `offset` counts from the start of the file. */
  tensors: TensorInfo[];
  /** `__metadata__`. */
  metadata: Map<string, string>;
  /** Offset of the first data byte in the file. */
  dataOffset: number;
}

const lengthBytes = 8;
const tensorsMax = limit('tensorsMax');
const dimensionsMax = limit('dimensionsMax');
const QUOTE = 0x22;
const METADATA_KEY = '__metadata__';
const OPEN_BRACE = 0x7b;

function fail(code: LoaderCode, file: string, what: string, offset?: number): LoaderError {
  const place = offset === undefined ? '' : ` (byte ${offset})`;
  return loaderError(code, `${shown(file)}: ${what}${place}.`, offset === undefined ? {} : { offset });
}

interface Entry {
  name: string;
  dtype: SafetensorsDtypeName;
  shape: number[];
  /** Relative to the data. */
  begin: number;
  end: number;
  /** Of the entry in the file. */
  at: number;
}

/** Reads the entries of one header; a member per rule. */
class HeaderReader {
  readonly #scan: JsonScanner;
  readonly entries: Entry[] = [];
  readonly metadata = new Map<string, string>();

  constructor(scan: JsonScanner) {
    this.#scan = scan;
  }

  *read(): Steps<void> {
    const onMember = this.#member.bind(this);
    yield* this.#scan.members(onMember);
  }

  #member(key: string, at: number): Steps<void> | undefined {
    if (key === METADATA_KEY) return this.#metadata();
    if (this.entries.length === tensorsMax) {
      throw this.#scan.error('SOURCE_TOO_MANY_TENSORS', `the file has more than ${tensorsMax} tensors; split it`);
    }
    this.entries.push(this.#entry(key, at));
    return undefined;
  }

  *#metadata(): Steps<void> {
    const scan = this.#scan;
    const { metadata } = this;
    const what = '__metadata__ is no map from strings to strings; write the file again';
    if (scan.peek() !== OPEN_BRACE) throw scan.error('SAFETENSORS_METADATA', what);
    yield* scan.members(function* (key) {
      if (scan.peek() !== QUOTE) throw scan.error('SAFETENSORS_METADATA', what);
      metadata.set(key, yield* scan.string(limit('metadataValueBytesMax')));
    }, limit('textBytesMax'));
  }

  #entry(name: string, at: number): Entry {
    const scan = this.#scan;
    let dtype: SafetensorsDtypeName | undefined;
    let shape: number[] | undefined;
    let range: [number, number] | undefined;
    if (scan.peek() !== OPEN_BRACE) {
      throw scan.error('SAFETENSORS_ENTRY', `the entry of tensor ${shown(name)} is no object; write the file again`);
    }
    scan.object((key) => {
      if (key === 'dtype') dtype = this.#dtype(name);
      else if (key === 'shape') shape = this.#shape(name);
      else if (key === 'data_offsets') range = this.#range(name);
      else throw scan.error('SAFETENSORS_ENTRY', `tensor ${shown(name)} has the unknown member ${shown(key)}`);
    });
    if (dtype && shape && range) return { name, dtype, shape, begin: range[0], end: range[1], at };
    const what = `tensor ${shown(name)} needs dtype, shape and data_offsets; write the file again`;
    throw scan.error('SAFETENSORS_ENTRY', what, at);
  }

  #dtype(name: string): SafetensorsDtypeName {
    const dtype = this.#scan.text(limit('tensorNameBytesMax'));
    if (isSafetensorsDtype(dtype)) return dtype;
    const known = Object.keys(SAFETENSORS_DTYPES).join(' ');
    throw this.#scan.error(
      'SAFETENSORS_DTYPE',
      `tensor ${shown(name)} has the dtype ${shown(dtype)}, none of ${known}`,
    );
  }

  #shape(name: string): number[] {
    return this.#scan.integers(dimensionsMax, () =>
      this.#scan.error('SAFETENSORS_SHAPE', `tensor ${shown(name)} has more than ${dimensionsMax} dimensions`),
    );
  }

  #range(name: string): [number, number] {
    const wrong = () => {
      const what = `data_offsets of tensor ${shown(name)} must be [begin, end] with begin <= end`;
      return this.#scan.error('SAFETENSORS_OFFSETS', what);
    };
    const [begin, end] = this.#scan.integers(2, wrong);
    if (begin === undefined || end === undefined || begin > end) throw wrong();
    return [begin, end];
  }
}

function checkSize(entry: Entry, file: string): void {
  const { name, dtype, shape, begin, end, at } = entry;
  const elements = checkedProduct(shape);
  const text = `tensor ${shown(name)} of shape [${shape}]`;
  if (elements === undefined) throw fail('SAFETENSORS_SHAPE', file, `${text} is larger than can be counted`, at);
  const bytes = byteLength(dtype, elements);
  if (bytes === end - begin) return;
  if (elements % SAFETENSORS_DTYPES[dtype].elements !== 0) {
    throw fail('SAFETENSORS_SUB_BYTE', file, `${text} and dtype ${dtype} does not end on a whole byte`, at);
  }
  if (bytes === undefined) throw fail('SAFETENSORS_SHAPE', file, `${text} is larger than can be counted`, at);
  throw fail('SAFETENSORS_SIZE', file, `${text} and dtype ${dtype} needs ${bytes} bytes but has ${end - begin}`, at);
}

/** Sizes agree with shapes, and the entries cover the data without overlap or hole up to the file's end. */
function* checkedEntries(entries: Entry[], file: string, dataBytes: number): Steps<Entry[]> {
  const sorted = yield* sortSteps(entries, (a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const entry of sorted) {
    checkSize(entry, file);
    if (entry.begin < covered) {
      throw fail(
        'SAFETENSORS_OVERLAP',
        file,
        `tensor ${shown(entry.name)} begins in the bytes of another tensor`,
        entry.at,
      );
    }
    if (entry.begin > covered) {
      throw fail(
        'SAFETENSORS_HOLE',
        file,
        `no tensor holds the ${entry.begin - covered} bytes before ${shown(entry.name)}`,
        entry.at,
      );
    }
    covered = entry.end;
    yield;
  }
  if (covered === dataBytes) return sorted;
  const what = covered > dataBytes ? 'truncated; copy it again' : 'followed by bytes of no tensor; write it again';
  throw fail('SAFETENSORS_END', file, `the tensors fill ${covered} bytes, the file has ${dataBytes}: it is ${what}`);
}

/** The JSON may be followed by spaces, and by nothing else. */
function* checkPadding(scan: JsonScanner): Steps<void> {
  const byte = yield* scan.padding();
  if (byte === undefined) return;
  if (byte !== 0 && scan.peek() === byte) scan.end();
  throw scan.error('SAFETENSORS_PADDING', 'the header may be padded with spaces only; write the file again');
}

/**
 * Parses the JSON of a header.
 * @param header the JSON with its padding
 * @param dataBytes bytes of the file after the header
 */
export function* safetensorsSteps(header: Buffer, file: string, dataBytes: number): Steps<SafetensorsHeader> {
  if (header[0] !== OPEN_BRACE)
    throw fail('SAFETENSORS_HEADER_START', file, 'the header does not begin with {', lengthBytes);
  const scan = new JsonScanner(header, 'SAFETENSORS', file, lengthBytes);
  const reader = new HeaderReader(scan);
  yield* reader.read();
  yield* checkPadding(scan);
  const entries = yield* checkedEntries(reader.entries, file, dataBytes);
  const dataOffset = lengthBytes + header.length;
  const tensors: TensorInfo[] = [];
  for (const { name, dtype, shape, begin, end } of entries) {
    tensors.push({ name, dtype, shape, file, offset: dataOffset + begin, length: end - begin });
    yield;
  }
  return { tensors, metadata: reader.metadata, dataOffset };
}

/** Reads and checks the header of a safetensors file. @throws LoaderError SAFETENSORS_* */
export async function readSafetensors(bytes: ByteSource, signal?: AbortSignal): Promise<SafetensorsHeader> {
  const { name, size } = bytes;
  if (size < lengthBytes) {
    throw fail(
      'SAFETENSORS_TOO_SHORT',
      name,
      `the file has ${size} bytes, the length word alone needs ${lengthBytes}; copy it again`,
    );
  }
  const length = (await bytes.read(0, lengthBytes)).readBigUInt64LE();
  const max = limit('safetensorsHeaderBytesMax');
  if (length > BigInt(max)) {
    throw fail('SAFETENSORS_HEADER_TOO_LARGE', name, `the header says ${length} bytes, at most ${max} are read`, 0);
  }
  const headerBytes = Number(length);
  if (lengthBytes + headerBytes > size) {
    throw fail(
      'SAFETENSORS_HEADER_LENGTH',
      name,
      `the header says ${length} bytes but the file has ${size}; copy it again`,
      0,
    );
  }
  const header = await bytes.read(lengthBytes, headerBytes);
  return pace(safetensorsSteps(header, name, size - lengthBytes - headerBytes), signal);
}
