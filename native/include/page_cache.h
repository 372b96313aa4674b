// The v8 page cache: slots of one block, found in a window of 8 from a home, shared by all hosts, changed by CAS alone.
//
// @atomic slot {state_tag, ref_bit | host_mask}   one 16-byte word for us; a v8 kernel changes state_tag alone
//   states   FREE -> PENDING(owner) -> VALID(pins) -> FREE ; PENDING -> FREE on a fill error ; PENDING(dead) -> PENDING(taker)
//   order    every change is a Cas16 (seq_cst); looks are acquire loads
//   because  a pin sees every byte of the fill; an eviction comes after every reader's last load
//   crash    PENDING of a dead owner: the next reader of that page takes it over. Pins of a dead host: its mask bit says
//            which; ReleaseHost drops them once its workers are proved gone too
// Pins: the 4-bit count of the format counts hosts, at most one per host (15 hosts, 15 pins); `host_mask` says which. How
// often a process holds a slot is counted in its own memory, so any number of readers share one pin.
// @atomic host_mask   bits 0..14 hosts; bits 16..31 grow with every pin, so that an unpin that slept over a pin of the same
//   host fails (wraps after 65,536 pins of one slot inside that one window). While PENDING: bit 31, owner in bits 0..19.
#pragma once
#include <cerrno>
#include <cstdint>

#include "atom.h"
#include "bounds.h"
#include "overlay_key.h"
#include "owner_check.h"

namespace daxserve {

namespace slot_word {
inline constexpr uint64_t kFree = 0;
inline constexpr uint64_t kPending = 1;
inline constexpr uint64_t kValid = 2;
inline constexpr layout::Bits kState{0, 2};
inline constexpr layout::Bits kPins{2, 4};
inline constexpr layout::Bits kTag{6, 58};
inline constexpr uint64_t kPinsMax = 15;
// The second word: ref_bit in its low half, host_mask in its high half.
inline constexpr layout::Bits kRef{0, 32};
inline constexpr layout::Bits kMask{32, 15};
inline constexpr layout::Bits kPinSequence{48, 16};
inline constexpr uint64_t kOwned = uint64_t{1} << 63;
inline constexpr layout::Bits kOwnerHost{32, 4};
inline constexpr layout::Bits kOwnerGeneration{36, 16};
}  // namespace slot_word

/// Tag of a page: inode numbers below 2^38.
inline uint64_t PageTag(uint64_t ino, uint64_t page) { return ino << kPageIndexBits | (page & 0xfffff); }
inline constexpr uint64_t kPageTagInodeEnd = uint64_t{1} << 38;

/// Where a cache lies; `Open` checks it against the region.
struct PageCacheView {
  layout::PageCacheHeader* header = nullptr;
  Pair* slots = nullptr;
  uint8_t* data = nullptr;
  uint64_t slot_count = 0;
  uint64_t block_bytes = 0;

  /// `base` is the cache's first byte, `bytes` what the region has of it. @returns 0, or EINVAL when a rule is broken
  static int Open(uint8_t* base, uint64_t bytes, uint64_t slot_count, uint64_t block_bytes, PageCacheView& out) {
    if (slot_count < 8 || (slot_count & (slot_count - 1)) != 0) return EINVAL;
    if (block_bytes < 4096 || (block_bytes & (block_bytes - 1)) != 0 || bytes < block_bytes) return EINVAL;
    auto* header = reinterpret_cast<layout::PageCacheHeader*>(base);
    const uint64_t meta = RealAtom::Load(&header->slot_meta_offset, std::memory_order_acquire);
    const uint64_t data = RealAtom::Load(&header->slot_data_offset, std::memory_order_acquire);
    const auto meta_bytes = CheckedMul(slot_count, sizeof(layout::Slot));
    const auto data_bytes = CheckedMul(slot_count, block_bytes);
    if (!meta_bytes || !data_bytes || meta % 16 != 0 || data % 8 != 0) return EINVAL;
    if (!InBounds(meta, *meta_bytes, bytes) || !InBounds(data, *data_bytes, bytes)) return EINVAL;
    if (meta < block_bytes || data < meta + *meta_bytes) return EINVAL;
    out = {header, reinterpret_cast<Pair*>(base + meta), base + data, slot_count, block_bytes};
    return 0;
  }
};

/// What one process saw; each counter is a relaxed add of its own.
struct PageCacheCounters {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t fills = 0;
  uint64_t fill_errors = 0;
  uint64_t evictions_unreferenced = 0;
  uint64_t evictions_second_chance = 0;
  uint64_t evictions_forced = 0;
  uint64_t pending_waits = 0;
  uint64_t fallbacks = 0;
  uint64_t takeovers = 0;
};

struct PageCacheOptions {
  Owner self;
  OwnerCheck owners;
  /// kPrivate spreads homes over the whole tag; kKernel takes its low bits, as v8.
  FrontKind homes = FrontKind::kKernel;
  /// Looks at a PENDING slot before giving up; about 1 us each (the format's patience is 10 ms).
  uint32_t wait_rounds = 10000;
  /// Looks at the window, evictions included, before a caller is told to read directly.
  uint32_t rounds = 100;
};

/// A slot held: bytes [data, data + block_bytes) stay what they are until Unpin.
struct PagePin {
  const uint8_t* data = nullptr;
  uint64_t slot = 0;
};

/// Thread safety: all members, from all threads of one process that share `counts`, and from other hosts.
template <typename A>
class PageCache {
 public:
  /// `counts`: one zeroed word per slot in this process's own memory; outlives the cache.
  PageCache(PageCacheView view, PageCacheOptions options, uint32_t* counts, PageCacheCounters* counters)
      : view_(view), options_(options), counts_(counts), counters_(counters) {}

  /// Pins the page `tag`, filling it with `fill(uint8_t* block) -> errno` when nobody has it.
  /// @returns 0; EAGAIN: no slot can be had now, read the source directly; or what `fill` returned (the slot is FREE again)
  template <typename Fill>
  int Pin(uint64_t tag, Fill fill, PagePin& out) {
    bool missed = false;
    for (uint32_t round = 0; round < options_.rounds; round++) {
      Window window = Look(tag);
      if (window.hit) {
        if (!PinSlot(window.at, tag)) continue;
        Count(missed ? nullptr : &PageCacheCounters::hits);
        return Hold(window.at, out);
      }
      if (!missed) Count(&PageCacheCounters::misses);
      missed = true;
      if (window.pending) {
        const int waited = WaitOrTakeOver(window.at, tag);
        if (waited == EAGAIN) return GiveUp();
        if (waited == kTaken) return FillSlot(window.at, tag, fill, out);
        continue;
      }
      if (!window.vacant) {
        if (!Evict(tag)) A::Pause();
        continue;
      }
      Pair expected = window.vacancy;
      if (!A::Cas16(&view_.slots[window.at], expected, PendingWord(tag))) continue;
      AddPending(1);
      return FillSlot(window.at, tag, fill, out);
    }
    return GiveUp();
  }

  void Unpin(const PagePin& pin) {
    if (pin.slot >= view_.slot_count) return;
    // @atomic counts[slot]  this process's readers. acq_rel: the last one out sees that the others have finished.
    if (A::FetchAdd(&counts_[pin.slot], ~uint32_t{0}, std::memory_order_acq_rel) != 1) return;
    Pair* slot = &view_.slots[pin.slot];
    Pair seen = LoadPair(slot);
    for (int tries = 0; tries < kCasTriesMax; tries++) {
      // Another thread of ours may have pinned since: its Cas16 came after our look, so ours fails and we look again.
      if (A::Load(&counts_[pin.slot], std::memory_order_seq_cst) != 0) return;
      if (!Mine(seen)) return;
      if (A::Cas16(slot, seen, Dropped(seen, options_.self.host))) return;
    }
  }

  /// One turn of the shared clock: whoever moves the hand clears the reference bits of 64 slots.
  void Sweep() {
    // @atomic page_cache_header.evict_hand  a CAS, so that each stretch is swept by one host; relaxed would do.
    uint32_t hand = A::Load(&view_.header->evict_hand, std::memory_order_acquire);
    const uint64_t mask = view_.slot_count - 1;
    const auto next = static_cast<uint32_t>((uint64_t{hand} + kSweepSlots) & mask);
    const uint64_t from = hand & mask;
    if (!A::Cas(&view_.header->evict_hand, hand, next, std::memory_order_acq_rel)) return;
    for (uint64_t i = 0; i < kSweepSlots && i < view_.slot_count; i++) ClearRef((from + i) & mask);
  }

  /// Drops the pins of a host. REQUIRES: it and every worker that maps its pages are proved gone.
  uint64_t ReleaseHost(uint32_t host) {
    uint64_t dropped = 0;
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      Pair seen = LoadPair(&view_.slots[at]);
      for (int tries = 0; tries < kCasTriesMax && Holds(seen, host); tries++) {
        if (!A::Cas16(&view_.slots[at], seen, Dropped(seen, host))) continue;
        dropped++;
        break;
      }
    }
    return dropped;
  }

  /// Frees what dead owners left PENDING and makes pending_count true again when nobody fills.
  uint64_t FreeDeadFills() {
    uint64_t freed = 0;
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      Pair seen = LoadPair(&view_.slots[at]);
      if (!DeadPending(seen)) continue;
      if (!A::Cas16(&view_.slots[at], seen, {0, 0})) continue;
      AddPending(~uint32_t{0});
      freed++;
    }
    return freed;
  }

  const uint8_t* Block(uint64_t slot) const { return view_.data + slot * view_.block_bytes; }
  Pair SlotWord(uint64_t slot) const { return LoadPair(&view_.slots[slot]); }

 private:
  static constexpr int kCasTriesMax = 1 << 16;
  static constexpr uint64_t kWindow = 8;
  static constexpr uint64_t kSweepSlots = 64;
  static constexpr int kTaken = -1;

  struct Window {
    bool hit = false;
    bool pending = false;
    bool vacant = false;
    uint64_t at = 0;
    Pair vacancy{};
  };

  uint64_t Home(uint64_t tag) const {
    return (options_.homes == FrontKind::kKernel ? tag : MixGroup(tag)) & (view_.slot_count - 1);
  }

  static Pair LoadPair(const Pair* slot) {
    // Not one moment: every use ends in a Cas16 that compares both words.
    const uint64_t lo = A::Load(&slot->lo, std::memory_order_acquire);
    return {lo, A::Load(&slot->hi, std::memory_order_acquire)};
  }

  static bool Is(uint64_t word, uint64_t state, uint64_t tag) {
    return slot_word::kState.get(word) == state && slot_word::kTag.get(word) == tag;
  }

  Window Look(uint64_t tag) const {
    Window window;
    const uint64_t home = Home(tag);
    for (uint64_t i = 0; i < kWindow; i++) {
      const uint64_t at = (home + i) & (view_.slot_count - 1);
      const uint64_t word = A::Load(&view_.slots[at].lo, std::memory_order_acquire);
      if (Is(word, slot_word::kValid, tag)) return {true, false, false, at, {}};
      if (Is(word, slot_word::kPending, tag)) return {false, true, false, at, {}};
      if (slot_word::kState.get(word) == slot_word::kFree && !window.vacant) {
        window.vacant = true;
        window.at = at;
        window.vacancy = {word, A::Load(&view_.slots[at].hi, std::memory_order_acquire)};
      }
    }
    return window;
  }

  bool Mine(const Pair& slot) const { return Holds(slot, options_.self.host); }
  static bool Holds(const Pair& slot, uint32_t host) {
    return slot_word::kState.get(slot.lo) == slot_word::kValid && (slot_word::kMask.get(slot.hi) >> host & 1) != 0;
  }

  /// The slot without this host's pin.
  static Pair Dropped(Pair slot, uint32_t host) {
    const uint64_t pins = slot_word::kPins.get(slot.lo);
    slot.lo = slot_word::kPins.set(slot.lo, pins == 0 ? 0 : pins - 1);
    slot.hi = slot_word::kMask.set(slot.hi, slot_word::kMask.get(slot.hi) & ~(uint64_t{1} << host));
    return slot;
  }

  /// The slot with it: count and mask move together, the reference bit is set. False: 15 pins already.
  bool Pinned(const Pair& slot, Pair& out) const {
    out = slot;
    out.hi = slot_word::kRef.set(slot.hi, 1);
    out.hi = slot_word::kPinSequence.set(out.hi, slot_word::kPinSequence.get(slot.hi) + 1);
    if (Mine(slot)) return true;
    const uint64_t pins = slot_word::kPins.get(slot.lo);
    if (pins == slot_word::kPinsMax) return false;
    out.lo = slot_word::kPins.set(slot.lo, pins + 1);
    out.hi = slot_word::kMask.set(out.hi, slot_word::kMask.get(slot.hi) | uint64_t{1} << options_.self.host);
    return true;
  }

  bool PinSlot(uint64_t at, uint64_t tag) {
    Pair* slot = &view_.slots[at];
    // Counted first: an unpin of ours that is about to drop the host's pin must see us or lose its CAS to ours.
    A::FetchAdd(&counts_[at], uint32_t{1}, std::memory_order_seq_cst);
    Pair seen = LoadPair(slot);
    for (int tries = 0; tries < kCasTriesMax && Is(seen.lo, slot_word::kValid, tag); tries++) {
      Pair next;
      if (!Pinned(seen, next)) break;
      if (A::Cas16(slot, seen, next)) return true;
    }
    Unpin({nullptr, at});
    return false;
  }

  int Hold(uint64_t at, PagePin& out) {
    out = {Block(at), at};
    return 0;
  }

  Pair PendingWord(uint64_t tag) const {
    uint64_t hi = slot_word::kOwned;
    hi = slot_word::kOwnerHost.set(hi, options_.self.host);
    hi = slot_word::kOwnerGeneration.set(hi, options_.self.generation);
    return {slot_word::kTag.set(slot_word::kPending, tag), hi};
  }

  bool DeadPending(const Pair& slot) const {
    if (slot_word::kState.get(slot.lo) != slot_word::kPending || !(slot.hi & slot_word::kOwned)) return false;
    return options_.owners.Dead({static_cast<uint32_t>(slot_word::kOwnerHost.get(slot.hi)),
                                 static_cast<uint32_t>(slot_word::kOwnerGeneration.get(slot.hi))});
  }

  /// @returns 0 look again, kTaken the slot is ours to fill, EAGAIN patience is over
  int WaitOrTakeOver(uint64_t at, uint64_t tag) {
    Count(&PageCacheCounters::pending_waits);
    for (uint32_t round = 0; round < options_.wait_rounds; round++) {
      Pair seen = LoadPair(&view_.slots[at]);
      if (!Is(seen.lo, slot_word::kPending, tag)) return 0;
      if (DeadPending(seen) && A::Cas16(&view_.slots[at], seen, PendingWord(tag))) {
        Count(&PageCacheCounters::takeovers);
        return kTaken;
      }
      for (int spin = 0; spin < kSpinsPerRound; spin++) A::Pause();
    }
    return EAGAIN;
  }

  /// Fills a slot that is PENDING by us. Only its owner ever writes to it, and publishes by a CAS that names the owner.
  template <typename Fill>
  int FillSlot(uint64_t at, uint64_t tag, Fill& fill, PagePin& out) {
    const int error = fill(view_.data + at * view_.block_bytes);
    Pair expected = PendingWord(tag);
    Pair next{0, 0};
    if (error == 0) {
      A::FetchAdd(&counts_[at], uint32_t{1}, std::memory_order_seq_cst);
      Pinned({slot_word::kTag.set(slot_word::kValid, tag), 0}, next);
    }
    const bool done = A::Cas16(&view_.slots[at], expected, next);
    if (done) AddPending(~uint32_t{0});
    if (error != 0) {
      Count(&PageCacheCounters::fill_errors);
      return error;
    }
    if (done) {
      Count(&PageCacheCounters::fills);
      return Hold(at, out);
    }
    // We were taken for dead: the slot is another's. Our bytes went nowhere that counts.
    Unpin({nullptr, at});
    return GiveUp();
  }

  bool TryEvict(uint64_t at, bool any, uint64_t PageCacheCounters::* counter) {
    Pair seen = LoadPair(&view_.slots[at]);
    if (slot_word::kState.get(seen.lo) != slot_word::kValid || slot_word::kPins.get(seen.lo) != 0) return false;
    if (!any && slot_word::kRef.get(seen.hi) != 0) return false;
    if (!A::Cas16(&view_.slots[at], seen, {0, 0})) return false;
    Count(counter);
    return true;
  }

  /// One of the window's 8, unreferenced first; always through FREE. False: all pinned or PENDING.
  bool Evict(uint64_t tag) {
    const uint64_t home = Home(tag), mask = view_.slot_count - 1;
    for (uint64_t i = 0; i < kWindow; i++) {
      if (TryEvict((home + i) & mask, false, &PageCacheCounters::evictions_unreferenced)) return true;
    }
    for (uint64_t i = 0; i < kWindow; i++) ClearRef((home + i) & mask);
    A::Pause();
    for (uint64_t i = 0; i < kWindow; i++) {
      if (TryEvict((home + i) & mask, false, &PageCacheCounters::evictions_second_chance)) return true;
    }
    for (uint64_t i = 0; i < kWindow; i++) {
      if (TryEvict((home + i) & mask, true, &PageCacheCounters::evictions_forced)) return true;
    }
    return false;
  }

  /// A lost CAS means somebody just used the slot: then the bit may stay.
  void ClearRef(uint64_t at) {
    Pair seen = LoadPair(&view_.slots[at]);
    if (slot_word::kState.get(seen.lo) != slot_word::kValid || slot_word::kRef.get(seen.hi) == 0) return;
    A::Cas16(&view_.slots[at], seen, {seen.lo, slot_word::kRef.set(seen.hi, 0)});
  }

  /// pending_count tells a v8 kernel that it has something to fill; never below 0.
  void AddPending(uint32_t by) {
    uint32_t* word = &view_.header->pending_count;
    uint32_t seen = A::Load(word, std::memory_order_relaxed);
    for (int tries = 0; tries < kCasTriesMax; tries++) {
      if (by != 1 && seen == 0) return;
      if (A::Cas(word, seen, seen + by, std::memory_order_acq_rel)) return;
    }
  }

  int GiveUp() {
    Count(&PageCacheCounters::fallbacks);
    return EAGAIN;
  }

  void Count(uint64_t PageCacheCounters::* counter) {
    if (counters_ != nullptr && counter != nullptr) {
      std::atomic_ref<uint64_t>(counters_->*counter).fetch_add(1, std::memory_order_relaxed);
    }
  }

  static constexpr int kSpinsPerRound = 20;
  PageCacheView view_;
  PageCacheOptions options_;
  uint32_t* counts_;
  PageCacheCounters* counters_;
};

}  // namespace daxserve
