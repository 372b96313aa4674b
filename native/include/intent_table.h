// Intent rows: what a multi-step operation of the front is doing, so that whoever finds its host dead can finish it.
//
// @atomic intent_row.word
//   states   FREE -> CLAIMED(host) -> READY(host, kind) -> FREE ; READY(dead) -> READY(survivor) -> FREE ; CLAIMED(dead) -> FREE
//   order    acquire-release CAS; the arguments are stored before READY and after it only by the row's owner
//   because  a survivor that takes a row over sees every argument that led to a published entry
//   crash    that is what it is for: Overlay::Recover
#pragma once
#include <cstdint>

#include "atom.h"
#include "layout.gen.h"
#include "owner_check.h"

namespace daxserve {

struct IntentRows {
  layout::IntentRow* rows = nullptr;
  uint32_t count = 0;
};

using IntentKind = layout::IntentKindState;
inline constexpr uint32_t kNoIntent = 0xffffff;

/// Thread safety: all members; a row belongs to the thread that began it.
template <typename A>
class IntentTable {
 public:
  static constexpr int kArgs = 5;

  IntentTable(IntentRows rows, Owner self, OwnerCheck owners) : rows_(rows), self_(self), owners_(owners) {}

  uint32_t count() const { return rows_.count; }

  /// A row of ours in READY with these arguments. kNoIntent: there are none, or all are taken (`full`).
  uint32_t Begin(IntentKind kind, const uint64_t (&args)[kArgs], bool& full) {
    full = false;
    for (uint32_t i = 0; i < rows_.count; i++) {
      const uint32_t row = (self_.host * 16 + i) % rows_.count;
      uint64_t word = A::Load(&rows_.rows[row].word, std::memory_order_relaxed);
      if (layout::intent_word::kState.get(word) != Free()) continue;
      const uint64_t claimed = Word(word, layout::IntentState::kClaimed, kind, self_, 1);
      if (!A::Cas(&rows_.rows[row].word, word, claimed, std::memory_order_acq_rel)) continue;
      for (int arg = 0; arg < kArgs; arg++) SetArg(row, arg, args[arg]);
      A::Store(&rows_.rows[row].word, Word(claimed, layout::IntentState::kReady, kind, self_, 0), std::memory_order_release);
      return row;
    }
    full = rows_.count != 0;
    return kNoIntent;
  }

  void End(uint32_t row) {
    if (row >= rows_.count) return;
    const uint64_t word = A::Load(&rows_.rows[row].word, std::memory_order_relaxed);
    A::Store(&rows_.rows[row].word, Word(word, layout::IntentState::kFree, IntentKind::kNone, {0, 0}, 0),
             std::memory_order_release);
  }

  void SetArg(uint32_t row, int arg, uint64_t value) {
    if (row >= rows_.count) return;
    A::Store(&rows_.rows[row].arg0 + arg, value, std::memory_order_release);
  }
  uint64_t Arg(uint32_t row, int arg) const {
    return A::Load(&rows_.rows[row].arg0 + arg, std::memory_order_acquire);
  }

  /// True while an operation runs under the row that has `value` as this argument.
  bool Names(uint32_t row, int arg, uint64_t value) const {
    if (row >= rows_.count || Arg(row, arg) != value) return false;
    const uint64_t word = A::Load(&rows_.rows[row].word, std::memory_order_acquire);
    return layout::intent_word::kState.get(word) == static_cast<uint64_t>(layout::IntentState::kReady);
  }

  /// Takes over a row whose owner is proved dead; exactly one caller gets it. @returns its kind, kNone otherwise
  IntentKind TakeDead(uint32_t row) {
    if (row >= rows_.count) return IntentKind::kNone;
    uint64_t word = A::Load(&rows_.rows[row].word, std::memory_order_acquire);
    const uint64_t state = layout::intent_word::kState.get(word);
    if (state == Free() || !owners_.Dead(OwnerOf(word))) return IntentKind::kNone;
    const bool ready = state == static_cast<uint64_t>(layout::IntentState::kReady);
    const auto kind = static_cast<IntentKind>(layout::intent_word::kKind.get(word));
    const auto next = ready ? layout::IntentState::kReady : layout::IntentState::kFree;
    const uint64_t taken = Word(word, next, ready ? kind : IntentKind::kNone, self_, 0);
    if (!A::Cas(&rows_.rows[row].word, word, taken, std::memory_order_acq_rel)) return IntentKind::kNone;
    return ready ? kind : IntentKind::kNone;
  }

 private:
  static uint64_t Free() { return static_cast<uint64_t>(layout::IntentState::kFree); }
  static Owner OwnerOf(uint64_t word) {
    return {static_cast<uint32_t>(layout::intent_word::kHost.get(word)),
            static_cast<uint32_t>(layout::intent_word::kHostGeneration.get(word))};
  }
  static uint64_t Word(uint64_t before, layout::IntentState state, IntentKind kind, Owner owner, uint64_t grow) {
    uint64_t word = layout::intent_word::kState.set(before, static_cast<uint64_t>(state));
    word = layout::intent_word::kKind.set(word, static_cast<uint64_t>(kind));
    word = layout::intent_word::kHost.set(word, owner.host);
    word = layout::intent_word::kHostGeneration.set(word, owner.generation);
    return layout::intent_word::kSequence.set(word, layout::intent_word::kSequence.get(before) + grow);
  }

  IntentRows rows_;
  Owner self_;
  OwnerCheck owners_;
};

}  // namespace daxserve
