// Names of models: an open hash table whose buckets never return to free, so a probe ends at the first free one. A bucket
// that points at nothing belongs to whoever claims it next, for any name.
#pragma once
#include <cstring>
#include <optional>
#include <string_view>

#include "atom.h"
#include "content_table.h"
#include "xxh3.h"

namespace daxserve {

enum class NameOutcome {
  kSet,
  /// The name points elsewhere than expected; `ref` says where.
  kConflict,
  kFull,
  /// Another live host was in the middle of the same bucket for the whole wait: try again.
  kBusy,
  kLost,
};

struct NameResult {
  NameOutcome outcome;
  /// kSet: the target before; kConflict: the target now.
  std::optional<ContentRef> ref;
};

/// What a name must point at for a set to happen; `any` = whatever.
struct NameExpectation {
  bool any = true;
  std::optional<ContentRef> ref;
};

/// A bucket that has a name: what it points at, and the hash of the name.
struct NamedTarget {
  ContentRef target;
  uint64_t hash;
};

// @atomic {name_row.word, name_row.hash}
//   states   {FREE, 0} or {USED(nothing), any} -> {CLAIMED(host), hash}; CLAIMED(me) -> USED(target), or USED(nothing) when
//            another bucket has the name; {USED(t), hash} -> {USED(u), hash}; CLAIMED(dead) -> USED(nothing) with proof,
//            else QUARANTINED(host), as its host may still be writing the name; QUARANTINED(dead) -> USED(nothing) with proof
//   order    claim, and the look at all other buckets after it: sequentially consistent. Readers: acquire hash, then word.
//   because  of two claimants of one name at least one sees the other: the one further along the probe path gives way, the
//            other waits for it. USED publishes the name.
//   weaker?  with an acquire look both could miss the other's claim, and the name would be in two buckets
//   crash    a claim is undone as above by whoever meets it; the bucket's name means nothing before USED(target)
// @atomic name_row.name, name_len   written under a claim; a reader that finds {word, hash} unchanged after it has read
//   them has read the name of that word
/// Invariant: a name is in at most one bucket that points at something. A target whose content is gone is nothing.
/// Thread safety: all members, from several processes.
template <typename A>
class NameTable {
 public:
  NameTable(uint8_t* base, const Geometry& geometry, const HostTable<A>& hosts, const ContentTable<A>& contents,
            WaitLimits limits)
      : rows_(reinterpret_cast<layout::NameRow*>(base + geometry.names)),
        count_(geometry.name_count),
        hosts_(hosts),
        contents_(contents),
        limits_(limits) {}

  uint32_t count() const { return count_; }

  /// Points `name` (1..194 bytes) at `target`, or at nothing.
  NameResult Set(HostRef self, std::string_view name, std::optional<ContentRef> target, NameExpectation expected) {
    const Change change{self, name, HashOf(name), target, expected};
    for (Waiter<A> wait(limits_); wait.Again();) {
      if (const auto result = TryOnce(change, wait)) return *result;
    }
    return {NameOutcome::kBusy, {}};
  }

  /// What the name points at.
  std::optional<ContentRef> Find(std::string_view name) const {
    const uint64_t hash = HashOf(name);
    Waiter<A> wait(limits_);
    for (uint32_t step = 0; step < count_;) {
      const layout::NameRow* row = Row(hash, step);
      const Pair seen = Look(row);
      if (seen.hi == 0) return std::nullopt;
      const auto target = seen.hi == hash ? Target(seen.lo) : std::nullopt;
      const bool found = target && HasName(row, name);
      const bool again = target && !Stands(row, seen) && wait.Again();
      if (found && !again) return target;
      if (!again) step++;
    }
    return std::nullopt;
  }

  /// What bucket `index` points at; nothing when it has no name, or changes all the time.
  std::optional<NamedTarget> At(uint32_t index) const {
    for (Waiter<A> wait(limits_); wait.Again();) {
      const Pair seen = Look(rows_ + index);
      const auto target = Target(seen.lo);
      if (!target) return std::nullopt;
      if (Stands(rows_ + index, seen)) return NamedTarget{*target, seen.hi};
    }
    return std::nullopt;
  }

  /// The name of that hash in bucket `index`; its length, 0 when the bucket has another one. `name` holds 200 bytes.
  uint32_t NameAt(uint32_t index, uint64_t hash, char* name) const {
    const layout::NameRow* row = rows_ + index;
    const uint32_t length = A::Load(&row->name_len, std::memory_order_acquire);
    if (length == 0 || length > layout::kModelNameBytesMax) return 0;
    A::CopyOut(name, row->name, sizeof(row->name));
    return HashOf({name, length}) == hash ? length : 0;
  }

  /// Undoes a claim of a dead host of `row`. `proven`: it cannot be writing into the bucket any more; else nobody may have
  /// the bucket until it is. @returns 1 when there was something to undo
  uint32_t UndoDeadClaim(uint32_t index, uint32_t row, bool proven) {
    const uint64_t word = A::Load(&rows_[index].word, std::memory_order_acquire);
    if (!HoldsHost(word) || OwnerOf(word).row != row || OwnerAlive(word)) return 0;
    if (proven) return Move(rows_ + index, word, words::UsedName({}));
    return IsClaimed(word) && Move(rows_ + index, word, words::QuarantinedName(OwnerOf(word)));
  }

  /// True while the bucket names host row `row`.
  bool NamesHost(uint32_t index, uint32_t row) const {
    const uint64_t word = A::Load(&rows_[index].word, std::memory_order_acquire);
    return HoldsHost(word) && OwnerOf(word).row == row;
  }

  /// XXH3-64 with bit 0 set: never 0.
  static uint64_t HashOf(std::string_view name) {
    return Xxh3_64(reinterpret_cast<const uint8_t*>(name.data()), name.size()) | 1;
  }

 private:
  struct Change {
    HostRef self;
    std::string_view name;
    uint64_t hash;
    std::optional<ContentRef> target;
    NameExpectation expected;
    bool Allows(const std::optional<ContentRef>& current) const { return expected.any || expected.ref == current; }
  };

  /// Where a new name may go: the first bucket of its probe path that has none.
  struct Place {
    layout::NameRow* row = nullptr;
    Pair seen{};
    uint32_t step = 0;
  };

  layout::NameRow* Row(uint64_t hash, uint32_t step) const {
    return rows_ + ((static_cast<uint32_t>(hash >> 1) + step) & (count_ - 1));
  }

  /// {word, hash}; the two may be of different moments, which a Cas16 from them finds out.
  static Pair Look(const layout::NameRow* row, std::memory_order order = std::memory_order_acquire) {
    const uint64_t hash = A::Load(&row->hash, order);
    return {A::Load(&row->word, order), hash};
  }
  /// True when nothing has changed since: what was read between is of that {word, hash}.
  static bool Stands(const layout::NameRow* row, Pair seen) {
    A::Fence(std::memory_order_acquire);
    return Look(row) == seen;
  }
  static bool Swap(layout::NameRow* row, Pair from, Pair to) { return A::Cas16(reinterpret_cast<Pair*>(row), from, to); }
  static bool Move(layout::NameRow* row, uint64_t from, uint64_t to) {
    return A::Cas(&row->word, from, to, std::memory_order_acq_rel);
  }

  static bool IsClaimed(uint64_t word) { return words::StateOfName(word) == words::NameState::kClaimed; }
  static bool HoldsHost(uint64_t word) {
    return IsClaimed(word) || words::StateOfName(word) == words::NameState::kQuarantined;
  }
  static HostRef OwnerOf(uint64_t word) {
    return {static_cast<uint32_t>(layout::name_word::kHost.get(word)),
            static_cast<uint32_t>(layout::name_word::kHostGeneration.get(word))};
  }
  bool OwnerAlive(uint64_t word) const { return hosts_.AliveLow(OwnerOf(word), layout::name_word::kHostGeneration.max()); }

  /// What the word points at while that content exists.
  std::optional<ContentRef> Target(uint64_t word) const {
    if (words::StateOfName(word) != words::NameState::kUsed) return std::nullopt;
    auto target = words::TargetOf(word);
    if (target && !contents_.Exists(*target)) target.reset();
    return target;
  }
  /// Anybody may claim it: it was never used, or it points at nothing.
  bool IsOpen(Pair seen) const {
    return seen.hi == 0 || (words::StateOfName(seen.lo) == words::NameState::kUsed && !Target(seen.lo));
  }

  bool HasName(const layout::NameRow* row, std::string_view name) const {
    if (A::Load(&row->name_len, std::memory_order_acquire) != name.size()) return false;
    char bytes[sizeof(row->name)];
    A::CopyOut(bytes, row->name, sizeof(bytes));
    return std::memcmp(bytes, name.data(), name.size()) == 0;
  }

  /// One walk along the probe path. Nothing: somebody was in the way, look again.
  std::optional<NameResult> TryOnce(const Change& change, Waiter<A>& wait) {
    Place place;
    for (uint32_t step = 0; step < count_; step++) {
      layout::NameRow* row = Row(change.hash, step);
      const Pair seen = Look(row);
      const bool open = IsOpen(seen);
      if (open && !place.row) place = {row, seen, step};
      if (seen.hi == 0) break;
      if (open || seen.hi != change.hash) continue;
      if (IsClaimed(seen.lo)) {
        Await(row, seen, wait);
        return std::nullopt;
      }
      const auto target = Target(seen.lo);
      const bool found = target && HasName(row, change.name);
      if (!Stands(row, seen)) return std::nullopt;
      if (found) return MoveTarget(row, seen, *target, change);
    }
    if (!change.Allows(std::nullopt)) return NameResult{NameOutcome::kConflict, {}};
    if (!change.target) return NameResult{NameOutcome::kSet, {}};
    if (!hosts_.Alive(change.self)) return NameResult{NameOutcome::kLost, {}};
    if (!place.row) return NameResult{NameOutcome::kFull, {}};
    return Insert(place, change, wait);
  }

  std::optional<NameResult> MoveTarget(layout::NameRow* row, Pair seen, ContentRef current, const Change& change) {
    if (!change.Allows(current)) return NameResult{NameOutcome::kConflict, current};
    // With the hash: the bucket may have got another name with the same target meanwhile.
    if (!Swap(row, seen, {words::UsedName(change.target), change.hash})) return std::nullopt;
    return NameResult{NameOutcome::kSet, current};
  }

  std::optional<NameResult> Insert(const Place& place, const Change& change, Waiter<A>& wait) {
    const Pair mine{words::ClaimedName(change.self), change.hash};
    if (!Swap(place.row, place.seen, mine)) return std::nullopt;
    const bool alone = IsAlone(place.step, change, wait);
    if (alone) WriteName(place.row, change.name);
    const auto target = alone ? change.target : std::nullopt;
    if (!Move(place.row, mine.lo, words::UsedName(target))) return NameResult{NameOutcome::kLost, {}};
    if (alone) return NameResult{NameOutcome::kSet, {}};
    return std::nullopt;
  }

  /// After our claim at `step`: true when the name is in no other bucket, nor will be.
  bool IsAlone(uint32_t step, const Change& change, Waiter<A>& wait) {
    for (uint32_t other = 0; other < count_;) {
      layout::NameRow* row = Row(change.hash, other);
      const Pair seen = Look(row, std::memory_order_seq_cst);
      if (seen.hi == 0) break;
      if (other == step || seen.hi != change.hash) {
        other++;
      } else if (IsClaimed(seen.lo)) {
        if ((other < step && OwnerAlive(seen.lo)) || !Await(row, seen, wait)) return false;
      } else {
        const bool found = Target(seen.lo) && HasName(row, change.name);
        if (found) return false;
        if (Stands(row, seen)) other++;
        else if (!wait.Again()) return false;
      }
    }
    return true;
  }

  /// Until a claim is there no more; that of a dead host is put aside. False when it took too long.
  bool Await(layout::NameRow* row, Pair claim, Waiter<A>& wait) {
    while (Look(row) == claim) {
      if (!OwnerAlive(claim.lo)) Move(row, claim.lo, words::QuarantinedName(OwnerOf(claim.lo)));
      else if (!wait.Again()) return false;
    }
    return true;
  }

  /// REQUIRES: the bucket is claimed by the caller.
  static void WriteName(layout::NameRow* row, std::string_view name) {
    char bytes[sizeof(row->name)] = {};
    std::memcpy(bytes, name.data(), name.size());
    A::Fence(std::memory_order_release);  // whoever sees a byte of it sees the claim
    A::CopyIn(row->name, bytes, sizeof(bytes));
    A::Store(&row->name_len, static_cast<uint32_t>(name.size()), std::memory_order_relaxed);
  }

  layout::NameRow* const rows_;
  const uint32_t count_;
  const HostTable<A>& hosts_;
  const ContentTable<A>& contents_;
  const WaitLimits limits_;
};

}  // namespace daxserve
