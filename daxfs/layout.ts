/**
 * THE layout table: every structure that lives in a region, field by field, in bytes.
 * `emit.ts` turns it into `native/include/layout.gen.h` (structs with static_asserts) and into the byte tables
 * of docs/FORMAT.md; TypeScript reads and writes through it (`codec.ts`). Nothing else states an offset.
 * All integers are little-endian. Padding is a declared field.
 */

import { bit, bytes, reserved, type StructSpec, struct, u8, u16, u32, u64, type WordSpec } from './layout-spec.ts';

export type { StructSpec, WordSpec } from './layout-spec.ts';

// ---------------------------------------------------------------------------------------------------- constants

export const CONSTANTS = {
  blockBytes: { value: 4096, doc: 'unit of the front and of images; the only block size of images in a region' },
  chunkBytes: { value: 2 * 1024 * 1024, doc: 'unit of allocation behind the registry' },
  superblockMagic: { value: 0x64617835, doc: 'DAXFS superblock magic' },
  superblockVersion: { value: 8, doc: 'DAXFS on-memory format version' },
  privateFrontBit: {
    value: 0x40000000,
    doc: 'set in the superblock version of a private front, so that no v8 kernel mounts it',
  },
  overlayMagic: { value: 0x6f766c79, doc: 'overlay header magic' },
  overlayVersion: { value: 2, doc: 'overlay format version' },
  pageCacheMagic: { value: 0x70636163, doc: 'page cache header magic' },
  pageCacheVersion: { value: 2, doc: 'page cache format version' },
  direntSizeUnit: { value: 271, doc: 'bytes a directory entry counts in the inode size (stride is 272)' },
  direntStride: { value: 272, doc: 'bytes from one directory entry to the next' },
  nameBytesMax: { value: 255, doc: 'longest file name in bytes' },
  pageIndexMax: { value: 0xffffd, doc: 'largest page index of an overlay or page-cache key' },
  inodeKeySuffix: { value: 0xfffff, doc: 'low 20 bits of an inode key' },
  dirlistKeySuffix: { value: 0xffffe, doc: 'low 20 bits of a directory-list key' },
  hostsMax: { value: 15, doc: 'host rows; a host mask has this many bits' },
  imagesPerContentMax: { value: 32, doc: 'images one content may be spread over' },
  modelNameBytesMax: { value: 194, doc: 'longest name[:tag] in bytes: 64 + 1 + 64 + 1 + 64' },
  registryFormatVersion: { value: 1, doc: 'version of everything marked ours' },
} as const;

/** 'DAXSRVE1' read as a little-endian u64. */
export const LOCATOR_MAGIC = 0x3145565253584144n;
/** 'DAXREGS1' read as a little-endian u64. */
export const REGISTRY_MAGIC = 0x3153474552584144n;

// ------------------------------------------------------------------------------------------------ v8 structures

export const locator = struct(
  'locator',
  64,
  'ours',
  'Finds the registry; last 64 bytes of the superblock block, and again of the region.',
  [
    u64('magic', 'LOCATOR_MAGIC'),
    u64('region_size', 'bytes of the whole region'),
    u64('registry_offset', 'bytes from the start of the region'),
    u64('registry_size', 'bytes'),
    u64('fingerprint', 'layout fingerprint'),
    u32('format_version', 'registryFormatVersion'),
    u32('flags', '0'),
    bytes('uuid', 16, 'random, names the region'),
  ],
);

export const superblock = struct('superblock', 4096, 'v8', 'First block of the region and of every image.', [
  u32('magic', 'superblockMagic; in a region stored last, by CAS together with version'),
  u32('version', '8; a private front sets privateFrontBit'),
  u32('block_size', 'bytes'),
  u32('reserved0', '0'),
  u64('total_size', 'end of the last v8 region in bytes'),
  u64('base_offset', 'one block when a base image exists, else 0'),
  u64('base_size', 'inode table, directories, symlinks and file data'),
  u64('inode_offset', 'relative to base; 0'),
  u32('inode_count', 'slots in the inode table'),
  u32('root_inode', '1'),
  u64('data_offset', 'relative to base: inode_count * 64 rounded up to a block'),
  u64('overlay_offset', 'absolute; 0 = none'),
  u64('overlay_size', 'header block, bucket array and pool'),
  u32('overlay_bucket_count', 'power of two'),
  u32('overlay_bucket_shift', 'log2 of the count'),
  u64('pcache_offset', 'absolute; 0 = none'),
  u64('pcache_size', 'header block, slot metadata and slot data'),
  u32('pcache_slot_count', 'power of two'),
  u32('pcache_hash_shift', 'log2 of the count'),
  reserved(3920),
  bytes('locator', 64, 'in a region: locator; in an image: 0'),
]);

export const inode = struct('inode', 64, 'v8', 'Base image inode; index = ino - 1.', [
  u32('ino', '1-based'),
  u32('mode', 'st_mode with type bits'),
  u32('uid', 'owner'),
  u32('gid', 'group'),
  u64('size', 'bytes; symlink: target length; directory: entries * 271'),
  u64('data_offset', 'relative to base'),
  u32('nlink', 'links'),
  reserved(28),
]);

export const dirent = struct('dirent', 272, 'v8', 'Base image directory entry; stride 272, counted as 271.', [
  u32('ino', 'child'),
  u32('mode', 'child st_mode'),
  u16('name_len', '1..255'),
  reserved(6),
  bytes('name', 255, 'not NUL terminated, rest 0'),
  reserved(1, 'padding'),
]);

export const overlayHeader = struct('overlay_header', 4096, 'v8', 'First block of the overlay.', [
  u32('magic', 'overlayMagic'),
  u32('version', 'overlayVersion'),
  u64('bucket_offset', 'relative to the overlay; one block'),
  u64('pool_offset', 'relative to the overlay'),
  u64('pool_size', 'bytes'),
  u64('pool_alloc', 'bump pointer'),
  u64('next_ino', 'next inode number'),
  u64('free_inode', 'tagged list head; all ones = empty'),
  u64('free_data', 'tagged list head'),
  u64('free_dirent', 'tagged list head'),
  reserved(4024),
]);

export const bucket = struct('bucket', 16, 'v8', 'Overlay hash bucket; never returns to free.', [
  u64('state_key', 'bit 0 used, bits 63..1 key; private front: the last of every 16 holds bin_word here'),
  u64('value', 'pool offset of the entry; private front: state, version and offset'),
]);

export const overlayInode = struct('overlay_inode', 32, 'v8', 'Overlay pool entry of an inode.', [
  u32('type', '1'),
  u32('mode', 'st_mode'),
  u32('uid', 'owner'),
  u32('gid', 'group'),
  u64('size', 'bytes'),
  u32('nlink', 'links at creation'),
  u32('flags', '0'),
]);

export const overlayDirent = struct('overlay_dirent', 304, 'v8', 'Overlay pool entry of a directory entry.', [
  u32('type', '3'),
  u32('flags', 'bit 0 tombstone'),
  u64('parent_ino', 'directory'),
  u64('child_ino', '0 in the tombstone of a base name'),
  u32('child_mode', 'st_mode'),
  u16('name_len', '1..255'),
  reserved(2),
  u64('next', 'next entry with the same key; all ones = end'),
  u64('dir_next', 'next entry of the same directory; all ones = end'),
  bytes('name', 256, 'NUL terminated'),
]);

export const overlayDirlist = struct('overlay_dirlist', 16, 'v8', 'Overlay pool entry: head of a directory list.', [
  u32('type', '4'),
  u32('reserved', '0'),
  u64('first', 'pool offset of the newest entry; all ones = none'),
]);

export const pageCacheCounters = struct('page_cache_counters', 96, 'ours', 'What processes saw of a page cache.', [
  u64('hits', 'pages found VALID'),
  u64('misses', 'pages not found'),
  u64('fills', 'slots filled and published'),
  u64('fill_errors', 'fills that failed; the slot is FREE again'),
  u64('evictions_unreferenced', 'evicted without their reference bit'),
  u64('evictions_second_chance', 'evicted after the bits of their places were cleared'),
  u64('evictions_forced', 'evicted although used meanwhile'),
  u64('pending_waits', "waits for somebody else's fill"),
  u64('fallbacks', 'reads past the cache: no slot could be had, or a wait took too long'),
  u64('takeovers', 'fills of dead processes taken over'),
  u64('source_reads', 'blocks read from source files'),
  u64('source_bytes', 'bytes of them'),
]);

export const pageCacheUser = struct('page_cache_user', 256, 'ours', 'A process that uses the page cache of an image.', [
  u64(
    'word',
    'bit 0 taken, bits 16-31 generation, bits 32-63 from the boot id; byte 0 is locked while the process lives',
  ),
  u32('pid', 'for people'),
  u32('unused', '0'),
  { name: 'counters', type: { array: pageCacheCounters, count: 1 }, doc: 'its own' },
  reserved(144),
]);

/** From byte 32 on v8 leaves the block free; in an image it holds what is ours. */
export const pageCacheHeader = struct('page_cache_header', 4096, 'v8', 'First block of the v8 page cache.', [
  u32('magic', 'pageCacheMagic'),
  u32('version', 'pageCacheVersion'),
  u64('slot_meta_offset', 'one block'),
  u64('slot_data_offset', 'block + slots * 16 rounded up'),
  u32('evict_hand', 'clock hand'),
  u32('pending_count', 'PENDING slots'),
  u64('source_stamp', 'ours: digest of size, mtime and inode of every source file; 0 = nobody knows'),
  { name: 'totals', type: { array: pageCacheCounters, count: 1 }, doc: 'ours: of processes that are gone' },
  reserved(120),
  { name: 'users', type: { array: pageCacheUser, count: 15 }, doc: 'ours' },
]);

export const slot = struct('slot', 16, 'v8', 'Page-cache cell.', [
  u64('state_tag', 'bits 0-1 state, 2-5 pins, 6-63 tag'),
  u32('ref_bit', '1 = touched since the hand passed'),
  u32('host_mask', 'v8: reserved; ours: hosts that hold the pins'),
]);

// ------------------------------------------------------------------------------------------ the registry: words

export const HOST_STATE = { FREE: 0, LIVE: 1, LAPSED: 2, RECOVERING: 3 } as const;
export const CONTENT_STATE = {
  FREE: 0,
  RESERVED: 1,
  CLAIMING: 2,
  LOADING: 3,
  READY: 4,
  DRAINING: 5,
  FREEING: 6,
  QUARANTINED: 7,
} as const;
export const NAME_STATE = { FREE: 0, CLAIMED: 1, USED: 2, QUARANTINED: 3 } as const;
export const CHUNK_STATE = { FREE: 0, CLAIMED: 1, USED: 2, PENDING: 3, VALID: 4, QUARANTINED: 5 } as const;
/** CLAIMED: being written; READY: the operation runs, its arguments say how to finish it. */
export const INTENT_STATE = { FREE: 0, CLAIMED: 1, READY: 2 } as const;
/** Multi-step operations of the front; what their arguments mean: docs/OVERLAY.md. */
export const INTENT_KIND = { NONE: 0, CREATE: 1, UNLINK: 2, RENAME: 3, REMOVE_DIR: 4 } as const;
/** A `host` bit field with this value means nobody. */
export const NO_HOST = 15;
/** A name word with this content index points to nothing. */
export const NO_CONTENT = 0xfffff;

export const hostWord: WordSpec = {
  name: 'host_word',
  doc: 'State of a host row. FREE -> RECOVERING(by itself) -> LIVE (generation + 1) -> FREE or LAPSED; LAPSED -> RECOVERING(by a survivor) -> FREE or LAPSED; any -> RECOVERING(by itself) -> LIVE (generation + 1) by a successor.',
  bits: [
    bit('state', 0, 3, 'HOST_STATE'),
    bit('generation', 3, 16, 'grows at every attach; part of every claim'),
    bit('by_host', 19, 4, 'RECOVERING: the survivor, or the row itself while its host attaches; else 15'),
    bit('by_generation', 23, 16, 'RECOVERING: its generation'),
  ],
};

export const contentWord: WordSpec = {
  name: 'content_word',
  doc: 'State of a content row, changed by CAS only. FREE -> RESERVED -> CLAIMING -> LOADING -> READY -> DRAINING -> FREEING -> FREE (generation + 1); RESERVED/CLAIMING/LOADING -> FREEING on failure; READY, DRAINING -> QUARANTINED(mask); RESERVED, LOADING of a host that may only be paused -> QUARANTINED(host).',
  bits: [
    bit('state', 0, 4, 'CONTENT_STATE'),
    bit('host', 4, 4, 'claiming host while RESERVED, CLAIMING, LOADING, FREEING, or QUARANTINED with it; else 15'),
    bit('mask', 8, 15, 'hosts that hold a right to the bytes (READY, DRAINING, QUARANTINED)'),
    bit('host_generation', 23, 16, 'generation of the claiming host'),
    bit('generation', 39, 25, 'grows each time the row is freed'),
  ],
};

export const nameWord: WordSpec = {
  name: 'name_word',
  doc: 'State of a name bucket. FREE or USED(nothing) -> CLAIMED(host) -> USED(target); CLAIMED(dead) -> USED(nothing), or QUARANTINED(host) while it may only be paused. Never FREE again.',
  bits: [
    bit('state', 0, 3, 'NAME_STATE'),
    bit('content', 3, 20, 'target row; NO_CONTENT = nothing'),
    bit('generation', 23, 25, 'generation of the target row'),
    bit('host', 48, 4, 'CLAIMED, QUARANTINED: the host; else 15'),
    bit('host_generation', 52, 12, 'CLAIMED, QUARANTINED: low 12 bits of its generation'),
  ],
};

export const chunkWord: WordSpec = {
  name: 'chunk_word',
  doc: 'State of a chunk. Resident: FREE -> CLAIMED(host, content) -> USED(content) -> FREE; CLAIMED(dead) -> FREE, or QUARANTINED(host) while it may only be paused. A free word is 0. Cached blocks: FREE -> PENDING(host) -> VALID(mask) -> FREE.',
  bits: [
    bit('state', 0, 3, 'CHUNK_STATE'),
    bit('ref', 3, 1, 'VALID: touched since the hand passed'),
    bit('content', 4, 20, 'owning content row'),
    bit('mask', 24, 15, 'VALID: hosts that pin the block'),
    bit('host', 39, 4, 'CLAIMED, PENDING, QUARANTINED: the host; else 15'),
    bit(
      'host_generation',
      43,
      16,
      'CLAIMED, PENDING, QUARANTINED: its generation; USED: low 16 bits of the generation of the content',
    ),
  ],
};

export const intentWord: WordSpec = {
  name: 'intent_word',
  doc: 'State of an intent row. FREE -> CLAIMED(host) -> READY(host, kind) -> FREE; READY(dead host) -> READY(survivor), who finishes it.',
  bits: [
    bit('state', 0, 3, 'INTENT_STATE'),
    bit('kind', 3, 5, 'INTENT_KIND'),
    bit('host', 8, 4, 'who runs the operation'),
    bit('host_generation', 12, 16, 'its generation'),
    bit('sequence', 28, 36, 'grows each time the row is claimed'),
  ],
};

export const binWord: WordSpec = {
  name: 'bin_word',
  doc: 'Private front: the last insertion of a key whose home is this bin, and how far such keys lie. An insertion counts from the CAS of this word on; its bucket goes from TENTATIVE to LIVE afterwards, by anybody.',
  bits: [
    bit('bucket', 0, 32, 'where the key was put'),
    bit('version', 32, 22, 'of that bucket while it is TENTATIVE'),
    bit('reach', 54, 9, 'keys of this home lie in its first reach + 1 bins; 511 = anywhere'),
    bit('used', 63, 1, 'bucket and version mean something'),
  ],
};

// ----------------------------------------------------------------------------------------- the registry: structs

export const registryHeader = struct(
  'registry_header',
  4096,
  'ours',
  'Immutable after creation; two copies, written 1 then 0, read 0 then 1.',
  [
    u64('magic', 'REGISTRY_MAGIC'),
    u32('format_version', 'registryFormatVersion'),
    u32('flags', 'bit 0 kernel-mountable front'),
    u64('fingerprint', 'layout fingerprint'),
    bytes('uuid', 16, 'as in the locator'),
    u64('created_at_ms', 'Unix time in milliseconds'),
    u64('region_size', 'bytes'),
    u64('registry_offset', 'bytes from the start of the region'),
    u64('registry_size', 'bytes'),
    u64('chunks_offset', 'bytes from the start of the region; a multiple of chunkBytes'),
    u64('chunk_count', 'chunks'),
    u32('coherence', '0 hardware, 1 software'),
    u32('heartbeat_interval_ms', 'milliseconds'),
    u32('heartbeat_limit_ms', 'a host silent for longer is LAPSED to observers'),
    u32('host_count', 'rows'),
    u64('hosts_offset', 'relative to the registry'),
    u64('contents_offset', 'relative to the registry'),
    u64('names_offset', 'relative to the registry'),
    u64('intents_offset', 'relative to the registry'),
    u64('words_offset', 'chunk words, relative to the registry'),
    u32('content_count', 'rows'),
    u32('name_count', 'buckets, power of two'),
    u32('intent_count', 'rows'),
    u32('reserved0', '0'),
    reserved(3928),
    u64('checksum', 'XXH3-64 of the 4088 bytes before'),
  ],
);

export const registryState = struct(
  'registry_state',
  4096,
  'ours',
  'Shared counters of the registry, each changed by CAS or add.',
  [
    u64('clock_hand', 'chunk index the shared eviction clock looks at next'),
    u64('alloc_hint', 'chunk index after the last allocation; a hint only'),
    u64('chunks_free', 'a hint for metrics; the chunk words are the truth'),
    reserved(4072),
  ],
);

export const hostRow = struct(
  'host_row',
  256,
  'ours',
  'One service instance. Its first byte is the range of its lock.',
  [
    u64('word', 'host_word'),
    u64('heartbeat', 'grows every heartbeat_interval_ms'),
    bytes('boot_id', 16, 'kernel'),
    u64('start_time', 'start time of the process in clock ticks since boot'),
    u32('pid', 'process id in its own namespace'),
    u32('name_len', '1..64'),
    bytes('name', 64, 'host id, UTF-8'),
    u64('attached_at_ms', 'Unix time in milliseconds'),
    reserved(136),
  ],
);

export const imageExtent = struct('image_extent', 16, 'ours', 'Where one image of a content lies.', [
  u32('first_chunk', 'chunk index'),
  u32('chunk_count', 'chunks'),
  u64('bytes', 'superblock.total_size of the image'),
]);

export const contentRow = struct(
  'content_row',
  1024,
  'ours',
  'One content. Fields other than word and bytes_done are written by the claiming host before READY.',
  [
    u64('word', 'content_word'),
    u64('source_key_lo', 'identity of the source, low half'),
    u64('source_key_hi', 'identity of the source, high half'),
    bytes('digest', 32, 'SHA-256 over the sorted list of (path, size, XXH3-128)'),
    u64('bytes', 'sum of the file sizes'),
    u64('bytes_done', 'progress while LOADING; written by the claiming host'),
    u64('created_at_ms', 'Unix time in milliseconds'),
    u64('ready_at_ms', 'Unix time in milliseconds'),
    u64('last_access_ms', 'Unix time in milliseconds; any host, plain store'),
    u32('load_ms', 'duration of the load in milliseconds'),
    u32('file_count', 'files'),
    u32('tensor_count', 'tensors'),
    u32('image_count', '1..imagesPerContentMax'),
    u32('flags', 'bit 0 keep'),
    u8('placement', '0 resident, 1 cached'),
    u8('format', 'index into loaders FORMATS'),
    u16('revision_len', 'bytes'),
    bytes('revision', 96, "the source's version word, UTF-8"),
    { name: 'images', type: { array: imageExtent, count: 32 }, doc: 'image_count extents' },
    u64('sequence', 'odd while the fields are written; even and larger after it'),
    u64('checksum', 'XXH3-64 of digest..images with bytes_done, last_access_ms and flags as 0; written before READY'),
    reserved(280),
  ],
);

export const nameRow = struct('name_row', 256, 'ours', 'One name bucket; {word, hash} is claimed by a 16-byte CAS.', [
  u64('word', 'name_word'),
  u64('hash', 'XXH3-64 of the name with bit 0 set'),
  u32('name_len', '1..194'),
  u32('flags', '0'),
  bytes('name', 200, 'name:tag, UTF-8'),
  reserved(32),
]);

export const intentRow = struct('intent_row', 128, 'ours', 'A multi-step operation of the front in flight.', [
  u64('word', 'intent_word'),
  u64('arg0', 'by kind'),
  u64('arg1', 'by kind'),
  u64('arg2', 'by kind'),
  u64('arg3', 'by kind'),
  u64('arg4', 'by kind'),
  reserved(80),
]);

export const STRUCTS: readonly StructSpec[] = [
  superblock,
  inode,
  dirent,
  overlayHeader,
  bucket,
  overlayInode,
  overlayDirent,
  overlayDirlist,
  pageCacheCounters,
  pageCacheUser,
  pageCacheHeader,
  slot,
  locator,
  registryHeader,
  registryState,
  hostRow,
  imageExtent,
  contentRow,
  nameRow,
  intentRow,
];

export const WORDS: readonly WordSpec[] = [binWord, hostWord, contentWord, nameWord, chunkWord, intentWord];
export const STATES = {
  host: HOST_STATE,
  content: CONTENT_STATE,
  name: NAME_STATE,
  chunk: CHUNK_STATE,
  intent: INTENT_STATE,
  intentKind: INTENT_KIND,
} as const;
