// The atomics of the deterministic tests: RealAtom with a scheduling point before every access.
#pragma once
#include "atom.h"

namespace daxserve {

/// Same members as RealAtom. Outside a det run it is RealAtom.
struct DetAtom {
  template <typename T>
  static T Load(const T* word, std::memory_order order) {
    Before(word, sizeof(T), false);
    return RealAtom::Load(word, order);
  }

  template <typename T>
  static void Store(T* word, T value, std::memory_order order) {
    Before(word, sizeof(T), true);
    RealAtom::Store(word, value, order);
  }

  template <typename T>
  static bool Cas(T* word, T& expected, T desired, std::memory_order order) {
    Before(word, sizeof(T), true);
    return RealAtom::Cas(word, expected, desired, order);
  }

  template <typename T>
  static T FetchAdd(T* word, T value, std::memory_order order) {
    Before(word, sizeof(T), true);
    return RealAtom::FetchAdd(word, value, order);
  }

  template <typename T>
  static T FetchOr(T* word, T value, std::memory_order order) {
    Before(word, sizeof(T), true);
    return RealAtom::FetchOr(word, value, order);
  }

  static bool Cas16(Pair* pair, Pair& expected, Pair desired) {
    Before(pair, sizeof(Pair), true);
    return RealAtom::Cas16(pair, expected, desired);
  }

  /// Two steps, each a half, so that a reader can see a torn copy.
  static void CopyOut(void* to, const void* from, size_t length) {
    const size_t half = length / 16 * 8;
    Before(from, half, false);
    RealAtom::CopyOut(to, from, half);
    Before(static_cast<const char*>(from) + half, length - half, false);
    RealAtom::CopyOut(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, length - half);
  }

  static void CopyIn(void* to, const void* from, size_t length) {
    const size_t half = length / 16 * 8;
    Before(to, half, true);
    RealAtom::CopyIn(to, from, half);
    Before(static_cast<char*>(to) + half, length - half, true);
    RealAtom::CopyIn(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, length - half);
  }

  static void Fence(std::memory_order order) { RealAtom::Fence(order); }

  static void Pause() {
    if (auto* scheduler = det::Scheduler::Current()) return scheduler->Pause();
    RealAtom::Pause();
  }

  /// A scheduling point for `bytes` bytes that the caller then reads or writes in a way of its own.
  static void Before(const void* address, size_t bytes, bool writes) {
    auto* scheduler = det::Scheduler::Current();
    if (scheduler == nullptr) return;
    const auto begin = reinterpret_cast<uintptr_t>(address);
    scheduler->BeforeAccess({begin, begin + bytes, writes});
  }
};

}  // namespace daxserve
