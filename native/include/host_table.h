// Host rows of the registry: who is attached, who is dead, who cleans up after whom.
#pragma once
#include <atomic>
#include <cassert>
#include <cstring>
#include <optional>

#include "registry_geometry.h"
#include "registry_words.h"

namespace daxserve {

/// Who a row belongs to.
struct HostIdentity {
  uint8_t boot_id[16] = {};
  uint64_t start_time = 0;
  uint32_t pid = 0;
  /// 1..64 bytes of UTF-8.
  uint32_t name_len = 0;
  uint8_t name[64] = {};
};

// @atomic host_row.word
//   states   LIVE -> FREE | LAPSED ; LAPSED -> RECOVERING(by a survivor) -> FREE | LAPSED ; FREE, or by a new attach of
//            the same name any state but RECOVERING(by a live survivor), -> RECOVERING(by itself, g+1) -> LIVE(g+1). The
//            generation never goes back.
//   order    every change: acquire-release CAS. Alive: acquire load.
//   because  whoever sees a claim's host gone must also see all that the host had claimed before it went
//   weaker?  a relaxed Alive could read an older LIVE and leave a dead claim for the next sweep: late, never wrong
//   crash    LIVE with a silent heartbeat: Lapse. RECOVERING(by dead), an attach cut short included: the next survivor
//            takes it over. The identity is written before LIVE, so a LIVE row never shows its predecessor's.
// @atomic host_row.heartbeat   add, relaxed: a sign of life, orders nothing
/// Thread safety: all members, from several processes.
template <typename A>
class HostTable {
 public:
  HostTable(uint8_t* base, const Geometry& geometry)
      : rows_(reinterpret_cast<layout::HostRow*>(base + geometry.hosts)), count_(geometry.host_count) {}

  uint32_t count() const { return count_; }
  uint64_t Word(uint32_t row) const { return A::Load(&Row(row)->word, std::memory_order_acquire); }

  /// True while exactly this attach holds the row. A host that is not alive may still be running: see FORMAT.md.
  bool Alive(HostRef host) const { return AliveLow(host, layout::host_word::kGeneration.max()); }

  /// As Alive for a claim that has only the bits `mask` of the generation.
  bool AliveLow(HostRef host, uint64_t mask) const {
    if (host.row >= count_) return false;
    const uint64_t word = Word(host.row);
    return words::StateOfHost(word) == words::HostState::kLive &&
           (words::GenerationOfHost(word) & mask) == (host.generation & mask);
  }

  /// Takes a FREE row, or in any state the row of a predecessor of the same name or of a host of the same kernel.
  /// Nothing when the row is another's, or while a live survivor cleans it up: that ends soon. The caller holds the row's
  /// lock, so a host of this kernel in it is dead, and has seen that no host of this name beats on another.
  std::optional<HostRef> Attach(uint32_t row, const HostIdentity& identity, uint64_t now_ms) {
    uint64_t word = Word(row);
    for (int tries = 0; tries < kTriesMax; tries++) {
      if (words::StateOfHost(word) != words::HostState::kFree && !MayTake(row, identity)) return std::nullopt;
      if (words::StateOfHost(word) == words::HostState::kRecovering && Alive(words::RecovererOf(word)))
        return std::nullopt;
      const uint32_t before = words::GenerationOfHost(word);
      const HostRef self{row, (before + 1) & kGenerationMax};
      const uint64_t taken = words::Host(words::HostState::kRecovering, before, self);
      if (word != taken && !Change(row, word, taken)) continue;
      WriteIdentity(row, identity, now_ms);
      word = taken;
      if (Change(row, word, words::Host(words::HostState::kLive, self.generation))) return self;
    }
    return std::nullopt;
  }

  /// Leaves the row: FREE, or LAPSED when something still refers to it. Nothing happens when it is no longer ours.
  void Detach(HostRef self, bool referenced) {
    if (self.row >= count_) return;
    uint64_t word = words::Host(words::HostState::kLive, self.generation);
    Change(self.row, word, words::Host(referenced ? words::HostState::kLapsed : words::HostState::kFree, self.generation));
  }

  /// LIVE -> LAPSED of exactly this attach.
  bool Lapse(HostRef host) {
    if (host.row >= count_) return false;
    uint64_t word = words::Host(words::HostState::kLive, host.generation);
    return Change(host.row, word, words::Host(words::HostState::kLapsed, host.generation));
  }

  enum class Turn { kMine, kNothingToMark, kAnother };

  /// Makes `self` the one survivor that cleans up after `row`: LAPSED or RECOVERING(by a dead one) -> RECOVERING(self).
  /// kNothingToMark: the row is FREE or LIVE; claims of older generations may be cleaned up without.
  Turn BeginRecovery(uint32_t row, HostRef self) {
    uint64_t word = Word(row);
    for (int tries = 0; tries < kTriesMax; tries++) {
      const auto state = words::StateOfHost(word);
      if (state != words::HostState::kLapsed && state != words::HostState::kRecovering) return Turn::kNothingToMark;
      if (state == words::HostState::kRecovering) {
        const HostRef by = words::RecovererOf(word);
        if (by == self) return Turn::kMine;
        if (Alive(by)) return Turn::kAnother;
      }
      const uint32_t generation = words::GenerationOfHost(word);
      if (Change(row, word, words::Host(words::HostState::kRecovering, generation, self))) return Turn::kMine;
    }
    return Turn::kAnother;
  }

  /// RECOVERING(self) -> FREE, or LAPSED while something refers to the row. False when the row was taken meanwhile.
  bool EndRecovery(uint32_t row, HostRef self, bool referenced) {
    uint64_t word = Word(row);
    const uint32_t generation = words::GenerationOfHost(word);
    if (word != words::Host(words::HostState::kRecovering, generation, self)) return false;
    return Change(row, word, words::Host(referenced ? words::HostState::kLapsed : words::HostState::kFree, generation));
  }

  /// One sign of life; false when the row is no longer ours.
  bool Beat(HostRef self) {
    if (!Alive(self)) return false;
    A::FetchAdd(&Row(self.row)->heartbeat, uint64_t{1}, std::memory_order_relaxed);
    return true;
  }

  /// A copy whose word is `out.word`; the other fields may belong to an attach in progress. False when FREE.
  bool Copy(uint32_t row, layout::HostRow& out) const {
    for (int tries = 0; tries < kTriesMax; tries++) {
      const uint64_t before = Word(row);
      if (words::StateOfHost(before) == words::HostState::kFree) return false;
      A::CopyOut(&out, Row(row), sizeof(out));
      A::Fence(std::memory_order_acquire);
      out.word = before;
      if (Word(row) == before) return true;
    }
    return true;
  }

 private:
  static constexpr int kTriesMax = 8;
  static constexpr uint32_t kGenerationMax = static_cast<uint32_t>(layout::host_word::kGeneration.max());

  layout::HostRow* Row(uint32_t row) const {
    assert(row < count_);
    return rows_ + row;
  }

  /// @atomic host_row.word (above). On failure `word` holds what was found.
  bool Change(uint32_t row, uint64_t& word, uint64_t next) {
    return A::Cas(&Row(row)->word, word, next, std::memory_order_acq_rel);
  }

  bool MayTake(uint32_t row, const HostIdentity& identity) const {
    layout::HostRow copy;
    A::CopyOut(&copy, Row(row), sizeof(copy));
    if (std::memcmp(copy.boot_id, identity.boot_id, sizeof(copy.boot_id)) == 0) return true;
    return copy.name_len == identity.name_len && std::memcmp(copy.name, identity.name, sizeof(copy.name)) == 0;
  }

  /// From boot_id to attached_at_ms, behind word and heartbeat.
  void WriteIdentity(uint32_t row, const HostIdentity& identity, uint64_t now_ms) {
    layout::HostRow copy{};
    std::memcpy(copy.boot_id, identity.boot_id, sizeof(copy.boot_id));
    std::memcpy(copy.name, identity.name, sizeof(copy.name));
    copy.start_time = identity.start_time;
    copy.pid = identity.pid;
    copy.name_len = identity.name_len;
    copy.attached_at_ms = now_ms;
    constexpr size_t kFrom = offsetof(layout::HostRow, boot_id);
    constexpr size_t kTo = offsetof(layout::HostRow, reserved);
    A::CopyIn(reinterpret_cast<uint8_t*>(Row(row)) + kFrom, reinterpret_cast<uint8_t*>(&copy) + kFrom, kTo - kFrom);
  }

  layout::HostRow* const rows_;
  const uint32_t count_;
};

}  // namespace daxserve
