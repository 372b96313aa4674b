/** Regions with files in their fronts, one of each kind, made once; each test damages a copy. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { frontSource, kindOf } from '../../daxfs/check/check-front.ts';
import { OverlayEditor } from '../../daxfs/check/overlay-editor.ts';
import { offsetOf } from '../../daxfs/codec.ts';
import { openRegion } from '../../daxfs/index.ts';
import { bucket, CONSTANTS, overlayDirent, overlayDirlist, overlayHeader, overlayInode } from '../../daxfs/layout.ts';
import { direntKey, dirlistKey, inodeKey, nextPrivateValue, pageKey } from '../../daxfs/overlay-key.ts';
import { OverlayReader, readSuperblock } from '../../daxfs/overlay-read.ts';
import { RegionCopy } from './region-copies.ts';

const MiB = 2 ** 20;
const ROOT = 1;

/** Makes a region with `d/`, `d/in`, `d/e/`, `file` of three pages, `small`, `link`, and `gone` that was removed. */
export async function makeFront(kernelMountable: boolean): Promise<{ path: string; remove: () => void }> {
  const path = `/dev/shm/daxserve-front-${process.pid}-${randomBytes(6).toString('hex')}`;
  const region = await openRegion(path, { create: true, size: 12 * MiB, overlayBytes: MiB, kernelMountable });
  const { fs } = region;
  await fs.mkdir('d/e', { recursive: true });
  await fs.writeFile('d/in', 'inside');
  await fs.writeFile('file', Buffer.alloc(10_000, 'f'));
  await fs.writeFile('small', 'small');
  await fs.symlink('small', 'link');
  await fs.writeFile('gone', Buffer.alloc(5000, 'g'));
  await fs.rm('gone');
  await fs.writeFile('last', Buffer.alloc(5000, 'l'));
  await region.close();
  return { path, remove: () => rmSync(path, { force: true }) };
}

/** Everything that can be read, for comparing; of what cannot, why. */
export async function contentsOf(path: string): Promise<Record<string, string>> {
  const region = await openRegion(path, {});
  const seen: Record<string, string> = {};
  const visit = async (at: string): Promise<string> => {
    const stat = region.fs.lstatSync(`/${at}`);
    if (stat.isSymbolicLink()) return `link to ${region.fs.readlinkSync(`/${at}`)}`;
    if (stat.isFile()) return region.fs.readFile(`/${at}`, 'utf8');
    for (const name of region.fs.readdirSync(`/${at}`)) {
      const child = at === '' ? name : `${at}/${name}`;
      if (child === 'models') continue;
      seen[child] = await visit(child).catch((error: { code: string }) => error.code);
    }
    return 'directory';
  };
  try {
    await visit('');
    return seen;
  } finally {
    await region.close();
  }
}

/** A copy of a region, and the places in its front. */
export class FrontVictim extends RegionCopy {
  get isPrivate(): boolean {
    return !this.header.kernelMountable;
  }

  overlay(): OverlayReader {
    const source = frontSource(this.mapping, this.header);
    const head = readSuperblock(source);
    const bit = CONSTANTS.privateFrontBit.value;
    const version = kindOf(this.header) === 'private' ? head.version | bit : head.version;
    return new OverlayReader(source, { ...head, version });
  }

  editor(): OverlayEditor {
    return new OverlayEditor(this.mapping, this.overlay());
  }

  /** Directory and name at the end of a path. */
  #last(path: string): { dir: number; name: Buffer } {
    const parts = path.split('/');
    const name = Buffer.from(parts.pop()!);
    const dir = parts.reduce((at, part) => this.overlay().name(at, Buffer.from(part))!.ino, ROOT);
    return { dir, name };
  }

  /** The name's entry in the pool. */
  name(path: string): { dir: number; entry: number; ino: number; slot: number } {
    const { dir, name } = this.#last(path);
    const { offset, ino, dirNext } = this.overlay().name(dir, name)!;
    return { dir, entry: offset, ino, slot: Number(dirNext) };
  }

  ino(path: string): number {
    return path === '' ? ROOT : this.name(path).ino;
  }

  nameKey(path: string): bigint {
    const { dir, name } = this.#last(path);
    return direntKey(BigInt(dir), name);
  }
  inodeKey = (path: string): bigint => inodeKey(BigInt(this.ino(path)));
  pageKey = (path: string, page: number): bigint => pageKey(BigInt(this.ino(path)), BigInt(page));
  slotKey(path: string): bigint {
    const { dir, slot } = this.name(path);
    return pageKey(BigInt(dir), BigInt(slot));
  }
  listKey = (path: string): bigint => dirlistKey(BigInt(this.ino(path)));

  /** Index of the bucket that holds a key. */
  bucketOf(key: bigint): number {
    for (const entry of this.overlay().buckets()) if (entry.key === key) return entry.index;
    throw new Error(`no bucket holds ${key}`);
  }
  /** Pool offset behind a key. */
  entryOf(key: bigint): number {
    return this.overlay().find(key)!;
  }
  bucketAt(index: number): number {
    return this.overlay().place.bucketsAt + index * bucket.size;
  }
  poolAt(entry: number): number {
    return this.overlay().place.poolAt + entry;
  }
  headerAt(field: 'pool_alloc' | 'next_ino' | 'free_inode' | 'free_data' | 'free_dirent' | 'reserved'): number {
    return this.header.geometry.overlayOffset + offsetOf(overlayHeader, field);
  }
  u32(at: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.mapping.write(at, bytes);
  }
  u64(at: number, value: bigint): void {
    this.mapping.store64(at, value);
  }
  setInode(path: string, field: 'type' | 'mode' | 'nlink' | 'flags', value: number): void {
    this.u32(this.poolAt(this.entryOf(this.inodeKey(path))) + offsetOf(overlayInode, field), value);
  }
  setSize(path: string, size: bigint): void {
    this.u64(this.poolAt(this.entryOf(this.inodeKey(path))) + offsetOf(overlayInode, 'size'), size);
  }
  setName(path: string, field: 'flags' | 'child_mode', value: number): void {
    this.u32(this.poolAt(this.name(path).entry) + offsetOf(overlayDirent, field), value);
  }
  setLink(path: string, field: 'next' | 'dir_next' | 'child_ino', value: bigint): void {
    this.u64(this.poolAt(this.name(path).entry) + offsetOf(overlayDirent, field), value);
  }
  listFirst(path: string): number {
    return this.poolAt(this.entryOf(this.listKey(path))) + offsetOf(overlayDirlist, 'first');
  }
  /** Takes a key out of the table as its removal does; of a kernel-mountable front: as if it had never been there. */
  drop(key: bigint): void {
    this.editor().remove(this.bucketOf(key));
  }
  /** State of the value word of a private front's bucket. */
  state(index: number, state: number): void {
    const at = this.bucketAt(index) + 8;
    const value = this.mapping.load64(at);
    this.u64(at, (value & ~(3n << 62n)) | (BigInt(state) << 62n));
  }
  /** Leads a bucket elsewhere. */
  lead(index: number, entry: number): void {
    const at = this.bucketAt(index) + 8;
    this.u64(at, this.isPrivate ? nextPrivateValue(this.mapping.load64(at), 2, BigInt(entry)) : BigInt(entry));
  }
  /** Bytes of the pool that were never handed out, handed out. */
  take(bytes: number, align: number): number {
    const alloc = Number(this.mapping.load64(this.headerAt('pool_alloc')));
    const start = Math.ceil(alloc / align) * align;
    this.u64(this.headerAt('pool_alloc'), BigInt(start + bytes));
    return start;
  }
}
