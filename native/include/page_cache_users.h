// Who uses the page cache of an image: rows in the cache's header, which v8 leaves free. An image has no registry, yet a
// pin and a claim have to say whose they are, so that what a dead process left can be told apart.
//
// @atomic page_cache_user.word
//   states   FREE -> TAKEN(boot, generation + 1) -> FREE, or TAKEN again by the next when its process is dead
//   order    acquire-release CAS; seq_cst looks are not needed: a row is decided by its lock on one kernel, by the CAS between kernels
//   because  of two kernels that see a FREE row one gets it; on one kernel the lock on the row's first byte comes first
//   crash    the kernel drops the lock: the row's owner is dead. Rows of other kernels are never taken for dead
#pragma once
#include <cstdint>

#include "atom.h"
#include "owner_check.h"
#include "status.h"

namespace daxserve {

/// Thread safety: `Dead` from any thread; the others one at a time.
class PageCacheUsers {
 public:
  /// `fd`: a writable description of the image of its own, which nobody else shares; closed at the end. The header lies at
  /// `offset` in it. `boot`: names who sees our locks, not 0.
  PageCacheUsers(layout::PageCacheHeader* header, uint64_t offset, uint32_t boot, int fd)
      : header_(header), offset_(offset), boot_(boot), fd_(fd) {}
  ~PageCacheUsers();
  PageCacheUsers(const PageCacheUsers&) = delete;
  PageCacheUsers& operator=(const PageCacheUsers&) = delete;

  /// Openers of one kernel go one after the other while it is held. EAGAIN: another holds it; EROFS...: not possible here
  int LockOpening();
  void UnlockOpening();

  /// Takes a row. `had_one`: of a dead process, whose pins the caller drops now. False: all are taken.
  bool Attach(Owner& out, bool& had_one);
  /// Leaves the row; its counters go to the totals. The caller holds no pin any more.
  void Detach();
  /// Proved dead: the row has passed on, or its process was of this kernel and its lock is gone.
  bool Dead(Owner owner) const;
  /// Rows that are taken by somebody who is not proved dead, without ours.
  uint32_t Others() const;

  /// Frees the rows of dead processes of this kernel; `clear(host)` drops their pins while nobody can take the row.
  template <typename Clear>
  uint32_t Reap(Clear clear) {
    uint32_t freed = 0;
    for (uint32_t row = 0; row < layout::kHostsMax; row++) {
      if (!TakeDead(row)) continue;
      clear(row);
      GiveBack(row);
      freed++;
    }
    return freed;
  }

  layout::PageCacheCounters* Counters(Owner owner) const { return &header_->users[owner.host].counters[0]; }

 private:
  static constexpr layout::Bits kTaken{0, 1};
  static constexpr layout::Bits kGeneration{16, 16};
  static constexpr layout::Bits kBoot{32, 32};

  uint64_t Word(uint32_t row) const { return RealAtom::Load(&header_->users[row].word, std::memory_order_acquire); }
  uint64_t ByteOf(uint32_t row) const { return offset_ + offsetof(layout::PageCacheHeader, users) + row * sizeof(layout::PageCacheUser); }
  bool Lock(uint32_t row) const;
  void Unlock(uint32_t row) const;
  bool TakeDead(uint32_t row);
  void GiveBack(uint32_t row);
  void AddToTotals(uint32_t row);

  layout::PageCacheHeader* header_;
  uint64_t offset_;
  uint32_t boot_;
  int fd_;
  Owner self_;
};

}  // namespace daxserve
