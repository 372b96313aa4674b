// A kernel-mountable front: every byte as v8 has it, published entries are changed in place and never freed or moved.
//
// Names: a bucket holds the first entry of its key, others hang on `next`; every directory lists its entries from `first`
// along `dir_next`, tombstones included. flags bit 0 = tombstone. While a tombstone is revived, or a name renamed, bits
// 31..1 hold the claim (intent row + 1): one owner at a time, readers look at bit 0 and see the state before.
// Inodes and pages are changed in place, as a v8 kernel does: concurrent writes to one page mix byte by byte.
#pragma once
#include "file_owner.h"
#include "fnv.h"
#include "overlay_name.h"
#include "shared_copy.h"

namespace daxserve {

template <typename A>
class KernelFiles {
 public:
  static constexpr uint64_t kAlign = 8;

  explicit KernelFiles(const OverlayParts& parts)
      : table_(parts.view.table, parts.index),
        pool_(parts.view.header, parts.view.pool, parts.view.pool_bytes, parts.view.block_bytes, kAlign),
        lower_(parts.base, parts.lower, parts.view.block_bytes),
        block_(parts.view.block_bytes) {}

  KernelTable<A>& table() { return table_; }
  Pool<A>& pool() { return pool_; }
  const Lower& lower() const { return lower_; }
  uint64_t block_bytes() const { return block_; }

  int Stat(uint64_t ino, FileStat& out) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = Entry(ino, entry)) return error == ENOENT ? StatBase(ino, out) : error;
    const uint64_t word = A::Load(Word(&entry->type), std::memory_order_acquire);
    const uint64_t owner = A::Load(Word(&entry->uid), std::memory_order_acquire);
    out = {ino,
           static_cast<uint32_t>(word >> 32),
           static_cast<uint32_t>(owner),
           static_cast<uint32_t>(owner >> 32),
           A::Load(&entry->size, std::memory_order_acquire),
           A::Load(&entry->nlink, std::memory_order_acquire)};
    if (IsDirectory(out.mode)) out.size = 0;
    return 0;
  }

  int AddInode(uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size, uint32_t nlink) {
    const auto offset = pool_.Allocate(EntryType::kInode);
    if (!offset) return ENOSPC;
    const layout::OverlayInode entry{1, mode, uid, gid, size, nlink, 0};
    CopyIn<A>(pool_.At(*offset, sizeof(entry)), &entry, sizeof(entry));
    BucketRef ref;
    const InsertResult result = table_.Insert(InodeKey(ino), *offset, ref);
    if (result == InsertResult::kInserted) return 0;
    pool_.Free(EntryType::kInode, *offset);
    return ErrorOf(result);
  }

  /// The overlay's entry of an inode; a base inode gets one first (v8: on the first change of an attribute).
  int EntryForChange(uint64_t ino, layout::OverlayInode*& out) {
    int error = Entry(ino, out);
    if (error != ENOENT) return error;
    FileStat base;
    if (const int none = StatBase(ino, base)) return none;
    error = AddInode(ino, base.mode, base.uid, base.gid, base.size, base.nlink);
    return error == 0 || error == EEXIST ? Entry(ino, out) : error;
  }

  int SetMode(uint64_t ino, uint32_t permissions) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = EntryForChange(ino, entry)) return error;
    uint32_t mode = A::Load(&entry->mode, std::memory_order_acquire);
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (A::Cas(&entry->mode, mode, (mode & S_IFMT) | (permissions & 07777), std::memory_order_acq_rel)) return 0;
    }
    return EAGAIN;
  }

  int SetOwner(uint64_t ino, uint32_t uid, uint32_t gid) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = EntryForChange(ino, entry)) return error;
    uint32_t mode = A::Load(&entry->mode, std::memory_order_acquire);
    for (int tries = 0; tries < kRetriesMax && ModeAfterChown(mode) != mode; tries++) {
      if (A::Cas(&entry->mode, mode, ModeAfterChown(mode), std::memory_order_acq_rel)) break;
    }
    uint64_t* word = Word(&entry->uid);
    uint64_t seen = A::Load(word, std::memory_order_acquire);
    for (int tries = 0; tries < kRetriesMax; tries++) {
      const uint64_t owner = OwnerAfter(static_cast<uint32_t>(seen), uid), group = OwnerAfter(seen >> 32, gid);
      if (A::Cas(word, seen, group << 32 | owner, std::memory_order_acq_rel)) return 0;
    }
    return EAGAIN;
  }

  /// Never makes a file shorter: of two writers the larger end wins (not the later one).
  int GrowSize(uint64_t ino, uint64_t end) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = EntryForChange(ino, entry)) return error;
    uint64_t size = A::Load(&entry->size, std::memory_order_acquire);
    for (int tries = 0; size < end && tries < kRetriesMax; tries++) {
      if (A::Cas(&entry->size, size, end, std::memory_order_acq_rel)) return 0;
    }
    return size < end ? EAGAIN : 0;
  }

  int Truncate(uint64_t ino, uint64_t size) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = EntryForChange(ino, entry)) return error;
    uint64_t old = A::Load(&entry->size, std::memory_order_acquire);
    if (size > old) {
      if (const int error = Mask(ino, old, size)) return error;
    } else if (const int error = CutTail(ino, size, old)) {
      return error;
    }
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (!A::Cas(&entry->size, old, size, std::memory_order_acq_rel)) continue;
      ZeroPages(ino, size, old);
      return 0;
    }
    return EAGAIN;
  }

  /// Directories only: not 0 while (and after) it is removed. v8 keeps 0 in `flags` and does not look at it.
  int SetRemoved(uint64_t ino, uint32_t from, uint32_t to) {
    layout::OverlayInode* entry = nullptr;
    const int missing = from == 0 ? EntryForChange(ino, entry) : Entry(ino, entry);
    if (missing != 0) return missing;
    return A::Cas(&entry->flags, from, to, std::memory_order_acq_rel) ? 0 : EAGAIN;
  }
  /// What SetRemoved stored; 0 for an open directory.
  uint32_t Removed(uint64_t ino) {
    layout::OverlayInode* entry = nullptr;
    // seq_cst: see Overlay::LinkOpen.
    return Entry(ino, entry) == 0 ? A::Load(&entry->flags, std::memory_order_seq_cst) : 0;
  }

  int ReserveAppend(uint64_t ino, uint64_t length, uint64_t limit, uint64_t& at) {
    layout::OverlayInode* entry = nullptr;
    if (const int error = EntryForChange(ino, entry)) return error;
    at = A::Load(&entry->size, std::memory_order_acquire);
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (length > limit || at > limit - length) return EFBIG;
      if (A::Cas(&entry->size, at, at + length, std::memory_order_acq_rel)) return 0;
    }
    return EAGAIN;
  }

  /// What ReserveAppend took and could not be filled: zeros again while it is still ours, then gone, unless somebody has
  /// appended behind it.
  void GiveBack(uint64_t ino, uint64_t at, uint64_t end) {
    for (uint64_t byte = at, length = 0; byte < end; byte += length) {
      const uint64_t start = byte % block_;
      length = end - byte < block_ - start ? end - byte : block_ - start;
      uint8_t* bytes = nullptr;
      if (Page(ino, byte / block_, bytes) == 0 && bytes != nullptr) ZeroIn<A>(bytes + start, length);
    }
    layout::OverlayInode* entry = nullptr;
    if (Entry(ino, entry) == 0) (void)A::Cas(&entry->size, end, at, std::memory_order_acq_rel);
  }

  int ReadPage(uint64_t ino, uint64_t page, uint64_t at, uint8_t* to, uint64_t length) {
    uint8_t* bytes = nullptr;
    if (const int error = Page(ino, page, bytes)) return error;
    if (bytes != nullptr) {
      CopyOut<A>(to, bytes + at, length);
      return 0;
    }
    return ReadLower(ino, page, at, to, length);
  }

  /// Writes part of a page. `size`: of the file now; nothing of the base shows beyond it.
  int WritePage(uint64_t ino, uint64_t page, uint64_t at, const uint8_t* from, uint64_t length, uint64_t size,
                const uint64_t* reserved) {
    uint8_t* bytes = nullptr;
    if (const int error = Page(ino, page, bytes)) return error;
    if (bytes == nullptr) {
      uint8_t fill[kBlockMax];
      const bool whole = length == block_;
      if (!whole) {
        if (const int error = ReadLower(ino, page, 0, fill, block_)) return error;
        CutBeyond(fill, page, size);
        std::memcpy(fill + at, from, length);
      }
      const int error = PublishPage(ino, page, whole ? from : fill, reserved, bytes);
      if (error != EEXIST) return error;
    } else if (reserved != nullptr) {
      pool_.Free(EntryType::kPage, *reserved);
    }
    CopyIn<A>(bytes + at, from, length);
    return 0;
  }

  /// The base's pages in [from, to) would show through again when the file grows over them: zero pages hide them.
  int Mask(uint64_t ino, uint64_t from, uint64_t to) {
    layout::Inode base;
    if (!lower_.Inode(ino, base) || from >= base.size) return 0;
    const uint64_t end = to < base.size ? to : base.size;
    for (uint64_t page = from / block_; page * block_ < end; page++) {
      if (const int error = MaskPage(ino, page, from)) return error;
    }
    return 0;
  }

  int Page(uint64_t ino, uint64_t page, uint8_t*& out) {
    BucketRef ref;
    out = nullptr;
    if (page > layout::kPageIndexMax || table_.Find(PageKey(ino, page), ref) == FindResult::kAbsent) return 0;
    out = ref.value % block_ == 0 ? pool_.At(ref.value, block_) : nullptr;
    return out == nullptr ? EIO : 0;
  }

 private:
  static constexpr uint64_t kBlockMax = 65536;

  /// Two adjacent 32-bit fields as the one aligned word they are.
  static uint64_t* Word(uint32_t* field) { return reinterpret_cast<uint64_t*>(field); }

  int Entry(uint64_t ino, layout::OverlayInode*& out) {
    BucketRef ref;
    if (table_.Find(InodeKey(ino), ref) == FindResult::kAbsent) return ENOENT;
    out = reinterpret_cast<layout::OverlayInode*>(pool_.At(ref.value, sizeof(layout::OverlayInode)));
    if (out == nullptr) return EIO;
    return A::Load(&out->type, std::memory_order_acquire) == 1 ? 0 : EIO;
  }

  int StatBase(uint64_t ino, FileStat& out) {
    layout::Inode inode;
    if (!lower_.Inode(ino, inode)) return ENOENT;
    out = {ino, inode.mode, inode.uid, inode.gid, IsDirectory(inode.mode) ? 0 : inode.size, inode.nlink};
    return 0;
  }

  int ReadLower(uint64_t ino, uint64_t page, uint64_t at, uint8_t* to, uint64_t length) {
    layout::Inode base;
    if (!lower_.Inode(ino, base) || page * block_ >= base.size) {
      std::memset(to, 0, length);
      return 0;
    }
    uint8_t bytes[kBlockMax];
    if (const int error = lower_.Block(base, page, bytes)) return error;
    std::memcpy(to, bytes + at, length);
    return 0;
  }

  void CutBeyond(uint8_t* bytes, uint64_t page, uint64_t size) const {
    const uint64_t start = page * block_;
    const uint64_t keep = size <= start ? 0 : size - start < block_ ? size - start : block_;
    std::memset(bytes + keep, 0, block_ - keep);
  }

  /// @returns 0; EEXIST: another was first, `out` is its page
  int PublishPage(uint64_t ino, uint64_t page, const uint8_t* bytes, const uint64_t* reserved, uint8_t*& out) {
    std::optional<uint64_t> offset;
    if (reserved != nullptr) offset = *reserved;
    else offset = pool_.Allocate(EntryType::kPage);
    if (!offset) return ENOSPC;
    CopyIn<A>(pool_.At(*offset, block_), bytes, block_);
    BucketRef ref;
    const InsertResult result = table_.Insert(PageKey(ino, page), *offset, ref);
    if (result == InsertResult::kInserted) return 0;
    pool_.Free(EntryType::kPage, *offset);
    if (result != InsertResult::kExists) return ErrorOf(result);
    out = pool_.At(ref.value, block_);
    return out == nullptr ? EIO : EEXIST;
  }

  int MaskPage(uint64_t ino, uint64_t page, uint64_t keep) {
    uint8_t* bytes = nullptr;
    if (const int error = Page(ino, page, bytes)) return error;
    if (bytes != nullptr) return 0;
    uint8_t fill[kBlockMax];
    if (const int error = ReadLower(ino, page, 0, fill, block_)) return error;
    CutBeyond(fill, page, keep);
    const int error = PublishPage(ino, page, fill, nullptr, bytes);
    return error == EEXIST ? 0 : error;
  }

  /// The base's last page that stays gets an overlay page, so that its tail can be zeroed.
  int CutTail(uint64_t ino, uint64_t size, uint64_t old) {
    layout::Inode base;
    if (size % block_ == 0 || size >= old || !lower_.Inode(ino, base) || size >= base.size) return 0;
    return MaskPage(ino, size / block_, old);
  }

  void ZeroPages(uint64_t ino, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to;) {
      const uint64_t page = at / block_, start = at % block_;
      uint8_t* bytes = nullptr;
      if (page > layout::kPageIndexMax) return;
      if (Page(ino, page, bytes) == 0 && bytes != nullptr) ZeroIn<A>(bytes + start, block_ - start);
      at = (page + 1) * block_;
    }
  }

  KernelTable<A> table_;
  Pool<A> pool_;
  Lower lower_;
  uint64_t block_;
};

}  // namespace daxserve
