// The overlay's hash table: 16-byte buckets {state_key, value}, fixed size. Here: what both kinds share, and the table of a
// kernel-mountable front; private_table.h has the other.
//
// Thread safety: every member may be called concurrently from several hosts; all are lock-free.
// Invariants
//   1. key and value are claimed together by one 16-byte CAS: whoever sees a key sees its own value.
//   2. state_key never returns to 0, so everything a search once passed is passed by every later one.
#pragma once
#include <cstdint>

#include "atom.h"
#include "overlay_key.h"

namespace daxserve {

/// Where the table lies. `count` is a power of two that the opener has checked against the region.
struct TableView {
  Pair* buckets = nullptr;
  uint64_t count = 0;
};

/// A key as it was found: the value is that bucket's word at that moment.
struct BucketRef {
  uint64_t key = 0;
  uint64_t bucket = 0;
  uint64_t value = 0;
};

enum class FindResult { kAbsent, kFound };
/// kBusy: an upper bound on retries was reached against a storm of other writers.
enum class InsertResult { kInserted, kExists, kFull, kBusy };

/// Retries after a lost CAS, so that no loop depends on the others alone. In practice one or two.
inline constexpr int kInsertTriesMax = 4096;

/// The table of a kernel-mountable front: exactly v8, keys stay for ever.
template <typename A>
class KernelTable {
 public:
  explicit KernelTable(TableView view) : view_(view) {}

  FindResult Find(uint64_t key, BucketRef& out) const {
    const uint64_t mask = view_.count - 1;
    uint64_t at = HomeBucket(FrontKind::kKernel, key, mask);
    for (uint64_t probe = 0; probe < view_.count; probe++, at = (at + 1) & mask) {
      // @atomic bucket.state_key  twin: [claim-1]. Acquire: the value and the entry it names were written before.
      const uint64_t word = A::Load(&view_.buckets[at].lo, std::memory_order_acquire);
      if (word == 0) return FindResult::kAbsent;
      if (word != StateKey(key)) continue;
      out = {key, at, A::Load(&view_.buckets[at].hi, std::memory_order_acquire)};
      return FindResult::kFound;
    }
    return FindResult::kAbsent;
  }

  /// Claims the first free bucket for {key, offset}. On kExists `out` is the winner's.
  InsertResult Insert(uint64_t key, uint64_t offset, BucketRef& out) {
    const uint64_t mask = view_.count - 1;
    uint64_t at = HomeBucket(FrontKind::kKernel, key, mask);
    int tries = 0;
    for (uint64_t probe = 0; probe < view_.count; at = (at + 1) & mask, probe++) {
      uint64_t word = A::Load(&view_.buckets[at].lo, std::memory_order_acquire);
      while (word == 0) {
        if (++tries > kInsertTriesMax) return InsertResult::kBusy;
        // [claim-1] A v8 kernel that lost this bucket may have left its value here: whatever is there is replaced
        // together with the key (the format's rule for writers, 16-byte CAS from {0, what was read}).
        Pair expected{0, A::Load(&view_.buckets[at].hi, std::memory_order_relaxed)};
        if (A::Cas16(&view_.buckets[at], expected, {StateKey(key), offset})) {
          out = {key, at, offset};
          return InsertResult::kInserted;
        }
        word = expected.lo;
      }
      if (word != StateKey(key)) continue;
      out = {key, at, A::Load(&view_.buckets[at].hi, std::memory_order_acquire)};
      return InsertResult::kExists;
    }
    return InsertResult::kFull;
  }

 private:
  TableView view_;
};

}  // namespace daxserve
