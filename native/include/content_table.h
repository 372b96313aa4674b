// Content rows: one row per source at a time, published once, pinned by hosts, freed when nobody is left.
#pragma once
#include <optional>

#include "host_table.h"

namespace daxserve {

enum class ClaimOutcome {
  kClaimed,
  /// The row that has (or is about to have) this source; its generation may have passed when it is looked at.
  kExists,
  kFull,
  /// Our own generation is gone from the host row: stop touching the region.
  kLost,
};

struct ClaimResult {
  ClaimOutcome outcome;
  ContentRef ref;
};

// @atomic content_row.word
//   states   FREE -> RESERVED(me) -> CLAIMING(me) -> LOADING(me) -> READY(mask) -> DRAINING(mask) -> FREEING(me)
//            -> FREE(generation+1) ; RESERVED, CLAIMING, LOADING -> FREEING ; CLAIMING -> FREE(generation+1) on a lost
//            duel ; READY, DRAINING -> QUARANTINED(mask) -> FREEING ; RESERVED, LOADING of a host that may only be
//            paused -> QUARANTINED(host), because it may still write into the row
//   order    RESERVED -> CLAIMING and the scan after it: sequentially consistent. All else: acquire-release CAS.
//   because  two claimants of one source each announce themselves, then look: at least one must see the other.
//            READY publishes fields and bytes; pin acquires them; FREEING comes after every pin's end.
//   weaker?  with acquire-release both duellists can read the other's row as RESERVED and both load
//            (store buffering: what a test under sequential consistency can't show)
//   crash    a claim names host and generation: recovery.h. READY and DRAINING rows need nobody.
// @atomic content_row.sequence   odd while the body is written; release after, acquire before. twin: [body-1]
// @atomic content_row.bytes_done, last_access_ms: plain progress, relaxed, last writer wins
/// Invariant: at no time are two rows of one source key LOADING or READY.
/// Thread safety: all members, from several processes.
template <typename A>
class ContentTable {
 public:
  ContentTable(uint8_t* base, const Geometry& geometry, const HostTable<A>& hosts, WaitLimits limits)
      : rows_(reinterpret_cast<layout::ContentRow*>(base + geometry.contents)),
        count_(geometry.content_count),
        hosts_(hosts),
        limits_(limits) {}

  uint32_t count() const { return count_; }
  uint64_t Word(uint32_t index) const { return A::Load(&Row(index)->word, std::memory_order_acquire); }

  /// True while this use of the row goes on.
  bool Exists(ContentRef ref) const {
    if (ref.index >= count_) return false;
    const uint64_t word = Word(ref.index);
    return words::GenerationOfContent(word) == ref.generation &&
           words::StateOfContent(word) != words::ContentState::kFree;
  }

  /// Claims a row for a source (LOADING), or finds the row that has it. `now_ms` becomes created_at_ms.
  ClaimResult Claim(HostRef self, SourceKey key, uint64_t now_ms) {
    std::optional<ContentRef> rival;
    for (uint32_t round = 0; round < limits_.rounds; round++) {
      if (!hosts_.Alive(self)) return {ClaimOutcome::kLost, {}};
      if (auto found = FindLive(key)) return {ClaimOutcome::kExists, *found};
      const auto own = Reserve(self, key);
      if (!own) return {ClaimOutcome::kFull, {}};
      if (!Announce(self, *own, key, now_ms)) return {ClaimOutcome::kLost, {}};
      rival = Duel(*own, key);
      if (!rival) return Win(self, *own);
      Move(own->index, words::Content(words::ContentState::kClaiming, own->generation, self), Freed(*own));
      if (Settles(*rival)) return {ClaimOutcome::kExists, *rival};
    }
    return {ClaimOutcome::kExists, rival.value_or(ContentRef{})};
  }

  bool IsLoading(HostRef self, ContentRef ref) const {
    return ref.index < count_ && Word(ref.index) == Loading(self, ref);
  }

  /// Writes the fields behind the word and moves LOADING(self) -> READY. REQUIRES: IsLoading, bytes and chunks final.
  /// `body` is a whole row of which digest..images count; `checksum` is over them as FORMAT.md says.
  bool Publish(HostRef self, ContentRef ref, const layout::ContentRow& body, uint64_t checksum, bool pin) {
    WriteBody(ref.index, body, checksum);
    const uint64_t mask = pin ? MaskBit(self) : 0;
    return Move(ref.index, Loading(self, ref), words::Content(words::ContentState::kReady, ref.generation, {}, mask));
  }

  /// Sets our bit while READY. One CAS decides between pin and drain.
  bool Pin(HostRef self, ContentRef ref) {
    return ChangeMask(ref, [&](words::ContentState state, uint64_t mask) -> std::optional<uint64_t> {
      if (state != words::ContentState::kReady) return std::nullopt;
      return mask | MaskBit(self);
    });
  }

  /// Clears the bit of a host.
  void ClearBit(ContentRef ref, uint32_t row) {
    ChangeMask(ref, [&](words::ContentState, uint64_t mask) -> std::optional<uint64_t> {
      return mask & ~(uint64_t{1} << row);
    });
  }

  /// Clears the bit of a host in every content. @return in how many it was set
  uint64_t ClearPins(uint32_t row) {
    uint64_t cleared = 0;
    for (uint32_t i = 0; i < count(); i++) {
      const uint64_t word = Word(i);
      if (!HoldsMask(words::StateOfContent(word)) || (words::MaskOfContent(word) >> row & 1) == 0) continue;
      ClearBit({i, words::GenerationOfContent(word)}, row);
      cleared++;
    }
    return cleared;
  }

  /// READY -> DRAINING. @param pins the hosts that may hold it; a pin of another one, even one set this instant, refuses
  bool Drain(ContentRef ref, uint64_t pins = ~uint64_t{0}) {
    return ChangeState(ref, words::ContentState::kDraining, false, pins);
  }
  bool Quarantine(ContentRef ref) {
    return ChangeState(ref, words::ContentState::kQuarantined, true, ~uint64_t{0});
  }

  /// Our unfinished claim -> FREEING(self); true also when it is there already.
  bool BeginAbandon(HostRef self, ContentRef ref) {
    if (ref.index >= count_) return false;
    const uint64_t word = Word(ref.index);
    const auto state = words::StateOfContent(word);
    if (words::GenerationOfContent(word) != ref.generation || !words::IsClaim(state)) return false;
    if (words::OwnerOfContent(word) != self) return false;
    return state == words::ContentState::kFreeing || Move(ref.index, word, Freeing(self, ref));
  }

  /// DRAINING or QUARANTINED that names nobody, or FREEING by a dead host -> FREEING(self).
  bool BeginFree(HostRef self, ContentRef ref) {
    if (ref.index >= count_) return false;
    const uint64_t word = Word(ref.index);
    if (words::GenerationOfContent(word) != ref.generation) return false;
    if (word == Freeing(self, ref)) return true;
    return Freeable(word) && Move(ref.index, word, Freeing(self, ref));
  }

  /// FREEING(self) -> FREE with the next generation. False when it was taken over.
  bool EndFree(HostRef self, ContentRef ref) { return Move(ref.index, Freeing(self, ref), Freed(ref)); }

  struct Undone {
    /// To be freed by the caller: it is in FREEING(self).
    std::optional<ContentRef> freeing;
    bool quarantined = false;
  };

  /// Undoes a claim of a dead host of `row`. `proven`: nobody can be writing into the row any more; else RESERVED and
  /// LOADING, in which the owner writes fields, become QUARANTINED(host) until it is. @atomic content_row.word (above)
  Undone UndoDeadClaim(HostRef self, uint32_t index, uint32_t row, bool proven) {
    const uint64_t word = Word(index);
    const auto state = words::StateOfContent(word);
    const HostRef owner = words::OwnerOfContent(word);
    if (!OwnerHolds(state) || owner.row != row || hosts_.Alive(owner)) return {};
    const ContentRef ref{index, words::GenerationOfContent(word)};
    const bool writes = state == words::ContentState::kReserved || state == words::ContentState::kLoading;
    if (proven || !(writes || state == words::ContentState::kQuarantined)) {
      if (!Move(index, word, Freeing(self, ref))) return {};
      return {ref, false};
    }
    const bool moved = writes && Move(index, word, words::Content(words::ContentState::kQuarantined, ref.generation, owner));
    return {std::nullopt, moved};
  }

  /// True while the row's word has a claim or a mask bit of host row `row`.
  bool NamesHost(uint32_t index, uint32_t row) const {
    const uint64_t word = Word(index);
    const auto state = words::StateOfContent(word);
    if (OwnerHolds(state) && words::OwnerOfContent(word).row == row) return true;
    return HoldsMask(state) && (words::MaskOfContent(word) >> row & 1) != 0;
  }

  /// A consistent copy; false when FREE. After too many changes under the reader the last copy, with an odd or older
  /// sequence: its checksum tells. twin: [body-1] WriteBody
  bool Copy(uint32_t index, layout::ContentRow& out) const {
    for (int tries = 0; tries < kCopiesMax; tries++) {
      const uint64_t word = Word(index);
      if (words::StateOfContent(word) == words::ContentState::kFree) return false;
      const uint64_t sequence = A::Load(&Row(index)->sequence, std::memory_order_acquire);
      A::CopyOut(&out, Row(index), sizeof(out));
      A::Fence(std::memory_order_acquire);
      out.word = word;
      out.sequence = sequence;
      const bool same = A::Load(&Row(index)->sequence, std::memory_order_relaxed) == sequence && Word(index) == word;
      if (same && sequence % 2 == 0) return true;
      A::Pause();
    }
    return true;
  }

  /// What tells one look at a row from another: equal stamps, equal rows. Taken before a Copy, a stamp is never newer
  /// than the copy. FREE rows have none.
  struct Stamp {
    uint64_t word, sequence, last_access_ms, bytes_done;
    uint32_t flags;
  };
  std::optional<Stamp> StampOf(uint32_t index) const {
    const layout::ContentRow* row = Row(index);
    const uint64_t word = Word(index);
    if (words::StateOfContent(word) == words::ContentState::kFree) return std::nullopt;
    const uint64_t sequence = A::Load(&row->sequence, std::memory_order_acquire);
    return Stamp{word, sequence, A::Load(&row->last_access_ms, std::memory_order_relaxed),
                 A::Load(&row->bytes_done, std::memory_order_relaxed), Flags(index)};
  }

  void SetBytesDone(HostRef self, ContentRef ref, uint64_t bytes) {
    if (IsLoading(self, ref)) A::Store(&Row(ref.index)->bytes_done, bytes, std::memory_order_relaxed);
  }
  void Touch(uint32_t index, uint64_t now_ms) {
    A::Store(&Row(index)->last_access_ms, now_ms, std::memory_order_relaxed);
  }
  uint32_t Flags(uint32_t index) const { return A::Load(&Row(index)->flags, std::memory_order_relaxed); }
  bool SetKeep(ContentRef ref, bool keep) {
    if (!Exists(ref)) return false;
    uint32_t* flags = &Row(ref.index)->flags;
    uint32_t seen = A::Load(flags, std::memory_order_relaxed);
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint32_t next = keep ? seen | 1u : seen & ~1u;
      // @atomic content_row.flags   operator's wish, orders nothing: relaxed
      if (A::Cas(flags, seen, next, std::memory_order_relaxed)) return true;
    }
    return false;
  }

 private:
  static constexpr int kTriesMax = 64;
  static constexpr int kCopiesMax = 16;

  layout::ContentRow* Row(uint32_t index) const {
    assert(index < count_);
    return rows_ + index;
  }
  static uint64_t MaskBit(HostRef host) { return uint64_t{1} << host.row; }
  static uint64_t Loading(HostRef self, ContentRef ref) {
    return words::Content(words::ContentState::kLoading, ref.generation, self);
  }
  static uint64_t Freeing(HostRef self, ContentRef ref) {
    return words::Content(words::ContentState::kFreeing, ref.generation, self);
  }
  static uint64_t Freed(ContentRef ref) { return words::FreeContent(words::NextGeneration(ref.generation)); }

  bool Move(uint32_t index, uint64_t from, uint64_t to, std::memory_order order = std::memory_order_acq_rel) {
    return A::Cas(&Row(index)->word, from, to, order);
  }

  /// States whose word may name a host.
  static bool OwnerHolds(words::ContentState state) {
    return words::IsClaim(state) || state == words::ContentState::kQuarantined;
  }
  static bool HoldsMask(words::ContentState state) {
    return state == words::ContentState::kReady || state == words::ContentState::kDraining ||
           state == words::ContentState::kQuarantined;
  }

  // ------------------------------------------------------------------------------------------------------- claim

  static bool IsLive(words::ContentState state) {
    return state == words::ContentState::kLoading || state == words::ContentState::kReady;
  }

  std::optional<ContentRef> FindLive(SourceKey key) const {
    for (uint32_t index = 0; index < count_; index++) {
      const uint64_t word = Word(index);
      if (IsLive(words::StateOfContent(word)) && HasKey(index, word, key)) {
        return ContentRef{index, words::GenerationOfContent(word)};
      }
    }
    return std::nullopt;
  }

  /// The key of the use of the row that `word` shows: it is written while RESERVED and stands until the row is FREE.
  bool HasKey(uint32_t index, uint64_t word, SourceKey key) const {
    const layout::ContentRow* row = Row(index);
    const SourceKey found{A::Load(&row->source_key_lo, std::memory_order_relaxed),
                          A::Load(&row->source_key_hi, std::memory_order_relaxed)};
    A::Fence(std::memory_order_acquire);
    return found == key && words::GenerationOfContent(Word(index)) == words::GenerationOfContent(word);
  }

  /// FREE -> RESERVED(self), starting where the key says, so that unrelated claims rarely meet.
  std::optional<ContentRef> Reserve(HostRef self, SourceKey key) {
    const auto start = static_cast<uint32_t>(key.lo % count_);
    for (uint32_t step = 0; step < count_; step++) {
      const uint32_t index = (start + step) % count_;
      const uint64_t word = Word(index);
      if (words::StateOfContent(word) != words::ContentState::kFree) continue;
      const uint32_t generation = words::GenerationOfContent(word);
      if (Move(index, word, words::Content(words::ContentState::kReserved, generation, self))) {
        return ContentRef{index, generation};
      }
    }
    return std::nullopt;
  }

  /// Writes key and an empty body, then RESERVED -> CLAIMING. False: our claim was undone, we are taken for dead.
  bool Announce(HostRef self, ContentRef own, SourceKey key, uint64_t now_ms) {
    layout::ContentRow* row = Row(own.index);
    A::Store(&row->source_key_lo, key.lo, std::memory_order_relaxed);
    A::Store(&row->source_key_hi, key.hi, std::memory_order_relaxed);
    layout::ContentRow body{};
    body.created_at_ms = now_ms;
    WriteBody(own.index, body, 0);
    return Move(own.index, words::Content(words::ContentState::kReserved, own.generation, self),
                words::Content(words::ContentState::kClaiming, own.generation, self), std::memory_order_seq_cst);
  }

  ClaimResult Win(HostRef self, ContentRef own) {
    const uint64_t claiming = words::Content(words::ContentState::kClaiming, own.generation, self);
    const bool won = Move(own.index, claiming, Loading(self, own));
    return {won ? ClaimOutcome::kClaimed : ClaimOutcome::kLost, own};
  }

  /// Looks at every other row after our announcement. Nothing: we may load. Else the row we give way to:
  /// one that is LOADING or READY, or CLAIMING with a lower index, or a higher one whose owner does not go on.
  std::optional<ContentRef> Duel(ContentRef own, SourceKey key) {
    for (uint32_t index = 0; index < count_; index++) {
      if (index == own.index) continue;
      if (auto rival = Meet(own, index, key)) return rival;
    }
    return std::nullopt;
  }

  /// Waits for the higher index to decide; that chain ends at the highest claimant, so nobody waits in a circle.
  std::optional<ContentRef> Meet(ContentRef own, uint32_t index, SourceKey key) {
    for (Waiter<A> wait(limits_);;) {
      const uint64_t word = A::Load(&Row(index)->word, std::memory_order_seq_cst);
      const auto state = words::StateOfContent(word);
      if (!IsLive(state) && state != words::ContentState::kClaiming) return std::nullopt;
      const ContentRef rival{index, words::GenerationOfContent(word)};
      const bool same = HasKey(index, word, key);
      if (!same && words::GenerationOfContent(Word(index)) == rival.generation) return std::nullopt;
      if (same && IsLive(state)) return rival;
      if (same && !hosts_.Alive(words::OwnerOfContent(word))) {
        // A claimant taken for dead may only be paused: what it would do next must fail.
        Move(index, word, Freed(rival));
      } else if (same && index < own.index) {
        return rival;
      }
      if (!wait.Again()) return rival;
    }
  }

  /// After giving way: true when the rival loads or has loaded, or still decides at the end of the wait.
  bool Settles(ContentRef rival) const {
    for (Waiter<A> wait(limits_);;) {
      const uint64_t word = Word(rival.index);
      if (words::GenerationOfContent(word) != rival.generation) return false;
      const auto state = words::StateOfContent(word);
      if (state != words::ContentState::kClaiming) return IsLive(state);
      if (!wait.Again()) return true;
    }
  }

  // ------------------------------------------------------------------------------------------------------- changes

  bool Freeable(uint64_t word) const {
    const auto state = words::StateOfContent(word);
    const HostRef owner = words::OwnerOfContent(word);
    if (state == words::ContentState::kFreeing) return !hosts_.Alive(owner);
    const bool over = state == words::ContentState::kDraining || state == words::ContentState::kQuarantined;
    return over && words::MaskOfContent(word) == 0 && owner.row == layout::kNoHost;
  }

  /// Applies `next` to the mask while the row holds a mask (READY, DRAINING, QUARANTINED). False when it does not.
  template <typename Next>
  bool ChangeMask(ContentRef ref, Next next) {
    if (ref.index >= count_) return false;
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint64_t word = Word(ref.index);
      const auto state = words::StateOfContent(word);
      if (words::GenerationOfContent(word) != ref.generation) return false;
      if (!HoldsMask(state)) return false;
      const auto mask = next(state, words::MaskOfContent(word));
      if (!mask) return false;
      if (*mask == words::MaskOfContent(word)) return true;
      if (Move(ref.index, word, layout::content_word::kMask.set(word, *mask))) return true;
    }
    return false;
  }

  /// READY (or DRAINING where allowed) -> `next`, the mask kept, which names nobody but `pins`.
  bool ChangeState(ContentRef ref, words::ContentState next, bool from_draining, uint64_t pins) {
    if (ref.index >= count_) return false;
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint64_t word = Word(ref.index);
      const auto state = words::StateOfContent(word);
      if (words::GenerationOfContent(word) != ref.generation) return false;
      const bool allowed = state == words::ContentState::kReady ||
                           (from_draining && state == words::ContentState::kDraining);
      if (!allowed || (words::MaskOfContent(word) & ~pins) != 0) return false;
      if (Move(ref.index, word, words::Content(next, ref.generation, {}, words::MaskOfContent(word)))) return true;
    }
    return false;
  }

  /// [body-1] odd sequence, fields, checksum, even sequence. Only the claiming host writes. twin: Copy
  void WriteBody(uint32_t index, const layout::ContentRow& body, uint64_t checksum) {
    layout::ContentRow* row = Row(index);
    constexpr size_t kFrom = offsetof(layout::ContentRow, digest);
    constexpr size_t kTo = offsetof(layout::ContentRow, sequence);
    const uint64_t odd = A::Load(&row->sequence, std::memory_order_relaxed) | 1;
    A::Store(&row->sequence, odd, std::memory_order_relaxed);
    A::Fence(std::memory_order_release);
    A::CopyIn(row->digest, reinterpret_cast<const uint8_t*>(&body) + kFrom, kTo - kFrom);
    A::Store(&row->checksum, checksum, std::memory_order_relaxed);
    A::Store(&row->sequence, odd + 1, std::memory_order_release);
  }

  layout::ContentRow* const rows_;
  const uint32_t count_;
  const HostTable<A>& hosts_;
  const WaitLimits limits_;
};

}  // namespace daxserve
