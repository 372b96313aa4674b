// A tiny registry in memory for the deterministic tests: three hosts, few rows, and the invariants of all of them.
#pragma once
#include <cstdio>
#include <map>
#include <optional>
#include <set>

#include "det.h"
#include "registry.h"

namespace daxserve::fixture {

using Actor = Registry<DetAtom>;

inline constexpr uint32_t kHosts = 3;
inline constexpr SourceKey kKey{6, 7};
inline constexpr SourceKey kOtherKey{7, 8};

struct Sizes {
  uint32_t contents = 3;
  uint32_t names = 4;
  uint32_t chunks = 4;
  uint32_t spins = 2;
  uint32_t rounds = 4;
};

/// The bytes of a registry and one attached user per host. `Reset` before every run.
class World {
 public:
  explicit World(Sizes sizes = {}) {
    geometry_.hosts = 0;
    geometry_.contents = kHosts * sizeof(layout::HostRow);
    geometry_.names = geometry_.contents + sizes.contents * sizeof(layout::ContentRow);
    geometry_.words = geometry_.names + sizes.names * sizeof(layout::NameRow);
    geometry_.host_count = kHosts;
    geometry_.content_count = sizes.contents;
    geometry_.name_count = sizes.names;
    geometry_.chunk_count = sizes.chunks;
    bytes_ = geometry_.words + sizes.chunks * 8;
    if (bytes_ > sizeof(memory_)) std::abort();
    for (auto& host : hosts_) host.emplace(memory_, geometry_, WaitLimits{sizes.spins, sizes.rounds});
  }

  void Reset() {
    std::memset(memory_, 0, bytes_);
    for (uint32_t row = 0; row < kHosts; row++) host(row).Attach(row, Identity(row), 1000);
  }

  Actor& host(uint32_t row) { return *hosts_[row]; }

  /// Every host on a kernel of its own.
  static HostIdentity Identity(uint32_t row) {
    HostIdentity identity;
    identity.boot_id[0] = static_cast<uint8_t>(row + 1);
    identity.name_len = 1;
    identity.name[0] = static_cast<uint8_t>('a' + row);
    return identity;
  }

  /// Declares `row` dead and lets `by` clean up.
  Recovered Bury(uint32_t row, uint32_t by, Proof proof) {
    host(by).hosts().Lapse(host(row).self());
    return host(by).Recover(row, proof);
  }

  /// A content of host `row` with `count` chunks from `first`, made directly.
  ContentRef Publish(uint32_t row, SourceKey key, uint32_t count, bool pin = false) {
    const auto claim = host(row).Claim(key, 1);
    const auto first = host(row).AllocateRun(claim.ref, count);
    if (claim.outcome != ClaimOutcome::kClaimed || !first) std::abort();
    if (!host(row).Publish(claim.ref, Body(*first, count), pin)) std::abort();
    return claim.ref;
  }

  static layout::ContentRow Body(uint64_t first, uint32_t count) {
    layout::ContentRow body{};
    std::memset(body.digest, 0xd1, sizeof(body.digest));
    body.bytes = 42;
    body.image_count = 1;
    body.images[0] = {static_cast<uint32_t>(first), count, 4096};
    return body;
  }

  // ------------------------------------------------------------------------------------------------- what must hold

  uint32_t RowsOf(SourceKey key, bool ready_too = true) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < geometry_.content_count; i++) {
      const auto state = StateOf(i);
      const bool live = state == words::ContentState::kLoading || (ready_too && state == words::ContentState::kReady);
      rows += live && Row(i)->source_key_lo == key.lo && Row(i)->source_key_hi == key.hi;
    }
    return rows;
  }

  words::ContentState StateOf(uint32_t index) { return words::StateOfContent(Row(index)->word); }
  uint64_t Chunk(uint64_t chunk) { return reinterpret_cast<uint64_t*>(memory_ + geometry_.words)[chunk]; }

  uint32_t ChunksIn(words::ChunkState state) {
    uint32_t count = 0;
    for (uint64_t i = 0; i < geometry_.chunk_count; i++) count += words::StateOfChunk(Chunk(i)) == state;
    return count;
  }

  /// Buckets with that name that point at something.
  uint32_t BucketsOf(std::string_view name) {
    uint32_t count = 0;
    char bytes[sizeof(layout::NameRow::name)];
    for (uint32_t i = 0; i < geometry_.name_count; i++) {
      const auto named = host(2).names().At(i);
      const uint32_t length = named ? host(2).names().NameAt(i, named->hash, bytes) : 0;
      count += length > 0 && std::string_view(bytes, length) == name;
    }
    return count;
  }

  uint32_t BucketsIn(words::NameState state) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < geometry_.name_count; i++) count += words::StateOfName(Bucket(i)->word) == state;
    return count;
  }

  /// One key, one live row; every used chunk has a content that is not gone; every claim names a content at work.
  void CheckSound() {
    DET_CHECK(RowsOf(kKey) <= 1);
    DET_CHECK(RowsOf(kOtherKey) <= 1);
    for (uint64_t i = 0; i < geometry_.chunk_count; i++) CheckChunk(Chunk(i));
  }

  /// After every dead host was buried with proof: nothing of it is left.
  void CheckNothingOf(uint32_t row) {
    for (uint32_t i = 0; i < geometry_.content_count; i++) {
      DET_CHECK(!words::IsClaim(StateOf(i)) || words::OwnerOfContent(Row(i)->word).row != row);
    }
    for (uint64_t i = 0; i < geometry_.chunk_count; i++) {
      const auto state = words::StateOfChunk(Chunk(i));
      DET_CHECK(state == words::ChunkState::kFree || state == words::ChunkState::kUsed ||
                words::OwnerOfChunk(Chunk(i)).row != row);
    }
  }

  layout::ContentRow* Row(uint32_t index) {
    return reinterpret_cast<layout::ContentRow*>(memory_ + geometry_.contents) + index;
  }
  layout::NameRow* Bucket(uint32_t index) {
    return reinterpret_cast<layout::NameRow*>(memory_ + geometry_.names) + index;
  }
  layout::HostRow* HostRowAt(uint32_t row) { return reinterpret_cast<layout::HostRow*>(memory_) + row; }
  const Geometry& geometry() const { return geometry_; }
  uint8_t* memory() { return memory_; }

 private:
  void CheckChunk(uint64_t word) {
    if (words::StateOfChunk(word) != words::ChunkState::kUsed) return;
    const auto index = static_cast<uint32_t>(layout::chunk_word::kContent.get(word));
    DET_CHECK(index < geometry_.content_count);
    const auto state = StateOf(index);
    DET_CHECK(state != words::ContentState::kFree && state != words::ContentState::kReserved);
    DET_CHECK(words::UsedChunk({index, words::GenerationOfContent(Row(index)->word)}) == word);
  }

  alignas(4096) uint8_t memory_[16384];
  Geometry geometry_;
  uint64_t bytes_ = 0;
  std::optional<Actor> hosts_[kHosts];
};

/// Options that bound an exploration by preemptions.
inline det::Options Preempt(int most, uint64_t runs_max = 0) {
  det::Options options;
  options.preemptions_max = most;
  options.runs_max = runs_max;
  return options;
}

inline det::Options Runs(uint64_t most) {
  det::Options options;
  options.runs_max = most;
  return options;
}

}  // namespace daxserve::fixture
