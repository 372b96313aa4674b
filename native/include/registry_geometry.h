// Where the tables of the registry lie: read once from the header, checked, never read again.
#pragma once
#include <cstdint>
#include <optional>

#include "layout.gen.h"

namespace daxserve {

/// The state page follows the two header copies.
inline constexpr uint64_t kRegistryStateOffset = 2 * sizeof(layout::RegistryHeader);

/// Offsets are bytes from the start of the mapping; every table lies inside it, in this order, without overlap.
struct Geometry {
  uint64_t state = 0;
  uint64_t hosts = 0;
  uint64_t contents = 0;
  uint64_t names = 0;
  uint64_t words = 0;
  uint32_t host_count = 0;
  uint32_t content_count = 0;
  /// A power of two.
  uint32_t name_count = 0;
  uint64_t chunk_count = 0;
};

/// Copies header 0, or header 1 when 0 is damaged, and checks every rule of docs/FORMAT.md#registry-header.
/// Nothing when both copies break one. REQUIRES: [base, base + size) mapped.
std::optional<Geometry> ReadGeometry(const uint8_t* base, uint64_t size, uint64_t registry_offset);

}  // namespace daxserve
