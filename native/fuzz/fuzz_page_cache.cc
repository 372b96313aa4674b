// Target: a page cache whose header, slots and counters are hostile, also while pages are pinned, filled and evicted.
#include "fuzz_atom.h"
#include "page_cache.h"

using namespace daxserve;
using namespace daxserve::fuzz;

namespace {

constexpr uint64_t kSlots = 16;
constexpr uint64_t kBlock = 4096;

bool IsDead(void*, Owner owner) { return owner.host >= 2; }

class World {
 public:
  World() : memory_((2 + kSlots) * kBlock), counts_{} {
    auto* header = reinterpret_cast<layout::PageCacheHeader*>(memory_.data());
    header->magic = layout::kPageCacheMagic;
    header->version = layout::kPageCacheVersion;
    header->slot_meta_offset = kBlock;
    header->slot_data_offset = 2 * kBlock;
    Hostile& hostile = Hostile::Get();
    // Hosts 0 and 1 hold pages, host 3 died while it filled one.
    for (uint64_t page = 0; page < 6; page++) Pin(static_cast<uint32_t>(page & 1), FrontKind::kKernel, PageTag(1, page), 0);
    auto* slots = reinterpret_cast<Pair*>(memory_.data() + kBlock);
    slots[9] = {slot_word::kTag.set(slot_word::kPending, PageTag(1, 9)), slot_word::kOwned | uint64_t{3} << 32};
    for (uint64_t i = 0; i < kSlots; i++) {
      hostile.Word(slots[i].lo);
      hostile.Word(slots[i].hi);
      hostile.Name(&slots[i], sizeof(Pair));
    }
    held_[0].clear();
    held_[1].clear();
    std::memcpy(sound_counts_, counts_, sizeof(counts_));
    hostile.Track(memory_);
    hostile.Name(memory_.data(), 64);
    hostile.Name(slots, kSlots * sizeof(Pair));
  }

  void Run(Input& input) {
    std::memcpy(counts_, sound_counts_, sizeof(counts_));
    for (auto& held : held_) held.clear();
    homes_ = input.U8() & 1 ? FrontKind::kPrivate : FrontKind::kKernel;
    Hostile::Get().Begin(input);
    try {
      for (int i = 0; i < 40 && !input.Empty(); i++) One(input);
    } catch (const Stopped&) {
    }
    Hostile::Get().End();
  }

 private:
  using Cache = PageCache<FuzzAtom>;

  bool Open(uint32_t host, FrontKind homes, PageCacheView& view, PageCacheOptions& options) {
    if (PageCacheView::Open(memory_.data(), memory_.size(), kSlots, kBlock, view) != 0) return false;
    options.self = {host, 7};
    options.owners = {IsDead, nullptr};
    options.homes = homes;
    options.wait_rounds = 3;
    options.rounds = 5;
    return true;
  }

  void Pin(uint32_t host, FrontKind homes, uint64_t tag, int fill_error) {
    PageCacheView view;
    PageCacheOptions options;
    if (!Open(host, homes, view, options)) return;
    PageCacheCounters counters;
    Cache cache(view, options, counts_[host], &counters);
    PagePin pin;
    auto fill = [&](uint8_t* block) {
      std::memset(block, static_cast<int>(tag & 0xff), kBlock);
      return fill_error;
    };
    if (cache.Pin(tag, fill, pin) != 0) return;
    uint8_t copy[kBlock];
    std::memcpy(copy, pin.data, sizeof(copy));
    if (pin.slot >= kSlots) Hostile::Fail("a pin of no slot");
    held_[host].push_back(pin);
  }

  void One(Input& input) {
    const uint8_t op = input.U8();
    const uint32_t host = op >> 7;
    PageCacheView view;
    PageCacheOptions options;
    if (!Open(host, homes_, view, options)) return;
    PageCacheCounters counters;
    Cache cache(view, options, counts_[host], &counters);
    const uint8_t choice = op & 15;
    if (choice < 8) Pin(host, homes_, choice < 6 ? PageTag(1, input.U8() % 24) : input.U64() >> 6, choice == 5 ? EIO : 0);
    else if (choice < 11) Unpin(host, cache);
    else if (choice == 11) cache.Sweep();
    else if (choice == 12) cache.ReleaseHost(input.U8() % 16);
    else if (choice == 13) cache.FreeDeadFills();
    else if (choice == 14) cache.Unpin({nullptr, input.U64()});
    else (void)cache.SlotWord(input.U8() % kSlots);
  }

  void Unpin(uint32_t host, Cache& cache) {
    if (held_[host].empty()) return;
    cache.Unpin(held_[host].back());
    held_[host].pop_back();
  }

  Memory memory_;
  uint32_t counts_[2][kSlots];
  uint32_t sound_counts_[2][kSlots];
  std::vector<PagePin> held_[2];
  FrontKind homes_ = FrontKind::kKernel;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World& world = *new World;
  Input input(data, size);
  world.Run(input);
  return 0;
}
