// Atomic access to words inside a mapping. Structures take the policy as a template parameter `A`: production code
// uses RealAtom, the deterministic tests pass one that yields to a scheduler before every access. What is no template
// names RealAtom itself; the fuzzing build makes another type of it, so that there, too, memory changes before every access.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "daxserve needs a 16-byte compare-and-swap: x86-64 or arm64"
#endif

namespace daxserve {

/// Two adjacent words changed by one CAS. REQUIRES: 16-byte alignment.
struct alignas(16) Pair {
  uint64_t lo;
  uint64_t hi;
  bool operator==(const Pair&) const = default;
};

/// Thread safety: all members may be called concurrently, from several processes, on the same word.
/// The order is always named by the caller; words are 8-byte aligned.
struct MachineAtom {
  template <typename T>
  static T Load(const T* word, std::memory_order order) {
    static_assert(std::atomic_ref<T>::is_always_lock_free);
    return std::atomic_ref<T>(*const_cast<T*>(word)).load(order);
  }

  template <typename T>
  static void Store(T* word, T value, std::memory_order order) {
    std::atomic_ref<T>(*word).store(value, order);
  }

  /// On failure `expected` holds what was found, read with `acquire`.
  template <typename T>
  static bool Cas(T* word, T& expected, T desired, std::memory_order order) {
    return std::atomic_ref<T>(*word).compare_exchange_strong(expected, desired, order, std::memory_order_acquire);
  }

  template <typename T>
  static T FetchAdd(T* word, T value, std::memory_order order) {
    return std::atomic_ref<T>(*word).fetch_add(value, order);
  }

  template <typename T>
  static T FetchOr(T* word, T value, std::memory_order order) {
    return std::atomic_ref<T>(*word).fetch_or(value, order);
  }

  /// The one 16-byte CAS (cmpxchg16b, CASP / LDXP): sequentially consistent. On failure `expected` holds what was found.
  static bool Cas16(Pair* pair, Pair& expected, Pair desired) {
#if defined(__x86_64__)
    bool done;
#if defined(__SANITIZE_THREAD__)
    __tsan_release(pair);  // the assembly below is invisible to ThreadSanitizer: tell it what it synchronises
    __tsan_acquire(pair);
#endif
    asm volatile("lock cmpxchg16b %1"
                 : "=@ccz"(done), "+m"(*pair), "+a"(expected.lo), "+d"(expected.hi)
                 : "b"(desired.lo), "c"(desired.hi)
                 : "memory");
    return done;
#else
    unsigned __int128 want, next;
    __builtin_memcpy(&want, &expected, 16);
    __builtin_memcpy(&next, &desired, 16);
    const bool done = __atomic_compare_exchange_n(reinterpret_cast<unsigned __int128*>(pair), &want, next, false,
                                                  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    __builtin_memcpy(&expected, &want, 16);
    return done;
#endif
  }

  /// Copies bytes that another process may be writing: relaxed words, so the result may be torn and must be checked.
  /// REQUIRES: `from` 8-byte aligned, length a multiple of 8.
  static void CopyOut(void* to, const void* from, size_t length) {
    auto* source = static_cast<const uint64_t*>(from);
    for (size_t i = 0; i < length / 8; i++) {
      const uint64_t word = Load(source + i, std::memory_order_relaxed);
      std::memcpy(static_cast<char*>(to) + i * 8, &word, 8);
    }
  }

  /// Writes bytes that another process may be reading. REQUIRES: `to` 8-byte aligned, length a multiple of 8.
  static void CopyIn(void* to, const void* from, size_t length) {
    for (size_t i = 0; i < length / 8; i++) {
      uint64_t word;
      std::memcpy(&word, static_cast<const char*>(from) + i * 8, 8);
      Store(static_cast<uint64_t*>(to) + i, word, std::memory_order_relaxed);
    }
  }

  static void Fence([[maybe_unused]] std::memory_order order) {
#if !defined(__SANITIZE_THREAD__)  // not modelled there; what a fence orders is atomic on both sides anyway
    std::atomic_thread_fence(order);
#endif
  }

  /// A hint inside a bounded wait.
  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    asm volatile("yield");
#endif
  }
};

}  // namespace daxserve

#if defined(DAXSERVE_FUZZ)
#include "fuzz_atom.h"
#else
namespace daxserve {
using RealAtom = MachineAtom;
}
#endif
