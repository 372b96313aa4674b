/** Goal: tensors and files around and above 4 GiB. Method: a sparse region of 20 GiB; only marked places are touched. */
import { ftruncateSync, writeSync } from 'node:fs';
import { expect, it } from 'vitest';
import { attach } from '../../worker/node/index.ts';
import { Peer } from '../support/worker-peer.ts';

const GIB = 2 ** 30;
const BASE = 64 * 2 ** 20;
/** A file with a header of 1000 bytes, a tensor of 9 GiB, one of exactly 4 GiB, and a small one. */
const HEADER = 1000;
const tensors = [
  { name: 'huge', dtype: 'F32', shape: [9, 2 ** 28], offset: HEADER, length: 9 * GIB },
  { name: 'full', dtype: 'BF16', shape: [2 ** 31], offset: HEADER + 9 * GIB, length: 4 * GIB },
  { name: 'small', dtype: 'U8', shape: [8], offset: HEADER + 13 * GIB, length: 8 },
];

it('one tensor above 4 GiB is parts, one of 4 GiB is whole', async () => {
  const peer = await new Peer().start();
  const size = HEADER + 13 * GIB + 8;
  const mark = (offset: number, byte: number) => writeSync(peer.region.fd, Buffer.from([byte]), 0, 1, BASE + offset);
  ftruncateSync(peer.region.fd, 20 * GIB);
  tensors.forEach(({ offset, length }, index) => {
    mark(offset, 10 + index);
    mark(offset + length - 1, 20 + index);
  });
  mark(HEADER + 5 * GIB, 77);
  const file = { path: 'big', size, digest: '', extents: [{ fileOffset: 0, bufferOffset: BASE, length: size }] };
  peer.region.putManifest({ tensors: tensors.map((t) => ({ ...t, file: 'big' })) });
  peer.script = (c) =>
    c.grant((h) => {
      Reflect.set(h.region, 'size', 20 * GIB);
      h.buffers[0]!.files.push(file);
    });

  const m = await attach('org/m', { socket: peer.path });
  const huge = m.tensor('huge');
  expect(huge.parts.reduce((sum, part) => sum + part.length, 0)).toBe(9 * GIB);
  expect(huge.parts.length).toBe(3);
  expect(() => huge.bytes).toThrowError(expect.objectContaining({ code: 'WORKER_NOT_CONTIGUOUS' }));
  expect(huge.array).toBeNull();
  expect([huge.parts[0]![0], huge.parts.at(-1)!.at(-1)]).toEqual([10, 20]);
  const firstBytes = huge.parts[0]!.length;
  expect(huge.parts[1]![5 * GIB - firstBytes]).toBe(77);
  for (const part of huge.parts.slice(0, -1)) expect(part.length % 4).toBe(0);

  const full = m.tensor('full').bytes;
  expect([full.length, full[0], full[4 * GIB - 1]]).toEqual([4 * GIB, 11, 21]);
  expect([...m.tensor('small').bytes]).toEqual([12, 0, 0, 0, 0, 0, 0, 22]);
  expect(() => m.file('big')).toThrowError(expect.objectContaining({ code: 'WORKER_NOT_CONTIGUOUS' }));
  const parts = m.fileParts('big');
  expect(parts.reduce((sum, part) => sum + part.length, 0)).toBe(size);
  expect(new Set(parts.map((part) => part.buffer)).size).toBe(parts.length);
  await m.close();
  expect(parts.map((part) => part.length)).toEqual(parts.map(() => 0));
  await peer.end();
});
