#include "registry_geometry.h"

#include "atom.h"
#include "bounds.h"
#include "xxh3.h"

namespace daxserve {
namespace {

using layout::RegistryHeader;

bool Known(const RegistryHeader& header) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  return header.magic == layout::kRegistryMagic && header.format_version == layout::kRegistryFormatVersion &&
         header.fingerprint == layout::kFingerprint &&
         header.checksum == Xxh3_64(bytes, offsetof(RegistryHeader, checksum));
}

bool CountsInRange(const RegistryHeader& header) {
  return header.host_count >= 1 && header.host_count <= layout::kHostsMax && header.content_count >= 1 &&
         header.content_count < layout::kNoContent && header.name_count >= 1 &&
         (header.name_count & (header.name_count - 1)) == 0 && header.chunk_count < (uint64_t{1} << 32);
}

/// Places tables one behind the other inside the registry; remembers whether one did not fit.
struct Placement {
  uint64_t registry_offset;
  uint64_t registry_size;
  uint64_t end = kRegistryStateOffset + sizeof(layout::RegistryState);
  bool fits = true;

  /// @returns the offset of the table in the mapping
  uint64_t Table(uint64_t offset, uint64_t count, uint64_t row) {
    const auto length = CheckedMul(count, row);
    fits = fits && offset % 64 == 0 && offset >= end && length && InBounds(offset, *length, registry_size);
    if (fits) end = offset + *length;
    return registry_offset + offset;
  }
};

bool ChunksInRange(const RegistryHeader& header) {
  const auto length = CheckedMul(header.chunk_count, layout::kChunkBytes);
  return length && header.chunks_offset % layout::kChunkBytes == 0 &&
         InBounds(header.chunks_offset, *length, header.region_size);
}

std::optional<Geometry> Check(const RegistryHeader& header, uint64_t size, uint64_t registry_offset) {
  if (!Known(header) || !CountsInRange(header) || !ChunksInRange(header)) return std::nullopt;
  if (header.registry_offset != registry_offset || !InBounds(registry_offset, header.registry_size, size)) {
    return std::nullopt;
  }
  Placement place{registry_offset, header.registry_size};
  Geometry geometry;
  geometry.state = registry_offset + kRegistryStateOffset;
  geometry.hosts = place.Table(header.hosts_offset, header.host_count, sizeof(layout::HostRow));
  geometry.contents = place.Table(header.contents_offset, header.content_count, sizeof(layout::ContentRow));
  geometry.names = place.Table(header.names_offset, header.name_count, sizeof(layout::NameRow));
  place.Table(header.intents_offset, header.intent_count, sizeof(layout::IntentRow));
  geometry.words = place.Table(header.words_offset, header.chunk_count, sizeof(uint64_t));
  if (!place.fits) return std::nullopt;
  geometry.host_count = header.host_count;
  geometry.content_count = header.content_count;
  geometry.name_count = header.name_count;
  geometry.chunk_count = header.chunk_count;
  return geometry;
}

}  // namespace

std::optional<Geometry> ReadGeometry(const uint8_t* base, uint64_t size, uint64_t registry_offset) {
  if (registry_offset % layout::kBlockBytes != 0) return std::nullopt;
  for (uint64_t copy = 0; copy < 2; copy++) {
    const auto at = CheckedAdd(registry_offset, copy * sizeof(RegistryHeader));
    if (!at || !InBounds(*at, sizeof(RegistryHeader), size)) return std::nullopt;
    RegistryHeader header;
    RealAtom::CopyOut(&header, base + *at, sizeof(header));
    if (auto geometry = Check(header, size, registry_offset)) return geometry;
  }
  return std::nullopt;
}

}  // namespace daxserve
