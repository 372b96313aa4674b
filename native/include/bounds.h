// Checked arithmetic: every offset and length that comes from a region or a caller passes here.
#pragma once
#include <cstdint>
#include <optional>

namespace daxserve {

inline std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// True when [offset, offset + length) lies inside [0, size).
inline bool InBounds(uint64_t offset, uint64_t length, uint64_t size) { return offset <= size && length <= size - offset; }

/// Smallest multiple of `unit` (a power of two) that is >= value; nothing on overflow.
inline std::optional<uint64_t> RoundUp(uint64_t value, uint64_t unit) {
  auto sum = CheckedAdd(value, unit - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(unit - 1);
}

}  // namespace daxserve
