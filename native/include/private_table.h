// The table of a private front: bins of 15 buckets and a word, removed keys leave their bucket to any other key.
//
// Thread safety: every member may be called concurrently from several hosts, and all of them are lock-free: a host that
// stops anywhere stops nobody. Insertions of keys with one home bin go one after another through that bin's word.
// Invariants
//   1. key and value change together by one 16-byte CAS, and no value word occurs twice in a bucket (versions).
//   2. a key lies in one of the first reach + 1 bins of its path; reach is in the word of its home bin.
//   3. a key is LIVE in at most one bucket.
//
// @atomic bin_word   twin: daxfs/overlay-table.ts reads it
//   states   names the bucket and version of the last insertion of this home; changed by every insertion, by nothing else
//   order    sequentially consistent CAS and loads: an insertion is ordered with what its host looks at afterwards
//   because  Insert claims a bucket TENTATIVE, loads the word, settles the insertion it names (TENTATIVE -> LIVE), looks for
//            the key, and swings the word to its own claim. The CAS fails if anybody inserted a key of this home since the
//            load; if it succeeds, every earlier one had been LIVE before the look, so the look saw it: invariant 3. From the
//            CAS on the key is in: who inserts here next, or looks for the key, makes the claim LIVE if its owner does not.
//   weaker?  acquire-release would do for the table alone; Overlay::LinkOpen and rmdir need the one order
//   crash    before the CAS: the claim stays TENTATIVE, 16 bytes until `region check --repair`. After it: the key is in.
//   wrap     a claim is told from others by bucket and version: a word would have to stay unchanged for 4,194,304 changes of
//            that bucket, and meet a claim of the same home there at that moment
#pragma once
#include "bucket_table.h"

namespace daxserve {

/// REQUIRES: view.count is a power of two, at least kBinCells, and checked against the region.
template <typename A>
class PrivateTable {
 public:
  /// @param read_only the memory may not be written: Find then passes a claim that is in but not LIVE yet
  explicit PrivateTable(TableView view, bool read_only = false)
      : view_(view), bin_mask_((view.count >> kBinBits) - 1), read_only_(read_only) {}

  FindResult Find(uint64_t key, BucketRef& out) {
    bool claimed = false;
    if (Search(key, out, claimed)) return FindResult::kFound;
    if (!claimed || read_only_) return FindResult::kAbsent;
    // What is in before this load is LIVE after it: the word names it, or whoever changed the word since has settled it.
    const uint64_t home = HomeBin(key, bin_mask_).bin;
    Settle(home, A::Load(Word(home), std::memory_order_seq_cst));
    return Search(key, out, claimed) ? FindResult::kFound : FindResult::kAbsent;
  }

  /// True while the bucket is as it was found: the entry behind it was not freed up to now. Call ReadFence first.
  bool Still(const BucketRef& ref) const {
    // @atomic bucket.value  twin: [retire-1]. Versions make the word unique, so one load answers for key and entry.
    return A::Load(&view_.buckets[ref.bucket].hi, std::memory_order_acquire) == ref.value;
  }

  /// Makes `key` LIVE at `offset` unless it is already. On kExists `out` is the winner's.
  InsertResult Insert(uint64_t key, uint64_t offset, BucketRef& out) {
    const BinHome home = HomeBin(key, bin_mask_);
    Claim mine;
    InsertResult result = InsertResult::kBusy;
    for (int tries = 0; tries < kInsertTriesMax; tries++) {
      const uint64_t word = A::Load(Word(home.bin), std::memory_order_seq_cst);
      Settle(home.bin, word);
      const Sight sight = LookAround(key, home, word, mine.held);
      if (sight.live) {
        out = sight.found;
        result = InsertResult::kExists;
        break;
      }
      if (!mine.held) {
        if (sight.vacant == kNowhere && !sight.moving) return InsertResult::kFull;
        if (sight.vacant == kNowhere || !Take(sight, key, offset, mine)) continue;
      }
      // Lost: somebody inserted here, and our claim waits for the next try.
      if (!Install(home, word, sight, mine)) continue;
      Pair pair = mine.pair;
      Change(mine.at, pair, pair.lo, private_value::kLive, offset);
      out = {key, mine.at, private_value::Next(mine.pair.hi, private_value::kLive, offset)};
      return InsertResult::kInserted;
    }
    if (mine.held) Change(mine.at, mine.pair, mine.pair.lo, private_value::kDeleted, 0);
    return result;
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
  static constexpr int kReadTriesMax = 1 << 16;
  /// A reach that means the whole table.
  static constexpr uint64_t kReachMax = (1 << 9) - 1;
  /// One insertion in so many measures the reach again, so that it shrinks when what lay far away was removed.
  static constexpr uint64_t kMeasureEvery = 8;

  /// A bucket of ours that nobody else changes before the home's word names it.
  struct Claim {
    bool held = false;
    uint64_t at = 0;
    uint64_t distance = 0;  // bins from home
    Pair pair{};
  };

  /// What an insertion saw on its key's path.
  struct Sight {
    bool live = false;
    bool moving = false;  // a vacancy was gone at the second look
    BucketRef found;
    uint64_t vacant = kNowhere;  // first free bucket
    uint64_t distance = 0;       // its bins from home
    Pair pair{};                 // what it held
    uint64_t reach = 0;          // how far keys of this home lie
  };

  uint64_t* Word(uint64_t bin) const { return &view_.buckets[(bin << kBinBits) + kBinBuckets].lo; }

  uint64_t Reach(uint64_t word) const {
    const uint64_t reach = layout::bin_word::kReach.get(word);
    return reach < kReachMax && reach < bin_mask_ ? reach : bin_mask_;
  }

  /// Which of `kCount` cells hold a state_key. One pass without a branch: at 70 % load the branches would cost most.
  template <unsigned kCount>
  static unsigned Matches(const Pair* cells, uint64_t state_key) {
    unsigned match = 0;
#pragma GCC unroll 16
    for (unsigned i = 0; i < kCount; i++) {
      match |= static_cast<unsigned>(A::Load(&cells[i].lo, std::memory_order_seq_cst) == state_key) << i;
    }
    return match;
  }

  /// Which buckets of a bin are free: never used, or DELETED.
  static unsigned Vacancies(const Pair* cells) {
    unsigned vacant = 0;
#pragma GCC unroll 16
    for (unsigned i = 0; i < kBinBuckets; i++) {
      const uint64_t value = A::Load(&cells[i].hi, std::memory_order_acquire);
      vacant |= static_cast<unsigned>(private_value::kState.get(value) == private_value::kDeleted) << i;
    }
    return vacant;
  }

  /// The LIVE one among the cells in `match`. @param claimed set when one is TENTATIVE
  bool Pick(uint64_t first, unsigned match, uint64_t key, BucketRef& out, bool& claimed) const {
    for (; match != 0; match &= match - 1) {
      const uint64_t at = first + static_cast<unsigned>(__builtin_ctz(match));
      Pair pair;
      if (!ReadPair(at, pair) || pair.lo != StateKey(key)) continue;
      const uint64_t state = private_value::kState.get(pair.hi);
      claimed |= state == private_value::kTentative;
      if (state != private_value::kLive) continue;
      out = {key, at, pair.hi};
      return true;
    }
    return false;
  }

  bool Search(uint64_t key, BucketRef& out, bool& claimed) const {
    const BinHome home = HomeBin(key, bin_mask_);
    const uint64_t want = StateKey(key);
    uint64_t first = home.bin << kBinBits;
    // Most keys lie on their own line. The last line has the bin's word, too: beside it is no value, so it is never LIVE.
    unsigned match = Matches<kLineCells>(view_.buckets + first + home.cell, want);
    if (match != 0 && Pick(first + home.cell, match, key, out, claimed)) return true;
    // After the first look or before it: a key that is in all along has its reach in the word all along.
    const uint64_t reach = Reach(A::Load(Word(home.bin), std::memory_order_seq_cst));
    for (uint64_t distance = 0;; distance++) {
      match = Matches<kBinBuckets>(view_.buckets + first, want);
      if (match != 0 && Pick(first, match, key, out, claimed)) return true;
      if (distance >= reach) return false;
      first = Next(first, home.step);
    }
  }

  uint64_t Next(uint64_t first, uint64_t step) const { return (((first >> kBinBits) + step) & bin_mask_) << kBinBits; }

  /// The key wherever it may be, and the first free bucket on its path.
  Sight LookAround(uint64_t key, const BinHome& home, uint64_t word, bool held) const {
    Sight sight;
    bool claimed = false;
    const uint64_t reach = Reach(word);
    const bool measure = reach > 0 && layout::bin_word::kVersion.get(word) % kMeasureEvery == 0;
    sight.reach = measure ? 0 : reach;
    uint64_t first = home.bin << kBinBits;
    for (uint64_t distance = 0; distance <= bin_mask_; distance++, first = Next(first, home.step)) {
      if (distance > reach && (held || sight.vacant != kNowhere)) break;
      const Pair* cells = view_.buckets + first;
      const unsigned match = Matches<kBinBuckets>(cells, StateKey(key));
      if (match != 0 && Pick(first, match, key, sight.found, claimed)) {
        sight.live = true;
        return sight;
      }
      if (measure && distance > 0 && distance <= reach && HoldsKeyOf(home.bin, cells)) sight.reach = distance;
      if (!held && sight.vacant == kNowhere) FindVacancy(first, home.cell, distance, sight);
    }
    return sight;
  }

  void FindVacancy(uint64_t first, unsigned cell, uint64_t distance, Sight& sight) const {
    const unsigned vacant = Vacancies(view_.buckets + first);
    for (unsigned turned = (vacant | vacant << kBinCells) >> cell; turned != 0; turned &= turned - 1) {
      const uint64_t at = first + (static_cast<unsigned>(__builtin_ctz(turned)) + cell) % kBinCells;
      // A pair of two moments is not in the table, and the claim's CAS fails.
      const Pair pair{A::Load(&view_.buckets[at].lo, std::memory_order_acquire),
                      A::Load(&view_.buckets[at].hi, std::memory_order_acquire)};
      if (private_value::kState.get(pair.hi) == private_value::kDeleted) {
        sight.vacant = at;
        sight.distance = distance;
        sight.pair = pair;
        return;
      }
      sight.moving = true;
    }
  }

  /// True when a bucket in use holds a key whose home is `home`.
  bool HoldsKeyOf(uint64_t home, const Pair* cells) const {
    for (unsigned i = 0; i < kBinBuckets; i++) {
      const uint64_t value = A::Load(&cells[i].hi, std::memory_order_acquire);
      if (private_value::kState.get(value) == private_value::kDeleted) continue;
      if (HomeBin(A::Load(&cells[i].lo, std::memory_order_acquire) >> 1, bin_mask_).bin == home) return true;
    }
    return false;
  }

  bool Take(const Sight& sight, uint64_t key, uint64_t offset, Claim& mine) {
    mine = {true, sight.vacant, sight.distance, sight.pair};
    mine.held = Change(mine.at, mine.pair, StateKey(key), private_value::kTentative, offset);
    return mine.held;
  }

  /// The point from which the key is in.
  bool Install(const BinHome& home, uint64_t word, const Sight& sight, const Claim& mine) {
    namespace fields = layout::bin_word;
    const uint64_t far = mine.distance > sight.reach ? mine.distance : sight.reach;
    uint64_t next = fields::kUsed.set(0, 1);
    next = fields::kBucket.set(next, mine.at);
    next = fields::kVersion.set(next, private_value::kVersion.get(mine.pair.hi));
    next = fields::kReach.set(next, far < kReachMax ? far : kReachMax);
    return A::Cas(Word(home.bin), word, next, std::memory_order_seq_cst);
  }

  /// Makes the claim that a word names LIVE, unless that was done.
  void Settle(uint64_t home, uint64_t word) {
    namespace fields = layout::bin_word;
    const uint64_t at = fields::kBucket.get(word);
    if (fields::kUsed.get(word) == 0 || at >= view_.count) return;
    const uint64_t value = A::Load(&view_.buckets[at].hi, std::memory_order_acquire);
    if (private_value::kState.get(value) != private_value::kTentative) return;
    if (private_value::kVersion.get(value) != fields::kVersion.get(word)) return;
    Pair pair{A::Load(&view_.buckets[at].lo, std::memory_order_acquire), value};
    if (HomeBin(pair.lo >> 1, bin_mask_).bin != home) return;
    Change(at, pair, pair.lo, private_value::kLive, private_value::Offset(value));
  }

  /// Key and value of one moment: the value is read on both sides of the key, and no value word occurs twice.
  bool ReadPair(uint64_t at, Pair& out) const {
    const Pair& bucket = view_.buckets[at];
    uint64_t before = A::Load(&bucket.hi, std::memory_order_acquire);
    for (int tries = 0; tries < kReadTriesMax; tries++) {
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

  TableView view_;
  uint64_t bin_mask_;
  bool read_only_;
};

}  // namespace daxserve
