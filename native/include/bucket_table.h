// The overlay's hash table: 16-byte buckets {state_key, value}, linear probing, fixed size.
//
// Thread safety: every member may be called concurrently from several hosts. Finds, replacements, removals and all of the
// kernel-mountable table are lock-free. An insert of a private front is lock-free against other keys; two inserts of one
// key stand back for each other with growing patience, and a dead one's claim is killed: bounded, then kBusy.
// Invariants
//   1. key and value are claimed together by one 16-byte CAS: whoever sees a key sees its own value.
//   2. state_key never returns to 0, so everything a search once passed is passed by every later one.
//   3. a key is LIVE in at most one bucket (proof at PrivateTable::Insert).
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

/// The table of a private front: removed keys leave their bucket to any other key.
///
/// `bound` (probe_bound in the overlay header) is the longest distance from home ever used: raised before a bucket
/// further away is claimed, it ends every search, so removed buckets never make one unbounded.
template <typename A>
class PrivateTable {
 public:
  PrivateTable(TableView view, uint64_t* bound) : view_(view), bound_(bound) {}

  FindResult Find(uint64_t key, BucketRef& out) const {
    const uint64_t mask = view_.count - 1;
    const uint64_t state_key = StateKey(key);
    const uint64_t limit = Bound();
    uint64_t at = HomeBucket(FrontKind::kPrivate, key, mask);
    for (uint64_t probe = 0; probe < limit; probe++, at = (at + 1) & mask) {
      const uint64_t word = A::Load(&view_.buckets[at].lo, std::memory_order_acquire);
      if (word == 0) return FindResult::kAbsent;
      if (word != state_key) continue;
      Pair pair;
      if (!ReadPair(at, pair)) return FindResult::kAbsent;
      if (pair.lo != state_key || private_value::kState.get(pair.hi) != private_value::kLive) continue;
      out = {key, at, pair.hi};
      return FindResult::kFound;
    }
    return FindResult::kAbsent;
  }

  /// True while the bucket is as it was found: the entry behind it was not freed up to now. Call ReadFence first.
  bool Still(const BucketRef& ref) const {
    // @atomic bucket.value  twin: [retire-1]. Versions make the word unique, so one load answers for key and entry.
    return A::Load(&view_.buckets[ref.bucket].hi, std::memory_order_acquire) == ref.value;
  }

  /// Makes `key` LIVE at `offset` unless it is already. On kExists `out` is the winner's.
  ///
  /// Why a key cannot become LIVE twice: an inserter first claims a bucket TENTATIVE (claim), then looks at every bucket
  /// the key may be in (scan), then makes its own LIVE (commit), and a CAS fails if anybody changed the bucket since.
  /// Take two inserters A and B with claim(A) before claim(B) in the order of the CASes. B's scan comes after, so it
  /// sees A's bucket as long as A has not been withdrawn: LIVE, then B withdraws; TENTATIVE, then B withdraws itself or
  /// kills A's claim, and A's commit fails. A free bucket that ends a scan was free ever since, so nothing lies
  /// beyond it; `bound` is raised before the claim, so no scan stops short of it. A dead inserter's claim is killed.
  InsertResult Insert(uint64_t key, uint64_t offset, BucketRef& out) {
    int patience = kPatienceMin;
    int waited = 0;
    for (int tries = 0; tries < kInsertTriesMax; tries++) {
      Scan scan = Look(key, kNowhere);
      if (scan.live) return Exists(key, scan.found, scan.pair, out);
      if (scan.tentative) {
        if (waited++ < patience) {
          A::Pause();
          continue;
        }
        Change(scan.found, scan.pair, scan.pair.lo, private_value::kDeleted, 0);
        waited = 0;
        patience = patience < kPatienceMax ? patience * 2 : patience;
        continue;
      }
      if (!scan.vacancy) return InsertResult::kFull;
      RaiseBound(scan.displacement);
      Pair mine = scan.vacant;
      if (!Change(scan.vacant_at, mine, StateKey(key), private_value::kTentative, offset)) continue;
      const Scan rivals = Look(key, scan.vacant_at);
      if (rivals.live || rivals.unsure) {
        Change(scan.vacant_at, mine, mine.lo, private_value::kDeleted, 0);
        if (rivals.unsure) continue;
        return Exists(key, rivals.found, rivals.pair, out);
      }
      if (rivals.tentative && !Beat(rivals, scan, mine)) continue;
      if (!Change(scan.vacant_at, mine, mine.lo, private_value::kLive, offset)) continue;
      out = {key, scan.vacant_at, mine.hi};
      return InsertResult::kInserted;
    }
    return InsertResult::kBusy;
  }

  /// Swaps the entry behind `ref` for another in one step; `ref` becomes the new one. False: it changed meanwhile.
  bool Replace(BucketRef& ref, uint64_t offset) {
    Pair pair{StateKey(ref.key), ref.value};
    if (!Change(ref.bucket, pair, pair.lo, private_value::kLive, offset)) return false;
    ref.value = pair.hi;
    return true;
  }

  /// Takes the key out. True for exactly one caller, who now owns the entry. [retire-1]
  bool Remove(const BucketRef& ref) {
    Pair pair{StateKey(ref.key), ref.value};
    return Change(ref.bucket, pair, pair.lo, private_value::kDeleted, 0);
  }

  static uint64_t Offset(const BucketRef& ref) { return private_value::Offset(ref.value); }

 private:
  static constexpr uint64_t kNowhere = ~uint64_t{0};
  /// Looks at a rival's claim so many times before it is taken for dead and killed (safe at any time, only unkind).
  static constexpr int kPatienceMin = 2;
  static constexpr int kPatienceMax = 256;
  static constexpr int kReadTriesMax = 1 << 16;

  struct Scan {
    bool live = false;
    bool tentative = false;
    bool vacancy = false;
    bool unsure = false;          // a bucket never stood still
    uint64_t found = 0;           // bucket of the live or tentative one
    uint64_t found_distance = 0;  // probes from home
    Pair pair{};
    uint64_t vacant_at = 0;
    uint64_t displacement = 0;
    Pair vacant{};
  };

  uint64_t Bound() const {
    // seq_cst: an inserter's own claim comes before it in the one order that the proof above needs.
    const uint64_t bound = A::Load(bound_, std::memory_order_seq_cst);
    return bound < view_.count ? bound + 1 : view_.count;
  }

  void RaiseBound(uint64_t to) {
    uint64_t seen = A::Load(bound_, std::memory_order_acquire);
    for (int tries = 0; seen < to && tries < kInsertTriesMax; tries++) {
      if (A::Cas(bound_, seen, to, std::memory_order_seq_cst)) return;
    }
  }

  /// Key and value of one moment: the value is read on both sides of the key, and no value word occurs twice.
  bool ReadPair(uint64_t at, Pair& out) const {
    const Pair& bucket = view_.buckets[at];
    uint64_t before = A::Load(&bucket.hi, std::memory_order_acquire);
    for (int tries = 0; tries < kReadTriesMax; tries++) {
      // seq_cst: see Bound().
      const uint64_t word = A::Load(&bucket.lo, std::memory_order_seq_cst);
      const uint64_t after = A::Load(&bucket.hi, std::memory_order_acquire);
      if (before == after) {
        out = {word, after};
        return true;
      }
      before = after;
    }
    return false;
  }

  /// Moves a bucket on from `pair`; `pair` becomes what was stored, or what was found.
  bool Change(uint64_t at, Pair& pair, uint64_t state_key, uint64_t state, uint64_t offset) {
    const Pair next{state_key, private_value::Next(pair.hi, state, offset)};
    if (!A::Cas16(&view_.buckets[at], pair, next)) return false;
    pair = next;
    return true;
  }

  static InsertResult Exists(uint64_t key, uint64_t at, const Pair& pair, BucketRef& out) {
    out = {key, at, pair.hi};
    return InsertResult::kExists;
  }

  /// Another claim of our key: the one nearer to home goes on. True: ours may be committed.
  bool Beat(const Scan& rivals, const Scan& ours, Pair& mine) {
    if (rivals.found_distance < ours.displacement) {
      Change(ours.vacant_at, mine, mine.lo, private_value::kDeleted, 0);
      return false;
    }
    Pair theirs = rivals.pair;
    if (Change(rivals.found, theirs, theirs.lo, private_value::kDeleted, 0)) return true;
    Change(ours.vacant_at, mine, mine.lo, private_value::kDeleted, 0);
    return false;
  }

  /// Every bucket where the key may be, except `skip`: a LIVE one wins, else the nearest claim; and the first vacancy.
  Scan Look(uint64_t key, uint64_t skip) const {
    Scan scan;
    const uint64_t mask = view_.count - 1;
    const uint64_t state_key = StateKey(key);
    const uint64_t limit = Bound();
    uint64_t at = HomeBucket(FrontKind::kPrivate, key, mask);
    for (uint64_t probe = 0; probe < view_.count; probe++, at = (at + 1) & mask) {
      if (probe >= limit && (scan.vacancy || skip != kNowhere)) break;
      if (at == skip) continue;
      Pair pair;
      if (!ReadPair(at, pair)) {
        scan.unsure = true;
        continue;
      }
      const uint64_t state = private_value::kState.get(pair.hi);
      if (pair.lo == state_key && state != private_value::kDeleted) {
        if (state == private_value::kLive) {
          scan.live = true;
          scan.found = at;
          scan.pair = pair;
          return scan;
        }
        if (!scan.tentative) {
          scan.tentative = true;
          scan.found = at;
          scan.found_distance = probe;
          scan.pair = pair;
        }
        continue;
      }
      if (!scan.vacancy && (pair.lo == 0 || state == private_value::kDeleted)) {
        scan.vacancy = true;
        scan.vacant_at = at;
        scan.displacement = probe;
        scan.vacant = pair;
      }
      if (pair.lo == 0) break;
    }
    return scan;
  }

  TableView view_;
  uint64_t* bound_;
};

}  // namespace daxserve
