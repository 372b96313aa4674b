// Reads a base image: inode table, directories, file bytes. The image is untrusted; every offset is checked here.
#pragma once
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "bounds.h"
#include "layout.gen.h"
#include "shared_copy.h"

namespace daxserve {

/// Thread safety: const members may be called concurrently; the bytes may change under them (then results vary, nothing
/// is read outside).
class BaseImage {
 public:
  /// `base` is the image's first byte (superblock.base_offset), `bytes` what the region has from there on: entries of a
  /// directory may lie behind superblock.base_size in images of the format's own tools (stride 272, reserved 271).
  BaseImage(const uint8_t* base, uint64_t bytes, uint64_t inode_offset, uint32_t inode_count)
      : base_(base), bytes_(bytes), inode_offset_(inode_offset), inode_count_(inode_count) {}

  uint32_t inode_count() const { return inode_count_; }

  bool Inode(uint64_t ino, layout::Inode& out) const {
    if (ino == 0 || ino > inode_count_) return false;
    const auto offset = CheckedAdd(inode_offset_, (ino - 1) * sizeof(layout::Inode));
    if (!offset || !InBounds(*offset, sizeof(out), bytes_)) return false;
    CopyOut<RealAtom>(&out, base_ + *offset, sizeof(out));
    out.ino = static_cast<uint32_t>(ino);
    return out.mode != 0;
  }

  bool Find(uint64_t dir, std::string_view name, layout::Dirent& out) const {
    bool found = false;
    List(dir, [&](const layout::Dirent& entry) {
      if (std::string_view(reinterpret_cast<const char*>(entry.name), entry.name_len) != name) return true;
      out = entry;
      found = true;
      return false;
    });
    return found;
  }

  /// Entries that all directories of a sound image have together, at most.
  uint64_t entries_max() const { return bytes_ / layout::kDirentStride; }

  /// Calls visit(const layout::Dirent&) -> bool (go on) for every well-formed entry. @returns entries looked at
  template <typename Visit>
  uint64_t List(uint64_t dir, Visit visit) const {
    layout::Inode inode;
    if (!Inode(dir, inode) || (inode.mode & 0170000) != 0040000) return 0;
    const uint64_t count = std::min(inode.size / layout::kDirentSizeUnit, entries_max());
    for (uint64_t i = 0; i < count; i++) {
      const auto offset = CheckedAdd(inode.data_offset, i * layout::kDirentStride);
      if (!offset || !InBounds(*offset, layout::kDirentStride - 1, bytes_)) return i;
      layout::Dirent entry;
      CopyOut<RealAtom>(&entry, base_ + *offset, layout::kDirentStride - 1);
      if (entry.name_len == 0 || entry.name_len > layout::kNameBytesMax) continue;
      if (!visit(static_cast<const layout::Dirent&>(entry))) return i + 1;
    }
    return count;
  }

  /// Bytes [offset, offset + length) of a file, zeros behind its end. @returns 0, or EIO when they lie outside
  int Read(const layout::Inode& inode, uint64_t offset, uint8_t* to, uint64_t length) const {
    uint64_t have = offset >= inode.size ? 0 : inode.size - offset;
    if (have > length) have = length;
    std::memset(to + have, 0, length - have);
    if (have == 0) return 0;
    const auto at = CheckedAdd(inode.data_offset, offset);
    if (!at || !InBounds(*at, have, bytes_)) return EIO;
    CopyOut<RealAtom>(to, base_ + *at, have);
    return 0;
  }

 private:
  const uint8_t* base_;
  uint64_t bytes_;
  uint64_t inode_offset_;
  uint32_t inode_count_;
};

}  // namespace daxserve
