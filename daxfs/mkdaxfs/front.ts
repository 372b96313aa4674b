/**
 * Where everything lies in an image with an overlay or a page cache, and the bytes of their headers.
 *
 *   [superblock][base image?][overlay: header, buckets, pool][page cache: header, slot metadata, slot data]
 *
 * Every part starts on a block. Sizes are numbers below 2^53, so nothing wraps at 4 GiB.
 */
import { encode } from '../codec.ts';
import { daxfsError } from '../errors.ts';
import { bucket, CONSTANTS, overlayHeader, overlayInode, pageCacheHeader, slot, superblock } from '../layout.ts';
import { firstBucket, homeBucket, inodeKey } from '../overlay-key.ts';
import { roundUp } from '../units.ts';

export interface FrontInput {
  blockBytes: number;
  /** Of the base image's plan: superblock block and base; 0 without a base. */
  planBytes: number;
  /** Inodes of the base image; 0 without. */
  inodeCount: number;
  bucketCount: number;
  poolBytes: number;
  /** 0 = no page cache. */
  slots: number;
  /** A front of ours alone, over a base. */
  isPrivate?: boolean;
}

/** Offsets from the start of the image. */
export interface Front extends FrontInput {
  totalBytes: number;
  overlayOffset: number;
  /** Header block, buckets and pool; the pool is not rounded up to blocks. */
  overlayBytes: number;
  /** Relative to the overlay. */
  poolOffset: number;
  /** 0 without a page cache. */
  pageCacheOffset: number;
  pageCacheBytes: number;
  /** Relative to the page cache. */
  slotDataOffset: number;
}

/** Bytes and where they go. */
export interface Piece {
  offset: number;
  bytes: Buffer;
}

const EMPTY_LIST = 0xffff_ffff_ffff_ffffn;
const ROOT_INO = 1n;
const SLOTS_DEFAULT_MIN = 16;

/** Slots when none are asked for: the largest power of two that is not above `wanted`, at least 16. */
export function defaultSlots(wanted: number): number {
  return wanted > SLOTS_DEFAULT_MIN ? 2 ** Math.floor(Math.log2(wanted)) : SLOTS_DEFAULT_MIN;
}

/** @throws DaxfsError DAXFS_BAD_SIZE when the image would not fit in 2^53 bytes */
export function planFront(input: FrontInput): Front {
  const { blockBytes, planBytes, bucketCount, poolBytes, slots } = input;
  const overlayOffset = Math.max(planBytes, blockBytes);
  const poolOffset = blockBytes + roundUp(bucketCount * bucket.size, blockBytes);
  const overlayBytes = poolOffset + poolBytes;
  const overlayEnd = overlayOffset + overlayBytes;
  const slotDataOffset = blockBytes + roundUp(slots * slot.size, blockBytes);
  const pageCacheOffset = slots === 0 ? 0 : roundUp(overlayEnd, blockBytes);
  const pageCacheBytes = slots === 0 ? 0 : slotDataOffset + slots * blockBytes;
  const totalBytes = slots === 0 ? overlayEnd : pageCacheOffset + pageCacheBytes;
  if (!Number.isSafeInteger(totalBytes)) {
    throw daxfsError('DAXFS_BAD_SIZE', 'The image would be larger than 2^53 bytes; lower -O, -B or -C.');
  }
  return {
    ...input,
    totalBytes,
    overlayOffset,
    overlayBytes,
    poolOffset,
    pageCacheOffset,
    pageCacheBytes,
    slotDataOffset,
  };
}

/** The superblock. @param base that of the base image's plan, whose fields stay */
export function frontSuperblock(front: Front, base?: Buffer): Buffer {
  const head = base ? Buffer.from(base) : Buffer.alloc(superblock.size);
  const { slots, bucketCount, isPrivate } = front;
  const { superblockVersion, privateFrontBit } = CONSTANTS;
  return encode(
    superblock,
    {
      magic: CONSTANTS.superblockMagic.value,
      version: superblockVersion.value | (isPrivate ? privateFrontBit.value : 0),
      block_size: front.blockBytes,
      total_size: BigInt(front.totalBytes),
      root_inode: 1,
      overlay_offset: BigInt(front.overlayOffset),
      overlay_size: BigInt(front.overlayBytes),
      overlay_bucket_count: bucketCount,
      overlay_bucket_shift: Math.log2(bucketCount),
      pcache_offset: BigInt(front.pageCacheOffset),
      pcache_size: BigInt(front.pageCacheBytes),
      pcache_slot_count: slots,
      pcache_hash_shift: slots === 0 ? 0 : Math.log2(slots),
    },
    head,
  );
}

function overlayHeaderBytes(front: Front, isEmpty: boolean): Buffer {
  return encode(overlayHeader, {
    magic: CONSTANTS.overlayMagic.value,
    version: CONSTANTS.overlayVersion.value,
    bucket_offset: BigInt(front.blockBytes),
    pool_offset: BigInt(front.poolOffset),
    pool_size: BigInt(front.poolBytes),
    pool_alloc: BigInt(isEmpty ? overlayInode.size : 0),
    next_ino: BigInt(isEmpty ? 2 : front.inodeCount + 1),
    free_inode: EMPTY_LIST,
    free_data: EMPTY_LIST,
    free_dirent: EMPTY_LIST,
  });
}

/** The root directory of a file system without a base: inode 1 at pool offset 0, and its bucket. */
function rootPieces({ overlayOffset, blockBytes, poolOffset, bucketCount }: Front): Piece[] {
  const key = inodeKey(ROOT_INO);
  const { stateKey, value } = firstBucket('kernel', key, 0n);
  const index = Number(homeBucket('kernel', key, BigInt(bucketCount - 1)));
  const root = encode(overlayInode, { type: 1, mode: 0o040755, uid: 0, gid: 0, size: 0n, nlink: 2, flags: 0 });
  const cell = encode(bucket, { state_key: stateKey, value });
  return [
    { offset: overlayOffset + blockBytes + index * bucket.size, bytes: cell },
    { offset: overlayOffset + poolOffset, bytes: root },
  ];
}

/** Headers of overlay and page cache; what lies between is zero. */
export function frontPieces(front: Front): Piece[] {
  const isEmpty = front.inodeCount === 0;
  const pieces = [{ offset: front.overlayOffset, bytes: overlayHeaderBytes(front, isEmpty) }];
  if (isEmpty) pieces.push(...rootPieces(front));
  if (front.slots > 0) {
    const header = encode(pageCacheHeader, {
      magic: CONSTANTS.pageCacheMagic.value,
      version: CONSTANTS.pageCacheVersion.value,
      slot_meta_offset: BigInt(front.blockBytes),
      slot_data_offset: BigInt(front.slotDataOffset),
      evict_hand: 0,
      pending_count: 0,
    });
    pieces.push({ offset: front.pageCacheOffset, bytes: header });
  }
  return pieces;
}
