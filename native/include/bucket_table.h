// The overlay's hash table: 16-byte buckets {state_key, value}, fixed size. Here: what both kinds share, and the table of a
// kernel-mountable front; private_table.h has the other.
//
// Thread safety: every member may be called concurrently from several hosts; all are lock-free.
// Invariants
//   1. key and value are claimed together by one 16-byte CAS: whoever sees a key sees its own value.
//   2. state_key never returns to 0, so everything a search once passed is passed by every later one.
#pragma once
#include <cerrno>
#include <cstdint>

#include "atom.h"
#include "kernel_index.h"
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

/// Buckets that are not free. Reads the whole table; while others write, what was so at some moment of each bucket's own.
template <typename A>
uint64_t CountUsed(TableView view, FrontKind kind) {
  uint64_t used = 0;
  for (uint64_t at = 0; at < view.count; at++) {
    const Pair& bucket = view.buckets[at];
    // @atomic bucket  relaxed: a number for people
    if (kind == FrontKind::kKernel) {
      used += A::Load(&bucket.lo, std::memory_order_relaxed) != 0;
    } else if (at % kBinCells != kBinBuckets) {
      used += private_value::kState.get(A::Load(&bucket.hi, std::memory_order_relaxed)) != private_value::kDeleted;
    }
  }
  return used;
}

enum class FindResult { kAbsent, kFound };
/// kBusy: an upper bound on retries was reached against a storm of other writers.
enum class InsertResult { kInserted, kExists, kFull, kBusy };
/// Busy is no EAGAIN: who begins anew after so many tries would multiply them.
inline int ErrorOf(InsertResult result) {
  switch (result) {
    case InsertResult::kInserted: return 0;
    case InsertResult::kExists: return EEXIST;
    case InsertResult::kFull: return ENOSPC;
    case InsertResult::kBusy: break;
  }
  return EBUSY;
}

/// Retries after a lost CAS, so that no loop depends on the others alone. In practice one or two.
inline constexpr int kInsertTriesMax = 4096;

/// The table of a kernel-mountable front: exactly v8, keys stay for ever.
template <typename A>
class KernelTable {
 public:
  /// @param index what this process remembers of the table, or null; it makes long walks short and changes no answer
  explicit KernelTable(TableView view, KernelIndex* index = nullptr)
      : view_(view), index_(index != nullptr && index->open() ? index : nullptr) {}

  FindResult Find(uint64_t key, BucketRef& out) const {
    Walk walk = Start(key);
    return Seek(key, walk, out) ? FindResult::kFound : FindResult::kAbsent;
  }

  /// Claims the first free bucket for {key, offset}. On kExists `out` is the winner's.
  InsertResult Insert(uint64_t key, uint64_t offset, BucketRef& out) {
    Walk walk = Start(key);
    for (int tries = 0; tries < kInsertTriesMax; tries++) {
      if (Seek(key, walk, out)) return InsertResult::kExists;
      if (walk.left == 0) return InsertResult::kFull;
      // [claim-1] A v8 kernel that lost this bucket may have left its value here: whatever is there is replaced
      // together with the key (the format's rule for writers, 16-byte CAS from {0, what was read}).
      Pair expected{0, A::Load(&view_.buckets[walk.at].hi, std::memory_order_relaxed)};
      if (!A::Cas16(&view_.buckets[walk.at], expected, {StateKey(key), offset})) continue;
      if (index_ != nullptr && walk.steps >= kStepsPlain) index_->Learn<A>(key, walk.at);
      out = {key, walk.at, offset};
      return InsertResult::kInserted;
    }
    return InsertResult::kBusy;
  }

 private:
  /// Steps without asking the index: more than any search takes where keys do not crowd.
  static constexpr uint64_t kStepsPlain = 32;

  /// A search on its way around the table.
  struct Walk {
    uint64_t at = 0;
    uint64_t steps = 0;
    uint64_t left = 0;  // buckets not looked at yet
  };

  Walk Start(uint64_t key) const { return {HomeBucket(FrontKind::kKernel, key, view_.count - 1), 0, view_.count}; }

  void Go(Walk& walk, uint64_t steps) const {
    walk.at = (walk.at + steps) & (view_.count - 1);
    walk.steps += steps;
    walk.left -= steps;
  }

  /// True: found. False: `walk` is at the first free bucket, or nothing is left.
  bool Seek(uint64_t key, Walk& walk, BucketRef& out) const {
    for (; walk.left > 0; Go(walk, 1)) {
      if (walk.steps >= kStepsPlain && index_ != nullptr) return SeekFar(key, walk, out);
      // @atomic bucket.state_key  twin: [claim-1]. Acquire: the value and the entry it names were written before.
      const uint64_t word = A::Load(&view_.buckets[walk.at].lo, std::memory_order_acquire);
      if (word == 0) return false;
      if (word == StateKey(key)) return Found(key, walk.at, out);
    }
    return false;
  }

  /// As Seek, from where keys crowd: known buckets are passed without a look. The index is asked again after that, for the
  /// key may be in a bucket that another thread learned between the first question and the passing.
  bool SeekFar(uint64_t key, Walk& walk, BucketRef& out) const {
    if (Remembered(key, out)) return true;
    bool passed = false;
    while (walk.left > 0) {
      const uint64_t known = index_->KnownFrom<A>(walk.at, walk.left);
      passed |= known > 0;
      Go(walk, known);
      if (walk.left == 0) break;
      const uint64_t word = A::Load(&view_.buckets[walk.at].lo, std::memory_order_acquire);
      if (word == 0) break;
      index_->Learn<A>(word >> 1, walk.at);
      if (word == StateKey(key)) return Found(key, walk.at, out);
      Go(walk, 1);
    }
    return passed && Remembered(key, out);
  }

  bool Remembered(uint64_t key, BucketRef& out) const {
    return index_->Lookup<A>(key, [&](uint64_t at) {
      if (at >= view_.count || A::Load(&view_.buckets[at].lo, std::memory_order_acquire) != StateKey(key)) return false;
      return Found(key, at, out);
    });
  }

  bool Found(uint64_t key, uint64_t at, BucketRef& out) const {
    out = {key, at, A::Load(&view_.buckets[at].hi, std::memory_order_acquire)};
    return true;
  }

  TableView view_;
  KernelIndex* index_;
};

}  // namespace daxserve
