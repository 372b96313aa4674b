#include "xxh3.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#define XXH_INLINE_ALL
#include "xxhash/xxhash.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace daxserve {
namespace {

constexpr size_t kStripes = kXxhUnit / XXH_STRIPE_LEN;
constexpr size_t kSecretSize = sizeof(XXH3_kSecret);
constexpr size_t kScrambleSecret = kSecretSize - XXH_STRIPE_LEN;
constexpr size_t kLastSecret = kScrambleSecret - 7;  // XXH_SECRET_LASTACC_START
static_assert(kStripes == kScrambleSecret / XXH_SECRET_CONSUME_RATE, "a unit is what XXH3 calls a block");

using CopyFunction = void (*)(uint8_t* to, const uint8_t* from, size_t units, UnitSum* sums);
using SumFunction = void (*)(const uint8_t* from, size_t units, UnitSum* sums);

void SumPortable(const uint8_t* from, size_t units, UnitSum* sums) {
  for (size_t i = 0; i < units; i++) {
    sums[i] = {};
    XXH3_accumulate(sums[i].lane, from + i * kXxhUnit, XXH3_kSecret, kStripes);
  }
}

void CopyPortable(uint8_t* to, const uint8_t* from, size_t units, UnitSum* sums) {
  for (size_t i = 0; i < units; i++) {
    memcpy(to + i * kXxhUnit, from + i * kXxhUnit, kXxhUnit);
    SumPortable(to + i * kXxhUnit, 1, sums + i);
  }
}

#if defined(__x86_64__)

// One stripe of XXH3 is acc += swap(data) + lo32(data ^ secret) * hi32(data ^ secret). A non-temporal store of the
// vector just loaded makes the copy; the arithmetic hides behind the memory.
template <bool kCopy>
__attribute__((target("avx2"))) void RunAvx2(uint8_t* to, const uint8_t* from, size_t units, UnitSum* sums) {
  for (size_t unit = 0; unit < units; unit++) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (size_t i = 0; i < kStripes; i++) {
      const uint8_t* at = from + unit * kXxhUnit + i * XXH_STRIPE_LEN;
      const uint8_t* secret = XXH3_kSecret + i * XXH_SECRET_CONSUME_RATE;
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32));
      if constexpr (kCopy) {
        auto* out = reinterpret_cast<__m256i*>(to + unit * kXxhUnit + i * XXH_STRIPE_LEN);
        _mm256_stream_si256(out, a);
        _mm256_stream_si256(out + 1, b);
      }
      const __m256i x = _mm256_xor_si256(a, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(secret)));
      const __m256i y = _mm256_xor_si256(b, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(secret + 32)));
      low = _mm256_add_epi64(low, _mm256_shuffle_epi32(a, _MM_SHUFFLE(1, 0, 3, 2)));
      high = _mm256_add_epi64(high, _mm256_shuffle_epi32(b, _MM_SHUFFLE(1, 0, 3, 2)));
      low = _mm256_add_epi64(low, _mm256_mul_epu32(x, _mm256_srli_epi64(x, 32)));
      high = _mm256_add_epi64(high, _mm256_mul_epu32(y, _mm256_srli_epi64(y, 32)));
    }
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums[unit].lane), low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums[unit].lane + 4), high);
  }
  if constexpr (kCopy) _mm_sfence();
}

CopyFunction ChooseCopy() {
  return __builtin_cpu_supports("avx2") ? RunAvx2<true> : CopyPortable;
}

SumFunction ChooseSum() {
  if (__builtin_cpu_supports("avx2")) {
    return [](const uint8_t* from, size_t units, UnitSum* sums) { RunAvx2<false>(nullptr, from, units, sums); };
  }
  return SumPortable;
}

#else
CopyFunction ChooseCopy() { return CopyPortable; }
SumFunction ChooseSum() { return SumPortable; }
#endif

uint64_t Merge(const UnitSum& acc, size_t secret, uint64_t start) {
  return XXH3_mergeAccs(acc.lane, XXH3_kSecret + secret, start);
}

uint64_t Low64(const UnitSum& acc, uint64_t size) {
  return Merge(acc, XXH_SECRET_MERGEACCS_START, size * XXH_PRIME64_1);
}

Digest128 Canonical(XXH128_hash_t hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  Digest128 out;
  memcpy(out.data(), bytes.digest, out.size());
  return out;
}

Fold FoldAll(const uint8_t* input, uint64_t size) {
  Fold fold;
  UnitSum sums[64];
  const uint64_t units = UnitsOf(size);
  for (uint64_t done = 0; done < units;) {
    const size_t count = std::min<uint64_t>(units - done, 64);
    SumUnits(input + done * kXxhUnit, count, sums);
    fold.Add(sums, count);
    done += count;
  }
  return fold;
}

}  // namespace

void CopyUnits(uint8_t* to, const uint8_t* from, size_t units, UnitSum* sums) {
  static const CopyFunction copy = ChooseCopy();
  const bool aligned = reinterpret_cast<uintptr_t>(to) % 64 == 0;
  (aligned ? copy : CopyPortable)(to, from, units, sums);  // the streaming stores need whole lines
}

void SumUnits(const uint8_t* from, size_t units, UnitSum* sums) {
  static const SumFunction sum = ChooseSum();
  sum(from, units, sums);
}

Fold::Fold() {
  static constexpr uint64_t kInit[8] = XXH3_INIT_ACC;
  memcpy(acc_.lane, kInit, sizeof kInit);
}

void Fold::Add(const UnitSum* sums, size_t count) {
  UnitSum acc = acc_;
  for (size_t i = 0; i < count; i++) {
    for (int lane = 0; lane < 8; lane++) acc.lane[lane] += sums[i].lane[lane];
    XXH3_scrambleAcc(acc.lane, XXH3_kSecret + kScrambleSecret);
  }
  acc_ = acc;
}

UnitSum Fold::Tail(const uint8_t* input, uint64_t size) const {
  assert(size > kXxhUnit);
  UnitSum acc = acc_;
  const uint64_t tail = UnitsOf(size) * kXxhUnit;
  XXH3_accumulate(acc.lane, input + tail, XXH3_kSecret, (size - 1 - tail) / XXH_STRIPE_LEN);
  XXH3_accumulate_512(acc.lane, input + size - XXH_STRIPE_LEN, XXH3_kSecret + kLastSecret);
  return acc;
}

Digest128 Fold::Finish128(const uint8_t* input, uint64_t size) const {
  if (size <= kXxhUnit) return Canonical(XXH3_128bits(input, size));
  const UnitSum acc = Tail(input, size);
  const size_t high = kSecretSize - XXH_STRIPE_LEN - XXH_SECRET_MERGEACCS_START;
  return Canonical({Low64(acc, size), Merge(acc, high, ~(size * XXH_PRIME64_2))});
}

uint64_t Fold::Finish64(const uint8_t* input, uint64_t size) const {
  return size <= kXxhUnit ? XXH3_64bits(input, size) : Low64(Tail(input, size), size);
}

uint64_t Xxh3_64(const uint8_t* input, uint64_t size) { return FoldAll(input, size).Finish64(input, size); }
Digest128 Xxh3_128(const uint8_t* input, uint64_t size) { return FoldAll(input, size).Finish128(input, size); }

}  // namespace daxserve
