// A region's front in memory for overlay tests: base image, overlay and intent rows of either kind.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "kernel_front.h"
#include "overlay.h"
#include "private_front.h"

namespace daxserve::test {

inline int failures = 0;
inline void Require(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what.c_str());
  failures++;
}

struct FrontOptions {
  FrontKind kind = FrontKind::kPrivate;
  uint64_t buckets = 1024;
  uint64_t pool_bytes = 1 << 20;
  uint32_t intents = 16;
};

/// Zeroed, block-aligned memory with an empty overlay: root inode 1 in the overlay unless there is a base image.
class TestFront {
 public:
  explicit TestFront(FrontOptions options) : options_(options) {
    bytes_ = 4096 + options.buckets * 16 + 4096 + options.pool_bytes;
    memory_ = static_cast<uint8_t*>(std::aligned_alloc(4096, (bytes_ + 4095) & ~uint64_t{4095}));
    rows_.resize(options.intents);
    Clear();
  }
  ~TestFront() { std::free(memory_); }
  TestFront(const TestFront&) = delete;

  /// @param base_inodes > 0: a base image follows by SetBase, next_ino = base_inodes + 1
  void Clear(uint32_t base_inodes = 0) {
    std::memset(memory_, 0, bytes_);
    for (auto& row : rows_) row = {};
    auto* header = Header();
    const uint64_t table = (options_.buckets * 16 + 4095) & ~uint64_t{4095};
    header->magic = layout::kOverlayMagic;
    header->version = layout::kOverlayVersion;
    header->bucket_offset = 4096;
    header->pool_offset = 4096 + table;
    header->pool_size = options_.pool_bytes;
    header->free_inode = header->free_data = header->free_dirent = kNone;
    header->next_ino = base_inodes != 0 ? base_inodes + 1 : 2;
    if (OverlayView::Open(memory_, bytes_, options_.buckets, 4096, view_) != 0) std::abort();
    if (base_inodes == 0) AddRoot();
  }

  OverlayParts Parts(Owner self = {}, OwnerCheck owners = {}) {
    OverlayParts parts;
    parts.view = view_;
    parts.base = base_;
    parts.intents = {rows_.data(), static_cast<uint32_t>(rows_.size())};
    parts.self = self;
    parts.owners = owners;
    return parts;
  }

  void SetBase(const BaseImage* base) { base_ = base; }
  layout::OverlayHeader* Header() { return reinterpret_cast<layout::OverlayHeader*>(memory_); }
  const OverlayView& view() const { return view_; }
  uint8_t* pool() { return view_.pool; }

 private:
  void AddRoot() {
    Header()->pool_alloc = 32;
    const layout::OverlayInode root{1, 0040755, 0, 0, 0, options_.kind == FrontKind::kKernel ? 2u : 0u, 0};
    std::memcpy(view_.pool, &root, sizeof(root));
    const uint64_t home = HomeBucket(options_.kind, InodeKey(1), options_.buckets - 1);
    view_.table.buckets[home] = {StateKey(InodeKey(1)), options_.kind == FrontKind::kKernel ? 0 : private_value::First(0)};
  }

  FrontOptions options_;
  uint64_t bytes_;
  uint8_t* memory_;
  std::vector<layout::IntentRow> rows_;
  OverlayView view_;
  const BaseImage* base_ = nullptr;
};

/// A base image built by hand: stride 272, directories in scan order, static file data.
class TestBase {
 public:
  explicit TestBase(uint32_t inodes) : bytes_(64 * 4096), inodes_(inodes), next_(4096) {}

  void Directory(uint32_t ino, uint32_t mode, const std::vector<std::pair<std::string, uint32_t>>& children) {
    auto* inode = Inode(ino, 0040000 | mode, children.size() * 271, 2);
    inode->data_offset = next_;
    for (size_t i = 0; i < children.size(); i++) {
      auto* entry = reinterpret_cast<layout::Dirent*>(bytes_.data() + next_ + i * 272);
      entry->ino = children[i].second;
      entry->name_len = static_cast<uint16_t>(children[i].first.size());
      std::memcpy(entry->name, children[i].first.data(), children[i].first.size());
    }
    next_ += (children.size() * 272 + 4095) & ~uint64_t{4095};
  }

  void File(uint32_t ino, uint32_t mode, const std::string& content) {
    auto* inode = Inode(ino, mode, content.size(), 1);
    inode->data_offset = next_;
    std::memcpy(bytes_.data() + next_, content.data(), content.size());
    next_ += (content.size() + 1 + 4095) & ~uint64_t{4095};
  }

  /// Copies each child's mode into the entries and hands out the reader.
  const BaseImage* Finish() {
    for (uint32_t ino = 1; ino <= inodes_; ino++) FixModes(ino);
    image_ = BaseImage(bytes_.data(), bytes_.size(), 0, inodes_);
    return &image_;
  }

 private:
  layout::Inode* At(uint32_t ino) { return reinterpret_cast<layout::Inode*>(bytes_.data()) + (ino - 1); }
  layout::Inode* Inode(uint32_t ino, uint32_t mode, uint64_t size, uint32_t nlink) {
    *At(ino) = {};
    At(ino)->ino = ino;
    At(ino)->mode = mode;
    At(ino)->size = size;
    At(ino)->nlink = nlink;
    return At(ino);
  }
  void FixModes(uint32_t ino) {
    if (!IsDirectory(At(ino)->mode)) return;
    for (uint64_t i = 0; i < At(ino)->size / 271; i++) {
      auto* entry = reinterpret_cast<layout::Dirent*>(bytes_.data() + At(ino)->data_offset + i * 272);
      entry->mode = At(entry->ino)->mode;
    }
  }

  std::vector<uint8_t> bytes_;
  uint32_t inodes_;
  uint64_t next_;
  BaseImage image_{nullptr, 0, 0, 0};
};

template <typename O>
std::map<std::string, uint64_t> ListOf(O& overlay, uint64_t dir) {
  std::map<std::string, uint64_t> names;
  overlay.Readdir(dir, [&](std::string_view name, uint64_t ino, uint32_t) {
    if (!names.emplace(std::string(name), ino).second) Require(false, "listed twice: " + std::string(name));
    return true;
  });
  return names;
}

template <typename O>
std::string ReadAll(O& overlay, uint64_t ino) {
  FileStat stat;
  if (overlay.Stat(ino, stat) != 0) return "<none>";
  std::string bytes(stat.size, '?');
  uint64_t done = 0;
  if (overlay.Read(ino, 0, reinterpret_cast<uint8_t*>(bytes.data()), bytes.size(), done) != 0) return "<error>";
  bytes.resize(done);
  return bytes;
}

template <typename O>
int WriteAt(O& overlay, uint64_t ino, uint64_t at, std::string_view bytes) {
  return overlay.Write(ino, at, Bytes(bytes), bytes.size());
}

}  // namespace daxserve::test
