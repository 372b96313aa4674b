/**
 * Changes an overlay by its bytes, for repair. REQUIRES: nobody else is at work on it. Every change is a row of stores after
 * each of which the overlay is sound, or broken in a way that the next repair mends.
 */
import type { Mapping } from '../../native/index.ts';
import { decodeWord, encodeWord, offsetOf } from '../codec.ts';
import type { FreeListField } from '../front-rules.ts';
import { binWord, bucket, overlayDirent, overlayDirlist, overlayHeader, overlayInode } from '../layout.ts';
import {
  BIN_BUCKETS,
  BIN_CELLS,
  decodePrivateValue,
  dirlistKey,
  homeBucket,
  nextPrivateValue,
  PRIVATE_VALUE_STATE,
  stateKey,
} from '../overlay-key.ts';
import { ENTRY_TYPE, NOWHERE, type OverlayReader } from '../overlay-read.ts';
import { roundUp } from '../units.ts';

const { DELETED, LIVE } = PRIVATE_VALUE_STATE;
const LIST_EMPTY = 0xffff_ffff_ffffn;

type HeaderField = FreeListField | 'pool_alloc' | 'next_ino';
type DirentField = 'flags' | 'child_mode' | 'next' | 'dir_next';
type InodeField = 'mode' | 'size' | 'nlink' | 'flags';

export class OverlayEditor {
  readonly overlay: OverlayReader;
  readonly #mapping: Mapping;

  /** @param overlay over the same bytes, whose table was not loaded into memory */
  constructor(mapping: Mapping, overlay: OverlayReader) {
    this.#mapping = mapping;
    this.overlay = overlay;
  }

  get isPrivate(): boolean {
    return this.overlay.place.kind === 'private';
  }

  // ------------------------------------------------------------------------------------------------ words

  header(field: HeaderField): bigint {
    return this.#mapping.load64(this.#headerAt(field));
  }

  setHeader(field: HeaderField, value: bigint): void {
    this.#mapping.store64(this.#headerAt(field), value);
  }

  bucket(index: number): { word: bigint; value: bigint } {
    const at = this.#bucketAt(index);
    return { word: this.#mapping.load64(at), value: this.#mapping.load64(at + 8) };
  }

  /** A field of an entry; all are aligned. */
  setDirent(entry: number, field: DirentField, value: number | bigint): void {
    this.#set(this.overlay.place.poolAt + entry + offsetOf(overlayDirent, field), value);
  }

  setInode(entry: number, field: InodeField, value: number | bigint): void {
    this.#set(this.overlay.place.poolAt + entry + offsetOf(overlayInode, field), value);
  }

  setListHead(entry: number, first: bigint): void {
    this.#set(this.overlay.place.poolAt + entry + offsetOf(overlayDirlist, 'first'), first);
  }

  clearListHead(entry: number): void {
    this.#set(this.overlay.place.poolAt + entry + offsetOf(overlayDirlist, 'reserved'), 0);
  }

  // ------------------------------------------------------------------------------------------------ buckets

  /** A word that is neither free nor used gets the key that it nearly says. */
  markUsed(index: number): void {
    this.#mapping.store64(this.#bucketAt(index), this.bucket(index).word | 1n);
  }

  /** The bucket leads to this entry. */
  point(index: number, entry: number): void {
    const { value } = this.bucket(index);
    if (!this.isPrivate) {
      this.#mapping.store64(this.#bucketAt(index) + 8, BigInt(entry));
      return;
    }
    this.#mapping.store64(this.#bucketAt(index) + 8, nextPrivateValue(value, LIVE, BigInt(entry)));
  }

  /** Takes the key out of the table. */
  remove(index: number): void {
    if (this.isPrivate) {
      const { value } = this.bucket(index);
      this.#mapping.store64(this.#bucketAt(index) + 8, nextPrivateValue(value, DELETED, 0n));
      this.markUsed(index);
    } else this.#removeShifting(index);
  }

  /** A search for the key in the bucket arrives there. False: there is no room to make it so. */
  makeReachable(index: number): boolean {
    const { word, value } = this.bucket(index);
    const key = word >> 1n;
    if (!this.isPrivate) {
      if (!this.insert(key, Number(value))) return false;
      this.#removeShifting(index);
      return true;
    }
    this.#raiseReach(key, index);
    return true;
  }

  /** REQUIRES: the key is not in the table. False: the table is full. */
  insert(key: bigint, entry: number): boolean {
    for (const index of this.overlay.table.path(key)) {
      const { word, value } = this.bucket(index);
      const isVacant = word === 0n || (this.isPrivate && value >> 62n === BigInt(DELETED));
      if (isVacant) {
        this.#fill(index, key, entry);
        return true;
      }
    }
    return false;
  }

  /** A claim that its home's word names is in: it was only not said yet. False: it never came in. */
  settle(index: number): boolean {
    const { word, value } = this.bucket(index);
    const home = Number(homeBucket('private', word >> 1n, BigInt(this.overlay.place.bucketCount - 1)));
    const cell = Math.floor(home / BIN_CELLS) * BIN_CELLS + BIN_BUCKETS;
    const { bucket: named, version, used } = decodeWord(binWord, this.bucket(cell).word);
    const { version: own, offset } = decodePrivateValue(value);
    if (used === 0 || named !== index || version !== own) return false;
    this.point(index, Number(offset));
    return true;
  }

  /** A bin's word that names nothing; how far its keys lie stays. */
  forgetInsertion(index: number): void {
    const { reach = 0 } = decodeWord(binWord, this.bucket(index).word);
    this.#mapping.store64(this.#bucketAt(index) + 8, 0n);
    this.#mapping.store64(this.#bucketAt(index), encodeWord(binWord, { reach }));
  }

  #fill(index: number, key: bigint, entry: number): void {
    const at = this.#bucketAt(index);
    if (!this.isPrivate) {
      this.#mapping.store64(at + 8, BigInt(entry));
      this.#mapping.store64(at, stateKey(key));
      return;
    }
    this.#raiseReach(key, index);
    this.#mapping.store64(at, stateKey(key));
    this.point(index, entry);
  }

  /** The word of the key's home says that such keys lie as far as the bucket. */
  #raiseReach(key: bigint, index: number): void {
    const raised = this.overlay.table.reachWord(key, index);
    if (raised) this.#mapping.store64(this.#bucketAt(raised.index), raised.word);
  }

  /** Keys behind the hole move up, so that no search ends before its key; a free bucket ends it. */
  #removeShifting(index: number): void {
    const { bucketCount, kind } = this.overlay.place;
    const mask = bucketCount - 1;
    let hole = index;
    this.#mapping.store64(this.#bucketAt(hole), 0n);
    for (let step = 1; step < bucketCount; step++) {
      const at = (index + step) & mask;
      const { word, value } = this.bucket(at);
      if (word === 0n) break;
      const home = Number(homeBucket(kind, word >> 1n, BigInt(mask)));
      if (((hole - home) & mask) > ((at - home) & mask)) continue;
      this.#mapping.store64(this.#bucketAt(hole) + 8, value);
      this.#mapping.store64(this.#bucketAt(hole), word);
      this.#mapping.store64(this.#bucketAt(at), 0n);
      hole = at;
    }
    this.#mapping.store64(this.#bucketAt(hole) + 8, 0n);
  }

  // ------------------------------------------------------------------------------------------------ the pool

  /** Puts bytes that nobody owns at the head of a free list. */
  push(field: FreeListField, entry: number): void {
    const head = this.header(field);
    const first = head & LIST_EMPTY;
    this.#set(this.overlay.place.poolAt + entry, first === LIST_EMPTY ? NOWHERE : first);
    this.#setHead(field, head, BigInt(entry));
  }

  /** Ends a free list behind a member, or at its head. */
  cut(field: FreeListField, last: number | undefined): void {
    if (last === undefined) this.#setHead(field, this.header(field), LIST_EMPTY);
    else this.#set(this.overlay.place.poolAt + last, NOWHERE);
  }

  /** Bytes behind the last thing are as if they had never been handed out. */
  lower(to: number): void {
    const from = Number(this.header('pool_alloc'));
    this.#mapping.zero(this.overlay.place.poolAt + to, from - to);
    this.setHeader('pool_alloc', BigInt(to));
  }

  /** Pool offset of the head of a directory's list, made where there is none; undefined: no room. */
  listHead(directory: number): number | undefined {
    const key = dirlistKey(BigInt(directory));
    const found = this.overlay.find(key);
    if (found !== undefined) return this.overlay.dirlistAt(found) === undefined ? undefined : found;
    const start = this.newListHead();
    return start !== undefined && this.insert(key, start) ? start : undefined;
  }

  /** The head of an empty list, which no bucket leads to yet. */
  newListHead(): number | undefined {
    const start = roundUp(Number(this.header('pool_alloc')), overlayDirlist.size);
    if (start + overlayDirlist.size > this.overlay.place.poolBytes) return undefined;
    this.setHeader('pool_alloc', BigInt(start + overlayDirlist.size));
    this.#set(this.overlay.place.poolAt + start, BigInt(ENTRY_TYPE.dirlist));
    this.setListHead(start, NOWHERE);
    return start;
  }

  #setHead(field: FreeListField, head: bigint, first: bigint): void {
    const generation = ((head >> 48n) + 1n) & 0xffffn;
    this.setHeader(field, (generation << 48n) | first);
  }

  #set(at: number, value: number | bigint): void {
    if (typeof value === 'bigint') {
      this.#mapping.store64(at, value);
      return;
    }
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.#mapping.write(at, bytes);
  }

  #headerAt(field: HeaderField): number {
    const { bucketsAt, header } = this.overlay.place;
    return bucketsAt - Number(header.bucket_offset) + offsetOf(overlayHeader, field);
  }

  #bucketAt(index: number): number {
    return this.overlay.place.bucketsAt + index * bucket.size;
  }
}
