// The overlay's pool: a bump pointer and three stacks of freed entries (v8, section "pool allocation").
//
// Thread safety: all members may be called concurrently from several hosts; none waits.
// Offsets are bytes from the start of the pool. Whatever is read from the region is checked before it is followed: a
// damaged list head or link makes the list count as empty, and costs the rest of that list, never a wild access.
#pragma once
#include <cstdint>
#include <optional>

#include "atom.h"
#include "bounds.h"
#include "layout.gen.h"

namespace daxserve {

inline constexpr uint64_t kNone = ~uint64_t{0};

/// The word of a free list: bits 47..0 offset of the first entry (all ones = empty), 63..48 generation, grown by every
/// push and pop, so that a pop that slept over a push and a pop of the same entry fails.
namespace free_list_word {
inline constexpr layout::Bits kOffset{0, 48};
inline constexpr layout::Bits kGeneration{48, 16};
inline constexpr uint64_t kEmpty = (uint64_t{1} << 48) - 1;
inline uint64_t Next(uint64_t previous, uint64_t offset) {
  return kGeneration.set(kOffset.set(0, offset), kGeneration.get(previous) + 1);
}
}  // namespace free_list_word

enum class EntryType { kInode, kPage, kDirent };

template <typename A>
class Pool {
 public:
  /// REQUIRES: [base, base + bytes) is mapped and 4096-aligned. `align` of entries other than pages: 8 (v8) or 16.
  /// @param carves small entries are cut out of free pages when nothing else is left; not as v8 does it
  Pool(layout::OverlayHeader* header, uint8_t* base, uint64_t bytes, uint64_t block_bytes, uint64_t align, bool carves = false)
      : header_(header), base_(base), bytes_(bytes), block_bytes_(block_bytes), align_(align), carves_(carves) {}

  uint64_t bytes() const { return bytes_; }
  uint64_t block_bytes() const { return block_bytes_; }

  /// The bytes at an offset, or null when they are not all inside the pool or not aligned as every entry is.
  uint8_t* At(uint64_t offset, uint64_t length) const {
    if (offset % 8 != 0 || !InBounds(offset, length, bytes_)) return nullptr;
    return base_ + offset;
  }

  /// From the free list, else fresh. Nothing: the pool is full.
  std::optional<uint64_t> Allocate(EntryType type) {
    if (auto offset = Pop(type)) return offset;
    if (auto offset = Bump(SizeOf(type), type == EntryType::kPage ? block_bytes_ : align_)) return offset;
    return carves_ && type != EntryType::kPage ? Carve(type) : std::nullopt;
  }

  /// `count` contiguous fresh pages by one CAS; never from the free list.
  std::optional<uint64_t> AllocatePages(uint64_t count) {
    const auto bytes = CheckedMul(count, block_bytes_);
    return bytes ? Bump(*bytes, block_bytes_) : std::nullopt;
  }

  std::optional<uint64_t> Bump(uint64_t size, uint64_t align) {
    // @atomic overlay_header.pool_alloc  only grows; relaxed, for it publishes nothing: entries are published by keys.
    uint64_t seen = A::Load(&header_->pool_alloc, std::memory_order_relaxed);
    for (int tries = 0; tries < kTriesMax; tries++) {
      const auto start = RoundUp(seen, align);
      const auto length = RoundUp(size, 8);
      if (!start || !length || !InBounds(*start, *length, bytes_)) return std::nullopt;
      if (A::Cas(&header_->pool_alloc, seen, *start + *length, std::memory_order_acq_rel)) return start;
    }
    return std::nullopt;
  }

  /// Gives an entry back. REQUIRES: nothing published names it (kernel-mountable fronts: nothing ever did).
  void Free(EntryType type, uint64_t offset) {
    if (At(offset, SizeOf(type)) != nullptr) Push(type, offset, 1);
  }

  /// [pop-1] Takes the newest freed entry.
  std::optional<uint64_t> Pop(EntryType type) {
    uint64_t* head = Head(type);
    uint64_t seen = A::Load(head, std::memory_order_acquire);
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint64_t first = free_list_word::kOffset.get(seen);
      if (!IsEntry(type, first)) return std::nullopt;
      const uint64_t link = A::Load(reinterpret_cast<uint64_t*>(base_ + first), std::memory_order_acquire);
      const uint64_t next = IsEntry(type, link) ? link : free_list_word::kEmpty;
      if (A::Cas(head, seen, free_list_word::Next(seen, next), std::memory_order_acq_rel)) return first;
    }
    return std::nullopt;
  }

  uint64_t SizeOf(EntryType type) const {
    if (type == EntryType::kPage) return block_bytes_;
    return type == EntryType::kInode ? sizeof(layout::OverlayInode) : sizeof(layout::OverlayDirent);
  }

 private:
  static constexpr int kTriesMax = 1 << 16;

  /// Puts `count` entries that lie side by side on their free list, in one step.
  void Push(EntryType type, uint64_t offset, uint64_t count) {
    uint64_t last = offset;
    for (uint64_t i = 1; i < count; i++, last += SizeOf(type)) A::Store(Link(last), last + SizeOf(type), std::memory_order_relaxed);
    uint64_t* head = Head(type);
    uint64_t seen = A::Load(head, std::memory_order_relaxed);
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint64_t first = free_list_word::kOffset.get(seen);
      // @atomic link of a freed entry  twin: [pop-1]. Read by pops that may lose it: the CAS below them decides.
      A::Store(Link(last), first == free_list_word::kEmpty ? kNone : first, std::memory_order_relaxed);
      // Release: whoever pops sees the links, and every byte its last owner wrote lies before.
      if (A::Cas(head, seen, free_list_word::Next(seen, offset), std::memory_order_acq_rel)) return;
    }
  }

  /// Cuts a free page into entries, else a pool that was full of pages once would hold no new name for ever.
  std::optional<uint64_t> Carve(EntryType type) {
    const auto page = Pop(EntryType::kPage);
    if (!page) return std::nullopt;
    // Two names are nineteen inodes long: of an even number of them inodes fill the rest.
    const uint64_t names = type == EntryType::kDirent ? block_bytes_ / sizeof(layout::OverlayDirent) / 2 * 2 : 0;
    const uint64_t inodes_at = *page + names * sizeof(layout::OverlayDirent);
    const uint64_t inodes = (*page + block_bytes_ - inodes_at) / sizeof(layout::OverlayInode);
    if (names > 0) Push(EntryType::kInode, inodes_at, inodes);
    Push(type, *page + SizeOf(type), (names > 0 ? names : inodes) - 1);
    return page;
  }

  uint64_t* Link(uint64_t offset) const { return reinterpret_cast<uint64_t*>(base_ + offset); }

  /// An offset that may be followed: aligned, whole and inside what was ever handed out.
  bool IsEntry(EntryType type, uint64_t offset) const {
    const uint64_t unit = type == EntryType::kPage ? block_bytes_ : 8;
    return offset % unit == 0 && InBounds(offset, SizeOf(type), bytes_);
  }

  uint64_t* Head(EntryType type) const {
    if (type == EntryType::kPage) return &header_->free_data;
    return type == EntryType::kInode ? &header_->free_inode : &header_->free_dirent;
  }

  layout::OverlayHeader* header_;
  uint8_t* base_;
  uint64_t bytes_;
  uint64_t block_bytes_;
  uint64_t align_;
  bool carves_;
};

}  // namespace daxserve
