/** A resolved source -> its format, tensors and metadata. Headers are read and checked; no weights are read. */

import { eachStep, pace, type Steps } from '../daxfs/pace.ts';
import { withFile } from './byte-source.ts';
import { loaderError, shown } from './errors.ts';
import { type FormatName, formatOfPath } from './formats.ts';
import { readGguf } from './gguf.ts';
import { checkGgufParts, type GgufPart } from './gguf-split.ts';
import { limit } from './limits.ts';
import { type Metadata, MetadataCollector, metadataText } from './metadata.ts';
import { readSafetensors } from './safetensors.ts';
import { checkNumberedShards, checkShardIndex, directoryOf } from './shard-files.ts';
import { isShardIndex } from './shard-index.ts';
import type { Source, SourceFile } from './source.ts';
import type { TensorInfo } from './tensor.ts';

export interface Description {
  format: FormatName;
  /** By file in the order of the source, then by offset. Names are unique. */
  tensors: TensorInfo[];
  metadata: Metadata;
}

/** What the files of one format gave, path by path. */
interface Reading {
  tensors: Map<string, readonly TensorInfo[]>;
  metadata: MetadataCollector;
}

/** What is read of a source: files of its format, and indexes that name them. */
interface Headers {
  format: FormatName;
  files: SourceFile[];
  indexes: SourceFile[];
}

/** Safetensors when there is a file or an index of it; then GGUF; a GGUF file beside safetensors is a side file. */
function* headerSteps(all: readonly SourceFile[]): Steps<Headers> {
  const files = { safetensors: [] as SourceFile[], gguf: [] as SourceFile[] };
  const indexes: SourceFile[] = [];
  yield* eachStep(all, (file) => {
    const format = formatOfPath(file.path);
    if (format) files[format].push(file);
    else if (isShardIndex(file.path)) indexes.push(file);
  });
  if (files.safetensors.length + indexes.length > 0)
    return { format: 'safetensors', files: files.safetensors, indexes };
  return { format: files.gguf.length > 0 ? 'gguf' : 'files', files: files.gguf, indexes };
}

/** Counts tensors over all files, so that many files cannot get around the bound. */
class TensorBudget {
  #left: number = limit('tensorsMax');

  take(count: number, path: string): void {
    this.#left -= count;
    if (this.#left >= 0) return;
    throw loaderError(
      'SOURCE_TOO_MANY_TENSORS',
      `With ${shown(path)} the source has more than ${limit('tensorsMax')} tensors; load it in parts with include.`,
    );
  }
}

async function readAllSafetensors(source: Source, { files, indexes }: Headers, signal?: AbortSignal): Promise<Reading> {
  const reading: Reading = { tensors: new Map(), metadata: new MetadataCollector() };
  const budget = new TensorBudget();
  for (const file of files) {
    const header = await withFile(file, (bytes) => readSafetensors(bytes, signal));
    budget.take(header.tensors.length, file.path);
    reading.tensors.set(file.path, header.tensors);
    for (const [key, text] of header.metadata) reading.metadata.add(key, metadataText(text, Buffer.byteLength(text)));
  }
  // One shard named by itself is loaded by itself.
  if (source.files.length > 1) checkNumberedShards(files.map(({ path }) => path));
  for (const index of indexes) {
    await checkShardIndex(index, reading.tensors, signal);
  }
  return reading;
}

async function readAllGguf({ files }: Headers, signal?: AbortSignal): Promise<Reading> {
  const reading: Reading = { tensors: new Map(), metadata: new MetadataCollector() };
  const budget = new TensorBudget();
  const parts: GgufPart[] = [];
  for (const file of files) {
    const header = await withFile(file, (bytes) => readGguf(bytes, signal));
    budget.take(header.tensors.length, file.path);
    reading.tensors.set(file.path, header.tensors);
    for (const [key, value] of header.metadata) reading.metadata.add(key, value);
    parts.push({ path: file.path, header });
  }
  checkGgufParts(parts);
  return reading;
}

/** Names become unique over the source: a file in a subdirectory puts its path before them. */
function* mergeSteps(tensors: ReadonlyMap<string, readonly TensorInfo[]>): Steps<TensorInfo[]> {
  const merged: TensorInfo[] = [];
  const fileOf = new Map<string, string>();
  for (const [path, found] of tensors) {
    const prefix = directoryOf(path);
    for (const tensor of found) {
      const name = prefix + tensor.name;
      const other = fileOf.get(name);
      if (other !== undefined) throw tensorTwice(name, other, path);
      fileOf.set(name, path);
      merged.push(prefix === '' ? tensor : { ...tensor, name });
      yield;
    }
  }
  return merged;
}

function tensorTwice(name: string, one: string, other: string): Error {
  const files = `${shown(one)} and ${shown(other)}`;
  const what = `Tensor ${shown(name)} is in both ${files}; load them as two models, choosing with include.`;
  return loaderError('SOURCE_TENSOR_TWICE', what);
}

/**
 * Reads the headers of a source, one file after the other.
 * @throws LoaderError with the code of the first broken rule; SOURCE_CHANGED when a file is no longer what was resolved
 */
export async function describeSource(source: Source, signal?: AbortSignal): Promise<Description> {
  const headers = await pace(headerSteps(source.files), signal);
  const { format } = headers;
  if (format === 'files') return { format, tensors: [], metadata: {} };
  const reading = await (format === 'gguf'
    ? readAllGguf(headers, signal)
    : readAllSafetensors(source, headers, signal));
  return { format, tensors: await pace(mergeSteps(reading.tensors), signal), metadata: reading.metadata.toObject() };
}
