#include "page_cache_users.h"

#include <unistd.h>

#include "fence.h"

namespace daxserve {
namespace {

constexpr uint64_t kCounters = sizeof(layout::PageCacheCounters) / sizeof(uint64_t);

uint64_t* Words(layout::PageCacheCounters* counters) { return reinterpret_cast<uint64_t*>(counters); }

}  // namespace

PageCacheUsers::~PageCacheUsers() {
  Detach();
  close(fd_);
}

int PageCacheUsers::LockOpening() {
  bool taken = false;
  const uint64_t at = offset_ + offsetof(layout::PageCacheHeader, source_stamp);
  const Status status = SetOfdLock(fd_, LockType::kWrite, at, 1, taken);
  if (!status.ok()) return status.error();
  return taken ? 0 : EAGAIN;
}

void PageCacheUsers::UnlockOpening() {
  bool taken = false;
  (void)SetOfdLock(fd_, LockType::kUnlock, offset_ + offsetof(layout::PageCacheHeader, source_stamp), 1, taken);
}

bool PageCacheUsers::Lock(uint32_t row) const {
  bool taken = false;
  return SetOfdLock(fd_, LockType::kWrite, ByteOf(row), 1, taken).ok() && taken;
}

void PageCacheUsers::Unlock(uint32_t row) const {
  bool taken = false;
  (void)SetOfdLock(fd_, LockType::kUnlock, ByteOf(row), 1, taken);
}

bool PageCacheUsers::Attach(Owner& out, bool& had_one) {
  for (uint32_t row = 0; row < layout::kHostsMax; row++) {
    if (!Lock(row)) continue;
    uint64_t word = Word(row);
    had_one = kTaken.get(word) != 0;
    const uint64_t generation = (kGeneration.get(word) + 1) & kGeneration.max();
    const uint64_t ours = kBoot.set(kGeneration.set(kTaken.set(0, 1), generation), boot_);
    const bool may = !had_one || kBoot.get(word) == boot_;
    if (!may || !RealAtom::Cas(&header_->users[row].word, word, ours, std::memory_order_acq_rel)) {
      Unlock(row);
      continue;
    }
    AddToTotals(row);
    RealAtom::Store(&header_->users[row].pid, static_cast<uint32_t>(getpid()), std::memory_order_relaxed);
    out = self_ = {row, static_cast<uint32_t>(generation)};
    return true;
  }
  return false;
}

void PageCacheUsers::Detach() {
  if (self_.host >= layout::kHostsMax) return;
  GiveBack(self_.host);
  self_ = {};
}

bool PageCacheUsers::Dead(Owner owner) const {
  if (owner.host >= layout::kHostsMax || owner == self_) return false;
  const uint64_t word = Word(owner.host);
  if (kTaken.get(word) == 0 || kGeneration.get(word) != owner.generation) return true;
  bool held = true;
  if (kBoot.get(word) != boot_ || !TestOfdLock(fd_, ByteOf(owner.host), 1, held).ok()) return false;
  return !held && Word(owner.host) == word;
}

uint32_t PageCacheUsers::Others() const {
  uint32_t count = 0;
  for (uint32_t row = 0; row < layout::kHostsMax; row++) {
    const uint64_t word = Word(row);
    if (kTaken.get(word) == 0 || row == self_.host) continue;
    count += !Dead({row, static_cast<uint32_t>(kGeneration.get(word))});
  }
  return count;
}

// True: its process is dead, and the row's lock is ours.
bool PageCacheUsers::TakeDead(uint32_t row) {
  const uint64_t word = Word(row);
  if (row == self_.host || kTaken.get(word) == 0 || kBoot.get(word) != boot_ || !Lock(row)) return false;
  if (Word(row) == word) return true;
  Unlock(row);
  return false;
}

void PageCacheUsers::GiveBack(uint32_t row) {
  AddToTotals(row);
  const uint64_t word = Word(row);
  RealAtom::Store(&header_->users[row].word, kTaken.set(word, 0), std::memory_order_release);
  Unlock(row);
}

// The row is ours alone. @atomic totals  relaxed adds: numbers for people
void PageCacheUsers::AddToTotals(uint32_t row) {
  uint64_t* from = Words(&header_->users[row].counters[0]);
  uint64_t* to = Words(&header_->totals[0]);
  for (uint64_t i = 0; i < kCounters; i++) {
    const uint64_t count = RealAtom::Load(from + i, std::memory_order_relaxed);
    RealAtom::FetchAdd(to + i, count, std::memory_order_relaxed);
    RealAtom::Store(from + i, uint64_t{0}, std::memory_order_relaxed);
  }
}

}  // namespace daxserve
