// The words of a page-cache slot, where a cache lies, and in which slots a page may be. Twin: daxfs/page-cache-word.ts.
#pragma once
#include <cerrno>
#include <cstdint>

#include "atom.h"
#include "bounds.h"
#include "overlay_key.h"

namespace daxserve {

namespace slot_word {
inline constexpr uint64_t kFree = 0;
inline constexpr uint64_t kPending = 1;
inline constexpr uint64_t kValid = 2;
inline constexpr layout::Bits kState{0, 2};
inline constexpr layout::Bits kPins{2, 4};
inline constexpr layout::Bits kTag{6, 58};
inline constexpr uint64_t kPinsMax = 15;
// The second word: ref_bit in its low half, host_mask in its high half.
inline constexpr layout::Bits kRef{0, 32};
inline constexpr layout::Bits kMask{32, 15};
inline constexpr layout::Bits kSequence{48, 15};
inline constexpr uint64_t kOwned = uint64_t{1} << 63;
inline constexpr layout::Bits kOwnerHost{32, 4};
inline constexpr layout::Bits kOwnerGeneration{36, 16};
}  // namespace slot_word

/// Tag of a page: inode numbers below 2^38.
inline uint64_t PageTag(uint64_t ino, uint64_t page) { return ino << kPageIndexBits | (page & 0xfffff); }
inline constexpr uint64_t kPageTagInodeEnd = uint64_t{1} << 38;

/// Pages of the largest machines.
inline constexpr uint64_t kBlockBytesMax = 65536;

/// Where a cache lies; `Open` checks it against the region.
struct PageCacheView {
  layout::PageCacheHeader* header = nullptr;
  Pair* slots = nullptr;
  uint8_t* data = nullptr;
  uint64_t slot_count = 0;
  uint64_t block_bytes = 0;

  /// `base` is the cache's first byte, `bytes` what the region has of it. @returns 0, or EINVAL when a rule is broken
  static int Open(uint8_t* base, uint64_t bytes, uint64_t slot_count, uint64_t block_bytes, PageCacheView& out) {
    if (slot_count < 8 || (slot_count & (slot_count - 1)) != 0) return EINVAL;
    if (block_bytes < 4096 || block_bytes > kBlockBytesMax || (block_bytes & (block_bytes - 1)) != 0 || bytes < block_bytes) return EINVAL;
    auto* header = reinterpret_cast<layout::PageCacheHeader*>(base);
    const uint64_t meta = RealAtom::Load(&header->slot_meta_offset, std::memory_order_acquire);
    const uint64_t data = RealAtom::Load(&header->slot_data_offset, std::memory_order_acquire);
    const auto meta_bytes = CheckedMul(slot_count, sizeof(layout::Slot));
    const auto data_bytes = CheckedMul(slot_count, block_bytes);
    if (!meta_bytes || !data_bytes || meta % 16 != 0 || data % 8 != 0) return EINVAL;
    if (!InBounds(meta, *meta_bytes, bytes) || !InBounds(data, *data_bytes, bytes)) return EINVAL;
    if (meta < block_bytes || data < meta + *meta_bytes) return EINVAL;
    out = {header, reinterpret_cast<Pair*>(base + meta), base + data, slot_count, block_bytes};
    return 0;
  }
};

/// The slots where a page may be, in the order of the search. A kernel-mountable front: the 8 from the tag's low bits, as
/// v8 has it. A private front: 4 windows of 8, each from a mix of the whole tag, so that any set of pages as large as the
/// cache finds room for all but one or two in a hundred (with one window, one in five finds none).
class SlotPlaces {
 public:
  static constexpr uint64_t kWindow = 8;
  static constexpr uint64_t kWindowsPrivate = 4;

  SlotPlaces(FrontKind homes, uint64_t slot_count) : homes_(homes), mask_(slot_count - 1) {}

  uint64_t windows() const { return homes_ == FrontKind::kKernel ? 1 : kWindowsPrivate; }
  /// First slot of a window; the others follow, wrapping.
  uint64_t Start(uint64_t tag, uint64_t window) const {
    return (homes_ == FrontKind::kKernel ? tag : MixGroup(tag + window * 0x9e3779b97f4a7c15)) & mask_;
  }
  uint64_t At(uint64_t start, uint64_t i) const { return (start + i) & mask_; }
  bool mixed() const { return homes_ == FrontKind::kPrivate; }

  /// Calls visit(slot) -> bool (go on) for every place, beginning with the `turn`th and wrapping.
  template <typename Visit>
  void Each(uint64_t tag, uint64_t turn, Visit visit) const {
    const uint64_t count = windows() * kWindow;
    for (uint64_t i = 0; i < count; i++) {
      const uint64_t place = (turn + i) % count;
      if (!visit(At(Start(tag, place / kWindow), place % kWindow))) return;
    }
  }

 private:
  FrontKind homes_;
  uint64_t mask_;
};

/// What one process saw; each counter is a relaxed add of its own. May lie in the region: one process writes it.
using PageCacheCounters = layout::PageCacheCounters;

}  // namespace daxserve
