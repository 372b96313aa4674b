/**
 * Goal: no pass over very many files or tensors keeps the event loop of a service to itself. Method: the clock says that
 * every slice is used up, so a pass gives way wherever it can; counted is what it touches between two turns of the loop.
 */
import fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { contentFiles, contentFilesPaced } from '../../daxfs/content-files.ts';
import type { Content } from '../../daxfs/content-row.ts';
import { planFilesPaced, planImage } from '../../daxfs/image-plan.ts';
import { type TreeEntry, withParents } from '../../daxfs/image-tree.ts';
import { itemsPerStep, runToEnd, sortSteps } from '../../daxfs/pace.ts';
import type { Region } from '../../daxfs/region.ts';
import {
  contentDigest,
  contentDigestPaced,
  encodeManifest,
  encodeManifestPaced,
  type ManifestFile,
} from '../../loaders/manifest.ts';
import { jsonPieces } from '../../server/paced-json.ts';
import { holds } from '../support/seed.ts';
import { file, imageOf, render } from './build.ts';

const count = 5000;

/** Touches of the items of a pass. */
class Touches {
  count = 0;

  /** The item, with the reads of `key` counted. */
  watch<T extends object, K extends keyof T>(item: T, key: K): T {
    const value = item[key];
    const get = () => {
      this.count++;
      return value;
    };
    return Object.defineProperty(item, key, { enumerable: true, get });
  }
}

/** The most touches between two turns of the event loop. */
async function mostAtOnce(touches: Touches, pass: () => Promise<unknown>): Promise<number> {
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => (now += 1000));
  let most = 0;
  let before = touches.count;
  let running = true;
  const look = () => {
    most = Math.max(most, touches.count - before);
    before = touches.count;
    if (running) setImmediate(look);
  };
  setImmediate(look);
  await pass();
  running = false;
  look();
  return most;
}

afterEach(() => void vi.restoreAllMocks());

const entries = (): TreeEntry[] =>
  Array.from({ length: count }, (_, i) => file(`part-${i >> 11}/file-${(i * 7919) % count}`, `${i}`));

it('planning gives way, and plans what planImage plans', async () => {
  const touches = new Touches();
  const watched = entries().map((entry) => touches.watch(entry, 'type'));
  const most = await mostAtOnce(touches, () => planFilesPaced(watched, {}));
  // A type is read several times for one file of one pass.
  expect(most).toBeLessThan(itemsPerStep * 8);
  expect(touches.count).toBeGreaterThan(count);
  const paced = render(await planFilesPaced(entries(), {}));
  expect(paced.equals(render(planImage(withParents(entries()))))).toBe(true);
});

it('walking an image gives way', async () => {
  const image = imageOf(entries());
  const touches = new Touches();
  const read = (offset: number, length: number) => {
    touches.count++;
    return Buffer.from(image.subarray(offset, offset + length));
  };
  const area = { mapping: { size: image.length, read }, chunkOffset: () => 0 } as unknown as Region;
  const content = { images: [{ firstChunk: 0, chunkCount: 1, bytes: image.length }] } as unknown as Content;
  const most = await mostAtOnce(touches, async () => {
    expect(await contentFilesPaced(area, content)).toEqual(contentFiles(area, content));
  });
  // Each file reads its inode; the sound pass of `contentFiles` runs in one go.
  expect(most).toBeGreaterThan(count);
  const paced = await mostAtOnce(touches, () => contentFilesPaced(area, content));
  expect(paced).toBeLessThan(itemsPerStep * 2);
});

it('manifest and digest give way', async () => {
  const touches = new Touches();
  const files = Array.from({ length: count }, (_, i): ManifestFile => {
    return touches.watch({ path: `file-${String(i).padStart(5, '0')}`, size: i, digest: '0'.repeat(32) }, 'size');
  });
  const manifest = {
    version: 1,
    format: 'files',
    source: 'file:/x',
    revision: null,
    tensors: [],
    metadata: {},
  } as const;
  const whole = { ...manifest, files, tensors: [] };
  expect(await mostAtOnce(touches, () => contentDigestPaced(files))).toBeLessThan(itemsPerStep * 2);
  expect(await mostAtOnce(touches, () => encodeManifestPaced(whole))).toBeLessThan(itemsPerStep * 2);
  expect(await contentDigestPaced(files)).toBe(contentDigest(files));
  expect((await encodeManifestPaced(whole)).equals(encodeManifest(whole))).toBe(true);
});

it('sorting in steps is stable sorting', async () => {
  await holds(
    fc.property(fc.array(fc.nat(50), { maxLength: 3000 }), (keys) => {
      const items = keys.map((key, i) => ({ key, i }));
      const compare = (a: { key: number }, b: { key: number }) => a.key - b.key;
      expect(runToEnd(sortSteps(items, compare))).toEqual([...items].sort(compare));
    }),
    50,
  );
});

it('a signal ends a pass', async () => {
  const controller = new AbortController();
  const planned = planFilesPaced(entries(), {}, controller.signal);
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => (now += 1000));
  controller.abort(new Error('enough'));
  await expect(planned).rejects.toThrow('enough');
});

async function whole(value: unknown, end?: string): Promise<{ text: string; pieces: number; longest: number }> {
  const pieces: Buffer[] = [];
  for await (const piece of jsonPieces(value, end)) pieces.push(piece);
  const longest = Math.max(...pieces.map(({ length }) => length));
  return { text: Buffer.concat(pieces).toString(), pieces: pieces.length, longest };
}

it('JSON in pieces is JSON', async () => {
  await holds(
    fc.asyncProperty(fc.jsonValue(), fc.nat(3000), async (item, length) => {
      const value = { a: 1, none: undefined, list: Array.from({ length }, () => item), inner: [{ list: [item] }] };
      expect((await whole(value, '\n')).text).toBe(`${JSON.stringify(value)}\n`);
    }),
    50,
  );
});

it('long JSON gives way between pieces of bounded length', async () => {
  const touches = new Touches();
  const files = Array.from({ length: count }, (_, i) => touches.watch({ path: `ü-${i}`.repeat(10), size: i }, 'size'));
  const most = await mostAtOnce(touches, () => whole({ buffers: [{ size: 1, files }] }));
  expect(most).toBeLessThan(count / 2);
  const { pieces, longest } = await whole({ files });
  expect(pieces).toBeGreaterThan(3);
  expect(longest).toBeLessThan(2 * 64 * 1024);
  expect((await whole({ files: files.slice(0, 900) })).pieces).toBe(1);
});
