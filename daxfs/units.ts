/** Sizes and placements as people write them. */
import { daxfsError } from './errors.ts';

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/**
 * Bytes of `8G`, `512M`, `1.5GiB`, `4096`; K, M, G, T are powers of 1024.
 * @param whole what 100 % stands for; without it a percentage is refused
 * @throws DaxfsError DAXFS_BAD_SIZE
 */
export function parseSize(text: string, whole?: number): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B|(%))?$/i.exec(text.trim());
  if (!match) throw daxfsError('DAXFS_BAD_SIZE', `${JSON.stringify(text)} is not a size; write 8G, 512M or 4096.`);
  const [, digits, unit = '', percent] = match;
  if (percent && whole === undefined) {
    throw daxfsError('DAXFS_BAD_SIZE', `A percentage has no meaning here; write a size such as 8G, not ${text}.`);
  }
  const factor = percent ? whole! / 100 : UNIT_BYTES[unit.toLowerCase()]!;
  const bytes = Math.floor(Number(digits) * factor);
  if (bytes <= 0 || !Number.isSafeInteger(bytes)) {
    throw daxfsError('DAXFS_BAD_SIZE', `${text} is outside what a size may be; write 1 byte to 8192T.`);
  }
  return bytes;
}

/** For messages: `12.5 GiB`, `64 MiB`, `512 bytes`; never rounded up. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`;
  const names = ['KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(Math.floor(Math.log2(bytes) / 10), names.length);
  const value = Math.floor((bytes / 2 ** (10 * power)) * 10) / 10;
  return `${value} ${names[power - 1]}`;
}

/** Where the pages of a region come from on a machine with several memory nodes. */
export type NumaPlacement = { mode: 'interleave' } | { mode: 'bind'; node: number };

/** @throws DaxfsError DAXFS_BAD_SIZE for anything but `interleave` and `bind:N` */
export function parseNuma(text: string): NumaPlacement {
  if (text === 'interleave') return { mode: 'interleave' };
  const node = /^bind:(\d{1,4})$/.exec(text)?.[1];
  if (node === undefined || Number(node) > 1023) {
    throw daxfsError('DAXFS_BAD_SIZE', `${JSON.stringify(text)} is not a placement; write interleave or bind:NODE.`);
  }
  return { mode: 'bind', node: Number(node) };
}

export const roundDown = (value: number, unit: number): number => value - (value % unit);
export const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
/** Smallest power of two that is at least `value`. */
export const powerOfTwo = (value: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, value)));
