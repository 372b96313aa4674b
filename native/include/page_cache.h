// The v8 page cache: slots of one block, found in a few places (SlotPlaces), shared by all hosts, changed by CAS alone.
//
// @atomic slot {state_tag, ref_bit | host_mask}   one 16-byte word for us; a v8 kernel changes state_tag alone
//   states   FREE -> PENDING(owner) -> VALID(pins) -> FREE ; PENDING -> FREE on a fill error ; PENDING(dead) -> PENDING(taker)
//   order    every change is a Cas16 (seq_cst); looks are acquire loads
//   because  a pin sees every byte of the fill; an eviction comes after every reader's last load
//   crash    PENDING of a dead owner: the next reader of that page takes it over. Pins of a dead host: its mask bit says
//            which; ReleaseHost drops them once its workers are proved gone too
// Pins: the 4-bit count of the format counts hosts, at most one per host (15 hosts, 15 pins); `host_mask` says which. How
// often a process holds a slot is counted in its own memory, so any number of readers share one pin.
// @atomic host_mask   bits 0..14 hosts; bits 16..30 a sequence that grows with every pin and with every fill, and stays in a
//   FREE slot, so that an unpin or a Peek that slept over a change fails (wraps after 32,768 changes of one slot inside that
//   one window; a taker of a dead host's claim starts it anew). While PENDING: bit 31, owner in bits 0..19.
// One slot per page: whoever claims a slot then looks at all others of the page, and lets go when one has it. Of two
// claimers the later sees the earlier (both claims are seq_cst and come before both looks), so not both go on.
// Clock: a hit sets the reference bit, eviction takes a slot without it, the shared hand clears 64 bits for every 256
// evictions of a process. In a private front a page comes in without the bit (read once: first to go) and the search for
// a victim begins at another place each time; a kernel-mountable front does both as v8.
#pragma once
#include <sched.h>

#include <cerrno>
#include <cstdint>
#include <type_traits>

#include "owner_check.h"
#include "page_cache_slot.h"
#include "shared_copy.h"

namespace daxserve {

struct PageCacheOptions {
  /// host == layout::kNoHost: a guest, who may only Peek.
  Owner self;
  OwnerCheck owners;
  /// Where pages may be: SlotPlaces.
  FrontKind homes = FrontKind::kKernel;
  /// Where pages were found last: one word per slot in this process's own memory, or null. Outlives the cache.
  uint32_t* hints = nullptr;
  /// Looks at a PENDING slot before giving up; about 1 us each (the format's patience is 10 ms).
  uint32_t wait_rounds = 10000;
  /// Looks at the places of a page, evictions included, before a caller is told to read directly.
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
  /// `counts`: one zeroed word per slot in this process's own memory; outlives the cache, as `counters` does (or null).
  PageCache(PageCacheView view, PageCacheOptions options, uint32_t* counts, PageCacheCounters* counters)
      : view_(view), options_(options), places_(options.homes, view.slot_count), counts_(counts), counters_(counters) {}

  /// Pins the page `tag`, filling it with `fill(uint8_t* block) -> errno` when nobody has it.
  /// @param evict false: only a free slot is taken for it
  /// @returns 0; EAGAIN: no slot can be had now, read the source directly; or what `fill` returned (the slot is FREE again)
  template <typename Fill>
  int Pin(uint64_t tag, Fill fill, PagePin& out, bool evict = true) {
    if (options_.self.host >= layout::kHostsMax) return GiveUp();
    bool missed = false;
    for (uint32_t round = 0; round < options_.rounds; round++) {
      const Place place = Look(tag);
      if (place.hit) {
        if (!PinSlot(place.at, tag)) continue;
        Count(missed ? nullptr : &PageCacheCounters::hits);
        return Hold(place.at, tag, out);
      }
      if (!missed) Count(&PageCacheCounters::misses);
      missed = true;
      if (place.pending) {
        const int waited = WaitOrTakeOver(place.at, tag);
        if (waited == EAGAIN) return GiveUp();
        if (waited == kTaken) return FillSlot(place.at, tag, TakenSequence(), fill, out);
        continue;
      }
      if (!place.vacant) {
        if (!evict) return EAGAIN;
        if (!Evict(tag)) A::Pause();
        continue;
      }
      if (Claim(place, tag)) return FillSlot(place.at, tag, slot_word::kSequence.get(place.vacancy.hi), fill, out);
    }
    return GiveUp();
  }

  /// Pins the page if it is there; waits for nobody, fills nothing.
  bool TryPin(uint64_t tag, PagePin& out) {
    const Place place = Look(tag);
    if (!place.hit || !PinSlot(place.at, tag)) return false;
    Count(&PageCacheCounters::hits);
    return Hold(place.at, tag, out) == 0;
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

  /// For who may not pin: `copy(const uint8_t* block)` copies what may be changing; true: what it copied is the page.
  template <typename Copy>
  bool Peek(uint64_t tag, Copy copy) {
    for (int tries = 0; tries < kPeekTriesMax; tries++) {
      const Place place = Look(tag);
      if (!place.hit) break;
      const Pair before = LoadPair(&view_.slots[place.at]);
      if (!Is(before.lo, slot_word::kValid, tag)) continue;
      copy(Block(place.at));
      ReadFence<A>();
      if (!SamePage(before, LoadPair(&view_.slots[place.at]))) continue;
      Count(&PageCacheCounters::hits);
      return true;
    }
    Count(&PageCacheCounters::misses);
    return false;
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

  /// Makes pending_count true again: who died between a slot's change and the count's left it wrong. REQUIRES: nobody fills.
  void Recount() {
    uint32_t pending = 0;
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      pending += slot_word::kState.get(A::Load(&view_.slots[at].lo, std::memory_order_acquire)) == slot_word::kPending;
    }
    A::Store(&view_.header->pending_count, pending, std::memory_order_release);
  }

  /// Frees what dead owners left PENDING.
  uint64_t FreeDeadFills() {
    uint64_t freed = 0;
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      Pair seen = LoadPair(&view_.slots[at]);
      if (!DeadPending(seen)) continue;
      if (!A::Cas16(&view_.slots[at], seen, Freed(TakenSequence()))) continue;
      AddPending(~uint32_t{0});
      freed++;
    }
    return freed;
  }

  /// Gives up every page that nobody pins (their source has changed). @returns slots that are pinned or being filled
  uint64_t Forget() {
    uint64_t left = 0;
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      for (int tries = 0; tries < kCasTriesMax && !TryEvict(at, true, nullptr); tries++) {
        const Pair seen = LoadPair(&view_.slots[at]);
        const uint64_t state = slot_word::kState.get(seen.lo);
        if (state == slot_word::kValid && slot_word::kPins.get(seen.lo) == 0) continue;
        left += state != slot_word::kFree;
        break;
      }
    }
    return left;
  }

  const uint8_t* Block(uint64_t slot) const { return view_.data + slot * view_.block_bytes; }
  Pair SlotWord(uint64_t slot) const { return LoadPair(&view_.slots[slot]); }

 private:
  static constexpr int kCasTriesMax = 1 << 16;
  static constexpr int kPeekTriesMax = 8;
  static constexpr uint64_t kSweepSlots = 64;
  static constexpr uint32_t kSweepEvictions = 256;
  static constexpr int kTaken = -1;

  struct Place {
    bool hit = false;
    bool pending = false;
    bool vacant = false;
    uint64_t at = 0;
    Pair vacancy{};
  };

  static Pair LoadPair(const Pair* slot) {
    // Not one moment: every use ends in a Cas16 that compares both words, or in SamePage.
    const uint64_t lo = A::Load(&slot->lo, std::memory_order_acquire);
    return {lo, A::Load(&slot->hi, std::memory_order_acquire)};
  }

  static bool Is(uint64_t word, uint64_t state, uint64_t tag) {
    return slot_word::kState.get(word) == state && slot_word::kTag.get(word) == tag;
  }
  static bool IsOf(uint64_t word, uint64_t tag) {
    return Is(word, slot_word::kValid, tag) || Is(word, slot_word::kPending, tag);
  }

  /// No pin and no fill between the two looks; a reference bit that changed does not matter, nor a pin that was dropped.
  static bool SamePage(const Pair& before, const Pair& after) {
    return Is(after.lo, slot_word::kValid, slot_word::kTag.get(before.lo)) &&
           slot_word::kSequence.get(after.hi) == slot_word::kSequence.get(before.hi);
  }

  /// The page, or who fills it, or a free slot for it: of several windows that of the emptiest.
  Place Look(uint64_t tag) const {
    Place place;
    if (options_.hints != nullptr) {
      const uint64_t at = A::Load(Hint(tag), std::memory_order_relaxed);
      if (at < view_.slot_count && Is(A::Load(&view_.slots[at].lo, std::memory_order_acquire), slot_word::kValid, tag))
        return {true, false, false, at, {}};
    }
    uint64_t most = 0;
    for (uint64_t window = 0; window < places_.windows(); window++) {
      const uint64_t start = places_.Start(tag, window);
      Place here;
      uint64_t free = 0;
      for (uint64_t i = 0; i < SlotPlaces::kWindow; i++) {
        const uint64_t at = places_.At(start, i);
        const uint64_t word = A::Load(&view_.slots[at].lo, std::memory_order_acquire);
        if (Is(word, slot_word::kValid, tag)) return {true, false, false, at, {}};
        if (Is(word, slot_word::kPending, tag)) return {false, true, false, at, {}};
        if (slot_word::kState.get(word) != slot_word::kFree || free++ > 0) continue;
        here = {false, false, true, at, {word, A::Load(&view_.slots[at].hi, std::memory_order_acquire)}};
      }
      if (free > most) place = here;
      if (free > most) most = free;
    }
    return place;
  }

  /// Takes the free slot, unless another slot has the page by now.
  bool Claim(const Place& place, uint64_t tag) {
    Pair expected = place.vacancy;
    if (!A::Cas16(&view_.slots[place.at], expected, PendingWord(tag))) return false;
    AddPending(1);
    A::Fence(std::memory_order_seq_cst);
    bool alone = true;
    places_.Each(tag, 0, [&](uint64_t at) {
      return alone = at == place.at || !IsOf(A::Load(&view_.slots[at].lo, std::memory_order_seq_cst), tag);
    });
    if (alone) return true;
    Pair mine = PendingWord(tag);
    if (A::Cas16(&view_.slots[place.at], mine, Freed(slot_word::kSequence.get(place.vacancy.hi)))) AddPending(~uint32_t{0});
    // Two that step back for each other come again at different times.
    for (uint32_t spin = 0; spin < options_.self.host * 4; spin++) A::Pause();
    return false;
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

  static Pair Freed(uint64_t sequence) { return {0, slot_word::kSequence.set(0, sequence)}; }

  /// The slot with it: count and mask move together, the reference bit is set. False: 15 pins already.
  bool Pinned(const Pair& slot, Pair& out) const {
    out = slot;
    out.hi = slot_word::kRef.set(slot.hi, 1);
    out.hi = slot_word::kSequence.set(out.hi, slot_word::kSequence.get(slot.hi) + 1);
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

  // @atomic hints[i]  relaxed: whoever follows one looks at the slot's tag
  uint32_t* Hint(uint64_t tag) const { return &options_.hints[places_.Start(tag, 0)]; }

  int Hold(uint64_t at, uint64_t tag, PagePin& out) {
    out = {Block(at), at};
    if (options_.hints == nullptr) return 0;
    uint32_t* hint = Hint(tag);
    const auto slot = static_cast<uint32_t>(at);
    if (A::Load(hint, std::memory_order_relaxed) != slot) A::Store(hint, slot, std::memory_order_relaxed);
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
      // Asking about the owner is a system call.
      if (round % kAskRounds == 0 && DeadPending(seen) && A::Cas16(&view_.slots[at], seen, PendingWord(tag))) {
        Count(&PageCacheCounters::takeovers);
        return kTaken;
      }
      Wait(round);
    }
    return EAGAIN;
  }

  /// About a microsecond; a filler may be waiting for this very processor.
  static void Wait(uint32_t round) {
    if constexpr (std::is_same_v<A, MachineAtom>) {
      if (round >= kSpinRounds) {
        sched_yield();
        return;
      }
    }
    for (int spin = 0; spin < kSpinsPerRound; spin++) A::Pause();
  }

  /// Fills a slot that is PENDING by us. Only its owner ever writes to it, and publishes by a CAS that names the owner.
  template <typename Fill>
  int FillSlot(uint64_t at, uint64_t tag, uint64_t sequence, Fill& fill, PagePin& out) {
    const int error = fill(view_.data + at * view_.block_bytes);
    Pair expected = PendingWord(tag);
    Pair next = Freed(sequence + 1);
    if (error == 0) {
      A::FetchAdd(&counts_[at], uint32_t{1}, std::memory_order_seq_cst);
      Pinned({slot_word::kTag.set(slot_word::kValid, tag), next.hi}, next);
      if (places_.mixed()) next.hi = slot_word::kRef.set(next.hi, 0);
    }
    const bool done = A::Cas16(&view_.slots[at], expected, next);
    if (done) AddPending(~uint32_t{0});
    if (error != 0) {
      Count(&PageCacheCounters::fill_errors);
      return error;
    }
    if (done) {
      Count(&PageCacheCounters::fills);
      return Hold(at, tag, out);
    }
    // We were taken for dead: the slot is another's. Our bytes went nowhere that counts.
    Unpin({nullptr, at});
    return GiveUp();
  }

  bool TryEvict(uint64_t at, bool any, uint64_t PageCacheCounters::* counter) {
    Pair seen = LoadPair(&view_.slots[at]);
    if (slot_word::kState.get(seen.lo) != slot_word::kValid || slot_word::kPins.get(seen.lo) != 0) return false;
    if (!any && slot_word::kRef.get(seen.hi) != 0) return false;
    if (!A::Cas16(&view_.slots[at], seen, Freed(slot_word::kSequence.get(seen.hi)))) return false;
    Count(counter);
    return true;
  }

  /// One of the page's places, unreferenced first; always through FREE. False: all pinned or PENDING.
  bool Evict(uint64_t tag) {
    // @atomic turn_  this process's own; relaxed: any value will do
    const uint32_t turn = A::FetchAdd(&turn_, uint32_t{1}, std::memory_order_relaxed);
    if (turn % kSweepEvictions == kSweepEvictions - 1) Sweep();
    const uint64_t from = places_.mixed() ? MixGroup(turn) % (places_.windows() * SlotPlaces::kWindow) : 0;
    const auto try_all = [&](bool any, uint64_t PageCacheCounters::* counter) {
      bool evicted = false;
      places_.Each(tag, from, [&](uint64_t at) { return !(evicted = TryEvict(at, any, counter)); });
      return evicted;
    };
    if (try_all(false, &PageCacheCounters::evictions_unreferenced)) return true;
    places_.Each(tag, 0, [&](uint64_t at) {
      ClearRef(at);
      return true;
    });
    A::Pause();
    return try_all(false, &PageCacheCounters::evictions_second_chance) || try_all(true, &PageCacheCounters::evictions_forced);
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

  /// A sequence for a slot whose last one is lost with its owner: where this process is in its evictions says nothing
  /// about it, so a sleeper meets its own number by chance only.
  uint64_t TakenSequence() { return MixGroup(A::FetchAdd(&turn_, uint32_t{1}, std::memory_order_relaxed)); }

  int GiveUp() {
    Count(&PageCacheCounters::fallbacks);
    return EAGAIN;
  }

  void Count(uint64_t PageCacheCounters::* counter) {
    if (counters_ != nullptr && counter != nullptr) {
      std::atomic_ref<uint64_t>(counters_->*counter).fetch_add(1, std::memory_order_relaxed);
    }
  }

  static constexpr uint32_t kAskRounds = 64;
  static constexpr uint32_t kSpinRounds = 100;
  static constexpr int kSpinsPerRound = 20;
  PageCacheView view_;
  PageCacheOptions options_;
  SlotPlaces places_;
  uint32_t* counts_;
  PageCacheCounters* counters_;
  uint32_t turn_ = 0;
};

}  // namespace daxserve
