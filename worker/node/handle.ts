/** A handle, checked: which bytes of the region hold which file. Nothing of it is believed before it is checked. */
import { workerError } from './errors.ts';
import { isObject, type JsonObject, listField, objectField, type Refuse, textField, wholeField } from './fields.ts';

export const MANIFEST_PATH = '.daxserve/manifest.json';

/** The smallest page of any machine that we run on: a `mapAlignment` is a multiple of it. */
const PAGE_BYTES = 4096;

/** One attached file. */
export interface FileInfo {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** XXH3-128, 32 hex digits. */
  readonly digest: string;
}

/** `length` bytes from `fileOffset` of a file lie at `offset` of the region. */
export interface Extent {
  readonly fileOffset: number;
  readonly offset: number;
  readonly length: number;
}

export interface PlacedFile extends FileInfo {
  /** Ascending by `fileOffset`; neighbours that touch on both sides are one. */
  readonly extents: readonly Extent[];
}

/** What a lease gives, without its descriptor. */
export interface Handle {
  readonly model: string;
  readonly digest: string;
  readonly revision: string | null;
  readonly regionUuid: string;
  /** Bytes. */
  readonly regionSize: number;
  readonly mapAlignment: number;
  readonly files: ReadonlyMap<string, PlacedFile>;
}

const refuse: Refuse = (reason) => {
  throw workerError('WORKER_BAD_HANDLE', `The service sent a handle that cannot be used: ${reason}.`);
};

/** @throws DaxserveError WORKER_BAD_HANDLE, naming what is wrong */
export function parseHandle(raw: JsonObject): Handle {
  if (raw.kind !== 'mmap') refuse(`its kind is ${JSON.stringify(raw.kind)}, not "mmap"`);
  const [buffer, ...others] = listField(raw, 'buffers', refuse);
  if (!isObject(buffer) || others.length > 0) refuse('it must list exactly one buffer');
  const region = objectField(raw, 'region', refuse);
  const regionSize = wholeField(region, 'size', refuse);
  const mapAlignment = wholeField(region, 'mapAlignment', refuse);
  if (mapAlignment === 0 || mapAlignment % PAGE_BYTES !== 0) {
    refuse(`mapAlignment ${mapAlignment} is not a multiple of the page size`);
  }
  const files = listField(buffer, 'files', refuse).map((file) => parseFile(file, regionSize));
  return {
    model: textField(raw, 'model', refuse),
    digest: textField(raw, 'digest', refuse),
    revision: typeof raw.revision === 'string' ? raw.revision : null,
    regionUuid: textField(region, 'uuid', refuse),
    regionSize,
    mapAlignment,
    files: new Map(files.map((file) => [file.path, file])),
  };
}

function parseFile(raw: unknown, regionSize: number): PlacedFile {
  if (!isObject(raw)) return refuse('a file is not an object');
  const info = {
    path: textField(raw, 'path', refuse),
    size: wholeField(raw, 'size', refuse),
    digest: textField(raw, 'digest', refuse),
  };
  const extents: Extent[] = [];
  let end = 0;
  for (const item of listField(raw, 'extents', refuse)) {
    const extent = parseExtent(item, info, regionSize);
    if (extent.fileOffset < end) refuse(`the extents of "${info.path}" overlap`);
    end = extent.fileOffset + extent.length;
    append(extents, extent);
  }
  return { ...info, extents };
}

function parseExtent(raw: unknown, file: FileInfo, regionSize: number): Extent {
  if (!isObject(raw)) return refuse(`an extent of "${file.path}" is not an object`);
  const fileOffset = wholeField(raw, 'fileOffset', refuse);
  const offset = wholeField(raw, 'bufferOffset', refuse);
  const length = wholeField(raw, 'length', refuse);
  if (fileOffset + length > file.size) refuse(`an extent of "${file.path}" ends outside the file`);
  if (offset + length > regionSize) refuse(`an extent of "${file.path}" ends outside the region`);
  return { fileOffset, offset, length };
}

function append(extents: Extent[], extent: Extent): void {
  if (extent.length === 0) return;
  const last = extents.at(-1);
  const touches =
    last && last.fileOffset + last.length === extent.fileOffset && last.offset + last.length === extent.offset;
  if (last && touches) extents[extents.length - 1] = { ...last, length: last.length + extent.length };
  else extents.push(extent);
}

/** True when every file of `wanted` lies at the same place of the same region in `offered`. */
export function covers(offered: Handle, wanted: Handle): boolean {
  if (offered.regionUuid !== wanted.regionUuid || offered.digest !== wanted.digest) return false;
  const same = (a: PlacedFile, b: PlacedFile | undefined) => JSON.stringify(a) === JSON.stringify(b);
  return [...wanted.files.values()].every((file) => same(file, offered.files.get(file.path)));
}

/**
 * Where [offset, offset + length) of a file begins in the region. `length` > 0.
 * @throws DaxserveError WORKER_BAD_MANIFEST behind the file's end, WORKER_NOT_CONTIGUOUS
 */
export function locate(file: PlacedFile, offset: number, length: number): number {
  if (offset + length > file.size) {
    throw workerError('WORKER_BAD_MANIFEST', `The manifest speaks of bytes behind the end of "${file.path}".`);
  }
  const extent = file.extents.find((e) => offset >= e.fileOffset && offset + length <= e.fileOffset + e.length);
  if (extent) return extent.offset + (offset - extent.fileOffset);
  const range = `Bytes ${offset}+${length} of "${file.path}"`;
  throw workerError('WORKER_NOT_CONTIGUOUS', `${range} do not lie in one piece of memory: read them by parts.`);
}
