/** Shards among the files of a source: indexes are read and compared, numbered shards must be complete. */

import { pace } from '../daxfs/pace.ts';
import { withFile } from './byte-source.ts';
import { loaderError, shown } from './errors.ts';
import { limit } from './limits.ts';
import { agreementSteps, shardIndexSteps, type WeightMap } from './shard-index.ts';
import type { SourceFile } from './source.ts';
import type { TensorInfo } from './tensor.ts';

/** Reads an index. @throws LoaderError SHARD_INDEX_* */
export async function readShardIndex(file: SourceFile, signal?: AbortSignal): Promise<WeightMap> {
  const max = limit('shardIndexBytesMax');
  if (file.size > max) {
    throw loaderError(
      'SHARD_INDEX_TOO_LARGE',
      `${shown(file.path)}: the index has ${file.size} bytes, at most ${max} are read.`,
    );
  }
  const bytes = await withFile(file, (source) => source.read(0, source.size));
  return pace(shardIndexSteps(bytes, file.path), signal);
}

/** The directory of a path with a slash behind it; empty at the top. */
export const directoryOf = (path: string) => path.slice(0, path.lastIndexOf('/') + 1);

/** @param tensors path -> tensors with the names that the file gives them */
export async function checkShardIndex(
  index: SourceFile,
  tensors: ReadonlyMap<string, readonly TensorInfo[]>,
  signal?: AbortSignal,
): Promise<void> {
  const map = await readShardIndex(index, signal);
  const directory = directoryOf(index.path);
  const shards = new Map<string, readonly TensorInfo[]>();
  for (const shard of new Set(map.values())) {
    const found = tensors.get(directory + shard);
    if (found) shards.set(shard, found);
  }
  await pace(agreementSteps(index.path, map, shards), signal);
}

const numberedPattern = /^(.*)-(\d{5})-of-(\d{5})\.safetensors$/i;

/** Shards that are numbered must all be there, with or without an index. @throws LoaderError SHARD_INDEX_MISSING_SHARD */
export function checkNumberedShards(paths: readonly string[]): void {
  const groups = new Map<string, { base: string; count: number; numbers: Set<number> }>();
  for (const path of paths) {
    const match = numberedPattern.exec(path);
    if (!match) continue;
    const [, base = '', no, count] = match;
    const key = `${base}-of-${count}`;
    const group = groups.get(key) ?? { base, count: Number(count), numbers: new Set() };
    groups.set(key, { ...group, numbers: group.numbers.add(Number(no)) });
  }
  for (const { base, count, numbers } of groups.values()) {
    for (let no = 1; no <= count; no++) {
      if (numbers.has(no)) continue;
      throw loaderError(
        'SHARD_INDEX_MISSING_SHARD',
        `${shown(base)}: shard ${no} of ${count} is missing; download it.`,
      );
    }
  }
}
