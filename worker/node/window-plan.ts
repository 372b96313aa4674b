/** Cuts the bytes of a handle into windows of at most 4 GiB, the largest ArrayBuffer that Node takes. */
import type { PlacedFile } from './handle.ts';
import type { TensorInfo } from './manifest.ts';

/** Bytes [start, end) of the region. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export const WINDOW_BYTES_MAX = 4 * 2 ** 30;

/** Windows begin on multiples of this, so that every typed array that is aligned in the region is aligned in them. */
const ALIGNMENT = 64;
/** Holes smaller than a chunk are mapped along. */
const CHUNK_BYTES = 2 * 2 ** 20;

/**
 * Windows that together hold every byte of `files`, ascending, without overlap. A file that fits a window lies in one;
 * of a larger file, every tensor that fits does; larger tensors take several, in order.
 * @param bytesMax for tests; a multiple of 64
 */
export function planWindows(
  files: Iterable<PlacedFile>,
  tensors: Iterable<TensorInfo>,
  bytesMax = WINDOW_BYTES_MAX,
): Span[] {
  const windows: Span[] = [];
  for (const piece of pieces([...files], [...tensors], bytesMax).sort((a, b) => a.start - b.start)) {
    place(windows, piece, bytesMax);
  }
  return windows;
}

/** What should not be cut: whole extents where they fit a window, else the tensors in them and the bytes between. */
function pieces(files: readonly PlacedFile[], tensors: readonly TensorInfo[], bytesMax: number): Span[] {
  const byFile = groupByFile(tensors);
  return files.flatMap((file) =>
    file.extents.flatMap((extent) => {
      const whole = { start: extent.offset, end: extent.offset + extent.length };
      if (extent.length <= bytesMax) return [whole];
      const shift = extent.offset - extent.fileOffset;
      const inside = (byFile.get(file.path) ?? [])
        .map((tensor) => ({ start: tensor.offset + shift, end: tensor.offset + tensor.length + shift }))
        .filter((span) => span.start >= whole.start && span.end <= whole.end && span.end > span.start);
      return withGaps(whole, inside);
    }),
  );
}

function groupByFile(tensors: readonly TensorInfo[]): Map<string, TensorInfo[]> {
  const groups = new Map<string, TensorInfo[]>();
  for (const tensor of tensors) {
    const group = groups.get(tensor.file);
    if (group) group.push(tensor);
    else groups.set(tensor.file, [tensor]);
  }
  return groups;
}

/** `spans` and what lies between them, so that all of `whole` is covered once. */
function withGaps(whole: Span, spans: Span[]): Span[] {
  const result: Span[] = [];
  let end = whole.start;
  for (const span of spans.sort((a, b) => a.start - b.start)) {
    if (span.start > end) result.push({ start: end, end: span.start });
    if (span.end > end) result.push({ start: Math.max(span.start, end), end: span.end });
    end = Math.max(end, span.end);
  }
  if (end < whole.end) result.push({ start: end, end: whole.end });
  return result;
}

function place(windows: Span[], piece: Span, bytesMax: number): void {
  const last = windows.at(-1);
  if (last && piece.start < last.end) piece = { start: last.end, end: piece.end };
  if (piece.end <= piece.start) return;
  if (last && piece.end - last.start <= bytesMax && piece.start - last.end < CHUNK_BYTES) {
    windows[windows.length - 1] = { start: last.start, end: piece.end };
    return;
  }
  windows.push(...cut(piece, last?.end ?? 0, bytesMax));
}

/** A window for one piece, or several where it is larger than a window; cuts fall on aligned offsets. */
function cut(piece: Span, floor: number, bytesMax: number): Span[] {
  const aligned = Math.max(piece.start - (piece.start % ALIGNMENT), floor);
  const fits = piece.end - piece.start <= bytesMax;
  let start = fits && piece.end - aligned > bytesMax ? piece.start : aligned;
  const windows: Span[] = [];
  while (start < piece.end) {
    const end = Math.min(start + bytesMax, piece.end);
    windows.push({ start, end });
    start = end;
  }
  return windows;
}
