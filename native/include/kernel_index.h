// What one process remembers of a kernel-mountable table. All inode keys of a table of up to 2^20 buckets have one home, the
// first pages of all files another next to it, so with n small files a search walks over 2 n buckets. A claimed bucket never
// changes its key, so a process needs to walk over each only once.
//
// Thread safety: all members, any number of threads of the process. Nothing here is shared with others or stored.
// Invariants
//   1. a bucket is known only after its key could be looked up here; it was claimed then, and stays so.
//   2. an answer is checked against the bucket itself: what is remembered says where to look, never what is there.
// Memory: at most 8 bytes and a bit per bucket, and only where something is remembered.
#pragma once
#include <sys/mman.h>

#include <cstdint>

#include "atom.h"
#include "overlay_key.h"

namespace daxserve {

class KernelIndex {
 public:
  KernelIndex() = default;
  ~KernelIndex() {
    if (words_ != nullptr) munmap(words_, bytes_);
  }
  KernelIndex(const KernelIndex&) = delete;
  KernelIndex& operator=(const KernelIndex&) = delete;

  /// False: there is no memory for it; searches walk. @param buckets power of two
  bool Open(uint64_t buckets) {
    if (buckets < kBucketsMin || words_ != nullptr) return words_ != nullptr;
    bytes_ = (buckets + buckets / 64 + buckets / 64 / 64 + 1) * 8;
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return false;
    words_ = static_cast<uint64_t*>(at);
    mask_ = buckets - 1;
    return true;
  }
  bool open() const { return words_ != nullptr; }

  /// Calls is_it(bucket) for every bucket that may hold the key, until it says yes.
  template <typename A, typename IsIt>
  bool Lookup(uint64_t key, IsIt is_it) const {
    const uint64_t hash = MixGroup(key);
    for (uint64_t probe = 0; probe < kProbesMax; probe++) {
      const uint64_t slot = A::Load(&words_[(hash + probe) & mask_], std::memory_order_acquire);
      if (slot == 0) return false;
      if (slot >> 32 == hash >> 32 && is_it((slot & UINT32_MAX) - 1)) return true;
    }
    return false;
  }

  /// Remembers that the bucket holds the key. REQUIRES: it does.
  template <typename A>
  void Learn(uint64_t key, uint64_t bucket) {
    const uint64_t hash = MixGroup(key);
    const uint64_t mine = hash >> 32 << 32 | (bucket + 1);
    for (uint64_t probe = 0; probe < kProbesMax; probe++) {
      uint64_t seen = 0;
      // @atomic slot  0 -> {hash, bucket}; release: who sees the bucket known sees the slot
      if (A::Cas(&words_[(hash + probe) & mask_], seen, mine, std::memory_order_acq_rel) || seen == mine) {
        SetKnown<A>(bucket);
        return;
      }
    }
  }

  /// Buckets from `at` on that are known, one after another around the table; at most `max`.
  template <typename A>
  uint64_t KnownFrom(uint64_t at, uint64_t max) const {
    uint64_t known = 0;
    while (known < max) {
      const uint64_t here = (at + known) & mask_, word = here / 64;
      const bool whole = here % 4096 == 0 && A::Load(&Full()[word / 64], std::memory_order_acquire) == ~uint64_t{0};
      const uint64_t unknown = whole ? 0 : ~A::Load(&Known()[word], std::memory_order_acquire) >> here % 64;
      if (unknown != 0) {
        known += static_cast<uint64_t>(__builtin_ctzll(unknown));
        break;
      }
      known += whole ? 4096 : 64 - here % 64;
    }
    return known < max ? known : max;
  }

 private:
  /// Smaller tables are walked over soon enough. (And a word of Full() covers 4096 buckets.)
  static constexpr uint64_t kBucketsMin = 4096;
  static constexpr uint64_t kProbesMax = 64;

  uint64_t* Known() const { return words_ + mask_ + 1; }
  uint64_t* Full() const { return Known() + (mask_ + 1) / 64; }

  template <typename A>
  void SetKnown(uint64_t bucket) {
    const uint64_t bit = uint64_t{1} << bucket % 64, word = bucket / 64;
    const uint64_t before = A::FetchOr(&Known()[word], bit, std::memory_order_acq_rel);
    if ((before | bit) == ~uint64_t{0}) A::FetchOr(&Full()[word / 64], uint64_t{1} << word % 64, std::memory_order_acq_rel);
  }

  /// Slots, then a bit per bucket, then a bit per word of those.
  uint64_t* words_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t mask_ = 0;
};

}  // namespace daxserve
