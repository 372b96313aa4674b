// Keys of the overlay's table, the bucket where the search for a key starts, and the word a private front keeps beside a
// key. Twin: daxfs/overlay-key.ts (test/daxfs/overlay-key-vectors.json holds what both must give).
#pragma once
#include <cstdint>

#include "layout.gen.h"

namespace daxserve {

/// kKernel: plain v8, a kernel may mount it, published entries are never recycled. kPrivate: ours alone.
enum class FrontKind { kKernel, kPrivate };

inline constexpr unsigned kPageIndexBits = 20;
/// Inode numbers stay below this, so that every key has 63 bits.
inline constexpr uint64_t kInodeNumberEnd = uint64_t{1} << 43;

inline uint64_t PageKey(uint64_t ino, uint64_t page) { return ino << kPageIndexBits | page; }
inline uint64_t InodeKey(uint64_t ino) { return ino << kPageIndexBits | layout::kInodeKeySuffix; }
inline uint64_t DirlistKey(uint64_t ino) { return ino << kPageIndexBits | layout::kDirlistKeySuffix; }

/// The word stored for a key: bit 0 says used.
inline uint64_t StateKey(uint64_t key) { return key << 1 | 1; }

/// A private front's table is made of bins: 16 cells on four cache lines, 15 buckets and, in the last cell, the bin's word.
inline constexpr unsigned kBinBits = 4;
inline constexpr unsigned kBinCells = 1u << kBinBits;
inline constexpr unsigned kBinBuckets = kBinCells - 1;
inline constexpr unsigned kLineCells = 4;
/// Pages whose indexes differ in these low bits only are neighbours: their keys have one home bin, and a line each in it.
inline constexpr unsigned kNeighbourBits = 2;

/// Spreads a number over 64 bits (finaliser of a 64-bit mix, bijective).
inline uint64_t MixGroup(uint64_t group) {
  group ^= group >> 32;
  group *= 0x9e3779b97f4a7c15;
  group ^= group >> 29;
  group *= 0xbf58476d1ce4e5b9;
  return group ^ group >> 32;
}

/// Where a private front looks for a key: the bins home, home + step, home + 2 * step ... (step is odd: all of them).
struct BinHome {
  uint64_t bin;
  uint64_t step;
  unsigned cell;  // of the bin, first of the line that is looked at (and filled) first
};

/// @param bin_mask bin count - 1, the count a power of two
inline BinHome HomeBin(uint64_t key, uint64_t bin_mask) {
  const uint64_t mixed = MixGroup(key >> kNeighbourBits);
  const uint64_t bin = mixed & bin_mask;
  // The same step for all keys of a home, so that its word can say how far they lie.
  return {bin, MixGroup(bin) | 1, static_cast<unsigned>((mixed >> 60) + key) % kLineCells * kLineCells};
}

/// Bucket at which the search for `key` starts. `mask` = cell count - 1, the count a power of two (private: at least 16).
inline uint64_t HomeBucket(FrontKind kind, uint64_t key, uint64_t mask) {
  if (kind == FrontKind::kKernel) return key & mask;
  const BinHome home = HomeBin(key, mask >> kBinBits);
  return (home.bin << kBinBits) + home.cell;
}

/// The value word of a bucket in a private front. A kernel-mountable front stores the bare offset.
///   DELETED(v) -> TENTATIVE(v + 1) -> LIVE(v + 2) -> LIVE(v + 3) ... -> DELETED(v + n); TENTATIVE -> DELETED
/// The version grows with every change of the bucket, whatever its key, so equal words mean an untouched bucket. It
/// wraps after 4,194,304 changes.
namespace private_value {
inline constexpr uint64_t kDeleted = 0;
inline constexpr uint64_t kTentative = 1;
inline constexpr uint64_t kLive = 2;
inline constexpr layout::Bits kOffset{0, 40};   // pool offset / 16
inline constexpr layout::Bits kVersion{40, 22};
inline constexpr layout::Bits kState{62, 2};
inline constexpr unsigned kOffsetShift = 4;
/// Pools of private fronts end here (16 TiB).
inline constexpr uint64_t kPoolEnd = uint64_t{1} << 44;

inline uint64_t Offset(uint64_t value) { return kOffset.get(value) << kOffsetShift; }
/// What follows `previous` in the same bucket.
inline uint64_t Next(uint64_t previous, uint64_t state, uint64_t offset) {
  uint64_t value = kState.set(0, state);
  value = kVersion.set(value, kVersion.get(previous) + 1);
  return kOffset.set(value, offset >> kOffsetShift);
}
/// The value a creator writes into a free bucket.
inline uint64_t First(uint64_t offset) { return Next(0, kLive, offset); }
}  // namespace private_value

}  // namespace daxserve
