/**
 * The example of the format's description, byte for byte: what a kernel leaves behind after overwriting inode 3 with 5
 * bytes, creating `a`, linking `sl`, removing the base's modify.txt, making `dd` and `dd/f`. Every offset and bucket is
 * written out here; nothing comes from the code under test but the base image.
 */
import { planImage } from '../../daxfs/image-plan.ts';
import type { TreeEntry } from '../../daxfs/image-tree.ts';

const BUCKETS = 1024;
const POOL_BYTES = 2 ** 20;
const NOWHERE = 0xffff_ffff_ffff_ffffn;
const FILE = 0o100644;
const DIRECTORY = 0o040755;
const SYMLINK = 0o120777;

export const baseFiles = {
  big: Buffer.alloc(10000, 'b'),
  'hello.txt': Buffer.from('hello from the base image'),
  keep: Buffer.from('kept'),
  'modify.txt': Buffer.from('to be removed'),
  'sub/deep': Buffer.from('deep'),
};

function baseEntries(): TreeEntry[] {
  const owner = { uid: 0, gid: 0 };
  const files = Object.entries(baseFiles).map(
    ([path, bytes]): TreeEntry => ({ path, type: 'file', mode: 0o644, ...owner, origin: { bytes } }),
  );
  const directories = ['', 'sub'].map((path): TreeEntry => ({ path, type: 'directory', mode: 0o755, ...owner }));
  return [...directories, ...files];
}

/** The format's hash, written again here: 64-bit FNV-1a of the parent's 8 bytes and the name, without its low bit. */
export function referenceKey(parent: number, name: string): bigint {
  let hash = 0xcbf29ce484222325n;
  const bytes = Buffer.alloc(8 + name.length);
  bytes.writeBigUInt64LE(BigInt(parent));
  bytes.write(name, 8);
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & NOWHERE;
  return hash >> 1n;
}

/** Places in the image, for tests that change bytes. */
export interface Example {
  image: Buffer;
  overlayAt: number;
  bucketsAt: number;
  poolAt: number;
}

function renderBase(): Buffer {
  const plan = planImage(baseEntries());
  const image = Buffer.alloc(plan.totalSize);
  for (const { offset, bytes } of plan.metadata) bytes.copy(image, offset);
  return image;
}

function put(image: Buffer, at: number, ...fields: [offset: number, size: 2 | 4 | 8, value: number | bigint][]): void {
  for (const [offset, size, value] of fields) {
    if (size === 8) image.writeBigUInt64LE(BigInt(value), at + offset);
    else image.writeUIntLE(Number(value), at + offset, size);
  }
}

function writeHeads(image: Buffer, overlayAt: number, overlayBytes: number): void {
  put(image, 0, [16, 8, image.length], [64, 8, overlayAt], [72, 8, overlayBytes], [80, 4, BUCKETS], [84, 4, 10]);
  put(image, overlayAt, [0, 4, 0x6f766c79], [4, 4, 2], [8, 8, 4096], [16, 8, 4096 + BUCKETS * 16], [24, 8, POOL_BYTES]);
  put(image, overlayAt, [32, 8, 28672 + 4096], [40, 8, 12], [48, 8, NOWHERE], [56, 8, NOWHERE], [64, 8, NOWHERE]);
}

export function buildExample(): Example {
  const base = renderBase();
  const overlayAt = base.length;
  const bucketsAt = overlayAt + 4096;
  const poolAt = bucketsAt + BUCKETS * 16;
  const overlayBytes = 4096 + BUCKETS * 16 + POOL_BYTES;
  const image = Buffer.concat([base, Buffer.alloc(overlayBytes)]);
  writeHeads(image, overlayAt, overlayBytes);
  const bucket = (index: number, key: bigint, offset: number) =>
    put(image, bucketsAt + index * 16, [0, 8, (key << 1n) | 1n], [8, 8, offset]);
  const inode = (index: number, ino: number, offset: number, mode: number, size: number, nlink = 1) => {
    bucket(index, (BigInt(ino) << 20n) | 0xfffffn, offset);
    put(image, poolAt + offset, [0, 4, 1], [4, 4, mode], [16, 8, size], [24, 4, nlink]);
  };
  const page = (index: number, ino: number, offset: number, text: string) => {
    bucket(index, BigInt(ino) << 20n, offset);
    image.write(text, poolAt + offset);
  };
  const dirent = (
    offset: number,
    parent: number,
    name: string,
    ino: number,
    mode: number,
    dirNext: number | bigint,
  ) => {
    const key = referenceKey(parent, name);
    bucket(Number(key & BigInt(BUCKETS - 1)), key, offset);
    const flags = ino === 0 ? 1 : 0;
    put(image, poolAt + offset, [0, 4, 3], [4, 4, flags], [8, 8, parent], [16, 8, ino], [24, 4, mode]);
    put(image, poolAt + offset, [28, 2, name.length], [32, 8, NOWHERE], [40, 8, dirNext]);
    image.write(name, poolAt + offset + 48);
  };
  const dirlist = (index: number, ino: number, offset: number, first: number) => {
    bucket(index, (BigInt(ino) << 20n) | 0xffffen, offset);
    put(image, poolAt + offset, [0, 4, 4], [8, 8, first]);
  };
  inode(1023, 3, 0, FILE, 5);
  page(0, 3, 4096, 'fresh');
  inode(1, 8, 8192, FILE, 6);
  dirent(8224, 1, 'a', 8, FILE, NOWHERE);
  dirlist(1022, 1, 8528, 25216);
  page(2, 8, 12288, 'new a\n');
  inode(3, 9, 16384, SYMLINK, 9);
  page(4, 9, 20480, 'hello.txt\0');
  dirent(24576, 1, 'sl', 9, SYMLINK, 8224);
  dirent(24880, 1, 'modify.txt', 0, 0, 24576);
  inode(5, 10, 25184, DIRECTORY, 0, 2);
  dirent(25216, 1, 'dd', 10, DIRECTORY, 24880);
  inode(6, 11, 25520, FILE, 5);
  dirent(25552, 10, 'f', 11, FILE, NOWHERE);
  dirlist(7, 10, 25856, 25552);
  page(8, 11, 28672, 'in dd');
  return { image, overlayAt, bucketsAt, poolAt };
}
