// The atomics of the fuzzing build (DAXSERVE_FUZZ): those of the machine, with the hostile memory changing before every access.
#pragma once
#include "atom.h"
#include "hostile.h"

namespace daxserve::fuzz {

/// Same members as MachineAtom. One thread: orders do not matter here.
struct FuzzAtom {
  template <typename T>
  static T Load(const T* word, std::memory_order order) {
    Hostile::Get().Step();
    return MachineAtom::Load(word, order);
  }
  template <typename T>
  static void Store(T* word, T value, std::memory_order order) {
    Hostile::Get().Step();
    MachineAtom::Store(word, value, order);
  }
  template <typename T>
  static bool Cas(T* word, T& expected, T desired, std::memory_order) {
    Hostile::Get().Step();
    return MachineAtom::Cas(word, expected, desired, std::memory_order_seq_cst);
  }
  template <typename T>
  static T FetchAdd(T* word, T value, std::memory_order order) {
    Hostile::Get().Step();
    return MachineAtom::FetchAdd(word, value, order);
  }
  template <typename T>
  static T FetchOr(T* word, T value, std::memory_order order) {
    Hostile::Get().Step();
    return MachineAtom::FetchOr(word, value, order);
  }
  /// The assembly of the real one is invisible to AddressSanitizer.
  static bool Cas16(Pair* pair, Pair& expected, Pair desired) {
    Hostile::Get().Step();
    if (reinterpret_cast<uintptr_t>(pair) % alignof(Pair) != 0) Hostile::Fail("a 16-byte CAS of a word that is not aligned");
    const volatile uint64_t* halves = reinterpret_cast<const volatile uint64_t*>(pair);
    (void)halves[0];
    (void)halves[1];
    return MachineAtom::Cas16(pair, expected, desired);
  }
  static void CopyOut(void* to, const void* from, size_t length) {
    const size_t half = length / 16 * 8;
    Hostile::Get().Step();
    MachineAtom::CopyOut(to, from, half);
    Hostile::Get().Step();
    MachineAtom::CopyOut(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, length - half);
  }
  static void CopyIn(void* to, const void* from, size_t length) {
    const size_t half = length / 16 * 8;
    Hostile::Get().Step();
    MachineAtom::CopyIn(to, from, half);
    Hostile::Get().Step();
    MachineAtom::CopyIn(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, length - half);
  }
  static void Fence(std::memory_order order) { MachineAtom::Fence(order); }
  static void Pause() { Hostile::Get().Step(); }
  /// Bytes that the reader is about to copy in a way of its own.
  static void Before(const void*, size_t, bool) { Hostile::Get().Step(); }
};

}  // namespace daxserve::fuzz

namespace daxserve {
using RealAtom = fuzz::FuzzAtom;
}
