/** Reads a manifest back. It comes out of shared memory, so it is checked like any untrusted file. */

import type { Steps } from '../daxfs/pace.ts';
import { byteLength, DTYPES, isDtype } from './dtype.ts';
import { shown } from './errors.ts';
import { FORMATS, type FormatName } from './formats.ts';
import { JsonScanner } from './json-scan.ts';
import { limit } from './limits.ts';
import { MANIFEST_VERSION, type Manifest, type ManifestFile } from './manifest-schema.ts';
import type { Metadata, MetadataValue } from './metadata.ts';
import { checkedProduct, type TensorInfo } from './tensor.ts';
import { compareUtf8 } from './utf8-order.ts';

const QUOTE = 0x22;
const OPEN_BRACE = 0x7b;
const LOWER_T = 0x74;
const LOWER_F = 0x66;
const textBytesMax = limit('textBytesMax');
const dimensionsMax = limit('dimensionsMax');

type Fields = Record<string, unknown>;

const members = ['version', 'format', 'source', 'revision', 'files', 'tensors', 'metadata'] as const;

class ManifestReader {
  readonly #scan: JsonScanner;

  constructor(bytes: Buffer, name: string) {
    this.#scan = new JsonScanner(bytes, 'MANIFEST', name);
  }

  wrong(what: string, at?: number) {
    return this.#scan.error('MANIFEST_FIELD', `${what}; load the model again`, at);
  }

  #text = () => this.#scan.text(textBytesMax);
  #integer = () => this.#scan.integer();
  #tooManyDimensions = () => this.wrong('a tensor has too many dimensions');
  #shape = () => this.#scan.integers(dimensionsMax, this.#tooManyDimensions);
  #fileReaders = { path: this.#text, size: this.#integer, digest: this.#text };
  #tensorReaders = {
    name: this.#text,
    dtype: this.#text,
    shape: this.#shape,
    file: this.#text,
    offset: this.#integer,
    length: this.#integer,
  };

  /** Reads a small object that has exactly the members of `readers`. */
  #object(what: string, readers: Readonly<Record<string, () => unknown>>): Fields {
    const at = this.#scan.offset;
    const fields: Fields = Object.fromEntries(Object.keys(readers).map((key) => [key, undefined]));
    this.#scan.object((key) => {
      if (!Object.hasOwn(readers, key)) throw this.wrong(`${what} has the unknown member ${shown(key)}`);
      fields[key] = readers[key]!();
    });
    for (const key in readers) if (fields[key] === undefined) throw this.wrong(`${what} has no member ${key}`, at);
    return fields;
  }

  *#list<T>(read: () => T, max: number): Steps<T[]> {
    const out: T[] = [];
    yield* this.#scan.elements(() => {
      if (out.length === max) throw this.wrong(`a list has more than ${max} items`);
      out.push(read());
    });
    return out;
  }

  #revision(): string | null {
    if (this.#scan.peek() === QUOTE) return this.#text();
    if (this.#scan.literal() === null) return null;
    throw this.wrong('revision is neither a text nor null');
  }

  *read(): Steps<Manifest> {
    const scan = this.#scan;
    if (scan.peek() !== OPEN_BRACE) throw this.wrong('the manifest is no object');
    const found: Partial<Manifest> = {};
    const member = this.#member.bind(this);
    yield* scan.members((key) => member(key, found));
    scan.end();
    const missing = members.find((key) => found[key] === undefined);
    if (missing !== undefined) throw this.wrong(`the manifest has no member ${missing}`);
    return found as Manifest;
  }

  *#member(key: string, out: Partial<Manifest>): Steps<void> {
    if (key === 'version') out.version = this.#version();
    else if (key === 'format') out.format = this.#format();
    else if (key === 'source') out.source = this.#text();
    else if (key === 'revision') out.revision = this.#revision();
    else if (key === 'files') out.files = yield* this.#list(() => this.#file(), limit('filesMax'));
    else if (key === 'tensors') out.tensors = yield* this.#list(() => this.#tensor(), limit('tensorsMax'));
    else if (key === 'metadata') out.metadata = yield* this.#metadata();
    else throw this.wrong(`the manifest has the unknown member ${shown(key)}`);
  }

  #version(): typeof MANIFEST_VERSION {
    const version = this.#scan.integer();
    if (version === MANIFEST_VERSION) return version;
    const what = `the manifest has version ${version}, this build reads ${MANIFEST_VERSION}; load the model again`;
    throw this.#scan.error('MANIFEST_VERSION', what);
  }

  #format(): FormatName {
    const text = this.#text();
    const format = FORMATS.find((name) => name === text);
    if (format === undefined) throw this.wrong(`the format ${shown(text)} is unknown`);
    return format;
  }

  #file(): ManifestFile {
    const at = this.#scan.offset;
    const file = this.#object('a file', this.#fileReaders) as unknown as ManifestFile;
    if (!isContentPath(file.path)) throw this.wrong(`the path ${shown(file.path)} is not allowed`, at);
    if (!/^[0-9a-f]{32}$/.test(file.digest)) throw this.wrong(`${shown(file.path)} has no XXH3-128 digest`, at);
    return file;
  }

  #tensor(): TensorInfo {
    const at = this.#scan.offset;
    const tensor = this.#object('a tensor', this.#tensorReaders) as unknown as TensorInfo;
    const what = tensorFault(tensor);
    if (what) throw this.wrong(`tensor ${shown(tensor.name)} ${what}`, at);
    return tensor;
  }

  *#metadata(): Steps<Metadata> {
    const values: [string, MetadataValue][] = [];
    const value = () => this.#metadataValue();
    yield* this.#scan.members(function* (key) {
      values.push([key, yield* value()]);
    }, textBytesMax);
    return Object.fromEntries(values);
  }

  *#metadataValue(): Steps<MetadataValue> {
    const scan = this.#scan;
    const byte = scan.peek();
    if (byte === QUOTE) return yield* scan.string(limit('metadataValueBytesMax'));
    if (byte === OPEN_BRACE) {
      const fields = this.#object('a metadata value', { type: this.#text, length: this.#integer });
      return fields as { type: string; length: number };
    }
    if (byte !== LOWER_T && byte !== LOWER_F) return scan.number();
    return scan.literal() === true;
  }
}

/** A relative path that stays below its top, of segments that a file system takes. */
function isContentPath(path: string): boolean {
  if (path.includes('\0') || Buffer.byteLength(path) > limit('pathBytesMax')) return false;
  return path.split('/').every((part) => {
    return part !== '' && part !== '.' && part !== '..' && Buffer.byteLength(part) <= limit('nameBytesMax');
  });
}

/** What is wrong with a tensor by itself, or undefined. */
function tensorFault({ name, dtype, shape, length }: TensorInfo): string | undefined {
  if (name === '') return 'has no name';
  if (!isDtype(dtype)) return `has the unknown dtype ${shown(dtype)} (known: ${DTYPES.size})`;
  const elements = checkedProduct(shape);
  const bytes = elements === undefined ? undefined : byteLength(dtype, elements);
  return bytes === length
    ? undefined
    : `has ${length} bytes, its shape and dtype say ${bytes ?? 'an impossible number'}`;
}

function* checkFiles(reader: ManifestReader, files: readonly ManifestFile[]): Steps<Map<string, number>> {
  const sizes = new Map<string, number>();
  let previous: string | undefined;
  for (const { path, size } of files) {
    if (previous !== undefined && compareUtf8(previous, path) >= 0) {
      throw reader.wrong(`the file ${shown(path)} is twice in the list or out of order`);
    }
    previous = path;
    sizes.set(path, size);
    yield;
  }
  return sizes;
}

/** Parses and checks a manifest. */
export function* manifestDecodeSteps(bytes: Buffer, name: string): Steps<Manifest> {
  const reader = new ManifestReader(bytes, name);
  const manifest = yield* reader.read();
  const sizes = yield* checkFiles(reader, manifest.files);
  const names = new Set<string>();
  for (const { name: tensor, file, offset, length } of manifest.tensors) {
    const size = sizes.get(file);
    if (size === undefined) throw reader.wrong(`tensor ${shown(tensor)} lies in ${shown(file)}, which is no file`);
    if (offset > size - length) throw reader.wrong(`tensor ${shown(tensor)} ends after its file`);
    if (names.has(tensor)) throw reader.wrong(`tensor ${shown(tensor)} is twice in the list`);
    names.add(tensor);
    yield;
  }
  return manifest;
}
