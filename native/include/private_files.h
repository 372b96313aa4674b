// Inodes and pages of a private front. Every entry is immutable once a bucket names it: a change is a new entry and one
// CAS of the bucket, and the old entry is free at once.
//
// Why nobody sees a recycled entry: a reader finds the bucket, copies the entry, and looks at the bucket's value again.
// Values carry a version that grows with every change of the bucket, and an entry is handed on only after the bucket that
// named it has changed; so an unchanged value says that the entry was not free at any time between the two looks. A writer
// never writes into an entry that a bucket names: it fills one of its own and its CAS expects the version it copied from,
// so a writer that slept for hours loses its CAS and nothing else. (The version wraps after 4,194,304 changes of one
// bucket; a sleeper would have to wake up exactly then, at the same key and offset.)
//
// inode entry, private front: `type` = 1 | truncations << 8 ; `flags` bit 0 DYING, bit 1 TRUNCATING, bits 12..31 pages that
// a running truncation or removal must look at ; `nlink` = pages of the base file that still show through ; directory: `size` = slots.
#pragma once
#include <utility>

#include "overlay_types.h"
#include "shared_copy.h"

namespace daxserve {

/// An inode as it was read.
struct PrivateInode {
  uint64_t ino = 0;
  bool stored = false;  // false: the base inode, nothing in the overlay yet
  BucketRef ref;
  uint32_t truncations = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  uint32_t base_pages = 0;
  uint32_t flags = 0;

  static constexpr uint32_t kDying = 1;
  static constexpr uint32_t kTruncating = 2;
  bool dying() const { return (flags & kDying) != 0; }
  bool truncating() const { return (flags & kTruncating) != 0; }
  uint64_t scan_pages() const { return flags >> 12; }
  /// True when no truncation came between `earlier` and this.
  bool SameEpoch(const PrivateInode& earlier) const { return truncations == earlier.truncations && !truncating(); }
};

template <typename A>
class PrivateFiles {
 public:
  static constexpr uint64_t kAlign = 16;

  explicit PrivateFiles(const OverlayParts& parts)
      : table_(parts.view.table, parts.read_only),
        pool_(parts.view.header, parts.view.pool, parts.view.pool_bytes, parts.view.block_bytes, kAlign, true),
        lower_(parts.base, parts.lower, parts.view.block_bytes),
        block_(parts.view.block_bytes),
        hand_(parts.hand) {}

  PrivateTable<A>& table() { return table_; }
  Pool<A>& pool() { return pool_; }
  const Lower& lower() const { return lower_; }
  uint64_t block_bytes() const { return block_; }

  /// @returns 0, ENOENT (removed or never there), EIO
  int Load(uint64_t ino, PrivateInode& out) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      BucketRef ref;
      if (table_.Find(InodeKey(ino), ref) == FindResult::kAbsent) return LoadBase(ino, out);
      layout::OverlayInode entry;
      if (!CopyEntry(ref, &entry, sizeof(entry))) return EIO;
      if (!table_.Still(ref)) continue;
      if ((entry.type & 0xff) != 1) return EIO;
      out = {ino,       true,      ref,        entry.type >> 8, entry.mode, entry.uid,
             entry.gid, entry.size, entry.nlink, entry.flags};
      return out.dying() && !IsDirectory(out.mode) ? ENOENT : 0;
    }
    return EAGAIN;
  }

  /// True while the overlay's entry is the one that was read: no truncation, no removal, no other size.
  bool Unchanged(const PrivateInode& inode) const { return inode.stored && table_.Still(inode.ref); }

  /// Puts `next` in the place of `inode` (its ref, or nothing). @returns 0, EAGAIN (it changed), ENOSPC; `next.ref` is the new one
  /// @param spare an entry to use, when it has one; then only a full table gives ENOSPC
  int Store(const PrivateInode& inode, PrivateInode& next, std::optional<uint64_t>* spare = nullptr) {
    const auto offset = spare != nullptr && *spare ? std::exchange(*spare, std::nullopt) : pool_.Allocate(EntryType::kInode);
    if (!offset) return ENOSPC;
    const layout::OverlayInode entry{1 | next.truncations << 8, next.mode, next.uid, next.gid,
                                     next.size, next.base_pages, next.flags};
    CopyIn<A>(pool_.At(*offset, sizeof(entry)), &entry, sizeof(entry));
    next.stored = true;
    next.ref = inode.ref;
    if (inode.stored) {
      if (table_.Replace(next.ref, *offset)) {
        Retire(EntryType::kInode, private_value::Offset(inode.ref.value));
        return 0;
      }
      TakeBack(*offset, spare);
      return EAGAIN;
    }
    const InsertResult result = table_.Insert(InodeKey(next.ino), *offset, next.ref);
    if (result == InsertResult::kInserted) return 0;
    TakeBack(*offset, spare);
    return result == InsertResult::kExists ? EAGAIN : ErrorOf(result);
  }

  /// Changes an inode by `change(PrivateInode&)` until no one interferes.
  template <typename Change>
  int Update(uint64_t ino, Change change) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (const int error = Load(ino, inode)) return error;
      PrivateInode next = inode;
      change(next);
      const int error = Store(inode, next);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  int Add(uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size) {
    PrivateInode none, next;
    next.ino = ino;
    next.mode = mode;
    next.uid = uid;
    next.gid = gid;
    next.size = size;
    return Store(none, next);
  }

  /// Takes an inode and its pages out: DYING first, so that whoever goes on after a crash finds which pages there are. A
  /// base inode keeps that entry, so that it does not show through again. Any number may do it, again and again.
  void Reap(uint64_t ino, const layout::Inode* base) {
    PrivateInode inode;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      inode = {};
      if (Load(ino, inode) != 0 && !inode.dying()) return;
      PrivateInode next = inode;
      next.flags = PrivateInode::kDying | (IsDirectory(inode.mode) ? 0 : static_cast<uint32_t>(PagesOf(inode)) << 12);
      const bool marked = base == nullptr ? inode.dying() : inode.flags == next.flags;
      const int error = marked ? 0 : Store(inode, next);
      if (error == EAGAIN) continue;
      // No room for that entry: an overlay's own inode goes first and its pages after it. A crash between costs them.
      if (error != 0 && base != nullptr) return;
      if (error != 0 && !RemoveEntry(inode)) continue;
      if (!IsDirectory(inode.mode)) RemovePages(ino, 0, PagesOf(inode));
      if (error == 0 && base == nullptr) RemoveEntry(marked ? inode : next);
      return;
    }
  }

  /// Pages that may exist: up to the size, what a truncation has not looked at yet, and those of the base.
  uint64_t PagesOf(const PrivateInode& inode) const {
    uint64_t pages = inode.size / block_ + (inode.size % block_ != 0);
    if (inode.scan_pages() > pages) pages = inode.scan_pages();
    if (inode.base_pages > pages) pages = inode.base_pages;
    return pages <= layout::kPageIndexMax ? pages : uint64_t{layout::kPageIndexMax} + 1;
  }

  /// Of a file that is gone. A writer that knows it not yet may put a page in the place of another once more: then again.
  void RemovePages(uint64_t ino, uint64_t from, uint64_t to) {
    for (uint64_t page = from; page < to; page++) {
      BucketRef ref;
      for (int tries = 0; tries < kLateWritersMax; tries++) {
        if (table_.Find(PageKey(ino, page), ref) == FindResult::kAbsent || RemovePage(ref)) break;
      }
    }
  }

  bool RemovePage(const BucketRef& ref) {
    if (!table_.Remove(ref)) return false;
    RetirePage(private_value::Offset(ref.value));
    return true;
  }

  /// Bytes [at, at + length) of one page as they are now. @param found the overlay page they came from, if any
  int ReadPage(const PrivateInode& inode, uint64_t page, uint64_t at, uint8_t* to, uint64_t length, BucketRef* found) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      BucketRef ref;
      if (table_.Find(PageKey(inode.ino, page), ref) == FindResult::kAbsent) {
        if (found != nullptr) *found = {};
        return ReadLower(inode, page, at, to, length);
      }
      const uint8_t* from = pool_.At(private_value::Offset(ref.value), block_);
      if (from == nullptr) return EIO;
      CopyOut<A>(to, from + at, length);
      ReadFence<A>();
      if (!table_.Still(ref)) continue;
      if (found != nullptr) *found = ref;
      return 0;
    }
    return EAGAIN;
  }

  /// Writes part of a page: a copy with the change takes the page's place. `mine` is the page that was published where
  /// none was before (key 0: it took another's place).
  int WritePage(const PrivateInode& inode, uint64_t page, uint64_t at, const uint8_t* from, uint64_t length, BucketRef& mine) {
    if (block_ > kBlockMax) return EIO;
    const auto offset = TakePage();
    if (!offset) return ENOSPC;
    uint8_t* fresh = pool_.At(*offset, block_);
    int error = EAGAIN;
    for (int tries = 0; tries < kRetriesMax && error == EAGAIN; tries++) {
      BucketRef old;
      const bool whole = length == block_;
      if (whole) {
        table_.Find(PageKey(inode.ino, page), old);
        if (tries == 0) CopyIn<A>(fresh, from, block_);
      } else {
        uint8_t bytes[kBlockMax];
        error = ReadPage(inode, page, 0, bytes, block_, &old);
        if (error != 0) break;
        std::memcpy(bytes + at, from, length);
        CopyIn<A>(fresh, bytes, block_);
      }
      error = Publish(PageKey(inode.ino, page), old, *offset, mine);
      if (error == 0 && old.key != 0) mine.key = 0;
    }
    if (error != 0) GivePage(*offset);
    return error;
  }

  /// Zeroes the tail of the last page and takes out what lies behind it. Anybody may do it, several at once: each step
  /// counts only while the inode is still in this truncation, which was looked at after the page was.
  void FinishTruncation(const PrivateInode& inode) {
    if (inode.size % block_ != 0 && !ZeroTail(inode)) return;
    const uint64_t first = inode.size / block_ + (inode.size % block_ != 0);
    for (uint64_t page = first; page < inode.scan_pages(); page++) {
      BucketRef ref;
      if (table_.Find(PageKey(inode.ino, page), ref) == FindResult::kAbsent) continue;
      if (!table_.Still(inode.ref)) return;
      RemovePage(ref);
    }
    PrivateInode next = inode;
    next.flags = 0;
    const uint64_t keep = inode.size / block_;
    if (next.base_pages > keep) next.base_pages = static_cast<uint32_t>(keep);
    Store(inode, next);
  }

  /// An entry out of the table goes back to the pool: whoever fills it next does so after the table's change.
  void Retire(EntryType type, uint64_t offset) {
    WriteFence<A>();
    pool_.Free(type, offset);
  }

  /// The hand's page goes back to the pool.
  void EmptyHand() {
    if (hand_ != nullptr && hand_->page != kNone) pool_.Free(EntryType::kPage, std::exchange(hand_->page, kNone));
  }

  bool CopyEntry(const BucketRef& ref, void* to, uint64_t bytes) {
    const uint8_t* from = pool_.At(private_value::Offset(ref.value), bytes);
    if (from == nullptr) return false;
    CopyOut<A>(to, from, bytes);
    ReadFence<A>();
    return true;
  }

 private:
  static constexpr uint64_t kBlockMax = 65536;
  /// Writers that may be in the middle of one page when its file goes; each replaces it at most once more.
  static constexpr int kLateWritersMax = 256;

  void TakeBack(uint64_t offset, std::optional<uint64_t>* spare) {
    if (spare != nullptr) {
      *spare = offset;
    } else {
      pool_.Free(EntryType::kInode, offset);
    }
  }
  std::optional<uint64_t> TakePage() {
    if (hand_ != nullptr && hand_->page != kNone) return std::exchange(hand_->page, kNone);
    return pool_.Allocate(EntryType::kPage);
  }
  /// A page that no bucket names. (In a damaged region it may be none.)
  void GivePage(uint64_t offset) {
    const bool sound = offset % block_ == 0 && pool_.At(offset, block_) != nullptr;
    if (hand_ == nullptr || hand_->page != kNone || !sound) return pool_.Free(EntryType::kPage, offset);
    hand_->page = offset;
  }
  void RetirePage(uint64_t offset) {
    WriteFence<A>();
    GivePage(offset);
  }

  int LoadBase(uint64_t ino, PrivateInode& out) {
    layout::Inode inode;
    if (!lower_.Inode(ino, inode)) return ENOENT;
    const bool directory = IsDirectory(inode.mode);
    out = {};
    out.ino = ino;
    out.mode = inode.mode;
    out.uid = inode.uid;
    out.gid = inode.gid;
    out.size = directory ? 0 : inode.size;
    const uint64_t pages = inode.size / block_ + (inode.size % block_ != 0);
    out.base_pages = directory ? 0 : static_cast<uint32_t>(pages < UINT32_MAX ? pages : UINT32_MAX);
    return 0;
  }

  bool RemoveEntry(const PrivateInode& inode) {
    if (!table_.Remove(inode.ref)) return false;
    Retire(EntryType::kInode, private_value::Offset(inode.ref.value));
    return true;
  }

  int ReadLower(const PrivateInode& inode, uint64_t page, uint64_t at, uint8_t* to, uint64_t length) {
    layout::Inode base;
    if (page >= inode.base_pages || !lower_.Inode(inode.ino, base)) {
      std::memset(to, 0, length);
      return 0;
    }
    uint8_t bytes[kBlockMax];
    if (const int error = lower_.Block(base, page, bytes)) return error;
    std::memcpy(to, bytes + at, length);
    return 0;
  }

  int Publish(uint64_t key, const BucketRef& old, uint64_t offset, BucketRef& mine) {
    if (old.key != key) {
      const InsertResult result = table_.Insert(key, offset, mine);
      return result == InsertResult::kExists ? EAGAIN : ErrorOf(result);
    }
    mine = old;
    if (!table_.Replace(mine, offset)) return EAGAIN;
    RetirePage(private_value::Offset(old.value));
    return 0;
  }

  /// False: the truncation was finished by another, or there is no room for the tail's page (then it stays TRUNCATING).
  bool ZeroTail(const PrivateInode& inode) {
    const uint64_t page = inode.size / block_, keep = inode.size % block_;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      uint8_t bytes[kBlockMax];
      BucketRef old, mine;
      if (ReadPage(inode, page, 0, bytes, block_, &old) != 0) return false;
      if (!table_.Still(inode.ref)) return false;
      bool zero = true;
      for (uint64_t i = keep; i < block_ && zero; i++) zero = bytes[i] == 0;
      const bool through = old.key == 0 && page < inode.base_pages;
      if (zero && !through) return true;
      std::memset(bytes + keep, 0, block_ - keep);
      const auto offset = TakePage();
      if (!offset) return false;
      CopyIn<A>(pool_.At(*offset, block_), bytes, block_);
      const int error = Publish(PageKey(inode.ino, page), old, *offset, mine);
      if (error != 0) GivePage(*offset);
      if (error == ENOSPC) return false;
      if (error != 0) continue;
      if (table_.Still(inode.ref)) return true;
      // A page that was not there before: it came too late, and must not stay.
      if (old.key == 0) RemovePage(mine);
      return false;
    }
    return false;
  }

  PrivateTable<A> table_;
  Pool<A> pool_;
  Lower lower_;
  uint64_t block_;
  PageHand* hand_;
};

}  // namespace daxserve
