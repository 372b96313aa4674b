/** `*.safetensors.index.json`: which shard holds which tensor. Index and shards must agree both ways. */

import type { Steps } from '../daxfs/pace.ts';
import { type LoaderError, loaderError, shown } from './errors.ts';
import { JsonScanner } from './json-scan.ts';
import { limit } from './limits.ts';
import type { TensorInfo } from './tensor.ts';

/** tensor name -> shard file name, in the directory of the index. */
export type WeightMap = Map<string, string>;

const OPEN_BRACE = 0x7b;
const QUOTE = 0x22;
const indexPattern = /\.safetensors\.index(\.[A-Za-z0-9_-]+)?\.json$/i;

/** True for `model.safetensors.index.json` and its variants (`model.safetensors.index.fp16.json`). */
export function isShardIndex(path: string): boolean {
  return indexPattern.test(path);
}

const isPlainName = (name: string) =>
  name !== '' &&
  name !== '.' &&
  name !== '..' &&
  !/[/\\\p{Cc}]/u.test(name) &&
  Buffer.byteLength(name) <= limit('nameBytesMax');

function* weightMap(scan: JsonScanner): Steps<WeightMap> {
  const map: WeightMap = new Map();
  const wrong = () =>
    scan.error('SHARD_INDEX_WEIGHT_MAP', 'weight_map is no map from tensor names to file names; write the index again');
  if (scan.peek() !== OPEN_BRACE) throw wrong();
  yield* scan.members((tensor, at) => {
    if (scan.peek() !== QUOTE) throw wrong();
    const shard = scan.text(limit('tensorNameBytesMax'));
    if (!isPlainName(shard)) {
      throw scan.error(
        'SHARD_INDEX_SHARD_NAME',
        `the shard ${shown(shard)} of tensor ${shown(tensor)} is no file name in the index's own directory`,
        at,
      );
    }
    if (map.size === limit('tensorsMax')) {
      throw scan.error('SOURCE_TOO_MANY_TENSORS', `the index names more than ${limit('tensorsMax')} tensors`);
    }
    map.set(tensor, shard);
  });
  return map;
}

/** Parses an index. Members other than weight_map are checked as JSON and left alone. */
export function* shardIndexSteps(bytes: Buffer, file: string): Steps<WeightMap> {
  const scan = new JsonScanner(bytes, 'SHARD_INDEX', file);
  let map: WeightMap | undefined;
  if (scan.peek() !== OPEN_BRACE)
    throw scan.error('SHARD_INDEX_WEIGHT_MAP', 'the index is no JSON object; write it again');
  yield* scan.members(function* (key) {
    if (key === 'weight_map') map = yield* weightMap(scan);
    else yield* scan.skip();
  });
  scan.end();
  if (map && map.size > 0) return map;
  throw scan.error('SHARD_INDEX_WEIGHT_MAP', 'the index has no weight_map; write it again');
}

/** The names of the shards, in order of appearance. */
export function shardsOf(map: WeightMap): string[] {
  return [...new Set(map.values())];
}

function fail(
  code: 'SHARD_INDEX_MISSING_SHARD' | 'SHARD_INDEX_MISSING_TENSOR' | 'SHARD_INDEX_UNLISTED_TENSOR',
  index: string,
  what: string,
): LoaderError {
  return loaderError(code, `${shown(index)}: ${what}.`);
}

/**
 * Compares an index with what its shards hold.
 * @param shards shard file name -> its tensors with the names that the shard gives them
 */
export function* agreementSteps(
  index: string,
  map: WeightMap,
  shards: ReadonlyMap<string, readonly TensorInfo[]>,
): Steps<void> {
  const found = new Map<string, string>();
  for (const shard of shardsOf(map)) {
    const tensors = shards.get(shard);
    if (!tensors) {
      throw fail(
        'SHARD_INDEX_MISSING_SHARD',
        index,
        `the shard ${shown(shard)} is missing; download it, or leave out the index with exclude`,
      );
    }
    for (const { name } of tensors) {
      if (map.get(name) !== shard) {
        throw fail(
          'SHARD_INDEX_UNLISTED_TENSOR',
          index,
          `the shard ${shown(shard)} holds tensor ${shown(name)}, which the index does not place there; write the index again`,
        );
      }
      found.set(name, shard);
      yield;
    }
  }
  if (found.size === map.size) return;
  for (const [name, shard] of map) {
    if (!found.has(name))
      throw fail(
        'SHARD_INDEX_MISSING_TENSOR',
        index,
        `the shard ${shown(shard)} lacks tensor ${shown(name)}; download it again`,
      );
    yield;
  }
}
