// What the two kinds of front share: names, attributes, where the overlay lies, and what lies beneath it.
//
// Failures inside the overlay are errno values (0 = done): they are what the callers of a filesystem expect, and cost
// nothing on a hot path. EIO means that the region breaks a rule of the format.
#pragma once
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "atom.h"
#include "base_image.h"
#include "bounds.h"
#include "bucket_table.h"
#include "intent_table.h"
#include "owner_check.h"
#include "pool.h"
#include "private_table.h"

namespace daxserve {

inline constexpr uint64_t kSymlinkBytesMax = 4095;
/// Buffers of one block lie on the stack.
inline constexpr uint64_t kFrontBlockBytesMax = 65536;
inline constexpr int kSymlinksMax = 40;
/// Retries of an operation that lost to others, before EAGAIN.
inline constexpr int kRetriesMax = 1 << 14;

/// Attributes of a file. `size` of a directory is 0 where the overlay holds it.
struct FileStat {
  uint64_t ino = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  uint32_t nlink = 0;
};

inline bool IsDirectory(uint32_t mode) { return (mode & S_IFMT) == S_IFDIR; }

/// Is it what an operation works on, S_IFREG or S_IFLNK? @returns 0, EISDIR, EINVAL
inline int CheckType(uint32_t mode, uint32_t type) {
  if (IsDirectory(mode)) return EISDIR;
  return (mode & S_IFMT) == type ? 0 : EINVAL;
}

/// @returns 0, ENAMETOOLONG, or EINVAL for an empty name, ".", "..", "/" or NUL inside
inline int CheckName(std::string_view name) {
  if (name.size() > layout::kNameBytesMax) return ENAMETOOLONG;
  if (name.empty() || name == "." || name == "..") return EINVAL;
  return name.find('/') != name.npos || name.find('\0') != name.npos ? EINVAL : 0;
}

inline const uint8_t* Bytes(std::string_view name) { return reinterpret_cast<const uint8_t*>(name.data()); }

/// Reads a block of a base file that is not in the base image (split and export mode): fills `block` whole.
struct LowerSource {
  int (*read)(void* context, uint64_t ino, uint64_t page, uint8_t* block) = nullptr;
  void* context = nullptr;
};

/// Where the overlay lies.
struct OverlayView {
  layout::OverlayHeader* header = nullptr;
  TableView table;
  uint8_t* pool = nullptr;
  uint64_t pool_bytes = 0;
  uint64_t block_bytes = 0;

  /// Checks magic, version and every offset against `bytes`, what the region has from `base` on. @returns 0 or EINVAL
  static int Open(uint8_t* base, uint64_t bytes, uint64_t bucket_count, uint64_t block_bytes, OverlayView& out) {
    if (bucket_count == 0 || (bucket_count & (bucket_count - 1)) != 0) return EINVAL;
    if (block_bytes < 4096 || block_bytes > kFrontBlockBytesMax || (block_bytes & (block_bytes - 1)) != 0) return EINVAL;
    if (bytes < block_bytes) return EINVAL;
    auto* header = reinterpret_cast<layout::OverlayHeader*>(base);
    layout::OverlayHeader seen;
    RealAtom::CopyOut(&seen, base, sizeof(seen));
    const auto table_bytes = CheckedMul(bucket_count, sizeof(Pair));
    if (seen.magic != layout::kOverlayMagic || seen.version != layout::kOverlayVersion || !table_bytes) return EINVAL;
    if (seen.bucket_offset % 16 != 0 || seen.bucket_offset < block_bytes) return EINVAL;
    if (!InBounds(seen.bucket_offset, *table_bytes, bytes)) return EINVAL;
    if (seen.pool_offset % block_bytes != 0 || seen.pool_offset < seen.bucket_offset + *table_bytes) return EINVAL;
    if (!InBounds(seen.pool_offset, seen.pool_size, bytes) || seen.pool_size >= private_value::kPoolEnd) return EINVAL;
    out = {header,        {reinterpret_cast<Pair*>(base + seen.bucket_offset), bucket_count}, base + seen.pool_offset,
           seen.pool_size, block_bytes};
    return 0;
  }
};

/// A page that a thread of a private front keeps between its writes: what a rewrite has replaced is what the next one
/// fills, and neither goes through the pool's free list. Whoever holds it gives it back: PrivateFiles::EmptyHand.
struct PageHand {
  uint64_t page = kNone;
};

/// Everything an overlay works on. All of it outlives the overlay.
struct OverlayParts {
  OverlayView view;
  const BaseImage* base = nullptr;  // null: none
  LowerSource lower;
  IntentRows intents;  // none in a plain image
  Owner self;
  OwnerCheck owners;
  uint64_t root_ino = 1;
  /// The memory is mapped for reading only: nothing is written, not even to finish what another began.
  bool read_only = false;
  /// Kernel-mountable: what this process remembers of the table; null: searches walk.
  KernelIndex* index = nullptr;
  /// null: none. One overlay at a time may have it.
  PageHand* hand = nullptr;
};

/// The base beneath an overlay, with or without an image.
class Lower {
 public:
  Lower(const BaseImage* image, LowerSource source, uint64_t block_bytes)
      : image_(image), source_(source), block_bytes_(block_bytes) {}

  bool Inode(uint64_t ino, layout::Inode& out) const { return image_ != nullptr && image_->Inode(ino, out); }
  bool Has(uint64_t ino) const {
    layout::Inode inode;
    return Inode(ino, inode);
  }

  bool Find(uint64_t dir, std::string_view name, layout::Dirent& out) const {
    return image_ != nullptr && image_->Find(dir, name, out);
  }
  bool Has(uint64_t dir, std::string_view name) const {
    layout::Dirent entry;
    return Find(dir, name, entry);
  }

  /// A block of a base file or symlink, zero behind its end. `ino` must have one.
  int Block(const layout::Inode& inode, uint64_t page, uint8_t* block) const {
    const bool outside = (inode.mode & S_IFMT) == S_IFREG && source_.read != nullptr;
    if (outside) return source_.read(source_.context, inode.ino, page, block);
    return image_->Read(inode, page * block_bytes_, block, block_bytes_);
  }

  template <typename Visit>
  void List(uint64_t dir, Visit visit) const {
    if (image_ != nullptr) image_->List(dir, visit);
  }

 private:
  const BaseImage* image_;
  LowerSource source_;
  uint64_t block_bytes_;
};

}  // namespace daxserve
