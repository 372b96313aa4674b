/** Goal: windows hold every byte once and cut no tensor that fits. Method: small limits, random layouts from a seed. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { PlacedFile } from '../../worker/node/handle.ts';
import type { TensorInfo } from '../../worker/node/manifest.ts';
import { planWindows, WINDOW_BYTES_MAX } from '../../worker/node/window-plan.ts';

const GIB = 2 ** 30;
const file = (path: string, offset: number, size: number): PlacedFile => ({
  path,
  size,
  digest: '',
  extents: [{ fileOffset: 0, offset, length: size }],
});
const tensor = (path: string, offset: number, length: number): TensorInfo => ({
  name: `${path}@${offset}`,
  dtype: 'U8',
  shape: [length],
  file: path,
  offset,
  length,
});

it('small files share a window', () => {
  expect(planWindows([file('b', 8192, 10), file('a', 4096, 10)], [])).toEqual([{ start: 4096, end: 8202 }]);
});

it('a hole of a chunk or more is not mapped along', () => {
  const windows = planWindows([file('a', 0, 10), file('b', 2 ** 21 + 9, 5), file('c', 2 ** 23, 5)], []);
  expect(windows).toEqual([
    { start: 0, end: 2 ** 21 + 14 },
    { start: 2 ** 23, end: 2 ** 23 + 5 },
  ]);
});

it('a file of exactly 4 GiB is one window, also at an odd offset', () => {
  expect(planWindows([file('a', 4096, WINDOW_BYTES_MAX)], [])).toEqual([{ start: 4096, end: 4096 + WINDOW_BYTES_MAX }]);
  expect(planWindows([file('a', 4097, WINDOW_BYTES_MAX)], [])).toEqual([{ start: 4097, end: 4097 + WINDOW_BYTES_MAX }]);
});

it('files that fit are not cut', () => {
  const windows = planWindows([file('a', 0, 3 * GIB), file('b', 3 * GIB, 3 * GIB)], []);
  expect(windows).toEqual([
    { start: 0, end: 3 * GIB },
    { start: 3 * GIB, end: 6 * GIB },
  ]);
});

it('a tensor above 4 GiB takes several windows, cut at aligned offsets', () => {
  const windows = planWindows([file('a', 4096, 9 * GIB + 1000)], [tensor('a', 1000, 9 * GIB)]);
  expect(windows).toEqual([
    { start: 4096, end: 5096 },
    { start: 5096, end: 5096 + 4 * GIB },
    { start: 5096 + 4 * GIB, end: 5096 + 8 * GIB },
    { start: 5096 + 8 * GIB, end: 5096 + 9 * GIB },
  ]);
});

it('nothing gives no window', () => {
  expect(planWindows([], [])).toEqual([]);
  expect(planWindows([{ ...file('a', 0, 0), extents: [] }], [])).toEqual([]);
});

const bytesMax = 1024;
const layout = fc
  .array(fc.array(fc.record({ gap: fc.nat(3), length: fc.nat(3000) }), { minLength: 1, maxLength: 8 }), {
    minLength: 1,
    maxLength: 6,
  })
  .chain((files) =>
    fc.record({ files: fc.constant(files), gaps: fc.array(fc.nat(5000), { minLength: 6, maxLength: 6 }) }),
  );

it('random layouts: all bytes once, no file or tensor that fits is cut', () => {
  fc.assert(
    fc.property(layout, ({ files, gaps }) => {
      const placed: PlacedFile[] = [];
      const tensors: TensorInfo[] = [];
      let at = 0;
      files.forEach((spans, index) => {
        at += gaps[index] ?? 0;
        let size = 0;
        for (const { gap, length } of spans) {
          tensors.push(tensor(`${index}`, size + gap, length));
          size += gap + length;
        }
        if (size > 0) placed.push(file(`${index}`, at, size));
        at += size;
      });
      const windows = planWindows(placed, tensors, bytesMax);
      windows.forEach((window, i) => {
        expect(window.end - window.start).toBeGreaterThan(0);
        expect(window.end - window.start).toBeLessThanOrEqual(bytesMax);
        if (i > 0) expect(window.start).toBeGreaterThanOrEqual(windows[i - 1]!.end);
      });
      const holders = (start: number, end: number) => windows.filter((w) => w.start < end && start < w.end);
      for (const { path, size, extents } of placed) {
        const start = extents[0]!.offset;
        const held = holders(start, start + size);
        const bytes = held.reduce((sum, w) => sum + Math.min(w.end, start + size) - Math.max(w.start, start), 0);
        expect(bytes).toBe(size);
        if (size <= bytesMax) expect(held).toHaveLength(1);
        for (const { offset, length } of tensors.filter((t) => t.file === path && t.length > 0)) {
          if (length <= bytesMax) expect(holders(start + offset, start + offset + length)).toHaveLength(1);
        }
      }
    }),
    { numRuns: 300, ...(process.env.DAXSERVE_SEED && { seed: Number(process.env.DAXSERVE_SEED) }) },
  );
});
