// A private front: ours alone, recycles what is freed. See private_files.h and private_names.h.
#pragma once
#include "file_owner.h"
#include "private_names.h"

namespace daxserve {

template <typename A, typename Names = FnvNames>
class PrivateFront {
 public:
  explicit PrivateFront(const OverlayParts& parts)
      : files_(parts),
        intents_(parts.intents, parts.self, parts.owners),
        names_(files_, intents_),
        read_only_(parts.read_only) {}

  PrivateNames<A, Names>& names() { return names_; }
  IntentTable<A>& intents() { return intents_; }
  const Lower& lower() const { return files_.lower(); }
  PrivateFiles<A>& files() { return files_; }

  int Stat(uint64_t ino, FileStat& out) {
    PrivateInode inode;
    if (const int error = files_.Load(ino, inode)) return error;
    // A closed directory is there: its removal may yet find that it is not empty.
    const bool directory = IsDirectory(inode.mode);
    out = {ino, inode.mode, inode.uid, inode.gid, directory ? 0 : inode.size, directory ? 2u : 1u};
    return 0;
  }

  int AddInode(uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size) {
    return files_.Add(ino, mode, uid, gid, size);
  }

  /// Frees an inode that no name leads to any more. Base files with several names keep theirs.
  void RemoveInode(uint64_t ino) {
    layout::Inode base;
    const bool lower = lower_has(ino, base);
    if (lower && !IsDirectory(base.mode) && base.nlink > 1) return;
    files_.Reap(ino, lower ? &base : nullptr);
  }

  int SetMode(uint64_t ino, uint32_t permissions) {
    return files_.Update(ino, [=](PrivateInode& inode) { inode.mode = (inode.mode & S_IFMT) | (permissions & 07777); });
  }
  int SetOwner(uint64_t ino, uint32_t uid, uint32_t gid) {
    return files_.Update(ino, [=](PrivateInode& inode) {
      inode.mode = ModeAfterChown(inode.mode);
      inode.uid = OwnerAfter(inode.uid, uid);
      inode.gid = OwnerAfter(inode.gid, gid);
    });
  }

  /// @param type S_IFREG or S_IFLNK, here and below: EISDIR or EINVAL when it is something else
  int Read(uint64_t ino, uint32_t type, uint64_t offset, uint8_t* to, uint64_t length, uint64_t& done) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode, after;
      const int unsettled = Settled(ino, inode);
      // What a truncation has left to do lies behind the size: it may wait for room, readers need not.
      if (unsettled != 0 && unsettled != ENOSPC) return unsettled;
      if (const int error = CheckType(inode.mode, type)) return error;
      done = offset >= inode.size ? 0 : inode.size - offset;
      if (done > length) done = length;
      if (const int error = ReadPages(inode, offset, to, done)) return error;
      if (files_.Unchanged(inode)) return 0;
      if (const int error = files_.Load(ino, after)) return error;
      if (after.SameEpoch(inode) || ((read_only_ || unsettled) && after.truncations == inode.truncations)) return 0;
    }
    return EAGAIN;
  }

  /// Pages first, then the size. A truncation that came in between is seen at the end: then everything is done again.
  int Write(uint64_t ino, uint32_t type, uint64_t offset, const uint8_t* from, uint64_t length) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (const int error = Settled(ino, inode)) return error;
      if (const int error = CheckType(inode.mode, type)) return error;
      bool again = false;
      const int error = WriteOnce(inode, offset, from, length, again);
      if (!again) return error;
    }
    return EAGAIN;
  }

  /// Reserves [size, size + length) first, so that appends of all hosts lie one after another.
  int Append(uint64_t ino, const uint8_t* from, uint64_t length, uint64_t limit, uint64_t& at) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (const int error = Settled(ino, inode)) return error;
      if (const int error = CheckType(inode.mode, S_IFREG)) return error;
      at = inode.size;
      if (length > limit || inode.size > limit - length) return EFBIG;
      PrivateInode next = inode;
      next.size += length;
      int error = files_.Store(inode, next);
      if (error == EAGAIN) continue;
      if (error != 0) return error;
      error = Write(ino, S_IFREG, at, from, length);
      // What was reserved in vain goes, unless somebody has appended behind it.
      if (error == ENOSPC) Resize(next, at);
      return error;
    }
    return EAGAIN;
  }

  int Truncate(uint64_t ino, uint64_t size) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      const int unsettled = Settled(ino, inode);
      // One that waits for room may be overtaken by one that cuts more off.
      if (unsettled != 0 && (unsettled != ENOSPC || size >= inode.size)) return unsettled;
      const int error = Resize(inode, size);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  /// From now on nothing can be created in the directory. EAGAIN: somebody else is removing it.
  int CloseDirectory(uint64_t ino, uint32_t row) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (const int error = files_.Load(ino, inode)) return error;
      if (inode.dying()) return EAGAIN;
      PrivateInode next = inode;
      next.flags = PrivateInode::kDying | row << kRowShift;
      const int error = files_.Store(inode, next);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }
  /// Undoes CloseDirectory of this row, nobody else's.
  void ReopenDirectory(uint64_t ino, uint32_t row) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (files_.Load(ino, inode) != 0 || inode.flags != (PrivateInode::kDying | row << kRowShift)) return;
      if (!IsDirectory(inode.mode)) return;
      PrivateInode next = inode;
      next.flags = 0;
      if (files_.Store(inode, next) != EAGAIN) return;
    }
  }
  bool DirectoryOpen(uint64_t ino) {
    PrivateInode inode;
    return files_.Load(ino, inode) == 0 && !inode.dying();
  }
  /// True when the directory is closed under this row.
  bool ClosedBy(uint64_t ino, uint32_t row) {
    PrivateInode inode;
    return files_.Load(ino, inode) == 0 && IsDirectory(inode.mode) && inode.flags == (PrivateInode::kDying | row << kRowShift);
  }
  /// The row under which the directory was closed; kNoIntent: it is open or gone.
  uint32_t CloserOf(uint64_t ino) {
    PrivateInode inode;
    return files_.Load(ino, inode) == 0 && inode.dying() ? inode.flags >> kRowShift : kNoIntent;
  }

  /// Space for `entry` may be freed: a private front's does.
  static constexpr bool kRecycles = true;

 private:
  static constexpr uint64_t kGrowBytes = uint64_t{1} << 20;
  /// A closed directory's flags: who closes it.
  static constexpr unsigned kRowShift = 8;

  bool lower_has(uint64_t ino, layout::Inode& out) const { return files_.lower().Inode(ino, out); }

  /// An inode that is not in the middle of a truncation; whoever finds one finishes it. (Who may only read takes it as it
  /// is: what the truncation has left to do lies behind the size.)
  int Settled(uint64_t ino, PrivateInode& out) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (const int error = files_.Load(ino, out)) return error;
      if (!out.truncating() || read_only_) return 0;
      files_.FinishTruncation(out);
      PrivateInode after;
      if (files_.Load(ino, after) == 0 && after.truncating() && after.ref.value == out.ref.value) return ENOSPC;
    }
    return EAGAIN;
  }

  /// @returns 0, ENOSPC, EAGAIN: the inode is not what it was
  int Resize(const PrivateInode& inode, uint64_t size) {
    PrivateInode next = inode;
    next.size = size;
    if (size < inode.size) {
      next.truncations++;
      next.flags = PrivateInode::kTruncating | static_cast<uint32_t>(files_.PagesOf(inode)) << 12;
      const uint64_t keep = size / files_.block_bytes() + (size % files_.block_bytes() != 0);
      if (next.base_pages > keep) next.base_pages = static_cast<uint32_t>(keep);
    }
    const int error = files_.Store(inode, next);
    if (error == 0 && next.truncating()) files_.FinishTruncation(next);
    return error;
  }

  int ReadPages(const PrivateInode& inode, uint64_t offset, uint8_t* to, uint64_t length) {
    const uint64_t block = files_.block_bytes();
    for (uint64_t done = 0; done < length;) {
      const uint64_t page = (offset + done) / block, at = (offset + done) % block;
      const uint64_t part = length - done < block - at ? length - done : block - at;
      if (const int error = files_.ReadPage(inode, page, at, to + done, part, nullptr)) return error;
      done += part;
    }
    return 0;
  }

  /// What the file grows by gets its inode entry before its first page: bytes behind the size would show one day.
  int WriteOnce(const PrivateInode& inode, uint64_t offset, const uint8_t* from, uint64_t length, bool& again) {
    const bool grows = offset + length > inode.size;
    if (!grows) return WriteRun(inode, offset, from, length, again);
    if (!inode.stored) {
      PrivateInode own = inode;
      const int error = files_.Store(inode, own);
      again = error == 0 || error == EAGAIN;
      return again ? 0 : error;
    }
    int error = 0;
    // A long write shows as it goes: pages behind the size are lost with a writer that dies, and with their file.
    for (uint64_t done = 0; done < length && error == 0 && !again;) {
      const uint64_t room = kGrowBytes - (offset + done) % kGrowBytes, part = length - done < room ? length - done : room;
      error = WriteGrowing(inode, offset + done, from + done, part, again);
      done += part;
    }
    return error;
  }

  int WriteGrowing(const PrivateInode& inode, uint64_t offset, const uint8_t* from, uint64_t length, bool& again) {
    auto spare = files_.pool().Allocate(EntryType::kInode);
    if (!spare) return ENOSPC;
    uint64_t done = 0;
    const int error = WriteRun(inode, offset, from, length, again, &done);
    const int grown = again || done == 0 || offset + done <= inode.size ? 0 : Grow(inode, offset + done, again, spare);
    if (spare) files_.pool().Free(EntryType::kInode, *spare);
    return error != 0 ? error : grown;
  }

  /// @param written bytes of whole pages that are in
  int WriteRun(const PrivateInode& inode, uint64_t offset, const uint8_t* from, uint64_t length, bool& again,
               uint64_t* written = nullptr) {
    const uint64_t block = files_.block_bytes();
    for (uint64_t done = 0; done < length;) {
      const uint64_t page = (offset + done) / block, at = (offset + done) % block;
      const uint64_t part = length - done < block - at ? length - done : block - at;
      BucketRef mine;
      if (const int error = files_.WritePage(inode, page, at, from + done, part, mine)) return error;
      if (const int error = Confirm(inode, mine, again)) return error;
      if (again) return 0;
      done += part;
      if (written != nullptr) *written = done;
    }
    return 0;
  }

  /// After each page: the inode is still there and was not truncated since. Else a page that was not there before is taken
  /// out again, for it may hold bytes of the base that the truncation cut off.
  int Confirm(const PrivateInode& inode, const BucketRef& mine, bool& again) {
    if (files_.Unchanged(inode)) return 0;
    PrivateInode now;
    const int error = files_.Load(inode.ino, now);
    if (error == 0 && now.SameEpoch(inode)) return 0;
    again = error == 0;
    if (mine.key != 0) files_.RemovePage(mine);
    return error;
  }

  int Grow(const PrivateInode& inode, uint64_t end, bool& again, std::optional<uint64_t>& spare) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode now;
      if (const int error = files_.Load(inode.ino, now)) {
        files_.RemovePages(inode.ino, 0, end / files_.block_bytes() + 1);
        return error;
      }
      if (!now.SameEpoch(inode)) {
        again = true;
        return 0;
      }
      if (now.size >= end) return 0;
      PrivateInode next = now;
      next.size = end;
      const int error = files_.Store(now, next, &spare);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  PrivateFiles<A> files_;
  IntentTable<A> intents_;
  PrivateNames<A, Names> names_;
  const bool read_only_;
};

}  // namespace daxserve
