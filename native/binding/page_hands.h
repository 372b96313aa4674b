// Hands for the threads of one home: each operation borrows one, so that rewriting a page costs no trip to the pool.
#pragma once
#include <array>
#include <atomic>

#include "overlay_types.h"

namespace daxserve::binding {

/// Thread safety: all members. Nobody waits: who finds no free hand works without one.
class PageHands {
 public:
  /// A process that is killed takes at most so many pages with it, until the region is checked.
  static constexpr uint32_t kCount = 16;

  struct alignas(64) Slot {
    std::atomic<bool> borrowed{false};
    PageHand hand;
  };

  /// A hand for the time of one operation.
  class Loan {
   public:
    explicit Loan(PageHands& hands) : slot_(hands.Borrow()) {}
    ~Loan() {
      // release: the next borrower sees the page.
      if (slot_ != nullptr) slot_->borrowed.store(false, std::memory_order_release);
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    /// null: all are borrowed
    PageHand* hand() const { return slot_ != nullptr ? &slot_->hand : nullptr; }

   private:
    Slot* const slot_;
  };

  /// Calls empty(PageHand&) for each. REQUIRES: none is borrowed.
  template <typename Empty>
  void ForEach(Empty empty) {
    for (Slot& slot : slots_) empty(slot.hand);
  }

 private:
  /// A thread comes back to the slot it had, and meets its own cache lines there.
  Slot* Borrow() {
    static std::atomic<uint32_t> threads{0};
    // relaxed: only spreads the threads.
    static thread_local const uint32_t first = threads.fetch_add(1, std::memory_order_relaxed);
    for (uint32_t i = 0; i < kCount; i++) {
      Slot& slot = slots_[(first + i) % kCount];
      // acquire: what the last borrower left in it is ours.
      if (!slot.borrowed.load(std::memory_order_relaxed) && !slot.borrowed.exchange(true, std::memory_order_acquire)) return &slot;
    }
    return nullptr;
  }

  std::array<Slot, kCount> slots_;
};

}  // namespace daxserve::binding
