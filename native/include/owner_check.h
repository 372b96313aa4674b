// Who acts, and whether another actor is proved dead: what the front's recovery asks, whoever answers.
#pragma once
#include <cstdint>

#include "layout.gen.h"

namespace daxserve {

/// A host at one attach. host == layout::kNoHost: a region without host rows (a plain image), nobody to recover from.
struct Owner {
  uint32_t host = layout::kNoHost;
  /// 16 bits.
  uint32_t generation = 0;
  bool operator==(const Owner&) const = default;
};

/// Answers "is this owner proved dead?" (lock gone, kernel restarted, operator's word), never "has it been silent?":
/// what a merely silent host began may still be finished by it. Thread safety: `dead` is called concurrently.
struct OwnerCheck {
  bool (*dead)(void* context, Owner owner) = nullptr;
  void* context = nullptr;
  bool Dead(Owner owner) const { return dead != nullptr && owner.host < layout::kHostsMax && dead(context, owner); }
};

}  // namespace daxserve
