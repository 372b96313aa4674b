// Goal: the sums in any order give exactly XXH3. Method: against the library's one-shot functions for every size around
// each limit, aligned and not, with and without copying.
#include "xxh3.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define XXH_INLINE_ALL
#include "xxhash/xxhash.h"

using namespace daxserve;

static Digest128 Reference(const uint8_t* input, size_t size) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, XXH3_128bits(input, size));
  Digest128 out;
  memcpy(out.data(), bytes.digest, 16);
  return out;
}

static void Expect(bool ok, const char* what, size_t size) {
  if (ok) return;
  fprintf(stderr, "xxh3_test: %s differs at size %zu\n", what, size);
  exit(1);
}

static void CheckCopy(const uint8_t* input, size_t size, uint8_t* to) {
  std::vector<UnitSum> sums(UnitsOf(size) + 1);
  memset(to, 0xee, size + 64);
  // The second half first: order must not matter.
  const size_t units = UnitsOf(size), half = units / 2;
  CopyUnits(to + half * kXxhUnit, input + half * kXxhUnit, units - half, sums.data() + half);
  CopyUnits(to, input, half, sums.data());
  Fold fold;
  fold.Add(sums.data(), units);
  Expect(fold.Finish128(input, size) == Reference(input, size), "copied digest", size);
  Expect(memcmp(to, input, units * kXxhUnit) == 0, "copy", size);
  Expect(to[units * kXxhUnit] == 0xee, "byte behind the copy", size);
}

int main() {
  std::vector<uint8_t> source(70000), target(70000 + 256);
  uint32_t word = 12345;
  for (auto& byte : source) byte = static_cast<uint8_t>((word = word * 1664525 + 1013904223) >> 24);
  auto* aligned = target.data() + (64 - reinterpret_cast<uintptr_t>(target.data()) % 64);
  size_t checked = 0;
  for (size_t size = 0; size < 66000; size += size < 5000 ? 1 : 509) {
    const uint8_t* input = source.data() + size % 7;
    Expect(Xxh3_64(input, size) == XXH3_64bits(input, size), "64-bit hash", size);
    Expect(Xxh3_128(input, size) == Reference(input, size), "128-bit hash", size);
    CheckCopy(input, size, aligned);
    CheckCopy(input, size, aligned + 1);
    checked++;
  }
  printf("xxh3_test: %zu sizes equal to the library's\n", checked);
  return 0;
}
