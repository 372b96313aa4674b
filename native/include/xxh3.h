// XXH3 in pieces that can be computed in any order. Within a unit of 1024 bytes XXH3 only adds, so the sum of each unit
// depends on nothing before it; what is sequential (one scramble per unit, the tail) costs a hundredth of the whole.
// Results equal XXH3_64bits and XXH3_128bits (seed 0). Uses AVX2 when the CPU has it, else what the compiler's
// target has (SSE2, NEON).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace daxserve {

/// Bytes of one unit.
inline constexpr size_t kXxhUnit = 1024;

/// Sum of one unit, to be folded in order.
struct alignas(64) UnitSum {
  uint64_t lane[8];
};

/// XXH3-128, canonical: big-endian.
using Digest128 = std::array<uint8_t, 16>;

/// Copies `units` * 1024 bytes past the caches and computes their sums in the same pass. REQUIRES: no overlap.
void CopyUnits(uint8_t* to, const uint8_t* from, size_t units, UnitSum* sums);

/// The sums alone.
void SumUnits(const uint8_t* from, size_t units, UnitSum* sums);

/// Whole units of an input of `size` bytes that go through sums; the rest, 1 to 1024 bytes, is the tail of `Fold`.
inline uint64_t UnitsOf(uint64_t size) { return size == 0 ? 0 : (size - 1) / kXxhUnit; }

/// Folds unit sums in order. Thread safety: none.
class Fold {
 public:
  Fold();
  void Add(const UnitSum* sums, size_t count);
  /// `input` is the whole input of `size` bytes in memory; only its last 1088 bytes are read. REQUIRES: UnitsOf(size) sums added.
  Digest128 Finish128(const uint8_t* input, uint64_t size) const;
  uint64_t Finish64(const uint8_t* input, uint64_t size) const;

 private:
  UnitSum Tail(const uint8_t* input, uint64_t size) const;
  UnitSum acc_;
};

/// XXH3-64 and XXH3-128 of `size` bytes.
uint64_t Xxh3_64(const uint8_t* input, uint64_t size);
Digest128 Xxh3_128(const uint8_t* input, uint64_t size);

}  // namespace daxserve
