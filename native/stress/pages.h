// A v8 page cache that all processes share, far smaller than what they read: fills, pins, evictions, deaths in between.
#pragma once
#include <vector>

#include "attach.h"
#include "journal.h"
#include "page_cache.h"

namespace daxserve::stress {

inline constexpr uint64_t kSlots = 64;
inline constexpr uint64_t kCacheBytes = 4096 + 4096 + kSlots * 4096;

class Pages {
 public:
  Pages(uint8_t* base, Host& host, uint64_t& random) : host_(host), random_(random), counts_(kSlots) {
    auto* header = reinterpret_cast<layout::PageCacheHeader*>(base);
    header->slot_meta_offset = 4096;
    header->slot_data_offset = 8192;
    if (PageCacheView::Open(base, kCacheBytes, kSlots, 4096, view_) != 0) Broken("the page cache cannot be opened");
    PageCacheOptions options;
    options.self = host.self();
    options.owners = host.home().parts().owners;
    options.wait_rounds = 200;
    options.rounds = 20;
    cache_.emplace(view_, options, counts_.data(), &counters_);
    cache_->ReleaseHost(host.self().host);
    cache_->FreeDeadFills();
  }

  /// Pins a page, sometimes together with others, and looks at its bytes as long as it is held.
  int Use() {
    PagePin pins[3];
    uint64_t tags[3];
    const uint64_t many = 1 + Below(random_, 3);
    uint64_t held = 0;
    for (uint64_t i = 0; i < many; i++) {
      const uint64_t tag = PageTag(1 + Below(random_, 3), Below(random_, 90));
      const bool fails = Below(random_, 32) == 0;
      const int error = cache_->Pin(tag, [&](uint8_t* block) { return fails ? EIO : Fill(tag, block); }, pins[held]);
      if (error != 0 && error != EAGAIN && !(fails && error == EIO)) Broken("pinning a page: errno %d", error);
      if (error == 0) tags[held++] = tag;
    }
    for (uint64_t i = 0; i < held; i++) Look(tags[i], pins[i].data, "pinned");
    for (uint64_t i = 0; i < held; i++) cache_->Unpin(pins[i]);
    if (Below(random_, 16) == 0) cache_->Sweep();
    return 0;
  }

  /// Everybody is at rest or dead: no pin, no fill is left, and what is valid is whole.
  void CheckAll() {
    cache_->FreeDeadFills();
    for (uint32_t row = 0; row < host_.geometry().host_count; row++) {
      if (row == host_.self().host || host_.Dead(row)) cache_->ReleaseHost(row);
    }
    for (uint64_t at = 0; at < kSlots; at++) {
      const Pair slot = cache_->SlotWord(at);
      const uint64_t state = slot_word::kState.get(slot.lo);
      if (state == slot_word::kPending) Broken("slot %lu: a dead host's fill was not given up", at);
      if (state != slot_word::kValid) continue;
      if (slot_word::kPins.get(slot.lo) != 0 || slot_word::kMask.get(slot.hi) != 0) Broken("slot %lu: a pin is left", at);
      Look(slot_word::kTag.get(slot.lo), cache_->Block(at), "valid");
    }
  }

 private:
  static int Fill(uint64_t tag, uint8_t* block) {
    Pattern(tag, block, 4096);
    return 0;
  }

  static void Look(uint64_t tag, const uint8_t* data, const char* what) {
    uint8_t wanted[4096];
    Pattern(tag, wanted, sizeof(wanted));
    if (std::memcmp(wanted, data, sizeof(wanted)) != 0) Broken("a %s page of tag 0x%lx has other bytes", what, tag);
  }

  Host& host_;
  uint64_t& random_;
  std::vector<uint32_t> counts_;
  PageCacheCounters counters_;
  PageCacheView view_;
  std::optional<PageCache<RealAtom>> cache_;
};

}  // namespace daxserve::stress
