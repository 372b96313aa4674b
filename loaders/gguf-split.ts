/** GGUF models in several files: `name-00002-of-00003.gguf`. Names and keys must agree, and all parts be there. */
import { type LoaderCode, type LoaderError, loaderError, shown } from './errors.ts';
import type { GgufHeader, GgufSplit } from './gguf.ts';

/** What a file name says; `base` is the path without the part suffix. */
export interface PartName {
  base: string;
  /** From 1. */
  no: number;
  count: number;
}

const partPattern = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/is;

/** Reads the part suffix of a path; undefined when there is none. */
export function parsePartName(path: string): PartName | undefined {
  const match = partPattern.exec(path);
  return match ? { base: match[1]!, no: Number(match[2]), count: Number(match[3]) } : undefined;
}

/** A GGUF file with its header. */
export interface GgufPart {
  path: string;
  header: GgufHeader;
}

function fail(code: LoaderCode, path: string, what: string): LoaderError {
  return loaderError(code, `${shown(path)}: ${what}.`);
}

/** The split keys of a part, agreeing with its name. */
function checkedSplit(path: string, name: PartName, header: GgufHeader): GgufSplit {
  const { split } = header;
  if (!split) {
    throw fail(
      'GGUF_SPLIT_KEYS',
      path,
      'the name says part of a split model, but split.no, split.count or split.tensors.count is missing or no integer; split the model again',
    );
  }
  if (split.no === name.no - 1 && split.count === name.count) return split;
  const keys = `split.no ${split.no} of split.count ${split.count}`;
  throw fail(
    'GGUF_SPLIT_NAME',
    path,
    `the name says part ${name.no} of ${name.count}, the keys say ${keys} (from 0); give the file its own name back`,
  );
}

/** A file without part suffix must not be a part. */
function checkWhole(path: string, header: GgufHeader): void {
  if (header.splitKeys.length === 0 || header.split?.count === 1) return;
  throw fail(
    'GGUF_SPLIT_NAME',
    path,
    'the keys say that it is a part of a split model, the name does not; name it like name-00001-of-00003.gguf',
  );
}

function checkComplete(base: string, count: number, parts: ReadonlyMap<number, unknown>): void {
  for (let no = 1; no <= count; no++) {
    if (parts.has(no)) continue;
    throw fail('GGUF_SPLIT_MISSING', base, `part ${no} of ${count} is missing; put all parts into one directory`);
  }
}

function checkGroup(base: string, group: ReadonlyMap<number, { part: GgufPart; split: GgufSplit }>): void {
  const [first] = group.values();
  if (!first) return;
  checkComplete(base, first.split.count, group);
  let tensors = 0;
  for (const { part } of group.values()) tensors += part.header.tensors.length;
  for (const { part, split } of group.values()) {
    if (split.tensors === tensors) continue;
    throw fail(
      'GGUF_SPLIT_TENSORS',
      part.path,
      `split.tensors.count is ${split.tensors}, the parts hold ${tensors}; split the model again`,
    );
  }
}

/** Checks all GGUF files of a source together. @throws LoaderError GGUF_SPLIT_* */
export function checkGgufParts(files: readonly GgufPart[]): void {
  const groups = new Map<string, Map<number, { part: GgufPart; split: GgufSplit }>>();
  for (const part of files) {
    const name = parsePartName(part.path);
    if (!name) {
      checkWhole(part.path, part.header);
      continue;
    }
    const split = checkedSplit(part.path, name, part.header);
    const key = `${name.base}-of-${name.count}`;
    const group = groups.get(key) ?? new Map();
    groups.set(key, group.set(name.no, { part, split }));
  }
  for (const [base, group] of groups) checkGroup(base, group);
}
