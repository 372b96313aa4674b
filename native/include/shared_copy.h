// Copying bytes that another host may be changing: the reader copies, then asks a word whether the copy counts.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>

#include "atom.h"

namespace daxserve {

/// Tells a scheduling policy (the deterministic tests) about bytes that are about to be copied; nothing otherwise.
template <typename A>
void Announce(const void* at, uint64_t bytes, bool writes) {
  if constexpr (requires { A::Before(at, bytes, writes); }) A::Before(at, bytes, writes);
}

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer has no notion of "discarded when the check fails", and no fences: there, copies go through relaxed and
// acquire atomics. It is the same algorithm at less speed, so a missing check or a missing release is still found.
inline void CopyFromShared(void* to, const void* from, uint64_t bytes) {
  auto* out = static_cast<uint8_t*>(to);
  auto* in = static_cast<uint8_t*>(const_cast<void*>(from));
  uint64_t i = 0;
  for (; reinterpret_cast<uintptr_t>(in) % 8 == 0 && i + 8 <= bytes; i += 8) {
    const uint64_t word = std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(in + i)).load(std::memory_order_acquire);
    std::memcpy(out + i, &word, 8);
  }
  for (; i < bytes; i++) out[i] = std::atomic_ref<uint8_t>(in[i]).load(std::memory_order_acquire);
}
inline void CopyToShared(void* to, const void* from, uint64_t bytes) {
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  uint64_t i = 0;
  for (; reinterpret_cast<uintptr_t>(out) % 8 == 0 && i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, in + i, 8);
    std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(out + i)).store(word, std::memory_order_relaxed);
  }
  for (; i < bytes; i++) std::atomic_ref<uint8_t>(out[i]).store(in[i], std::memory_order_relaxed);
}
inline void ZeroShared(void* to, uint64_t bytes) {
  static constexpr uint8_t kZeros[4096] = {};
  auto* out = static_cast<uint8_t*>(to);
  for (uint64_t i = 0; i < bytes; i += sizeof(kZeros)) {
    CopyToShared(out + i, kZeros, bytes - i < sizeof(kZeros) ? bytes - i : sizeof(kZeros));
  }
}
inline void TouchShared(const uint8_t*) {}
template <typename A>
void ReadFence() {}
template <typename A>
void WriteFence() {}
#else
/// The fence costs nothing: it keeps the compiler from looking up in the region again what was copied.
inline void CopyFromShared(void* to, const void* from, uint64_t bytes) {
  std::memcpy(to, from, bytes);
  std::atomic_signal_fence(std::memory_order_acq_rel);
}
inline void CopyToShared(void* to, const void* from, uint64_t bytes) { std::memcpy(to, from, bytes); }
inline void ZeroShared(void* to, uint64_t bytes) { std::memset(to, 0, bytes); }
/// Reads a byte of a page that is about to be written. The first touch of a page by a process is a fault: one that reads
/// maps the pages around as well (64 KiB on Linux, and for writing too), one that writes maps its own page only.
inline void TouchShared(const uint8_t* at) { (void)*static_cast<const volatile uint8_t*>(at); }
/// Between a copy and the load of the word that says whether it counts.
template <typename A>
void ReadFence() {
  A::Fence(std::memory_order_acquire);
}
/// Between taking an entry out of the table and the first store of its next owner (pairs with ReadFence).
template <typename A>
void WriteFence() {
  A::Fence(std::memory_order_release);
}
#endif

/// Under a scheduling policy in two halves, so that a deterministic test can stop a reader in the middle.
template <typename A>
void CopyOut(void* to, const uint8_t* from, uint64_t bytes) {
  uint64_t half = 0;
  if constexpr (requires { A::Before(to, bytes, false); }) {
    half = bytes / 2 & ~uint64_t{7};
    Announce<A>(from, half, false);
    CopyFromShared(to, from, half);
    Announce<A>(from + half, bytes - half, false);
  }
  CopyFromShared(static_cast<uint8_t*>(to) + half, from + half, bytes - half);
}

template <typename A>
void CopyIn(uint8_t* to, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  Announce<A>(to, bytes, true);
  TouchShared(to);
  CopyToShared(to, from, bytes);
}

template <typename A>
void ZeroIn(uint8_t* to, uint64_t bytes) {
  if (bytes == 0) return;
  Announce<A>(to, bytes, true);
  ZeroShared(to, bytes);
}

}  // namespace daxserve
