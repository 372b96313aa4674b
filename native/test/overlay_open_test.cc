// Goal: an overlay whose numbers break a rule is refused before anything is read by them. Method: one wrong number after
// another in a sound header, the values at both sides of each limit.
#include "overlay_fixture.h"

using namespace daxserve;
using daxserve::test::Require;

namespace {

constexpr uint64_t kBuckets = 64;
constexpr uint64_t kBytes = 1 << 20;
alignas(4096) uint8_t memory[kBytes];

layout::OverlayHeader* Sound(uint64_t block) {
  auto* header = reinterpret_cast<layout::OverlayHeader*>(memory);
  *header = {};
  header->magic = layout::kOverlayMagic;
  header->version = layout::kOverlayVersion;
  header->bucket_offset = block;
  header->pool_offset = 2 * block;
  header->pool_size = kBytes - 2 * block;
  return header;
}

int Open(uint64_t block = 4096, uint64_t bytes = kBytes, uint64_t buckets = kBuckets) {
  OverlayView view;
  return OverlayView::Open(memory, bytes, buckets, block, view);
}

void Blocks() {
  for (uint64_t block = 4096; block <= 65536; block *= 2) {
    Sound(block);
    Require(Open(block) == 0, "blocks of 4 to 64 KiB");
  }
  for (const uint64_t block : {uint64_t{0}, uint64_t{2048}, uint64_t{4097}, uint64_t{131072}, uint64_t{1} << 31}) {
    Sound(block < kBytes / 4 ? block : 4096);
    Require(Open(block) == EINVAL, "other blocks: buffers of one block lie on the stack");
  }
}

void Offsets() {
  const uint64_t wrong[] = {1, 8, 4095, kBytes, kBytes + 4096, ~uint64_t{0}, ~uint64_t{0} - 4095, uint64_t{1} << 63};
  for (const uint64_t value : wrong) {
    Sound(4096)->bucket_offset = value;
    Require(Open() == EINVAL, "buckets outside of it, or not aligned");
    Sound(4096)->pool_offset = value == kBytes ? kBytes + 1 : value;
    Require(Open() == EINVAL, "a pool outside of it, or not aligned");
  }
  Sound(4096)->pool_size = kBytes - 2 * 4096 + 1;
  Require(Open() == EINVAL, "a pool that ends behind it");
  Sound(4096)->pool_offset = 4096;
  Require(Open() == EINVAL, "a pool over the buckets");
  Sound(4096);
  Require(Open(4096, kBytes - 1) == EINVAL, "one byte too few");
  for (const uint64_t buckets : {uint64_t{0}, uint64_t{63}, uint64_t{1} << 16, uint64_t{1} << 60}) {
    Require(Open(4096, kBytes, buckets) == EINVAL, "buckets: a power of two that fits");
  }
}

}  // namespace

int main() {
  Blocks();
  Offsets();
  std::printf("overlay_open_test: %s\n", test::failures == 0 ? "ok" : "FAILED");
  return test::failures == 0 ? 0 : 1;
}
