// Names of models: an open hash table whose buckets never return to free, so a probe ends at the first free one.
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

// @atomic {name_row.word, name_row.hash}
//   states   {FREE, 0} -> {CLAIMED(host), hash} by one 16-byte CAS; the hash then stands for ever. CLAIMED(me) ->
//            USED(target); USED(t) -> USED(u); CLAIMED(dead) -> USED(nothing); USED(nothing) without a name -> CLAIMED(me)
//   order    claim: sequentially consistent (Cas16). USED: acquire-release CAS. Readers: acquire hash, then word.
//   because  USED publishes name and length; the hash can't be seen without its claim
//   weaker?  an 8-byte claim would leave a bucket with a word and no hash: a probe could pass it and set the name twice
//   crash    CLAIMED(dead) becomes USED(nothing) by whoever meets it; with no length it has no name yet and the next
//            name of the same hash takes it.
// @atomic name_row.name_len   stored once, after the bytes, by the claimant; read after an acquire of USED
/// Invariant: a name is in at most one bucket. (A claimant never passes a bucket with its hash that has no name yet.)
/// A target whose content is gone counts as nothing. Thread safety: all members, from several processes.
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
    for (uint32_t step = 0; step < count_; step++) {
      if (auto result = SetAt(Row(change.hash, step), change)) return *result;
    }
    return {NameOutcome::kFull, {}};
  }

  /// What the name points at.
  std::optional<ContentRef> Find(std::string_view name) const {
    const uint64_t hash = HashOf(name);
    for (uint32_t step = 0; step < count_; step++) {
      const layout::NameRow* row = Row(hash, step);
      const uint64_t found = A::Load(&row->hash, std::memory_order_acquire);
      if (found == 0) return std::nullopt;
      if (found != hash) continue;
      const uint64_t word = A::Load(&row->word, std::memory_order_acquire);
      if (words::StateOfName(word) == words::NameState::kUsed && HasName(row, name)) return Target(word);
    }
    return std::nullopt;
  }

  /// Target of bucket `index`; nothing when it points at nothing.
  std::optional<ContentRef> TargetAt(uint32_t index) const {
    const layout::NameRow* row = rows_ + index;
    const uint64_t word = A::Load(&row->word, std::memory_order_acquire);
    if (words::StateOfName(word) != words::NameState::kUsed) return std::nullopt;
    const uint32_t length = A::Load(&row->name_len, std::memory_order_acquire);
    if (length == 0 || length > layout::kModelNameBytesMax) return std::nullopt;
    return Target(word);
  }

  /// Name of a bucket that has had a target, and keeps its name for ever; its length, 0 without one. `name` holds 200 bytes.
  uint32_t NameAt(uint32_t index, char* name) const {
    const layout::NameRow* row = rows_ + index;
    const uint32_t length = A::Load(&row->name_len, std::memory_order_acquire);
    if (length > layout::kModelNameBytesMax) return 0;
    A::CopyOut(name, row->name, sizeof(row->name));
    return length;
  }

  /// CLAIMED by a dead host of `row` -> USED(nothing). @returns 1 when it was so
  uint32_t UndoDeadClaim(uint32_t index, uint32_t row) {
    const uint64_t word = A::Load(&rows_[index].word, std::memory_order_acquire);
    if (words::StateOfName(word) != words::NameState::kClaimed || OwnerOf(word).row != row) return 0;
    return OwnerAlive(word) ? 0 : Move(rows_ + index, word, words::UsedName({}));
  }

  /// True while the bucket is CLAIMED by host row `row`.
  bool NamesHost(uint32_t index, uint32_t row) const {
    const uint64_t word = A::Load(&rows_[index].word, std::memory_order_acquire);
    return words::StateOfName(word) == words::NameState::kClaimed && OwnerOf(word).row == row;
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

  layout::NameRow* Row(uint64_t hash, uint32_t step) const {
    return rows_ + ((static_cast<uint32_t>(hash >> 1) + step) & (count_ - 1));
  }

  static HostRef OwnerOf(uint64_t word) {
    return {static_cast<uint32_t>(layout::name_word::kHost.get(word)),
            static_cast<uint32_t>(layout::name_word::kHostGeneration.get(word))};
  }
  bool OwnerAlive(uint64_t word) const { return hosts_.AliveLow(OwnerOf(word), layout::name_word::kHostGeneration.max()); }

  /// The word's target while that content exists.
  std::optional<ContentRef> Target(uint64_t word) const {
    auto target = words::TargetOf(word);
    if (target && !contents_.Exists(*target)) target.reset();
    return target;
  }

  /// @atomic name_row.word (above)
  bool Move(layout::NameRow* row, uint64_t from, uint64_t to) {
    return A::Cas(&row->word, from, to, std::memory_order_acq_rel);
  }

  bool HasName(const layout::NameRow* row, std::string_view name) const {
    if (A::Load(&row->name_len, std::memory_order_acquire) != name.size()) return false;
    char bytes[sizeof(row->name)];
    A::CopyOut(bytes, row->name, sizeof(bytes));
    return std::memcmp(bytes, name.data(), name.size()) == 0;
  }

  /// Tries one bucket. Nothing: it belongs to another name, go on probing.
  std::optional<NameResult> SetAt(layout::NameRow* row, const Change& change) {
    for (Waiter<A> wait(limits_);;) {
      const uint64_t hash = A::Load(&row->hash, std::memory_order_acquire);
      std::optional<NameResult> result;
      if (hash == 0) {
        result = SetFree(row, change);
      } else if (hash != change.hash) {
        return std::nullopt;
      } else {
        bool other = false;
        result = SetTaken(row, change, other);
        if (other) return std::nullopt;
      }
      if (result) return result;
      if (!wait.Again()) return NameResult{NameOutcome::kBusy, {}};
    }
  }

  /// A free bucket ends the probe: the name is nowhere. Nothing: somebody took the bucket, look again.
  std::optional<NameResult> SetFree(layout::NameRow* row, const Change& change) {
    if (!change.Allows(std::nullopt)) return NameResult{NameOutcome::kConflict, {}};
    if (!change.target) return NameResult{NameOutcome::kSet, {}};
    if (!hosts_.Alive(change.self)) return NameResult{NameOutcome::kLost, {}};
    Pair free{0, 0};
    if (!A::Cas16(reinterpret_cast<Pair*>(row), free, {words::ClaimedName(change.self), change.hash})) return {};
    return Finish(row, change);
  }

  /// A bucket with our hash. Nothing and not `other`: it changed or is in somebody's hands, look again.
  std::optional<NameResult> SetTaken(layout::NameRow* row, const Change& change, bool& other) {
    const uint64_t word = A::Load(&row->word, std::memory_order_acquire);
    if (words::StateOfName(word) == words::NameState::kClaimed) {
      if (!OwnerAlive(word)) Move(row, word, words::UsedName({}));
      return {};
    }
    if (words::StateOfName(word) != words::NameState::kUsed) return {};
    if (A::Load(&row->name_len, std::memory_order_acquire) == 0) return SetNameless(row, word, change, other);
    other = !HasName(row, change.name);
    if (other) return {};
    const auto current = Target(word);
    if (!change.Allows(current)) return NameResult{NameOutcome::kConflict, current};
    if (!Move(row, word, words::UsedName(change.target))) return {};
    return NameResult{NameOutcome::kSet, current};
  }

  /// A bucket whose claimant died before it had a name: ours, because the hash is.
  std::optional<NameResult> SetNameless(layout::NameRow* row, uint64_t word, const Change& change, bool& other) {
    if (!change.Allows(std::nullopt)) return NameResult{NameOutcome::kConflict, {}};
    if (!change.target) return NameResult{NameOutcome::kSet, {}};
    if (!hosts_.Alive(change.self)) return NameResult{NameOutcome::kLost, {}};
    if (!Move(row, word, words::ClaimedName(change.self))) return {};
    const bool named = A::Load(&row->name_len, std::memory_order_acquire) != 0;
    if (!named) return Finish(row, change);
    // Somebody named it between our look and our claim, and it points at nothing again.
    other = !HasName(row, change.name);
    Move(row, words::ClaimedName(change.self), words::UsedName({}));
    return {};
  }

  /// Writes the name of a bucket that we claimed and publishes it.
  NameResult Finish(layout::NameRow* row, const Change& change) {
    char bytes[sizeof(row->name)] = {};
    std::memcpy(bytes, change.name.data(), change.name.size());
    A::CopyIn(row->name, bytes, sizeof(bytes));
    A::Store(&row->name_len, static_cast<uint32_t>(change.name.size()), std::memory_order_release);
    const bool done = Move(row, words::ClaimedName(change.self), words::UsedName(change.target));
    return {done ? NameOutcome::kSet : NameOutcome::kLost, {}};
  }

  layout::NameRow* const rows_;
  const uint32_t count_;
  const HostTable<A>& hosts_;
  const ContentTable<A>& contents_;
  const WaitLimits limits_;
};

}  // namespace daxserve
