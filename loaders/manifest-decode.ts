/** Reads a manifest back. It comes out of shared memory, so it is checked like any untrusted file. */
import { byteLength, DTYPES, isDtype } from './dtype.ts';
import { shown } from './errors.ts';
import { FORMATS } from './formats.ts';
import { JsonScanner } from './json-scan.ts';
import { limit } from './limits.ts';
import { MANIFEST_VERSION, type Manifest, type ManifestFile } from './manifest-schema.ts';
import type { Metadata, MetadataValue } from './metadata.ts';
import type { Steps } from './pace.ts';
import { checkedProduct, type TensorInfo } from './tensor.ts';
import { compareUtf8 } from './utf8-order.ts';

const QUOTE = 0x22;
const OPEN_BRACE = 0x7b;
const textBytesMax = 16 * limit('tensorNameBytesMax');

type Fields = Map<string, unknown>;
type Read = () => Steps<unknown>;

class ManifestReader {
  readonly #scan: JsonScanner;

  constructor(bytes: Buffer, name: string) {
    this.#scan = new JsonScanner(bytes, 'MANIFEST', name);
  }

  wrong(what: string, at?: number) {
    return this.#scan.error('MANIFEST_FIELD', `${what}; load the model again`, at);
  }

  /** Reads an object that has exactly the members of `readers`. */
  *#object(what: string, readers: Readonly<Record<string, Read>>): Steps<Fields> {
    const scan = this.#scan;
    const fields: Fields = new Map();
    const at = scan.offset;
    const unknown = (key: string) => this.wrong(`${what} has the unknown member ${shown(key)}`);
    yield* scan.members(function* (key) {
      if (!Object.hasOwn(readers, key)) throw unknown(key);
      fields.set(key, yield* readers[key]!());
    });
    const missing = Object.keys(readers).find((key) => !fields.has(key));
    if (missing !== undefined) throw this.wrong(`${what} has no member ${missing}`, at);
    return fields;
  }

  *#list<T>(read: () => Steps<T>, max: number): Steps<T[]> {
    const out: T[] = [];
    const tooMany = () => this.wrong(`a list has more than ${max} items`);
    yield* this.#scan.elements(function* () {
      if (out.length === max) throw tooMany();
      out.push(yield* read());
    });
    return out;
  }

  *#text(): Steps<string> {
    return yield* this.#scan.string(textBytesMax);
  }

  *#textOrNull(): Steps<string | null> {
    if (this.#scan.peek() === QUOTE) return yield* this.#text();
    if (this.#scan.literal() === null) return null;
    throw this.wrong('revision is neither a text nor null');
  }

  // biome-ignore lint/correctness/useYield: a reader like the others
  *#integer(): Steps<number> {
    return this.#scan.integer();
  }

  *read(): Steps<Manifest> {
    const scan = this.#scan;
    if (scan.peek() !== OPEN_BRACE) throw this.wrong('the manifest is no object');
    const fields = yield* this.#object('the manifest', {
      version: () => this.#version(),
      format: () => this.#text(),
      source: () => this.#text(),
      revision: () => this.#textOrNull(),
      files: () => this.#list(() => this.#file(), limit('filesMax')),
      tensors: () => this.#list(() => this.#tensor(), limit('tensorsMax')),
      metadata: () => this.#metadata(),
    });
    scan.end();
    const manifest = Object.fromEntries(fields) as Manifest;
    if (!FORMATS.includes(manifest.format)) throw this.wrong(`the format ${shown(manifest.format)} is unknown`, 0);
    return manifest;
  }

  // biome-ignore lint/correctness/useYield: a reader like the others
  *#version(): Steps<number> {
    const version = this.#scan.integer();
    if (version === MANIFEST_VERSION) return version;
    const what = `the manifest has version ${version}, this build reads ${MANIFEST_VERSION}; load the model again`;
    throw this.#scan.error('MANIFEST_VERSION', what);
  }

  *#file(): Steps<ManifestFile> {
    const at = this.#scan.offset;
    const fields = yield* this.#object('a file', {
      path: () => this.#text(),
      size: () => this.#integer(),
      digest: () => this.#text(),
    });
    const file = Object.fromEntries(fields) as unknown as ManifestFile;
    if (!isContentPath(file.path)) throw this.wrong(`the path ${shown(file.path)} is not allowed`, at);
    if (!/^[0-9a-f]{32}$/.test(file.digest)) throw this.wrong(`${shown(file.path)} has no XXH3-128 digest`, at);
    return file;
  }

  *#tensor(): Steps<TensorInfo> {
    const at = this.#scan.offset;
    const tooMany = () => this.wrong('a tensor has too many dimensions');
    const fields = yield* this.#object('a tensor', {
      name: () => this.#text(),
      dtype: () => this.#text(),
      shape: () => this.#scan.integers(limit('dimensionsMax'), tooMany),
      file: () => this.#text(),
      offset: () => this.#integer(),
      length: () => this.#integer(),
    });
    const tensor = Object.fromEntries(fields) as unknown as TensorInfo;
    const what = tensorFault(tensor);
    if (what) throw this.wrong(`tensor ${shown(tensor.name)} ${what}`, at);
    return tensor;
  }

  *#metadata(): Steps<Metadata> {
    const values: [string, MetadataValue][] = [];
    const value = () => this.#metadataValue();
    yield* this.#scan.members(function* (key) {
      values.push([key, yield* value()]);
    }, limit('ggufKeyBytesMax'));
    return Object.fromEntries(values);
  }

  *#metadataValue(): Steps<MetadataValue> {
    const scan = this.#scan;
    const byte = scan.peek();
    if (byte === QUOTE) return yield* scan.string(limit('metadataValueBytesMax'));
    if (byte === OPEN_BRACE) {
      const fields = yield* this.#object('a metadata value', {
        type: () => this.#text(),
        length: () => this.#integer(),
      });
      return Object.fromEntries(fields) as { type: string; length: number };
    }
    if (byte !== 0x74 && byte !== 0x66) return scan.number();
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
