// What the tables of the registry share: who acts, what is meant, and how the words are put together.
#pragma once
#include <sched.h>

#include <cstdint>
#include <optional>

#include "layout.gen.h"

namespace daxserve {

/// A host at one attach; every claim carries it. Another attach of the same row is another host.
struct HostRef {
  uint32_t row = layout::kNoHost;
  uint32_t generation = 0;
  bool operator==(const HostRef&) const = default;
};

/// A content: its row, and which use of the row.
struct ContentRef {
  uint32_t index = layout::kNoContent;
  uint32_t generation = 0;
  bool operator==(const ContentRef&) const = default;
};

/// Identity of a source; compared whole.
struct SourceKey {
  uint64_t lo = 0;
  uint64_t hi = 0;
  bool operator==(const SourceKey&) const = default;
};

/// How long to wait for somebody else's few instructions before giving up, in rounds of about 50 ns.
struct WaitLimits {
  uint32_t spins = 20000;
  /// How often a claim that gave way for nothing starts again.
  uint32_t rounds = 4;
};

/// A bounded wait.
template <typename A>
class Waiter {
 public:
  explicit Waiter(WaitLimits limits) : left_(limits.spins) {}
  /// False when the time is over.
  bool Again() {
    if (left_ == 0) return false;
    if (--left_ % 64 == 63) sched_yield();
    A::Pause();
    return true;
  }

 private:
  uint32_t left_;
};

namespace words {

using layout::ChunkState;
using layout::ContentState;
using layout::HostState;
using layout::NameState;

inline HostState StateOfHost(uint64_t word) { return static_cast<HostState>(layout::host_word::kState.get(word)); }
inline ContentState StateOfContent(uint64_t word) {
  return static_cast<ContentState>(layout::content_word::kState.get(word));
}
inline NameState StateOfName(uint64_t word) { return static_cast<NameState>(layout::name_word::kState.get(word)); }
inline ChunkState StateOfChunk(uint64_t word) { return static_cast<ChunkState>(layout::chunk_word::kState.get(word)); }

inline uint32_t GenerationOfHost(uint64_t word) {
  return static_cast<uint32_t>(layout::host_word::kGeneration.get(word));
}

inline uint64_t Host(HostState state, uint32_t generation, HostRef by = {}) {
  namespace w = layout::host_word;
  return w::kState.set(0, static_cast<uint64_t>(state)) | w::kGeneration.set(0, generation) |
         w::kByHost.set(0, by.row) | w::kByGeneration.set(0, by.generation);
}

/// Who recovers the row. REQUIRES: state RECOVERING.
inline HostRef RecovererOf(uint64_t word) {
  return {static_cast<uint32_t>(layout::host_word::kByHost.get(word)),
          static_cast<uint32_t>(layout::host_word::kByGeneration.get(word))};
}

/// RESERVED, CLAIMING, LOADING and FREEING name a host; the others hold a mask.
inline bool IsClaim(ContentState state) {
  return state == ContentState::kReserved || state == ContentState::kClaiming || state == ContentState::kLoading ||
         state == ContentState::kFreeing;
}

inline uint64_t Content(ContentState state, uint32_t generation, HostRef host = {}, uint64_t mask = 0) {
  namespace w = layout::content_word;
  return w::kState.set(0, static_cast<uint64_t>(state)) | w::kHost.set(0, host.row) | w::kMask.set(0, mask) |
         w::kHostGeneration.set(0, host.generation) | w::kGeneration.set(0, generation);
}

/// A row never used is all zero bytes: its host reads 0 then, so FREE is told by the state alone.
inline uint64_t FreeContent(uint32_t generation) { return Content(ContentState::kFree, generation); }

inline HostRef OwnerOfContent(uint64_t word) {
  return {static_cast<uint32_t>(layout::content_word::kHost.get(word)),
          static_cast<uint32_t>(layout::content_word::kHostGeneration.get(word))};
}
inline uint32_t GenerationOfContent(uint64_t word) {
  return static_cast<uint32_t>(layout::content_word::kGeneration.get(word));
}
inline uint64_t MaskOfContent(uint64_t word) { return layout::content_word::kMask.get(word); }
inline uint32_t NextGeneration(uint32_t generation) {
  return (generation + 1) & static_cast<uint32_t>(layout::content_word::kGeneration.max());
}

/// A FREE chunk word is 0; anything else is not free.
inline constexpr uint64_t kFreeChunk = 0;

inline uint64_t ClaimedChunk(HostRef host, uint32_t content) {
  namespace w = layout::chunk_word;
  return w::kState.set(0, static_cast<uint64_t>(ChunkState::kClaimed)) | w::kContent.set(0, content) |
         w::kHost.set(0, host.row) | w::kHostGeneration.set(0, host.generation);
}

/// USED carries the low 16 bits of the content's generation where a claim has the host's: a late free of an older use
/// of the row finds another word.
inline uint64_t UsedChunk(ContentRef content) {
  namespace w = layout::chunk_word;
  return w::kState.set(0, static_cast<uint64_t>(ChunkState::kUsed)) | w::kContent.set(0, content.index) |
         w::kHost.set(0, layout::kNoHost) | w::kHostGeneration.set(0, content.generation);
}

inline HostRef OwnerOfChunk(uint64_t word) {
  return {static_cast<uint32_t>(layout::chunk_word::kHost.get(word)),
          static_cast<uint32_t>(layout::chunk_word::kHostGeneration.get(word))};
}

inline uint64_t Quarantined(uint64_t chunk) {
  return layout::chunk_word::kState.set(chunk, static_cast<uint64_t>(ChunkState::kQuarantined));
}

inline uint64_t ClaimedName(HostRef host) {
  namespace w = layout::name_word;
  return w::kState.set(0, static_cast<uint64_t>(NameState::kClaimed)) | w::kContent.set(0, layout::kNoContent) |
         w::kHost.set(0, host.row) | w::kHostGeneration.set(0, host.generation);
}

/// In the hands of a host that was taken for dead and may only be paused.
inline uint64_t QuarantinedName(HostRef host) {
  return layout::name_word::kState.set(ClaimedName(host), static_cast<uint64_t>(NameState::kQuarantined));
}

inline uint64_t UsedName(std::optional<ContentRef> target) {
  namespace w = layout::name_word;
  const ContentRef to = target.value_or(ContentRef{});
  return w::kState.set(0, static_cast<uint64_t>(NameState::kUsed)) | w::kContent.set(0, to.index) |
         w::kGeneration.set(0, to.generation) | w::kHost.set(0, layout::kNoHost);
}

inline std::optional<ContentRef> TargetOf(uint64_t word) {
  const auto index = static_cast<uint32_t>(layout::name_word::kContent.get(word));
  if (index == layout::kNoContent) return std::nullopt;
  return ContentRef{index, static_cast<uint32_t>(layout::name_word::kGeneration.get(word))};
}

}  // namespace words
}  // namespace daxserve
