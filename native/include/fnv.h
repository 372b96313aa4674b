// The hash of a directory entry's key: 64-bit FNV-1a over the parent's number (8 bytes, low byte first) and the name.
#pragma once
#include <cstddef>
#include <cstdint>

namespace daxserve {

inline constexpr uint64_t kFnvStart = 0xcbf29ce484222325;
inline constexpr uint64_t kFnvPrime = 0x100000001b3;

inline uint64_t FnvByte(uint64_t hash, uint8_t byte) { return (hash ^ byte) * kFnvPrime; }

inline uint64_t FnvName(uint64_t parent, const uint8_t* name, size_t bytes) {
  uint64_t hash = kFnvStart;
  for (unsigned shift = 0; shift < 64; shift += 8) hash = FnvByte(hash, static_cast<uint8_t>(parent >> shift));
  for (size_t i = 0; i < bytes; i++) hash = FnvByte(hash, name[i]);
  return hash;
}

/// How a name becomes a 63-bit key. `salt` 0 is the format's key; a private front uses 1, 2, ... for names whose keys
/// are equal, a kernel-mountable one chains them. Tests pass a type that makes keys collide.
struct FnvNames {
  static uint64_t Key(uint64_t parent, const uint8_t* name, size_t bytes, uint32_t salt = 0) {
    uint64_t hash = FnvName(parent, name, bytes);
    for (uint32_t i = 0; i < salt; i++) hash = FnvByte(hash, 0);
    return hash >> 1;
  }
};

}  // namespace daxserve
