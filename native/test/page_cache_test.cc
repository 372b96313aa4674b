// Goal: a pinned page is the page asked for and stays, whatever other hosts evict, fill or die of; a failed fill is an
// error and a FREE slot; a page is never in two slots. Method: every interleaving of 2-3 hosts on one window, a dead host
// after each step, threads; both kinds of places, blocks of 4, 16 and 64 KiB.
#include <memory>
#include <thread>
#include <vector>

#include "det.h"
#include "page_cache.h"
#include "shared_copy.h"

using namespace daxserve;

namespace {

constexpr uint64_t kSlots = 8;
constexpr uint64_t kBlockMax = 65536;
alignas(65536) uint8_t region[(2 + kSlots) * kBlockMax];
uint64_t block_bytes = 4096;
FrontKind homes = FrontKind::kKernel;
PageCacheView view;
PageCacheCounters counters{};
uint32_t counts[3][kSlots];
uint32_t hints[3][kSlots];
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("page_cache_test: FAILED: %s\n", what);
  failures++;
}

uint64_t CacheBytes() { return (2 + kSlots) * block_bytes; }

void Clear() {
  for (uint64_t i = 0; i < 2 * block_bytes; i++) region[i] = 0;
  auto* header = reinterpret_cast<layout::PageCacheHeader*>(region);
  header->magic = layout::kPageCacheMagic;
  header->version = layout::kPageCacheVersion;
  header->slot_meta_offset = block_bytes;
  header->slot_data_offset = 2 * block_bytes;
  if (PageCacheView::Open(region, CacheBytes(), kSlots, block_bytes, view) != 0) std::abort();
  for (auto& host : hints) {
    for (auto& hint : host) hint = 0;
  }
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
  options.homes = homes;
  if (homes == FrontKind::kPrivate && host < 3) options.hints = hints[host];
  options.wait_rounds = 3;
  options.rounds = 5;
  if (can_die) options.owners = {DeadActor, nullptr};
  return PageCache<A>(view, options, host < 3 ? counts[host] : nullptr, &counters);
}

/// A page is its tag, in its first and its last word.
template <typename A = DetAtom>
auto Filler(uint64_t tag) {
  return [tag](uint8_t* block) {
    A::Store(reinterpret_cast<uint64_t*>(block), tag, std::memory_order_relaxed);
    A::Store(reinterpret_cast<uint64_t*>(block + block_bytes - 8), tag, std::memory_order_relaxed);
    return 0;
  };
}

template <typename A = DetAtom>
bool Holds(const PagePin& pin, uint64_t tag) {
  const auto* word = reinterpret_cast<const uint64_t*>(pin.data);
  return A::Load(word, std::memory_order_relaxed) == tag && A::Load(word + block_bytes / 8 - 1, std::memory_order_relaxed) == tag;
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
      DET_CHECK(state == slot_word::kPending || (word.lo == 0 && slot_word::kMask.get(word.hi) == 0));
      continue;
    }
    DET_CHECK(slot_word::kPins.get(word.lo) == static_cast<uint64_t>(__builtin_popcountll(slot_word::kMask.get(word.hi))));
    const uint64_t others = slot_word::kMask.get(word.hi) & 3;
    DET_CHECK(crashed || others == 0);
    const uint64_t tag = slot_word::kTag.get(word.lo);
    PagePin pin{view.data + at * block_bytes, at};
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
  bounded.preemptions_max = homes == FrontKind::kKernel ? 3 : 2;
  det::Scenario two{"two hosts, one page", OneSlotLeft, {Reader(0, PageTag(1, 7)), Reader(1, PageTag(1, 7))}, CheckQuiet};
  ok &= det::Explore(two, bounded).ok;
  ok &= det::RunSeeded(two, 1, 20000).ok;
}

/// Two hosts miss one page in a window without a free slot: each evicts, and yet the page gets one slot.
void SamePageFull(bool& ok) {
  auto full = [] {
    Clear();
    auto cache = Host(2);
    for (uint64_t page = 0; page < kSlots; page++) {
      PagePin pin;
      if (cache.Pin(PageTag(9, page), Filler(PageTag(9, page)), pin) != 0) std::abort();
      if (page > 5) cache.Unpin(pin);
    }
  };
  det::Options bounded;
  bounded.preemptions_max = 2;
  bounded.runs_max = 20000;
  det::Scenario two{"two hosts, one page, full window", full, {Reader(0, PageTag(1, 7)), Reader(1, PageTag(1, 7))}, CheckQuiet};
  ok &= det::Explore(two, bounded).ok;
  ok &= det::RunSeeded(two, 3, 20000).ok;
}

/// Who may not pin copies, and knows when the copy counts: never a torn page, never another one.
void Peeking(bool& ok) {
  auto peek = [] {
    auto cache = Host(0);
    const uint64_t tag = PageTag(1, 7);
    uint64_t first = 0, last = 0;
    const bool found = cache.Peek(tag, [&](const uint8_t* block) {
      first = DetAtom::Load(reinterpret_cast<const uint64_t*>(block), std::memory_order_relaxed);
      last = DetAtom::Load(reinterpret_cast<const uint64_t*>(block + block_bytes - 8), std::memory_order_relaxed);
    });
    DET_CHECK(!found || (first == tag && last == tag));
  };
  auto churn = [] {
    Reader(1, PageTag(2, 7))();
    Reader(1, PageTag(1, 7))();
  };
  auto setup = [] {
    OneSlotLeft();
    Reader(1, PageTag(1, 7))();
  };
  det::Options bounded;
  bounded.preemptions_max = 3;
  bounded.runs_max = 20000;
  det::Scenario scenario{"a peek beside eviction and refill", setup, {peek, churn}, CheckQuiet};
  ok &= det::Explore(scenario, bounded).ok;
  ok &= det::RunSeeded(scenario, 4, 20000).ok;
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
  for (uint64_t at = 0; at < kSlots; at++) Require(view.slots[at].lo == 0, "and leaves a FREE slot");
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
  Require(Host(layout::kNoHost).Pin(tag, Filler(tag), pin) == EAGAIN, "a guest pins nothing");
  Require(Host(layout::kNoHost).Peek(tag, [](const uint8_t*) {}), "but finds what is there");
  Require(cache.Forget() == 1 && view.slots[3].lo == 0, "all but a slot that is being filled is given up");
  PageCacheView bad;
  Require(PageCacheView::Open(region, CacheBytes(), 12, block_bytes, bad) == EINVAL, "slots: a power of two (item 23)");
  Require(PageCacheView::Open(region, CacheBytes(), 4, block_bytes, bad) == EINVAL, "at least 8 slots");
  Require(PageCacheView::Open(region, CacheBytes() - 1, 8, block_bytes, bad) == EINVAL, "inside the region");
  view.header->slot_data_offset = ~uint64_t{0} - 7;
  Require(PageCacheView::Open(region, CacheBytes(), 8, block_bytes, bad) == EINVAL, "an offset that overflows");
  view.header->slot_data_offset = block_bytes;
  Require(PageCacheView::Open(region, CacheBytes(), 8, block_bytes, bad) == EINVAL, "data over the slots' words");
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

/// A full cache of 8 slots, whatever the pages: a private front finds each a slot; what was never asked for again goes first.
void MixedPlaces() {
  Clear();
  auto cache = Host(0);
  for (uint64_t page = 0; page < kSlots; page++) {
    PagePin pin;
    const uint64_t tag = PageTag(5, page * 8);
    Require(cache.Pin(tag, Filler(tag), pin) == 0, "8 pages with one v8 home fill 8 slots");
    Require((view.slots[pin.slot].hi & 0xffffffff) == 0, "read once: no reference bit");
    cache.Unpin(pin);
    if (page == 3) continue;
    Require(cache.Pin(tag, Filler(tag), pin) == 0, "found");
    cache.Unpin(pin);
  }
  PagePin pin;
  Require(cache.Pin(PageTag(6, 1), Filler(PageTag(6, 1)), pin) == 0, "one more");
  cache.Unpin(pin);
  Require(!cache.Peek(PageTag(5, 24), [](const uint8_t*) {}), "the one that was read once made room");
  Require(counters.hits == 7 && counters.misses == 10 && counters.fills == 9 && counters.evictions_unreferenced == 1, "counted");
}

void Everything(bool& ok) {
  SamePage(ok);
  SamePageFull(ok);
  Peeking(ok);
  TwoPagesOneSlot(ok);
  ThreadsOfOneHost(ok);
  Evictor(ok);
  Deaths(ok);
}

/// Blocks of other machines: the same words, other distances.
void BlockSizes() {
  for (const uint64_t bytes : {uint64_t{16384}, uint64_t{65536}}) {
    block_bytes = bytes;
    Words();
    Errors();
    Threads();
  }
  block_bytes = 4096;
}

}  // namespace

int main() {
  bool ok = true;
  Words();
  Errors();
  Everything(ok);
  Threads();
  BlockSizes();
  homes = FrontKind::kPrivate;
  Errors();
  MixedPlaces();
  Everything(ok);
  Threads();
  std::printf("page_cache_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
