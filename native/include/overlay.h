// The overlay as a filesystem: operations by inode number and name, for both kinds of front.
//
// Thread safety: one Overlay may be used by one thread; any number of them, in any process of any host, work on one region.
// Every operation is bounded and returns 0 or an errno: EAGAIN (others were faster too often; nothing was done),
// EBUSY (the name is being renamed by a live host), EIO (the region breaks a rule), the usual ones otherwise.
// Steps of create, unlink, rename and rmdir are covered by an intent row where the region has them. What others may see
// in between: a new inode without a name; both names of a rename, never neither; a removed name whose space is not free yet.
#pragma once
#include <algorithm>

#include "overlay_recovery.h"

namespace daxserve {

template <typename A, typename Front>
class Overlay {
 public:
  explicit Overlay(const OverlayParts& parts) : parts_(parts), front_(parts) {}

  Front& front() { return front_; }
  uint64_t root() const { return parts_.root_ino; }
  /// Largest size of a writable file in bytes.
  uint64_t size_max() const { return (uint64_t{layout::kPageIndexMax} + 1) * parts_.view.block_bytes; }

  int Stat(uint64_t ino, FileStat& out) { return front_.Stat(ino, out); }

  /// Attributes of what `name` leads to; a symlink's own.
  int Lookup(uint64_t dir, std::string_view name, FileStat& out) {
    if (const int error = CheckName(name)) return error;
    if (const int error = CheckDirectory(dir)) return error;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      Child child;
      if (const int error = Resolve(dir, name, child)) return error;
      const int error = front_.Stat(child.ino, out);
      if (error != ENOENT) return error;
      // Removed between the two looks; a name that still leads there is being removed.
      Child again;
      if (Resolve(dir, name, again) != 0 || again.ino == child.ino) return ENOENT;
    }
    return EAGAIN;
  }

  /// Exclusive on all hosts: EEXIST for all but one.
  int Create(uint64_t dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t& ino) {
    return CreateNode(dir, name, S_IFREG | (mode & 07777), uid, gid, {}, ino);
  }
  int Mkdir(uint64_t dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t& ino) {
    return CreateNode(dir, name, S_IFDIR | (mode & 07777), uid, gid, {}, ino);
  }
  int Symlink(uint64_t dir, std::string_view name, std::string_view target, uint32_t uid, uint32_t gid, uint64_t& ino) {
    if (target.empty()) return ENOENT;
    if (target.size() > kSymlinkBytesMax) return ENAMETOOLONG;
    return CreateNode(dir, name, S_IFLNK | 0777, uid, gid, target, ino);
  }

  /// @param to at least kSymlinkBytesMax + 1 bytes
  int Readlink(uint64_t ino, char* to, uint64_t& length) {
    FileStat stat;
    if (const int error = front_.Stat(ino, stat)) return error;
    if ((stat.mode & S_IFMT) != S_IFLNK) return EINVAL;
    if (stat.size > kSymlinkBytesMax) return EIO;
    return front_.Read(ino, S_IFLNK, 0, reinterpret_cast<uint8_t*>(to), stat.size, length);
  }

  int Unlink(uint64_t dir, std::string_view name) { return Remove(dir, name, false); }
  int Rmdir(uint64_t dir, std::string_view name) { return Remove(dir, name, true); }

  /// Moves a name, replacing what `to` names (a file, or an empty directory by a directory). The caller has checked that
  /// a directory does not move below itself (OverlayPaths does). `replace` false: EEXIST when `to` exists.
  /// `steady()` is asked while the source is claimed and nothing has changed yet; ESTALE when it says no.
  template <typename Steady = bool (*)()>
  int Rename(uint64_t from_dir, std::string_view from, uint64_t to_dir, std::string_view to, bool replace,
             Steady steady = [] { return true; }) {
    if (const int error = CheckName(from)) return error;
    if (const int error = CheckName(to)) return error;
    if (const int error = CheckDirectory(to_dir)) return error;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      NameRec source;
      if (const int error = OverlayName(from_dir, from, source)) return error;
      if (from_dir == to_dir && from == to) return 0;
      bool full = false;
      const uint32_t row = front_.intents().Begin(IntentKind::kRename, {from_dir, kNone, 0, source.ino, kNone}, full);
      if (full) return EBUSY;
      const int error = RenameClaimed(from_dir, from, source, to_dir, to, replace, row, steady);
      front_.intents().End(row);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  /// True when `name` leads to `ino` and nobody is moving it. Finishes what a dead host was moving.
  bool Steady(uint64_t dir, std::string_view name, uint64_t ino) {
    Child child;
    if (Resolve(dir, name, child) != 0 || child.ino != ino) return false;
    if (child.rec.claimed) Wait(dir, name);
    return !child.rec.claimed;
  }

  /// Reads at most `length` bytes; `done` is less at the end of the file.
  int Read(uint64_t ino, uint64_t offset, uint8_t* to, uint64_t length, uint64_t& done) {
    return front_.Read(ino, S_IFREG, offset, to, length, done);
  }

  /// Writes all or fails: EFBIG beyond size_max, ENOSPC (then a part may have been written).
  int Write(uint64_t ino, uint64_t offset, const uint8_t* from, uint64_t length) {
    if (length == 0) return CheckFile(ino);
    if (length > size_max() || offset > size_max() - length) {
      const int error = CheckFile(ino);
      return error != 0 ? error : EFBIG;
    }
    return front_.Write(ino, S_IFREG, offset, from, length);
  }
  /// Appends of all hosts lie one after another; `at` is where this one went.
  int Append(uint64_t ino, const uint8_t* from, uint64_t length, uint64_t& at) {
    return front_.Append(ino, from, length, size_max(), at);
  }
  int Truncate(uint64_t ino, uint64_t size) {
    if (const int error = CheckFile(ino)) return error;
    return size > size_max() ? EFBIG : front_.Truncate(ino, size);
  }
  int Chmod(uint64_t ino, uint32_t permissions) { return front_.SetMode(ino, permissions); }
  /// kKeepOwner leaves one as it is.
  int Chown(uint64_t ino, uint32_t uid, uint32_t gid) { return front_.SetOwner(ino, uid, gid); }

  /// Calls visit(name, ino, mode) -> bool (go on) once for every name; one that exists all along is seen exactly once.
  template <typename Visit>
  int Readdir(uint64_t dir, Visit visit) {
    if (const int error = CheckDirectory(dir)) return error;
    int failed = 0;
    bool more = true;
    front_.lower().List(dir, [&](const layout::Dirent& entry) {
      const std::string_view name(reinterpret_cast<const char*>(entry.name), entry.name_len);
      NameRec rec;
      failed = front_.names().Find(dir, name, rec);
      if (failed != 0) return false;
      if (rec.state == NameState::kAbsent) more = visit(name, uint64_t{entry.ino}, entry.mode);
      return more;
    });
    if (failed != 0 || !more) return failed;
    return front_.names().List(dir, [&](std::string_view name, const NameRec& rec) { return visit(name, rec.ino, rec.mode); });
  }

  /// Finishes what proved-dead hosts left half done; any number of survivors may call it. @returns rows finished
  uint32_t Recover() {
    uint32_t done = 0;
    for (uint32_t row = 0; row < front_.intents().count(); row++) done += RecoverRow(row);
    return done;
  }

 private:
  /// Looks at a name that somebody is moving, before EBUSY.
  static constexpr int kClaimWaitsMax = 200;

  struct Child {
    uint64_t ino = 0;
    uint32_t mode = 0;
    bool in_base = false;  // the base has this name too, whatever the overlay says
    NameRec rec;           // absent: the base's own
  };

  int CheckDirectory(uint64_t ino) {
    FileStat stat;
    return CheckDirectory(ino, stat);
  }
  int CheckDirectory(uint64_t ino, FileStat& stat) {
    if (const int error = front_.Stat(ino, stat)) return error;
    return IsDirectory(stat.mode) ? 0 : ENOTDIR;
  }
  int CheckFile(uint64_t ino) {
    FileStat stat;
    if (const int error = front_.Stat(ino, stat)) return error;
    return CheckType(stat.mode, S_IFREG);
  }

  int Resolve(uint64_t dir, std::string_view name, Child& out) {
    if (const int error = front_.names().Find(dir, name, out.rec)) return error;
    layout::Dirent base;
    if (out.rec.state == NameState::kLive) {
      out.ino = out.rec.ino;
      out.mode = out.rec.mode;
      return 0;
    }
    if (out.rec.state == NameState::kTombstone || !front_.lower().Find(dir, name, base)) return ENOENT;
    out.ino = base.ino;
    out.mode = base.mode;
    out.in_base = true;
    return 0;
  }

  bool InBase(uint64_t dir, std::string_view name) const { return front_.lower().Has(dir, name); }

  int NextInode(uint64_t& ino) {
    // @atomic overlay_header.next_ino  only grows; the number is published by its key. relaxed would do.
    uint64_t* next = &parts_.view.header->next_ino;
    uint64_t seen = A::Load(next, std::memory_order_relaxed);
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (seen == 0 || seen >= kInodeNumberEnd - 1) return ENOSPC;
      if (!A::Cas(next, seen, seen + 1, std::memory_order_acq_rel)) continue;
      ino = seen;
      return 0;
    }
    return EAGAIN;
  }

  int CreateNode(uint64_t dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid, std::string_view target,
                 uint64_t& ino) {
    FileStat parent;
    if (const int error = CheckName(name)) return error;
    if (const int error = CheckDirectory(dir, parent)) return error;
    // As everywhere: a directory with this bit hands on its group, and to directories the bit.
    if (parent.mode & S_ISGID) gid = parent.gid;
    if ((parent.mode & S_ISGID) && IsDirectory(mode)) mode |= S_ISGID;
    Child child;
    const int found = Resolve(dir, name, child);
    if (found != ENOENT) return found == 0 ? EEXIST : found;
    if (const int error = NextInode(ino)) return error;
    bool full = false;
    const uint32_t row = front_.intents().Begin(IntentKind::kCreate, {dir, kNone, ino, 0, 0}, full);
    if (full) return EBUSY;
    int error = front_.AddInode(ino, mode, uid, gid, target.size());
    if (error == 0 && !target.empty()) error = front_.Write(ino, S_IFLNK, 0, Bytes(target), target.size());
    if (error == 0) error = LinkOpen(dir, name, ino, mode, row);
    if (error != 0) front_.RemoveInode(ino);
    front_.intents().End(row);
    return error;
  }

  /// Links a name and looks whether its directory is still open. rmdir closes the directory and then looks for names: of
  /// the two at least one sees the other (all four accesses are sequentially consistent).
  int LinkOpen(uint64_t dir, std::string_view name, uint64_t ino, uint32_t mode, uint32_t row) {
    int error = EAGAIN;
    for (int tries = 0; tries < kClaimWaitsMax && error == EAGAIN; tries++) {
      if (tries > 0) Wait(dir, name);
      error = WaitOpen(dir);
      if (error == 0) error = front_.names().Link(dir, name, ino, mode, row, 1);
    }
    return error != 0 ? (error == EAGAIN ? EBUSY : error) : StayLinked(dir, name, ino, row, 1);
  }

  /// The name is there: it stays if the directory does. Else it goes again, unless somebody was quicker.
  int StayLinked(uint64_t dir, std::string_view name, uint64_t ino, uint32_t row, int arg) {
    const int error = WaitOpen(dir);
    NameRec rec;
    if (error != 0 && front_.names().Find(dir, name, rec) == 0 && rec.ino == ino &&
        front_.names().Unlink(dir, name, rec, InBase(dir, name)) == 0) {
      front_.names().Discard(dir, rec, row, arg);
    }
    return error;
  }

  /// Waits while somebody tries to remove the directory: it may not be empty. @returns 0 open, ENOENT removed, EBUSY
  int WaitOpen(uint64_t dir) {
    for (int tries = 0; tries < kClaimWaitsMax; tries++) {
      if (front_.DirectoryOpen(dir)) return 0;
      const uint32_t row = front_.CloserOf(dir);
      if (row == kNoIntent ? !front_.DirectoryOpen(dir) : !front_.intents().Names(row, 2, dir)) {
        return front_.DirectoryOpen(dir) ? 0 : ENOENT;
      }
      if (!RecoverRow(row)) A::Pause();
    }
    return EBUSY;
  }

  /// Somebody holds the name: its host may be dead.
  void Wait(uint64_t dir, std::string_view name) {
    NameRec rec;
    if (front_.names().Find(dir, name, rec) != 0 || !rec.claimed) return;
    if (!RecoverRow(rec.row)) A::Pause();
  }

  /// A live name that nobody moves. A base name gets an entry of its own first when `own`.
  int Unclaimed(uint64_t dir, std::string_view name, Child& out) {
    for (int tries = 0; tries < kClaimWaitsMax; tries++) {
      out = {};
      if (const int error = Resolve(dir, name, out)) return error;
      if (!out.rec.claimed) return 0;
      Wait(dir, name);
    }
    return EBUSY;
  }

  /// A live overlay name to work on; a base name gets an entry first.
  int OverlayName(uint64_t dir, std::string_view name, NameRec& out) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      Child child;
      if (const int error = Unclaimed(dir, name, child)) return error;
      out = child.rec;
      if (!child.in_base) return 0;
      const int error = front_.names().Link(dir, name, child.ino, child.mode, kNoIntent, 0);
      if (error != 0 && error != EEXIST) return error;
    }
    return EAGAIN;
  }

  bool Empty(uint64_t dir) {
    bool empty = true;
    const int error = Readdir(dir, [&](std::string_view, uint64_t, uint32_t) { return empty = false; });
    return error == 0 && empty;
  }

  int Remove(uint64_t dir, std::string_view name, bool directory) {
    if (const int error = CheckName(name)) return error;
    if (const int error = CheckDirectory(dir)) return error;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      Child child;
      if (const int error = Unclaimed(dir, name, child)) return error;
      if (IsDirectory(child.mode) != directory) return directory ? ENOTDIR : EISDIR;
      bool full = false;
      const uint32_t row = front_.intents().Begin(IntentKind::kUnlink, {dir, child.rec.offset, child.ino, 0, 0}, full);
      if (full) return EBUSY;
      const int error = directory ? RemoveDirectory(dir, name, child, row) : RemoveChild(dir, name, child, row);
      front_.intents().End(row);
      if (error != EAGAIN) return error;
      A::Pause();
    }
    return EAGAIN;
  }

  int RemoveDirectory(uint64_t dir, std::string_view name, const Child& child, uint32_t row) {
    Child mine = child;
    // Claimed, so that nobody moves it: then a survivor who finds it closed by us and not claimed knows that it is gone.
    const int unclaimed = child.in_base || row == kNoIntent ? ENOSPC : front_.names().Claim(dir, name, mine.rec, row, 1);
    if (unclaimed != 0 && unclaimed != ENOSPC) return unclaimed;
    int error = CloseEmpty(child.ino, row);
    if (error == 0) {
      error = unclaimed ? RemoveChild(dir, name, mine, row)
                        : OnClaimed(dir, name, mine.rec, row, [&] { return RemoveChild(dir, name, mine, row); });
      if (error != 0) front_.ReopenDirectory(child.ino, row);
    }
    if (error != 0 && unclaimed == 0) {
      OnClaimed(dir, name, mine.rec, row, [&] { return front_.names().Release(dir, name, mine.rec, row, 1); });
    }
    return error;
  }

  /// Closes a directory in which nothing is; one that has names is not closed for long, mostly not at all.
  int CloseEmpty(uint64_t dir, uint32_t row) {
    if (!EmptyClosed(dir)) return ENOTEMPTY;
    if (const int error = front_.CloseDirectory(dir, row)) return error;
    if (EmptyClosed(dir)) return 0;
    front_.ReopenDirectory(dir, row);
    return ENOTEMPTY;
  }

  /// As Empty, of a directory that may be closed.
  bool EmptyClosed(uint64_t dir) {
    bool empty = true;
    front_.lower().List(dir, [&](const layout::Dirent& entry) {
      NameRec rec;
      const std::string_view name(reinterpret_cast<const char*>(entry.name), entry.name_len);
      empty = front_.names().Find(dir, name, rec) == 0 && rec.state == NameState::kTombstone;
      return empty;
    });
    if (!empty) return false;
    const int error = front_.names().List(dir, [&](std::string_view, const NameRec&) { return empty = false; });
    return error == 0 && empty;
  }

  int RemoveChild(uint64_t dir, std::string_view name, const Child& child, uint32_t row) {
    if (child.in_base) {
      const int error = front_.names().LinkTombstone(dir, name);
      if (error == 0) front_.RemoveInode(child.ino);
      return error == EEXIST ? EAGAIN : error;
    }
    const int error = front_.names().Unlink(dir, name, child.rec, InBase(dir, name));
    if (error != 0) return error;
    front_.intents().SetArg(row, 3, 1);
    front_.names().Discard(dir, child.rec, row, 1);
    front_.RemoveInode(child.ino);
    return 0;
  }

  /// Claim the source, ask whether the way to the target is steady, put its child under the target's name, take the source out, then free what was replaced.
  template <typename Steady>
  int RenameClaimed(uint64_t from_dir, std::string_view from, NameRec& source, uint64_t to_dir, std::string_view to,
                    bool replace, uint32_t row, Steady steady) {
    if (const int error = front_.names().Claim(from_dir, from, source, row, 1)) return error;
    // Between the claim and the look, so that of two that move into each other one sees the other's claim.
    A::Fence(std::memory_order_seq_cst);
    uint64_t replaced = 0;
    int error = steady() ? PutTarget(source, to_dir, to, replace, row, replaced) : ESTALE;
    if (error == 0 && replaced == source.ino) error = kSame;
    if (error != 0) {
      OnClaimed(from_dir, from, source, row, [&] { return front_.names().Release(from_dir, from, source, row, 1); });
      return error == kSame ? 0 : error;
    }
    error = OnClaimed(from_dir, from, source, row, [&] {
      return front_.names().UnlinkHeld(from_dir, from, source, InBase(from_dir, from), row);
    });
    if (error == 0) front_.names().Discard(from_dir, source, row, 1);
    if (error == 0 && replaced != 0) front_.RemoveInode(replaced);
    // Held until here, so that nobody moves it on while a survivor would have to tell whether it ever was there.
    if (row != kNoIntent) Settle(to_dir, to, row, 4);
    if (error != 0) Settle(from_dir, from, row, 1);
    return error == EAGAIN ? EBUSY : error;
  }

  /// Releases a name that we hold.
  void Settle(uint64_t dir, std::string_view name, uint32_t row, int arg) {
    NameRec rec;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (front_.names().Find(dir, name, rec) != 0 || !rec.claimed || rec.row != row) return;
      if (front_.names().Release(dir, name, rec, row, arg) != 0) front_.names().ReleaseInPlace(rec);
    }
  }
  static constexpr int kSame = -1;

  /// Does something to a name that we hold; a neighbour in its chain of equal keys may have given it another entry.
  template <typename Do>
  int OnClaimed(uint64_t dir, std::string_view name, NameRec& rec, uint32_t row, Do action) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      const int error = action();
      if (error != EAGAIN) return error;
      if (const int lost = front_.names().Find(dir, name, rec)) return lost;
      if (!rec.claimed || rec.row != row) return EAGAIN;
      front_.intents().SetArg(row, 1, rec.offset);
    }
    return EAGAIN;
  }

  int PutTarget(const NameRec& source, uint64_t to_dir, std::string_view to, bool replace, uint32_t row, uint64_t& replaced) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      Child target;
      // What was there at an earlier look may have been moved elsewhere, and lives on.
      replaced = 0;
      int error = Unclaimed(to_dir, to, target);
      if (error != 0 && error != ENOENT) return error;
      if (error == ENOENT) {
        error = LinkTarget(to_dir, to, source, row);
        if (error == EEXIST) continue;
        return error;
      }
      if (!replace) return EEXIST;
      replaced = target.ino;
      if (target.ino == source.ino) return 0;
      error = ReplaceTarget(source, to_dir, to, target, row);
      if (error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  int LinkTarget(uint64_t to_dir, std::string_view to, const NameRec& source, uint32_t row) {
    if (const int error = WaitOpen(to_dir)) return error;
    const int error = front_.names().Link(to_dir, to, source.ino, source.mode, row, 4, row != kNoIntent);
    return error != 0 ? error : StayLinked(to_dir, to, source.ino, row, 4);
  }

  int ReplaceTarget(const NameRec& source, uint64_t to_dir, std::string_view to, const Child& target, uint32_t row) {
    if (IsDirectory(source.mode) != IsDirectory(target.mode)) return IsDirectory(target.mode) ? EISDIR : ENOTDIR;
    const bool directory = IsDirectory(target.mode);
    // Before it is closed, so that it is opened again should we die.
    front_.intents().SetArg(row, 2, target.ino);
    int error = directory ? CloseEmpty(target.ino, row) : 0;
    if (error != 0) {
      front_.intents().SetArg(row, 2, 0);
      return error;
    }
    const bool hold = row != kNoIntent;
    error = target.in_base ? front_.names().Link(to_dir, to, source.ino, source.mode, row, 4, hold)
                           : front_.names().Swap(to_dir, to, target.rec, source.ino, source.mode, row, 4, hold);
    if (error == EEXIST) error = EAGAIN;
    if (error != 0 && directory) front_.ReopenDirectory(target.ino, row);
    if (error != 0) front_.intents().SetArg(row, 2, 0);
    return error;
  }

  bool RecoverRow(uint32_t row) { return OverlayRecovery<A, Front>(front_).Row(row); }

  OverlayParts parts_;
  Front front_;
};

}  // namespace daxserve
