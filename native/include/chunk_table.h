// Chunk words: the allocator of the region. One word per 2 MiB chunk, changed by CAS alone.
#pragma once
#include <cassert>
#include <optional>

#include "host_table.h"

namespace daxserve {

struct ChunkStats {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t largest_free_run = 0;
  uint64_t quarantined = 0;
  uint64_t used = 0;
};

// @atomic chunk_word
//   states   FREE -> CLAIMED(host, content) -> USED(content) -> FREE ; CLAIMED(dead) -> FREE when its death is proved,
//            else -> QUARANTINED(host) -> FREE once it is. FREE is the word 0.
//   order    every change: acquire-release CAS. Scans: acquire loads.
//   because  whoever claims a chunk comes after everything its last owner did with the bytes
//   weaker?  a relaxed claim could let the new owner's bytes be overtaken by the old owner's stores
//   crash    a claim names host, its generation and the content: SweepDead. USED of a FREEING content: the next freer.
/// A chunk belongs to whoever's CAS took it from FREE; claims are undone by their owner or by SweepDead alone.
/// Thread safety: all members, from several processes.
template <typename A>
class ChunkTable {
 public:
  ChunkTable(uint8_t* base, const Geometry& geometry)
      : words_(reinterpret_cast<uint64_t*>(base + geometry.words)), count_(geometry.chunk_count) {}

  uint64_t count() const { return count_; }
  uint64_t Word(uint64_t chunk) const {
    assert(chunk < count_);
    return A::Load(words_ + chunk, std::memory_order_acquire);
  }

  /// Claims `count` contiguous chunks; the first, or nothing when no run is long enough.
  ///
  /// Best fit, lowest address first: contents are few, large, of very different sizes and live long, so the run that
  /// matters is the largest one; taking the smallest run that fits leaves it whole. The scan reads 8 bytes per 2 MiB.
  /// On a lost duel what was claimed goes back and the search goes on behind the lost chunk, after a pause that
  /// differs by host, so that two hosts do not meet again and again.
  std::optional<uint64_t> AllocateRun(HostRef self, uint64_t count, uint32_t content) {
    if (count == 0 || count > count_) return std::nullopt;
    const uint64_t claimed = words::ClaimedChunk(self, content);
    uint64_t from = 0;
    for (int tries = 0; tries < kTriesMax; tries++) {
      auto first = BestFit(count, from);
      if (!first && from > 0) first = BestFit(count, 0);
      if (!first) return std::nullopt;
      const uint64_t done = ClaimRun(*first, count, claimed);
      if (done == count) return first;
      Release(*first, done, claimed);
      from = *first + done + 1;
      for (uint32_t pause = 0; pause <= self.row * 16; pause++) A::Pause();
    }
    return std::nullopt;
  }

  /// Gives back what AllocateRun claimed.
  void Release(uint64_t first, uint64_t count, uint64_t claimed) {
    for (uint64_t chunk = first; chunk < first + count; chunk++) Change(chunk, claimed, words::kFreeChunk);
  }

  /// CLAIMED(self) -> USED over a run. False when one of them is not ours: nothing that is ours is lost by that.
  bool Promote(HostRef self, uint64_t first, uint64_t count, ContentRef content) {
    if (first > count_ || count > count_ - first) return false;
    const uint64_t claimed = words::ClaimedChunk(self, content.index);
    for (uint64_t chunk = first; chunk < first + count; chunk++) {
      if (!Change(chunk, claimed, words::UsedChunk(content))) return false;
    }
    return true;
  }

  /// Gives back what the content claimed but does not use.
  void ReleaseClaims(HostRef self, uint32_t content) {
    const uint64_t claimed = words::ClaimedChunk(self, content);
    for (uint64_t chunk = 0; chunk < count_; chunk++) {
      if (Word(chunk) == claimed) Change(chunk, claimed, words::kFreeChunk);
    }
  }

  /// Frees every chunk of a content in FREEING(self): used ones, and claims of our own. Idempotent. @returns how many
  uint64_t FreeOf(HostRef self, ContentRef content) {
    const uint64_t used = words::UsedChunk(content);
    const uint64_t claimed = words::ClaimedChunk(self, content.index);
    uint64_t freed = 0;
    for (uint64_t chunk = 0; chunk < count_; chunk++) {
      const uint64_t word = Word(chunk);
      if (word == used || word == claimed) freed += Change(chunk, word, words::kFreeChunk);
    }
    return freed;
  }

  /// Calls `visit(first, count)` for every run of chunks that the content uses: what the allocator says, whatever the
  /// row claims.
  template <typename Visit>
  void RunsOf(ContentRef content, Visit visit) const {
    const uint64_t used = words::UsedChunk(content);
    uint64_t run = 0;
    for (uint64_t chunk = 0; chunk <= count_; chunk++) {
      if (chunk < count_ && Word(chunk) == used) {
        run++;
      } else if (run > 0) {
        visit(chunk - run, run);
        run = 0;
      }
    }
  }

  /// Undoes the claims of dead generations of `row`. `proven`: nobody can be writing any more, so they become FREE, with
  /// those quarantined before; else a paused host may still finish a copy and they are quarantined. @returns how many
  uint64_t SweepDead(const HostTable<A>& hosts, uint32_t row, bool proven) {
    uint64_t swept = 0;
    for (uint64_t chunk = 0; chunk < count_; chunk++) {
      const uint64_t word = Word(chunk);
      if (!NamesHost(word, row) || hosts.Alive(words::OwnerOfChunk(word))) continue;
      const bool quarantined = words::StateOfChunk(word) == words::ChunkState::kQuarantined;
      if (quarantined && !proven) continue;
      swept += Change(chunk, word, proven ? words::kFreeChunk : words::Quarantined(word));
    }
    return swept;
  }

  /// True while a claim or a quarantined chunk names this row.
  bool Names(uint32_t row) const {
    for (uint64_t chunk = 0; chunk < count_; chunk++) {
      if (NamesHost(Word(chunk), row)) return true;
    }
    return false;
  }

  ChunkStats Stats() const {
    ChunkStats stats;
    stats.total = count_;
    uint64_t run = 0;
    for (uint64_t chunk = 0; chunk < count_; chunk++) {
      const uint64_t word = Word(chunk);
      run = word == words::kFreeChunk ? run + 1 : 0;
      stats.free += run > 0;
      if (run > stats.largest_free_run) stats.largest_free_run = run;
      if (run > 0) continue;
      (words::StateOfChunk(word) == words::ChunkState::kQuarantined ? stats.quarantined : stats.used)++;
    }
    return stats;
  }

 private:
  static constexpr int kTriesMax = 64;

  /// CLAIMED, PENDING and QUARANTINED name a host.
  static bool NamesHost(uint64_t word, uint32_t row) {
    const auto state = words::StateOfChunk(word);
    const bool named = state == words::ChunkState::kClaimed || state == words::ChunkState::kPending ||
                       state == words::ChunkState::kQuarantined;
    return named && words::OwnerOfChunk(word).row == row;
  }

  /// @atomic chunk_word (above)
  bool Change(uint64_t chunk, uint64_t expected, uint64_t next) {
    assert(chunk < count_);
    return A::Cas(words_ + chunk, expected, next, std::memory_order_acq_rel);
  }

  /// The shortest free run of at least `count` chunks in [from, end).
  std::optional<uint64_t> BestFit(uint64_t count, uint64_t from) const {
    std::optional<uint64_t> best;
    uint64_t best_length = count_ + 1;
    uint64_t run = 0;
    for (uint64_t chunk = from; chunk <= count_; chunk++) {
      if (chunk < count_ && Word(chunk) == words::kFreeChunk) {
        run++;
        continue;
      }
      if (run >= count && run < best_length) {
        best = chunk - run;
        best_length = run;
        if (run == count) break;
      }
      run = 0;
    }
    return best;
  }

  /// @returns how many of the run were claimed before one was lost
  uint64_t ClaimRun(uint64_t first, uint64_t count, uint64_t claimed) {
    for (uint64_t done = 0; done < count; done++) {
      if (!Change(first + done, words::kFreeChunk, claimed)) return done;
    }
    return count;
  }

  uint64_t* const words_;
  const uint64_t count_;
};

}  // namespace daxserve
