// Generated from daxfs/layout.ts by `npm run gen`. Do not edit.
#pragma once
#include <cstddef>
#include <cstdint>

namespace daxserve::layout {

/// A bit range of a 64-bit word.
struct Bits {
  unsigned shift;
  unsigned width;
  constexpr uint64_t max() const { return (uint64_t{1} << width) - 1; }
  constexpr uint64_t get(uint64_t word) const { return (word >> shift) & max(); }
  constexpr uint64_t set(uint64_t word, uint64_t value) const {
    return (word & ~(max() << shift)) | ((value & max()) << shift);
  }
};

inline constexpr uint32_t kBlockBytes = 0x1000;  // unit of the front and of images; the only block size of images in a region
inline constexpr uint32_t kChunkBytes = 0x200000;  // unit of allocation behind the registry
inline constexpr uint32_t kSuperblockMagic = 0x64617835;  // DAXFS superblock magic
inline constexpr uint32_t kSuperblockVersion = 0x8;  // DAXFS on-memory format version
inline constexpr uint32_t kPrivateFrontBit = 0x40000000;  // set in the superblock version of a private front, so that no v8 kernel mounts it
inline constexpr uint32_t kOverlayMagic = 0x6f766c79;  // overlay header magic
inline constexpr uint32_t kOverlayVersion = 0x2;  // overlay format version
inline constexpr uint32_t kPageCacheMagic = 0x70636163;  // page cache header magic
inline constexpr uint32_t kPageCacheVersion = 0x2;  // page cache format version
inline constexpr uint32_t kDirentSizeUnit = 0x10f;  // bytes a directory entry counts in the inode size (stride is 272)
inline constexpr uint32_t kDirentStride = 0x110;  // bytes from one directory entry to the next
inline constexpr uint32_t kNameBytesMax = 0xff;  // longest file name in bytes
inline constexpr uint32_t kPageIndexMax = 0xffffd;  // largest page index of an overlay or page-cache key
inline constexpr uint32_t kInodeKeySuffix = 0xfffff;  // low 20 bits of an inode key
inline constexpr uint32_t kDirlistKeySuffix = 0xffffe;  // low 20 bits of a directory-list key
inline constexpr uint32_t kHostsMax = 0xf;  // host rows; a host mask has this many bits
inline constexpr uint32_t kImagesPerContentMax = 0x20;  // images one content may be spread over
inline constexpr uint32_t kModelNameBytesMax = 0xc2;  // longest name[:tag] in bytes: 64 + 1 + 64 + 1 + 64
inline constexpr uint32_t kRegistryFormatVersion = 0x1;  // version of everything marked ours
inline constexpr uint64_t kLocatorMagic = 0x3145565253584144;
inline constexpr uint64_t kRegistryMagic = 0x3153474552584144;
inline constexpr uint64_t kFingerprint = 0xf532af2bb9a93e10;
inline constexpr uint64_t kNoHost = 15;
inline constexpr uint64_t kNoContent = 0xfffff;

enum class HostState : uint64_t {
  kFree = 0,  // stored: do not change
  kLive = 1,  // stored: do not change
  kLapsed = 2,  // stored: do not change
  kRecovering = 3,  // stored: do not change
};

enum class ContentState : uint64_t {
  kFree = 0,  // stored: do not change
  kReserved = 1,  // stored: do not change
  kClaiming = 2,  // stored: do not change
  kLoading = 3,  // stored: do not change
  kReady = 4,  // stored: do not change
  kDraining = 5,  // stored: do not change
  kFreeing = 6,  // stored: do not change
  kQuarantined = 7,  // stored: do not change
};

enum class NameState : uint64_t {
  kFree = 0,  // stored: do not change
  kClaimed = 1,  // stored: do not change
  kUsed = 2,  // stored: do not change
  kQuarantined = 3,  // stored: do not change
};

enum class ChunkState : uint64_t {
  kFree = 0,  // stored: do not change
  kClaimed = 1,  // stored: do not change
  kUsed = 2,  // stored: do not change
  kPending = 3,  // stored: do not change
  kValid = 4,  // stored: do not change
  kQuarantined = 5,  // stored: do not change
};

enum class IntentState : uint64_t {
  kFree = 0,  // stored: do not change
  kClaimed = 1,  // stored: do not change
  kReady = 2,  // stored: do not change
};

enum class IntentKindState : uint64_t {
  kNone = 0,  // stored: do not change
  kCreate = 1,  // stored: do not change
  kUnlink = 2,  // stored: do not change
  kRename = 3,  // stored: do not change
  kRemoveDir = 4,  // stored: do not change
};

/// Private front: the last insertion of a key whose home is this bin, and how far such keys lie. An insertion counts from the CAS of this word on; its bucket goes from TENTATIVE to LIVE afterwards, by anybody.
namespace bin_word {
inline constexpr Bits kBucket{0, 32};  // where the key was put
inline constexpr Bits kVersion{32, 22};  // of that bucket while it is TENTATIVE
inline constexpr Bits kReach{54, 9};  // keys of this home lie in its first reach + 1 bins; 511 = anywhere
inline constexpr Bits kUsed{63, 1};  // bucket and version mean something
}  // namespace bin_word

/// State of a host row. FREE -> RECOVERING(by itself) -> LIVE (generation + 1) -> FREE or LAPSED; LAPSED -> RECOVERING(by a survivor) -> FREE or LAPSED; any -> RECOVERING(by itself) -> LIVE (generation + 1) by a successor.
namespace host_word {
inline constexpr Bits kState{0, 3};  // HOST_STATE
inline constexpr Bits kGeneration{3, 16};  // grows at every attach; part of every claim
inline constexpr Bits kByHost{19, 4};  // RECOVERING: the survivor, or the row itself while its host attaches; else 15
inline constexpr Bits kByGeneration{23, 16};  // RECOVERING: its generation
}  // namespace host_word

/// State of a content row, changed by CAS only. FREE -> RESERVED -> CLAIMING -> LOADING -> READY -> DRAINING -> FREEING -> FREE (generation + 1); RESERVED/CLAIMING/LOADING -> FREEING on failure; READY, DRAINING -> QUARANTINED(mask); RESERVED, LOADING of a host that may only be paused -> QUARANTINED(host).
namespace content_word {
inline constexpr Bits kState{0, 4};  // CONTENT_STATE
inline constexpr Bits kHost{4, 4};  // claiming host while RESERVED, CLAIMING, LOADING, FREEING, or QUARANTINED with it; else 15
inline constexpr Bits kMask{8, 15};  // hosts that hold a right to the bytes (READY, DRAINING, QUARANTINED)
inline constexpr Bits kHostGeneration{23, 16};  // generation of the claiming host
inline constexpr Bits kGeneration{39, 25};  // grows each time the row is freed
}  // namespace content_word

/// State of a name bucket. FREE or USED(nothing) -> CLAIMED(host) -> USED(target); CLAIMED(dead) -> USED(nothing), or QUARANTINED(host) while it may only be paused. Never FREE again.
namespace name_word {
inline constexpr Bits kState{0, 3};  // NAME_STATE
inline constexpr Bits kContent{3, 20};  // target row; NO_CONTENT = nothing
inline constexpr Bits kGeneration{23, 25};  // generation of the target row
inline constexpr Bits kHost{48, 4};  // CLAIMED, QUARANTINED: the host; else 15
inline constexpr Bits kHostGeneration{52, 12};  // CLAIMED, QUARANTINED: low 12 bits of its generation
}  // namespace name_word

/// State of a chunk. Resident: FREE -> CLAIMED(host, content) -> USED(content) -> FREE; CLAIMED(dead) -> FREE, or QUARANTINED(host) while it may only be paused. A free word is 0. Cached blocks: FREE -> PENDING(host) -> VALID(mask) -> FREE.
namespace chunk_word {
inline constexpr Bits kState{0, 3};  // CHUNK_STATE
inline constexpr Bits kRef{3, 1};  // VALID: touched since the hand passed
inline constexpr Bits kContent{4, 20};  // owning content row
inline constexpr Bits kMask{24, 15};  // VALID: hosts that pin the block
inline constexpr Bits kHost{39, 4};  // CLAIMED, PENDING, QUARANTINED: the host; else 15
inline constexpr Bits kHostGeneration{43, 16};  // CLAIMED, PENDING, QUARANTINED: its generation; USED: low 16 bits of the generation of the content
}  // namespace chunk_word

/// State of an intent row. FREE -> CLAIMED(host) -> READY(host, kind) -> FREE; READY(dead host) -> READY(survivor), who finishes it.
namespace intent_word {
inline constexpr Bits kState{0, 3};  // INTENT_STATE
inline constexpr Bits kKind{3, 5};  // INTENT_KIND
inline constexpr Bits kHost{8, 4};  // who runs the operation
inline constexpr Bits kHostGeneration{12, 16};  // its generation
inline constexpr Bits kSequence{28, 36};  // grows each time the row is claimed
}  // namespace intent_word

/// First block of the region and of every image.
struct Superblock {
  uint32_t magic;  // superblockMagic; in a region stored last, by CAS together with version
  uint32_t version;  // 8; a private front sets privateFrontBit
  uint32_t block_size;  // bytes
  uint32_t reserved0;  // 0
  uint64_t total_size;  // end of the last v8 region in bytes
  uint64_t base_offset;  // one block when a base image exists, else 0
  uint64_t base_size;  // inode table, directories, symlinks and file data
  uint64_t inode_offset;  // relative to base; 0
  uint32_t inode_count;  // slots in the inode table
  uint32_t root_inode;  // 1
  uint64_t data_offset;  // relative to base: inode_count * 64 rounded up to a block
  uint64_t overlay_offset;  // absolute; 0 = none
  uint64_t overlay_size;  // header block, bucket array and pool
  uint32_t overlay_bucket_count;  // power of two
  uint32_t overlay_bucket_shift;  // log2 of the count
  uint64_t pcache_offset;  // absolute; 0 = none
  uint64_t pcache_size;  // header block, slot metadata and slot data
  uint32_t pcache_slot_count;  // power of two
  uint32_t pcache_hash_shift;  // log2 of the count
  uint8_t reserved[3920];  // 0
  uint8_t locator[64];  // in a region: locator; in an image: 0
};
static_assert(sizeof(Superblock) == 4096);
static_assert(offsetof(Superblock, magic) == 0);
static_assert(offsetof(Superblock, version) == 4);
static_assert(offsetof(Superblock, block_size) == 8);
static_assert(offsetof(Superblock, reserved0) == 12);
static_assert(offsetof(Superblock, total_size) == 16);
static_assert(offsetof(Superblock, base_offset) == 24);
static_assert(offsetof(Superblock, base_size) == 32);
static_assert(offsetof(Superblock, inode_offset) == 40);
static_assert(offsetof(Superblock, inode_count) == 48);
static_assert(offsetof(Superblock, root_inode) == 52);
static_assert(offsetof(Superblock, data_offset) == 56);
static_assert(offsetof(Superblock, overlay_offset) == 64);
static_assert(offsetof(Superblock, overlay_size) == 72);
static_assert(offsetof(Superblock, overlay_bucket_count) == 80);
static_assert(offsetof(Superblock, overlay_bucket_shift) == 84);
static_assert(offsetof(Superblock, pcache_offset) == 88);
static_assert(offsetof(Superblock, pcache_size) == 96);
static_assert(offsetof(Superblock, pcache_slot_count) == 104);
static_assert(offsetof(Superblock, pcache_hash_shift) == 108);
static_assert(offsetof(Superblock, reserved) == 112);
static_assert(offsetof(Superblock, locator) == 4032);

/// Base image inode; index = ino - 1.
struct Inode {
  uint32_t ino;  // 1-based
  uint32_t mode;  // st_mode with type bits
  uint32_t uid;  // owner
  uint32_t gid;  // group
  uint64_t size;  // bytes; symlink: target length; directory: entries * 271
  uint64_t data_offset;  // relative to base
  uint32_t nlink;  // links
  uint8_t reserved[28];  // 0
};
static_assert(sizeof(Inode) == 64);
static_assert(offsetof(Inode, ino) == 0);
static_assert(offsetof(Inode, mode) == 4);
static_assert(offsetof(Inode, uid) == 8);
static_assert(offsetof(Inode, gid) == 12);
static_assert(offsetof(Inode, size) == 16);
static_assert(offsetof(Inode, data_offset) == 24);
static_assert(offsetof(Inode, nlink) == 32);
static_assert(offsetof(Inode, reserved) == 36);

/// Base image directory entry; stride 272, counted as 271.
struct Dirent {
  uint32_t ino;  // child
  uint32_t mode;  // child st_mode
  uint16_t name_len;  // 1..255
  uint8_t reserved[6];  // 0
  uint8_t name[255];  // not NUL terminated, rest 0
  uint8_t padding[1];  // 0
};
static_assert(sizeof(Dirent) == 272);
static_assert(offsetof(Dirent, ino) == 0);
static_assert(offsetof(Dirent, mode) == 4);
static_assert(offsetof(Dirent, name_len) == 8);
static_assert(offsetof(Dirent, reserved) == 10);
static_assert(offsetof(Dirent, name) == 16);
static_assert(offsetof(Dirent, padding) == 271);

/// First block of the overlay.
struct OverlayHeader {
  uint32_t magic;  // overlayMagic
  uint32_t version;  // overlayVersion
  uint64_t bucket_offset;  // relative to the overlay; one block
  uint64_t pool_offset;  // relative to the overlay
  uint64_t pool_size;  // bytes
  uint64_t pool_alloc;  // bump pointer
  uint64_t next_ino;  // next inode number
  uint64_t free_inode;  // tagged list head; all ones = empty
  uint64_t free_data;  // tagged list head
  uint64_t free_dirent;  // tagged list head
  uint8_t reserved[4024];  // 0
};
static_assert(sizeof(OverlayHeader) == 4096);
static_assert(offsetof(OverlayHeader, magic) == 0);
static_assert(offsetof(OverlayHeader, version) == 4);
static_assert(offsetof(OverlayHeader, bucket_offset) == 8);
static_assert(offsetof(OverlayHeader, pool_offset) == 16);
static_assert(offsetof(OverlayHeader, pool_size) == 24);
static_assert(offsetof(OverlayHeader, pool_alloc) == 32);
static_assert(offsetof(OverlayHeader, next_ino) == 40);
static_assert(offsetof(OverlayHeader, free_inode) == 48);
static_assert(offsetof(OverlayHeader, free_data) == 56);
static_assert(offsetof(OverlayHeader, free_dirent) == 64);
static_assert(offsetof(OverlayHeader, reserved) == 72);

/// Overlay hash bucket; never returns to free.
struct Bucket {
  uint64_t state_key;  // bit 0 used, bits 63..1 key; private front: the last of every 16 holds bin_word here
  uint64_t value;  // pool offset of the entry; private front: state, version and offset
};
static_assert(sizeof(Bucket) == 16);
static_assert(offsetof(Bucket, state_key) == 0);
static_assert(offsetof(Bucket, value) == 8);

/// Overlay pool entry of an inode.
struct OverlayInode {
  uint32_t type;  // 1
  uint32_t mode;  // st_mode
  uint32_t uid;  // owner
  uint32_t gid;  // group
  uint64_t size;  // bytes
  uint32_t nlink;  // links at creation
  uint32_t flags;  // 0
};
static_assert(sizeof(OverlayInode) == 32);
static_assert(offsetof(OverlayInode, type) == 0);
static_assert(offsetof(OverlayInode, mode) == 4);
static_assert(offsetof(OverlayInode, uid) == 8);
static_assert(offsetof(OverlayInode, gid) == 12);
static_assert(offsetof(OverlayInode, size) == 16);
static_assert(offsetof(OverlayInode, nlink) == 24);
static_assert(offsetof(OverlayInode, flags) == 28);

/// Overlay pool entry of a directory entry.
struct OverlayDirent {
  uint32_t type;  // 3
  uint32_t flags;  // bit 0 tombstone
  uint64_t parent_ino;  // directory
  uint64_t child_ino;  // 0 in the tombstone of a base name
  uint32_t child_mode;  // st_mode
  uint16_t name_len;  // 1..255
  uint8_t reserved[2];  // 0
  uint64_t next;  // next entry with the same key; all ones = end
  uint64_t dir_next;  // next entry of the same directory; all ones = end
  uint8_t name[256];  // NUL terminated
};
static_assert(sizeof(OverlayDirent) == 304);
static_assert(offsetof(OverlayDirent, type) == 0);
static_assert(offsetof(OverlayDirent, flags) == 4);
static_assert(offsetof(OverlayDirent, parent_ino) == 8);
static_assert(offsetof(OverlayDirent, child_ino) == 16);
static_assert(offsetof(OverlayDirent, child_mode) == 24);
static_assert(offsetof(OverlayDirent, name_len) == 28);
static_assert(offsetof(OverlayDirent, reserved) == 30);
static_assert(offsetof(OverlayDirent, next) == 32);
static_assert(offsetof(OverlayDirent, dir_next) == 40);
static_assert(offsetof(OverlayDirent, name) == 48);

/// Overlay pool entry: head of a directory list.
struct OverlayDirlist {
  uint32_t type;  // 4
  uint32_t reserved;  // 0
  uint64_t first;  // pool offset of the newest entry; all ones = none
};
static_assert(sizeof(OverlayDirlist) == 16);
static_assert(offsetof(OverlayDirlist, type) == 0);
static_assert(offsetof(OverlayDirlist, reserved) == 4);
static_assert(offsetof(OverlayDirlist, first) == 8);

/// What processes saw of a page cache.
struct PageCacheCounters {
  uint64_t hits;  // pages found VALID
  uint64_t misses;  // pages not found
  uint64_t fills;  // slots filled and published
  uint64_t fill_errors;  // fills that failed; the slot is FREE again
  uint64_t evictions_unreferenced;  // evicted without their reference bit
  uint64_t evictions_second_chance;  // evicted after the bits of their places were cleared
  uint64_t evictions_forced;  // evicted although used meanwhile
  uint64_t pending_waits;  // waits for somebody else's fill
  uint64_t fallbacks;  // reads past the cache: no slot could be had, or a wait took too long
  uint64_t takeovers;  // fills of dead processes taken over
  uint64_t source_reads;  // blocks read from source files
  uint64_t source_bytes;  // bytes of them
};
static_assert(sizeof(PageCacheCounters) == 96);
static_assert(offsetof(PageCacheCounters, hits) == 0);
static_assert(offsetof(PageCacheCounters, misses) == 8);
static_assert(offsetof(PageCacheCounters, fills) == 16);
static_assert(offsetof(PageCacheCounters, fill_errors) == 24);
static_assert(offsetof(PageCacheCounters, evictions_unreferenced) == 32);
static_assert(offsetof(PageCacheCounters, evictions_second_chance) == 40);
static_assert(offsetof(PageCacheCounters, evictions_forced) == 48);
static_assert(offsetof(PageCacheCounters, pending_waits) == 56);
static_assert(offsetof(PageCacheCounters, fallbacks) == 64);
static_assert(offsetof(PageCacheCounters, takeovers) == 72);
static_assert(offsetof(PageCacheCounters, source_reads) == 80);
static_assert(offsetof(PageCacheCounters, source_bytes) == 88);

/// A process that uses the page cache of an image.
struct PageCacheUser {
  uint64_t word;  // bit 0 taken, bits 16-31 generation, bits 32-63 from the boot id; byte 0 is locked while the process lives
  uint32_t pid;  // for people
  uint32_t unused;  // 0
  PageCacheCounters counters[1];  // its own
  uint8_t reserved[144];  // 0
};
static_assert(sizeof(PageCacheUser) == 256);
static_assert(offsetof(PageCacheUser, word) == 0);
static_assert(offsetof(PageCacheUser, pid) == 8);
static_assert(offsetof(PageCacheUser, unused) == 12);
static_assert(offsetof(PageCacheUser, counters) == 16);
static_assert(offsetof(PageCacheUser, reserved) == 112);

/// First block of the v8 page cache.
struct PageCacheHeader {
  uint32_t magic;  // pageCacheMagic
  uint32_t version;  // pageCacheVersion
  uint64_t slot_meta_offset;  // one block
  uint64_t slot_data_offset;  // block + slots * 16 rounded up
  uint32_t evict_hand;  // clock hand
  uint32_t pending_count;  // PENDING slots
  uint64_t source_stamp;  // ours: digest of size, mtime and inode of every source file; 0 = nobody knows
  PageCacheCounters totals[1];  // ours: of processes that are gone
  uint8_t reserved[120];  // 0
  PageCacheUser users[15];  // ours
};
static_assert(sizeof(PageCacheHeader) == 4096);
static_assert(offsetof(PageCacheHeader, magic) == 0);
static_assert(offsetof(PageCacheHeader, version) == 4);
static_assert(offsetof(PageCacheHeader, slot_meta_offset) == 8);
static_assert(offsetof(PageCacheHeader, slot_data_offset) == 16);
static_assert(offsetof(PageCacheHeader, evict_hand) == 24);
static_assert(offsetof(PageCacheHeader, pending_count) == 28);
static_assert(offsetof(PageCacheHeader, source_stamp) == 32);
static_assert(offsetof(PageCacheHeader, totals) == 40);
static_assert(offsetof(PageCacheHeader, reserved) == 136);
static_assert(offsetof(PageCacheHeader, users) == 256);

/// Page-cache cell.
struct Slot {
  uint64_t state_tag;  // bits 0-1 state, 2-5 pins, 6-63 tag
  uint32_t ref_bit;  // 1 = touched since the hand passed
  uint32_t host_mask;  // v8: reserved; ours: hosts that hold the pins
};
static_assert(sizeof(Slot) == 16);
static_assert(offsetof(Slot, state_tag) == 0);
static_assert(offsetof(Slot, ref_bit) == 8);
static_assert(offsetof(Slot, host_mask) == 12);

/// Finds the registry; last 64 bytes of the superblock block, and again of the region.
struct Locator {
  uint64_t magic;  // LOCATOR_MAGIC
  uint64_t region_size;  // bytes of the whole region
  uint64_t registry_offset;  // bytes from the start of the region
  uint64_t registry_size;  // bytes
  uint64_t fingerprint;  // layout fingerprint
  uint32_t format_version;  // registryFormatVersion
  uint32_t flags;  // 0
  uint8_t uuid[16];  // random, names the region
};
static_assert(sizeof(Locator) == 64);
static_assert(offsetof(Locator, magic) == 0);
static_assert(offsetof(Locator, region_size) == 8);
static_assert(offsetof(Locator, registry_offset) == 16);
static_assert(offsetof(Locator, registry_size) == 24);
static_assert(offsetof(Locator, fingerprint) == 32);
static_assert(offsetof(Locator, format_version) == 40);
static_assert(offsetof(Locator, flags) == 44);
static_assert(offsetof(Locator, uuid) == 48);

/// Immutable after creation; two copies, written 1 then 0, read 0 then 1.
struct RegistryHeader {
  uint64_t magic;  // REGISTRY_MAGIC
  uint32_t format_version;  // registryFormatVersion
  uint32_t flags;  // bit 0 kernel-mountable front
  uint64_t fingerprint;  // layout fingerprint
  uint8_t uuid[16];  // as in the locator
  uint64_t created_at_ms;  // Unix time in milliseconds
  uint64_t region_size;  // bytes
  uint64_t registry_offset;  // bytes from the start of the region
  uint64_t registry_size;  // bytes
  uint64_t chunks_offset;  // bytes from the start of the region; a multiple of chunkBytes
  uint64_t chunk_count;  // chunks
  uint32_t coherence;  // 0 hardware, 1 software
  uint32_t heartbeat_interval_ms;  // milliseconds
  uint32_t heartbeat_limit_ms;  // a host silent for longer is LAPSED to observers
  uint32_t host_count;  // rows
  uint64_t hosts_offset;  // relative to the registry
  uint64_t contents_offset;  // relative to the registry
  uint64_t names_offset;  // relative to the registry
  uint64_t intents_offset;  // relative to the registry
  uint64_t words_offset;  // chunk words, relative to the registry
  uint32_t content_count;  // rows
  uint32_t name_count;  // buckets, power of two
  uint32_t intent_count;  // rows
  uint32_t reserved0;  // 0
  uint8_t reserved[3928];  // 0
  uint64_t checksum;  // XXH3-64 of the 4088 bytes before
};
static_assert(sizeof(RegistryHeader) == 4096);
static_assert(offsetof(RegistryHeader, magic) == 0);
static_assert(offsetof(RegistryHeader, format_version) == 8);
static_assert(offsetof(RegistryHeader, flags) == 12);
static_assert(offsetof(RegistryHeader, fingerprint) == 16);
static_assert(offsetof(RegistryHeader, uuid) == 24);
static_assert(offsetof(RegistryHeader, created_at_ms) == 40);
static_assert(offsetof(RegistryHeader, region_size) == 48);
static_assert(offsetof(RegistryHeader, registry_offset) == 56);
static_assert(offsetof(RegistryHeader, registry_size) == 64);
static_assert(offsetof(RegistryHeader, chunks_offset) == 72);
static_assert(offsetof(RegistryHeader, chunk_count) == 80);
static_assert(offsetof(RegistryHeader, coherence) == 88);
static_assert(offsetof(RegistryHeader, heartbeat_interval_ms) == 92);
static_assert(offsetof(RegistryHeader, heartbeat_limit_ms) == 96);
static_assert(offsetof(RegistryHeader, host_count) == 100);
static_assert(offsetof(RegistryHeader, hosts_offset) == 104);
static_assert(offsetof(RegistryHeader, contents_offset) == 112);
static_assert(offsetof(RegistryHeader, names_offset) == 120);
static_assert(offsetof(RegistryHeader, intents_offset) == 128);
static_assert(offsetof(RegistryHeader, words_offset) == 136);
static_assert(offsetof(RegistryHeader, content_count) == 144);
static_assert(offsetof(RegistryHeader, name_count) == 148);
static_assert(offsetof(RegistryHeader, intent_count) == 152);
static_assert(offsetof(RegistryHeader, reserved0) == 156);
static_assert(offsetof(RegistryHeader, reserved) == 160);
static_assert(offsetof(RegistryHeader, checksum) == 4088);

/// Shared counters of the registry, each changed by CAS or add.
struct RegistryState {
  uint64_t clock_hand;  // chunk index the shared eviction clock looks at next
  uint64_t alloc_hint;  // chunk index after the last allocation; a hint only
  uint64_t chunks_free;  // a hint for metrics; the chunk words are the truth
  uint8_t reserved[4072];  // 0
};
static_assert(sizeof(RegistryState) == 4096);
static_assert(offsetof(RegistryState, clock_hand) == 0);
static_assert(offsetof(RegistryState, alloc_hint) == 8);
static_assert(offsetof(RegistryState, chunks_free) == 16);
static_assert(offsetof(RegistryState, reserved) == 24);

/// One service instance. Its first byte is the range of its lock.
struct HostRow {
  uint64_t word;  // host_word
  uint64_t heartbeat;  // grows every heartbeat_interval_ms
  uint8_t boot_id[16];  // kernel
  uint64_t start_time;  // start time of the process in clock ticks since boot
  uint32_t pid;  // process id in its own namespace
  uint32_t name_len;  // 1..64
  uint8_t name[64];  // host id, UTF-8
  uint64_t attached_at_ms;  // Unix time in milliseconds
  uint8_t reserved[136];  // 0
};
static_assert(sizeof(HostRow) == 256);
static_assert(offsetof(HostRow, word) == 0);
static_assert(offsetof(HostRow, heartbeat) == 8);
static_assert(offsetof(HostRow, boot_id) == 16);
static_assert(offsetof(HostRow, start_time) == 32);
static_assert(offsetof(HostRow, pid) == 40);
static_assert(offsetof(HostRow, name_len) == 44);
static_assert(offsetof(HostRow, name) == 48);
static_assert(offsetof(HostRow, attached_at_ms) == 112);
static_assert(offsetof(HostRow, reserved) == 120);

/// Where one image of a content lies.
struct ImageExtent {
  uint32_t first_chunk;  // chunk index
  uint32_t chunk_count;  // chunks
  uint64_t bytes;  // superblock.total_size of the image
};
static_assert(sizeof(ImageExtent) == 16);
static_assert(offsetof(ImageExtent, first_chunk) == 0);
static_assert(offsetof(ImageExtent, chunk_count) == 4);
static_assert(offsetof(ImageExtent, bytes) == 8);

/// One content. Fields other than word and bytes_done are written by the claiming host before READY.
struct ContentRow {
  uint64_t word;  // content_word
  uint64_t source_key_lo;  // identity of the source, low half
  uint64_t source_key_hi;  // identity of the source, high half
  uint8_t digest[32];  // SHA-256 over the sorted list of (path, size, XXH3-128)
  uint64_t bytes;  // sum of the file sizes
  uint64_t bytes_done;  // progress while LOADING; written by the claiming host
  uint64_t created_at_ms;  // Unix time in milliseconds
  uint64_t ready_at_ms;  // Unix time in milliseconds
  uint64_t last_access_ms;  // Unix time in milliseconds; any host, plain store
  uint32_t load_ms;  // duration of the load in milliseconds
  uint32_t file_count;  // files
  uint32_t tensor_count;  // tensors
  uint32_t image_count;  // 1..imagesPerContentMax
  uint32_t flags;  // bit 0 keep
  uint8_t placement;  // 0 resident, 1 cached
  uint8_t format;  // index into loaders FORMATS
  uint16_t revision_len;  // bytes
  uint8_t revision[96];  // the source's version word, UTF-8
  ImageExtent images[32];  // image_count extents
  uint64_t sequence;  // odd while the fields are written; even and larger after it
  uint64_t checksum;  // XXH3-64 of digest..images with bytes_done, last_access_ms and flags as 0; written before READY
  uint8_t reserved[280];  // 0
};
static_assert(sizeof(ContentRow) == 1024);
static_assert(offsetof(ContentRow, word) == 0);
static_assert(offsetof(ContentRow, source_key_lo) == 8);
static_assert(offsetof(ContentRow, source_key_hi) == 16);
static_assert(offsetof(ContentRow, digest) == 24);
static_assert(offsetof(ContentRow, bytes) == 56);
static_assert(offsetof(ContentRow, bytes_done) == 64);
static_assert(offsetof(ContentRow, created_at_ms) == 72);
static_assert(offsetof(ContentRow, ready_at_ms) == 80);
static_assert(offsetof(ContentRow, last_access_ms) == 88);
static_assert(offsetof(ContentRow, load_ms) == 96);
static_assert(offsetof(ContentRow, file_count) == 100);
static_assert(offsetof(ContentRow, tensor_count) == 104);
static_assert(offsetof(ContentRow, image_count) == 108);
static_assert(offsetof(ContentRow, flags) == 112);
static_assert(offsetof(ContentRow, placement) == 116);
static_assert(offsetof(ContentRow, format) == 117);
static_assert(offsetof(ContentRow, revision_len) == 118);
static_assert(offsetof(ContentRow, revision) == 120);
static_assert(offsetof(ContentRow, images) == 216);
static_assert(offsetof(ContentRow, sequence) == 728);
static_assert(offsetof(ContentRow, checksum) == 736);
static_assert(offsetof(ContentRow, reserved) == 744);

/// One name bucket; {word, hash} is claimed by a 16-byte CAS.
struct NameRow {
  uint64_t word;  // name_word
  uint64_t hash;  // XXH3-64 of the name with bit 0 set
  uint32_t name_len;  // 1..194
  uint32_t flags;  // 0
  uint8_t name[200];  // name:tag, UTF-8
  uint8_t reserved[32];  // 0
};
static_assert(sizeof(NameRow) == 256);
static_assert(offsetof(NameRow, word) == 0);
static_assert(offsetof(NameRow, hash) == 8);
static_assert(offsetof(NameRow, name_len) == 16);
static_assert(offsetof(NameRow, flags) == 20);
static_assert(offsetof(NameRow, name) == 24);
static_assert(offsetof(NameRow, reserved) == 224);

/// A multi-step operation of the front in flight.
struct IntentRow {
  uint64_t word;  // intent_word
  uint64_t arg0;  // by kind
  uint64_t arg1;  // by kind
  uint64_t arg2;  // by kind
  uint64_t arg3;  // by kind
  uint64_t arg4;  // by kind
  uint8_t reserved[80];  // 0
};
static_assert(sizeof(IntentRow) == 128);
static_assert(offsetof(IntentRow, word) == 0);
static_assert(offsetof(IntentRow, arg0) == 8);
static_assert(offsetof(IntentRow, arg1) == 16);
static_assert(offsetof(IntentRow, arg2) == 24);
static_assert(offsetof(IntentRow, arg3) == 32);
static_assert(offsetof(IntentRow, arg4) == 40);
static_assert(offsetof(IntentRow, reserved) == 48);

}  // namespace daxserve::layout
