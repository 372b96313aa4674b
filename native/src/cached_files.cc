#include "cached_files.h"

#include <unistd.h>

#include <algorithm>

namespace daxserve {
namespace {

/// Another process is opening the image: it walks a tree of files at most.
constexpr int kOpeningTries = 10000;
constexpr useconds_t kOpeningWaitUs = 1000;

void Count(uint64_t& counter, uint64_t by) { std::atomic_ref<uint64_t>(counter).fetch_add(by, std::memory_order_relaxed); }

}  // namespace

CachedFiles::CachedFiles(const CachedImage& image, std::unique_ptr<BackingFiles> files)
    : image_(image), files_(std::move(files)) {
  cache_ = std::make_unique<PageCache<RealAtom>>(image_.view, PageCacheOptions{{}, {}, image_.homes, nullptr}, nullptr, counters_);
}

// A pin that nobody took back would be the next one's in our row.
CachedFiles::~CachedFiles() {
  const bool pins = std::any_of(counts_.begin(), counts_.end(), [](uint32_t count) { return count != 0; });
  if (pins) cache_->ReleaseHost(self_.host);
}

int CachedFiles::Attach(int fd, uint32_t boot) {
  users_ = std::make_unique<PageCacheUsers>(image_.view.header, image_.header_offset, boot, fd);
  int error = EAGAIN;
  for (int tries = 0; tries < kOpeningTries && error == EAGAIN; tries++) {
    error = users_->LockOpening();
    if (error == EAGAIN) usleep(kOpeningWaitUs);
  }
  if (error != 0) return error == EAGAIN ? ETIMEDOUT : error;
  error = Adopt();
  users_->UnlockOpening();
  return error;
}

// Nobody else of this kernel is opening the image.
int CachedFiles::Adopt() {
  const PageCacheOptions guest{{}, {IsDead, users_.get()}, image_.homes, nullptr};
  PageCache<RealAtom> cleaner(image_.view, guest, nullptr, nullptr);
  users_->Reap([&](uint32_t host) { cleaner.ReleaseHost(host); });
  cleaner.FreeDeadFills();
  if (users_->Others() == 0) cleaner.Recount();
  // @atomic page_cache_header.source_stamp  changed while no other process uses the cache; acquire-release
  uint64_t* stamp = &image_.view.header->source_stamp;
  uint64_t seen = RealAtom::Load(stamp, std::memory_order_acquire);
  if (files_ && seen != files_->stamp()) {
    if (seen != 0 && (users_->Others() > 0 || cleaner.Forget() > 0)) return EBUSY;
    if (!RealAtom::Cas(stamp, seen, files_->stamp(), std::memory_order_acq_rel)) return EBUSY;
  }
  bool had_one = false;
  if (!users_->Attach(self_, had_one)) return 0;
  if (had_one) cleaner.ReleaseHost(self_.host);
  counts_.assign(image_.view.slot_count, 0);
  hints_.assign(image_.view.slot_count, 0);
  counters_ = users_->Counters(self_);
  const PageCacheOptions options{self_, {IsDead, users_.get()}, image_.homes, hints_.data()};
  cache_ = std::make_unique<PageCache<RealAtom>>(image_.view, options, counts_.data(), counters_);
  return 0;
}

uint32_t CachedFiles::Recover() {
  if (!users_) return 0;
  PageCache<RealAtom> cleaner(image_.view, {{}, {IsDead, users_.get()}, image_.homes, nullptr}, nullptr, nullptr);
  const uint32_t rows = users_->Reap([&](uint32_t host) { cleaner.ReleaseHost(host); });
  // Their rows have passed on: now every claim of theirs is a dead one.
  if (rows > 0) cleaner.FreeDeadFills();
  return rows;
}

int CachedFiles::Find(uint64_t ino, uint64_t page, layout::Inode& inode, uint64_t& source_page) const {
  if (!image_.base->Inode(ino, inode) || ino >= kPageTagInodeEnd) return EIO;
  const auto at = CheckedAdd(inode.data_offset / block_bytes(), page);
  if (!at || *at > layout::kPageIndexMax) return EFBIG;
  source_page = *at;
  return 0;
}

int CachedFiles::FromSource(const layout::Inode& inode, uint64_t source_page, uint8_t* block) {
  if (!files_) return ENOTSUP;
  const int error = files_->ReadBlock(inode, source_page, block, block_bytes());
  if (error == EAGAIN) return EIO;
  if (error == 0) {
    Count(counters_->source_reads, 1);
    Count(counters_->source_bytes, block_bytes());
  }
  return error;
}

bool CachedFiles::Trusted() const {
  if (attached() || !files_) return true;
  const uint64_t stamp = RealAtom::Load(&image_.view.header->source_stamp, std::memory_order_acquire);
  return stamp == 0 || stamp == files_->stamp();
}

int CachedFiles::PinOrFill(const layout::Inode& inode, uint64_t source_page, bool evict, PagePin& out) {
  const uint64_t tag = PageTag(inode.ino, source_page);
  if (only_cached_) return cache_->TryPin(tag, out) ? 0 : EAGAIN;
  const auto fill = [&](uint8_t* slot) { return FromSource(inode, source_page, slot); };
  return cache_->Pin(tag, fill, out, evict);
}

int CachedFiles::Read(uint64_t ino, uint64_t page, uint8_t* block) {
  layout::Inode inode;
  uint64_t source_page = 0;
  if (const int error = Find(ino, page, inode, source_page)) return error;
  if (page >= inode.size / block_bytes() + (inode.size % block_bytes() != 0)) {
    std::memset(block, 0, block_bytes());
    return 0;
  }
  if (!attached() || !files_) {
    const auto copy = [&](const uint8_t* from) { CopyOut<RealAtom>(block, from, block_bytes()); };
    if (Trusted() && cache_->Peek(PageTag(ino, source_page), copy) && Trusted()) return 0;
    return only_cached_ ? EAGAIN : FromSource(inode, source_page, block);
  }
  PagePin pin;
  const int error = PinOrFill(inode, source_page, true, pin);
  if (error == EAGAIN && !only_cached_) return FromSource(inode, source_page, block);
  if (error != 0) return error;
  CopyOut<RealAtom>(block, pin.data, block_bytes());
  if (pinning_ != nullptr) pinning_->Hold(pin);
  else cache_->Unpin(pin);
  return 0;
}

int CachedFiles::Warm(const layout::Inode& inode, uint64_t page) {
  layout::Inode found;
  uint64_t source_page = 0;
  PagePin pin;
  if (!attached() || !files_) return ENOTSUP;
  if (const int error = Find(inode.ino, page, found, source_page)) return error;
  const int error = PinOrFill(found, source_page, false, pin);
  if (error == 0) cache_->Unpin(pin);
  return error;
}

int CachedFiles::WarmAll(uint64_t& done, uint64_t& wanted) {
  uint64_t room = 0;
  for (uint64_t at = 0; at < slot_count(); at++) room += cache_->SlotWord(at).lo == 0;
  // Pages that find their own places full, before all are taken for full: others fill the cache too.
  uint64_t refusals = slot_count() * SlotPlaces::kWindow;
  done = wanted = 0;
  layout::Inode inode;
  for (uint64_t ino = 1; ino <= image_.base->inode_count(); ino++) {
    if (!image_.base->Inode(ino, inode) || (inode.mode & S_IFMT) != S_IFREG) continue;
    const uint64_t pages = inode.size / block_bytes() + (inode.size % block_bytes() != 0);
    wanted += pages;
    for (uint64_t page = 0; page < pages && room > 0 && refusals > 0; page++) {
      const int error = Warm(inode, page);
      if (error != 0 && error != EAGAIN) return error;
      (error == 0 ? room : refusals)--;
      done += error == 0;
    }
  }
  return 0;
}

PageCacheCounters CachedFiles::counters() const {
  PageCacheCounters out;
  RealAtom::CopyOut(&out, counters_, sizeof(out));
  return out;
}

}  // namespace daxserve
