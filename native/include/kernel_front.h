// A kernel-mountable front: every byte as v8 has it, published entries are changed in place and never freed or moved.
#pragma once
#include "kernel_names.h"

namespace daxserve {

template <typename A, typename Names = FnvNames>
class KernelFront {
 public:
  static constexpr bool kRecycles = false;

  explicit KernelFront(const OverlayParts& parts)
      : files_(parts), intents_(parts.intents, parts.self, parts.owners), names_(files_, intents_) {}

  KernelNames<A, Names>& names() { return names_; }
  IntentTable<A>& intents() { return intents_; }
  const Lower& lower() const { return files_.lower(); }
  KernelFiles<A>& files() { return files_; }

  int Stat(uint64_t ino, FileStat& out) { return files_.Stat(ino, out); }
  int AddInode(uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size) {
    return files_.AddInode(ino, mode, uid, gid, size, IsDirectory(mode) ? 2 : 1);
  }
  /// Published entries stay for ever.
  void RemoveInode(uint64_t) {}
  int SetMode(uint64_t ino, uint32_t permissions) { return files_.SetMode(ino, permissions); }
  int SetOwner(uint64_t ino, uint32_t uid, uint32_t gid) { return files_.SetOwner(ino, uid, gid); }
  int Truncate(uint64_t ino, uint64_t size) { return files_.Truncate(ino, size); }

  /// @param type S_IFREG or S_IFLNK, here and below: EISDIR or EINVAL when it is something else
  int Read(uint64_t ino, uint32_t type, uint64_t offset, uint8_t* to, uint64_t length, uint64_t& done) {
    FileStat stat;
    if (const int error = files_.Stat(ino, stat)) return error;
    if (const int error = CheckType(stat.mode, type)) return error;
    done = offset >= stat.size ? 0 : stat.size - offset;
    if (done > length) done = length;
    const uint64_t block = files_.block_bytes();
    for (uint64_t at = 0; at < done;) {
      const uint64_t in_page = (offset + at) % block;
      const uint64_t part = done - at < block - in_page ? done - at : block - in_page;
      if (const int error = files_.ReadPage(ino, (offset + at) / block, in_page, to + at, part)) return error;
      at += part;
    }
    return 0;
  }

  int Write(uint64_t ino, uint32_t type, uint64_t offset, const uint8_t* from, uint64_t length) {
    FileStat stat;
    if (const int error = files_.Stat(ino, stat)) return error;
    if (const int error = CheckType(stat.mode, type)) return error;
    const uint64_t end = offset + length;
    if (end > stat.size) {
      if (const int error = files_.Mask(ino, stat.size, end)) return error;
    }
    uint64_t done = 0;
    const int error = WritePages(ino, offset, from, length, stat.size, done);
    // Also what a failed write has put in: bytes behind the size would show one day.
    const int grown = done == 0 || offset + done <= stat.size ? 0 : files_.GrowSize(ino, offset + done);
    return error != 0 ? error : grown;
  }

  int Append(uint64_t ino, const uint8_t* from, uint64_t length, uint64_t limit, uint64_t& at) {
    FileStat stat;
    if (const int error = files_.Stat(ino, stat)) return error;
    if (const int error = CheckType(stat.mode, S_IFREG)) return error;
    if (length > limit || stat.size > limit - length) return EFBIG;
    if (const int error = files_.Mask(ino, stat.size, stat.size + length)) return error;
    if (const int error = files_.ReserveAppend(ino, length, limit, at)) return error;
    uint64_t done = 0;
    const int error = WritePages(ino, at, from, length, at, done);
    if (error != 0) files_.GiveBack(ino, at, at + length);
    return error;
  }

  /// From now on nothing can be created in the directory. EAGAIN: somebody else is removing it.
  int CloseDirectory(uint64_t ino, uint32_t row) { return files_.SetRemoved(ino, 0, row << 1 | 1); }
  /// Undoes CloseDirectory of this row, nobody else's.
  void ReopenDirectory(uint64_t ino, uint32_t row) { (void)files_.SetRemoved(ino, row << 1 | 1, 0); }
  bool DirectoryOpen(uint64_t ino) { return files_.Removed(ino) == 0; }
  /// True when the directory was closed under this row, maybe long ago.
  bool ClosedBy(uint64_t ino, uint32_t row) { return files_.Removed(ino) == (row << 1 | 1); }
  /// The row under which the directory was closed, maybe long ago; kNoIntent: it is open.
  uint32_t CloserOf(uint64_t ino) {
    const uint32_t removed = files_.Removed(ino);
    return removed == 0 ? kNoIntent : removed >> 1;
  }

 private:
  static constexpr uint64_t kBatchMax = 256;

  /// @param done bytes of whole pages that are in
  int WritePages(uint64_t ino, uint64_t offset, const uint8_t* from, uint64_t length, uint64_t size, uint64_t& done) {
    const uint64_t block = files_.block_bytes();
    const uint64_t first = offset / block, pages = length == 0 ? 0 : (offset + length - 1) / block - first + 1;
    const uint64_t run = pages >= 2 && pages <= kBatchMax ? Batch(ino, first, pages) : kNone;
    while (done < length) {
      const uint64_t page = (offset + done) / block, at = (offset + done) % block;
      const uint64_t part = length - done < block - at ? length - done : block - at;
      const uint64_t reserved = run + (page - first) * block;
      const int error = files_.WritePage(ino, page, at, from + done, part, size, run != kNone ? &reserved : nullptr);
      if (error != 0) {
        if (run != kNone) FreeRun(reserved + block, run + pages * block);
        return error;
      }
      done += part;
    }
    return 0;
  }

  void FreeRun(uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += files_.block_bytes()) files_.pool().Free(EntryType::kPage, at);
  }

  /// One run for a write that finds none of its pages (v8); kNone: singly.
  uint64_t Batch(uint64_t ino, uint64_t first, uint64_t pages) {
    for (uint64_t page = first; page < first + pages; page++) {
      uint8_t* bytes = nullptr;
      if (files_.Page(ino, page, bytes) != 0 || bytes != nullptr) return kNone;
    }
    return files_.pool().AllocatePages(pages).value_or(kNone);
  }

  KernelFiles<A> files_;
  IntentTable<A> intents_;
  KernelNames<A, Names> names_;
};

}  // namespace daxserve
