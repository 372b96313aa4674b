// Goal: a pinned page is the page asked for and stays, whatever other hosts evict, fill or die of; a failed fill is an
// error and a FREE slot. Method: every interleaving of 2-3 hosts on one window, a dead host after each step, threads.
#include <memory>
#include <thread>
#include <vector>

#include "det.h"
#include "page_cache.h"
#include "shared_copy.h"

using namespace daxserve;

namespace {

constexpr uint64_t kSlots = 8;
constexpr uint64_t kBytes = 4096 + 4096 + kSlots * 4096;
alignas(4096) uint8_t region[kBytes];
PageCacheView view;
PageCacheCounters counters;
uint32_t counts[3][kSlots];
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("page_cache_test: FAILED: %s\n", what);
  failures++;
}

void Clear() {
  for (uint64_t i = 0; i < 8192; i++) region[i] = 0;
  auto* header = reinterpret_cast<layout::PageCacheHeader*>(region);
  header->magic = layout::kPageCacheMagic;
  header->version = layout::kPageCacheVersion;
  header->slot_meta_offset = 4096;
  header->slot_data_offset = 8192;
  if (PageCacheView::Open(region, kBytes, kSlots, 4096, view) != 0) std::abort();
  for (auto& host : counts) {
    for (auto& count : host) count = 0;
  }
  counters = {};
}

bool DeadActor(void*, Owner owner) { return det::Crashed(static_cast<int>(owner.host)); }

template <typename A = DetAtom>
PageCache<A> Host(uint32_t host, bool can_die = false) {
  PageCacheOptions options;
  options.self = {host, 7};
  options.wait_rounds = 3;
  options.rounds = 5;
  if (can_die) options.owners = {DeadActor, nullptr};
  return PageCache<A>(view, options, counts[host], &counters);
}

/// A page is its tag, in its first and its last word.
template <typename A = DetAtom>
auto Filler(uint64_t tag) {
  return [tag](uint8_t* block) {
    A::Store(reinterpret_cast<uint64_t*>(block), tag, std::memory_order_relaxed);
    A::Store(reinterpret_cast<uint64_t*>(block + 4088), tag, std::memory_order_relaxed);
    return 0;
  };
}

template <typename A = DetAtom>
bool Holds(const PagePin& pin, uint64_t tag) {
  const auto* word = reinterpret_cast<const uint64_t*>(pin.data);
  return A::Load(word, std::memory_order_relaxed) == tag && A::Load(word + 511, std::memory_order_relaxed) == tag;
}

/// Pins `tag`, checks the bytes twice, unpins. EAGAIN is fine: read directly.
std::function<void()> Reader(uint32_t host, uint64_t tag, bool can_die = false) {
  return [=] {
    auto cache = Host(host, can_die);
    PagePin pin;
    const int error = cache.Pin(tag, Filler(tag), pin);
    DET_CHECK(error == 0 || error == EAGAIN);
    if (error != 0) return;
    DET_CHECK(Holds(pin, tag));
    DET_CHECK(Holds(pin, tag));
    cache.Unpin(pin);
  };
}

/// Seven slots of the window are pinned by host 2: everybody fights for one.
void OneSlotLeft() {
  Clear();
  auto cache = Host(2);
  for (uint64_t page = 0; page < kSlots - 1; page++) {
    PagePin pin;
    if (cache.Pin(PageTag(9, page), Filler(PageTag(9, page)), pin) != 0) std::abort();
  }
}

void CheckQuiet() {
  uint64_t pending = 0;
  bool crashed = det::Crashed(0) || det::Crashed(1);
  for (uint64_t at = 0; at < kSlots; at++) {
    const Pair word = view.slots[at];
    const uint64_t state = slot_word::kState.get(word.lo);
    pending += state == slot_word::kPending;
    if (state != slot_word::kValid) {
      DET_CHECK(state == slot_word::kPending || (word.lo == 0 && word.hi == 0));
      continue;
    }
    DET_CHECK(slot_word::kPins.get(word.lo) == static_cast<uint64_t>(__builtin_popcountll(slot_word::kMask.get(word.hi))));
    const uint64_t others = slot_word::kMask.get(word.hi) & 3;
    DET_CHECK(crashed || others == 0);
    const uint64_t tag = slot_word::kTag.get(word.lo);
    PagePin pin{view.data + at * 4096, at};
    DET_CHECK(Holds(pin, tag));
    for (uint64_t other = at + 1; other < kSlots; other++) {
      DET_CHECK(crashed || slot_word::kState.get(view.slots[other].lo) != slot_word::kValid ||
                slot_word::kTag.get(view.slots[other].lo) != tag);
    }
  }
  DET_CHECK(crashed || (pending == 0 && view.header->pending_count == 0));
}

void SamePage(bool& ok) {
  det::Options bounded;
  bounded.preemptions_max = 3;
  det::Scenario two{"two hosts, one page", OneSlotLeft, {Reader(0, PageTag(1, 7)), Reader(1, PageTag(1, 7))}, CheckQuiet};
  ok &= det::Explore(two, bounded).ok;
  ok &= det::RunSeeded(two, 1, 20000).ok;
}

void TwoPagesOneSlot(bool& ok) {
  det::Options bounded;
  bounded.preemptions_max = 2;
  bounded.runs_max = 20000;
  det::Scenario fight{"two pages, one slot", OneSlotLeft, {Reader(0, PageTag(1, 7)), Reader(1, PageTag(2, 7))}, CheckQuiet};
  ok &= det::Explore(fight, bounded).ok;
  ok &= det::RunSeeded(fight, 2, 10000).ok;
}

/// Two threads of one host on one page while another host wants the slot: no unpin drops the other thread's pin.
void ThreadsOfOneHost(bool& ok) {
  auto setup = [] {
    OneSlotLeft();
    auto cache = Host(0);
    PagePin pin;
    cache.Pin(PageTag(1, 7), Filler(PageTag(1, 7)), pin);
    cache.Unpin(pin);
  };
  det::Options bounded;
  bounded.preemptions_max = 2;
  bounded.runs_max = 20000;
  det::Scenario trio{"two threads of a host, one evictor", setup,
                     {Reader(0, PageTag(1, 7)), Reader(0, PageTag(1, 7)), Reader(1, PageTag(2, 7))}, CheckQuiet};
  ok &= det::Explore(trio, bounded).ok;
  ok &= det::RunSeeded(trio, 9, 30000).ok;
}

/// Section 15 items 12 and 13: a filler or a reader dies after each step; the other one gets its page all the same.
void Deaths(bool& ok) {
  static int error;
  static bool right;
  auto survivor = [](uint64_t tag) {
    return [tag] {
      auto cache = Host(1, true);
      PagePin pin;
      error = cache.Pin(tag, Filler(tag), pin);
      right = error == 0 && Holds(pin, tag);
      if (error == 0) cache.Unpin(pin);
    };
  };
  auto check = [] {
    DET_CHECK(error == EAGAIN || right);
    CheckQuiet();
    auto cache = Host(1, true);
    PagePin pin;
    if (det::Crashed(0)) {
      // The first look after the death: taken over, or the dead host's pin keeps its page readable.
      DET_CHECK(cache.Pin(PageTag(1, 7), Filler(PageTag(1, 7)), pin) == 0 && Holds(pin, PageTag(1, 7)));
      cache.Unpin(pin);
      cache.ReleaseHost(0);
      DET_CHECK(cache.Pin(PageTag(3, 7), Filler(PageTag(3, 7)), pin) == 0 && Holds(pin, PageTag(3, 7)));
      cache.Unpin(pin);
    }
  };
  det::Scenario same{"a filler dies, one page", OneSlotLeft, {Reader(0, PageTag(1, 7), true), survivor(PageTag(1, 7))}, check};
  det::Options bounded;
  bounded.preemptions_max = 1;
  ok &= det::ExploreCrashes(same, 0, bounded).ok;
}

void Evictor(bool& ok) {
  auto sweep = [] { Host(1).Sweep(); };
  det::Options bounded;
  bounded.preemptions_max = 2;
  det::Scenario clock{"a pin beside the clock", OneSlotLeft, {Reader(0, PageTag(1, 7)), sweep}, CheckQuiet};
  ok &= det::Explore(clock, bounded).ok;
}

void Errors() {
  Clear();
  auto cache = Host(0);
  PagePin pin;
  Require(cache.Pin(5, [](uint8_t*) { return EIO; }, pin) == EIO, "a failed fill gives its error");
  for (uint64_t at = 0; at < kSlots; at++) Require(view.slots[at] == Pair{0, 0}, "and leaves a FREE slot");
  Require(view.header->pending_count == 0 && counters.fill_errors == 1, "and is counted");
  for (uint64_t page = 0; page < kSlots; page++) Require(cache.Pin(page, Filler(page), pin) == 0, "fill the window");
  Require(cache.Pin(99, Filler(99), pin) == EAGAIN && counters.fallbacks == 1, "all pinned: read directly");
  Require(Host(1).ReleaseHost(0) == kSlots, "a dead host's pins are told apart and dropped");
  Require(cache.Pin(99, Filler(99), pin) == 0, "and the slots serve again");
}

/// The words as v8 has them, and what its validation refuses.
void Words() {
  Clear();
  auto cache = Host(3 - 3);
  PagePin pin;
  const uint64_t tag = PageTag(5, 3);
  Require(cache.Pin(tag, Filler(tag), pin) == 0 && pin.slot == 3, "home = low bits of the tag");
  Require(view.slots[3].lo == (tag << 6 | 1 << 2 | 2) && (view.slots[3].hi & 0xffffffff) == 1, "VALID, one pin, ref");
  cache.Unpin(pin);
  Require(view.slots[3].lo == (tag << 6 | 2), "no pin");
  for (int i = 0; i < 40; i++) Require(cache.Pin(tag, Filler(tag), pin) == 0, "40 readers of one host share one pin");
  Require(slot_word::kPins.get(view.slots[3].lo) == 1, "one pin");
  for (int i = 0; i < 40; i++) cache.Unpin(pin);
  Require(slot_word::kPins.get(view.slots[3].lo) == 0, "none left");
  cache.Sweep();
  Require((view.slots[3].hi & 0xffffffff) == 0, "the clock clears reference bits");
  view.slots[4].lo = PageTag(6, 4) << 6 | 1;
  Require(cache.Pin(PageTag(6, 4), Filler(0), pin) == EAGAIN, "a PENDING slot without an owner (v8 kernel): wait, then read directly");
  PageCacheView bad;
  Require(PageCacheView::Open(region, kBytes, 12, 4096, bad) == EINVAL, "slots: a power of two (item 23)");
  Require(PageCacheView::Open(region, kBytes, 4, 4096, bad) == EINVAL, "at least 8 slots");
  Require(PageCacheView::Open(region, kBytes - 1, 8, 4096, bad) == EINVAL, "inside the region");
  view.header->slot_data_offset = ~uint64_t{0} - 7;
  Require(PageCacheView::Open(region, kBytes, 8, 4096, bad) == EINVAL, "an offset that overflows");
  view.header->slot_data_offset = 4096;
  Require(PageCacheView::Open(region, kBytes, 8, 4096, bad) == EINVAL, "data over the slots' words");
}

/// Four threads of two hosts read 64 pages through 8 slots: every pinned page is the right one all along.
void Threads() {
  Clear();
  std::thread threads[4];
  static int wrong[4];
  for (uint32_t t = 0; t < 4; t++) {
    threads[t] = std::thread([t] {
      auto cache = Host<RealAtom>(t & 1);
      uint64_t random = t + 1;
      for (int i = 0; i < 20000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        const uint64_t tag = PageTag(1 + (random >> 60), (random >> 40) & 3);
        PagePin pin;
        if (cache.Pin(tag, Filler<RealAtom>(tag), pin) != 0) continue;
        if (!Holds<RealAtom>(pin, tag) || !Holds<RealAtom>(pin, tag)) wrong[t]++;
        if (i % 64 == 0) cache.Sweep();
        cache.Unpin(pin);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int count : wrong) Require(count == 0, "a pinned page changed under its reader");
  for (uint64_t at = 0; at < kSlots; at++) Require(slot_word::kPins.get(view.slots[at].lo) == 0, "no pin is left");
  Require(counters.evictions_unreferenced + counters.evictions_second_chance + counters.evictions_forced > 100, "evicted");
}

}  // namespace

int main() {
  bool ok = true;
  Words();
  Errors();
  SamePage(ok);
  TwoPagesOneSlot(ok);
  ThreadsOfOneHost(ok);
  Evictor(ok);
  Deaths(ok);
  Threads();
  std::printf("page_cache_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
