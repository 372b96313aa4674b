/** Arguments of `read` and `write` of a handle, in all the orders that node:fs takes. */
import { argumentError, bytesOf, type Data, rangeError, viewOf, wholeOf } from './arguments.ts';

export interface TransferOptions {
  offset?: number | null | undefined;
  length?: number | null | undefined;
  position?: number | bigint | null | undefined;
}

export interface ReadOptions<View extends NodeJS.ArrayBufferView = NodeJS.ArrayBufferView> extends TransferOptions {
  /** Default 16 KiB. */
  buffer?: View | undefined;
}

export interface Transfer<Whole> {
  /** What was given. */
  whole: Whole;
  /** The part of it that is meant. */
  bytes: Uint8Array;
  /** Null: where the last call without a position ended. */
  position: number | null;
}

const readBytes = 16 * 1024;
const isOptions = (value: unknown): value is TransferOptions => typeof value === 'object' && value !== null;

/** Null and -1 mean the handle's own. */
function positionOf(position: number | bigint | null | undefined): number | null {
  if (position === null || position === undefined) return null;
  const at = wholeOf(position, 'position', -1);
  return at === -1 ? null : at;
}

/** @throws RangeError ERR_OUT_OF_RANGE */
function partOf(view: NodeJS.ArrayBufferView, { offset, length }: TransferOptions): Uint8Array {
  const bytes = viewOf(view);
  const from = wholeOf(offset ?? 0, 'offset', 0);
  const count = wholeOf(length ?? Math.max(0, bytes.byteLength - from), 'length', 0);
  if (from + count <= bytes.byteLength) return bytes.subarray(from, from + count);
  throw rangeError(`offset ${from} and length ${count} lie outside the ${bytes.byteLength} bytes of the buffer`);
}

/** `read(buffer, offset?, length?, position?)`, `read(buffer, options?)`, `read(options?)` */
export function readTransfer<View extends NodeJS.ArrayBufferView>(
  given: View | ReadOptions<View> | undefined,
  offset: number | TransferOptions | null | undefined,
  length: number | null | undefined,
  position: number | bigint | null | undefined,
): Transfer<View> {
  if (!ArrayBuffer.isView(given)) {
    if (given !== undefined && !isOptions(given)) throw argumentError('ERR_INVALID_ARG_TYPE', 'A buffer is missing.');
    const { buffer = Buffer.alloc(readBytes), ...options } = given ?? {};
    return readTransfer(buffer as View, options, undefined, undefined);
  }
  const options: TransferOptions = isOptions(offset) ? offset : { offset, length, position };
  return { whole: given, bytes: partOf(given, options), position: positionOf(options.position) };
}

/** `write(buffer, offset?, length?, position?)`, `write(buffer, options?)`, `write(text, position?, encoding?)` */
export function writeTransfer<Whole extends Data>(
  data: Whole,
  offset: number | TransferOptions | null | undefined,
  length: number | BufferEncoding | null | undefined,
  position: number | bigint | null | undefined,
): Transfer<Whole> {
  if (typeof data === 'string') {
    const bytes = bytesOf(data, length as BufferEncoding | null | undefined);
    return { whole: data, bytes, position: positionOf(offset as number | null | undefined) };
  }
  const options = isOptions(offset) ? offset : { offset, length: length as number | null | undefined, position };
  return { whole: data, bytes: partOf(viewOf(data), options), position: positionOf(options.position) };
}
