// Names of a kernel-mountable front: hash chains, directory lists, tombstones and their revival, byte for byte as v8.
#pragma once
#include "kernel_files.h"

namespace daxserve {

// @atomic overlay_dirent.{type, flags}   one word
//   states   LIVE(0) -> TOMBSTONE(1) ; TOMBSTONE(1) -> CLAIMED(1 | row) -> LIVE(0) ; LIVE(0) -> MOVING(0 | row) -> LIVE or TOMBSTONE
//   order    acquire-release CAS; the child is stored between claim and release
//   because  of two creators over one tombstone one gets EEXIST, and a name never shows a child that was not given to it
//   crash    CLAIMED or MOVING by a dead host: its intent row says so, and the word goes back to what bit 0 says
// @atomic overlay_dirent.next, overlay_dirlist.first   CAS, only ever from the end or to a new head
template <typename A, typename Names = FnvNames>
class KernelNames {
 public:
  static constexpr uint64_t kChainMax = 1024;
  static constexpr uint64_t kListMax = uint64_t{1} << 20;

  KernelNames(KernelFiles<A>& files, IntentTable<A>& intents) : files_(files), intents_(intents) {}

  int Find(uint64_t dir, std::string_view name, NameRec& out) {
    out = {};
    BucketRef ref;
    if (files_.table().Find(Names::Key(dir, Bytes(name), name.size()), ref) == FindResult::kAbsent) return 0;
    uint64_t tail;
    return Walk(ref.value, dir, name, out, tail);
  }

  /// @param hold claimed by `row` from the first moment
  int Link(uint64_t dir, std::string_view name, uint64_t ino, uint32_t mode, uint32_t row, int arg, bool hold = false) {
    NameRec rec;
    if (const int error = Find(dir, name, rec)) return error;
    if (rec.state == NameState::kAbsent) {
      const int error = LinkNew(MakeDirent(dir, name, ino, mode, hold ? ClaimBits(row) : 0), name, row, arg);
      if (error != EEXIST) return error;
      if (const int again = Find(dir, name, rec)) return again;
    }
    if (rec.state != NameState::kTombstone) return EEXIST;
    return Revive(rec, ino, mode, row, arg, hold);
  }

  int LinkTombstone(uint64_t dir, std::string_view name) {
    return LinkNew(MakeDirent(dir, name, 0, 0, kTombstoneFlag), name, kNoIntent, 0);
  }

  /// Live or ours claimed -> tombstone; it stays, and hides the base's name too.
  int Unlink(uint64_t, std::string_view, const NameRec& rec, bool) {
    return Mark(rec, rec.flags, kTombstoneFlag) ? 0 : EAGAIN;
  }
  int UnlinkHeld(uint64_t dir, std::string_view name, const NameRec& rec, bool hide, uint32_t) {
    return Unlink(dir, name, rec, hide);
  }
  void Discard(uint64_t, const NameRec&, uint32_t, int) {}

  int Swap(uint64_t, std::string_view, const NameRec& rec, uint64_t ino, uint32_t mode, uint32_t row, int arg, bool hold) {
    intents_.SetArg(row, arg, rec.offset);
    if (!Mark(rec, rec.flags, ClaimBits(row))) return EAGAIN;
    SetChild(rec.offset, ino, mode);
    if (!hold) Mark(rec, ClaimBits(row), 0);
    return 0;
  }
  bool ReleaseInPlace(const NameRec& rec) { return Mark(rec, rec.flags, 0); }

  int Claim(uint64_t, std::string_view, NameRec& rec, uint32_t row, int arg) {
    intents_.SetArg(row, arg, rec.offset);
    if (!Mark(rec, rec.flags, ClaimBits(row))) return EAGAIN;
    rec.flags = ClaimBits(row);
    return 0;
  }
  int Release(uint64_t, std::string_view, NameRec& rec, uint32_t, int) { return Mark(rec, rec.flags, 0) ? 0 : EAGAIN; }

  template <typename Visit>
  int List(uint64_t dir, Visit visit) {
    BucketRef ref;
    if (files_.table().Find(DirlistKey(dir), ref) == FindResult::kAbsent) return 0;
    const auto* head = reinterpret_cast<const layout::OverlayDirlist*>(files_.pool().At(ref.value, sizeof(layout::OverlayDirlist)));
    if (head == nullptr || A::Load(&head->type, std::memory_order_acquire) != 4) return EIO;
    uint64_t at = A::Load(&head->first, std::memory_order_acquire);
    for (uint64_t steps = 0; at != kNone; steps++) {
      layout::OverlayDirent entry;
      NameRec rec;
      if (steps == kListMax || !Read(at, entry, rec)) return EIO;
      if (rec.state == NameState::kLive && entry.parent_ino == dir && !visit(NameOf(entry), rec)) return 0;
      at = entry.dir_next;
    }
    return 0;
  }

  bool Entry(uint64_t offset, layout::OverlayDirent& out) {
    NameRec rec;
    return offset != kNone && Read(offset, out, rec);
  }
  /// Recovery: never published; nothing names it, and it stays what it is.
  void Abandon(uint64_t, const layout::OverlayDirent&) {}

  /// Recovery: a published entry that its dead creator did not list any more, or left claimed.
  void Relist(uint64_t offset, const layout::OverlayDirent& entry) {
    uint64_t* word = Word(offset);
    uint64_t seen = A::Load(word, std::memory_order_acquire);
    const uint64_t plain = PackFlags(Flags(seen) & kTombstoneFlag);
    if (seen != plain) A::Cas(word, seen, plain, std::memory_order_acq_rel);
    bool listed = false;
    VisitList(entry.parent_ino, [&](uint64_t at) { return !(listed = at == offset); });
    if (!listed) Prepend(entry.parent_ino, offset);
  }

 private:
  static uint32_t ClaimBits(uint32_t row) { return (row + 1) << 1; }
  static uint64_t PackFlags(uint32_t flags) { return uint64_t{flags} << 32 | 3; }
  static uint32_t Flags(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

  layout::OverlayDirent* At(uint64_t offset) {
    return reinterpret_cast<layout::OverlayDirent*>(files_.pool().At(offset, sizeof(layout::OverlayDirent)));
  }
  uint64_t* Word(uint64_t offset) { return reinterpret_cast<uint64_t*>(&At(offset)->type); }

  /// False: it changed, or is not there at all (no host of ours takes an entry out of a chain).
  bool Mark(const NameRec& rec, uint32_t from, uint32_t to) {
    uint64_t seen = PackFlags(from);
    return At(rec.offset) != nullptr && A::Cas(Word(rec.offset), seen, PackFlags(to), std::memory_order_acq_rel);
  }

  void SetChild(uint64_t offset, uint64_t ino, uint32_t mode) {
    // @atomic overlay_dirent.{child_ino, child_mode}  both at once where the entry is 16-aligned (all are: every size is).
    auto* entry = At(offset);
    auto* pair = reinterpret_cast<Pair*>(&entry->child_ino);
    Pair seen{A::Load(&pair->lo, std::memory_order_acquire), A::Load(&pair->hi, std::memory_order_acquire)};
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (A::Cas16(pair, seen, {ino, (seen.hi & ~uint64_t{UINT32_MAX}) | mode})) return;
    }
  }

  /// Entry and state at one moment: flags, child, flags again.
  bool Read(uint64_t offset, layout::OverlayDirent& entry, NameRec& rec) {
    auto* at = offset % 16 == 0 ? At(offset) : nullptr;
    if (at == nullptr) return false;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      const uint64_t before = A::Load(Word(offset), std::memory_order_acquire);
      const uint64_t ino = A::Load(&at->child_ino, std::memory_order_acquire);
      CopyOut<A>(&entry, reinterpret_cast<const uint8_t*>(at), sizeof(entry));
      ReadFence<A>();
      const uint64_t again = A::Load(&at->child_ino, std::memory_order_acquire);
      if (again != ino || A::Load(Word(offset), std::memory_order_acquire) != before) continue;
      if ((before & UINT32_MAX) != 3 || entry.name_len > layout::kNameBytesMax) return false;
      const uint32_t flags = Flags(before);
      rec.state = flags & kTombstoneFlag ? NameState::kTombstone : NameState::kLive;
      rec.ino = ino;
      rec.mode = entry.child_mode;
      rec.claimed = flags > kTombstoneFlag;
      rec.row = rec.claimed ? (flags >> 1) - 1 : kNoIntent;
      rec.offset = offset;
      rec.flags = flags;
      return true;
    }
    return false;
  }

  /// Looks for the name along a chain; `tail` is where it ended.
  int Walk(uint64_t from, uint64_t dir, std::string_view name, NameRec& out, uint64_t& tail) {
    for (uint64_t steps = 0; steps < kChainMax; steps++) {
      layout::OverlayDirent entry;
      NameRec rec;
      if (!Read(from, entry, rec)) return EIO;
      if (entry.parent_ino == dir && NameOf(entry) == name) {
        out = rec;
        return 0;
      }
      tail = from;
      if (entry.next == kNone) return 0;
      from = entry.next;
    }
    return ELOOP;
  }

  int LinkNew(const layout::OverlayDirent& entry, std::string_view name, uint32_t row, int arg) {
    const auto offset = files_.pool().Allocate(EntryType::kDirent);
    if (!offset) return ENOSPC;
    // Bytes behind the name stay as they were, as v8 leaves them.
    CopyIn<A>(files_.pool().At(*offset, sizeof(entry)), &entry, offsetof(layout::OverlayDirent, name) + name.size() + 1);
    uint64_t* first = nullptr;
    int error = ListHead(entry.parent_ino, first);
    intents_.SetArg(row, arg, *offset);
    if (error == 0) error = Publish(*offset, entry.parent_ino, name);
    if (error == 0) return PrependTo(first, *offset);
    intents_.SetArg(row, arg, kNone);
    files_.pool().Free(EntryType::kDirent, *offset);
    return error;
  }

  int Publish(uint64_t offset, uint64_t dir, std::string_view name) {
    BucketRef ref;
    const InsertResult result = files_.table().Insert(Names::Key(dir, Bytes(name), name.size()), offset, ref);
    if (result != InsertResult::kExists) return ErrorOf(result);
    return AppendIfUnique(ref.value, offset, dir, name);
  }

  int AppendIfUnique(uint64_t from, uint64_t offset, uint64_t dir, std::string_view name) {
    for (uint64_t steps = 0; steps < kChainMax; steps++) {
      NameRec rec;
      uint64_t tail = from;
      if (const int error = Walk(from, dir, name, rec, tail)) return error;
      if (rec.state != NameState::kAbsent) return EEXIST;
      uint64_t seen = kNone;
      if (A::Cas(&At(tail)->next, seen, offset, std::memory_order_acq_rel)) return 0;
      from = tail;
    }
    return ELOOP;
  }

  int Revive(const NameRec& rec, uint64_t ino, uint32_t mode, uint32_t row, int arg, bool hold) {
    if (rec.claimed) return EAGAIN;
    intents_.SetArg(row, arg, rec.offset);
    const uint32_t claim = ClaimBits(row) | kTombstoneFlag;
    if (!Mark(rec, kTombstoneFlag, claim)) return EAGAIN;
    SetChild(rec.offset, ino, mode);
    return Mark(rec, claim, hold ? ClaimBits(row) : 0) ? 0 : EAGAIN;
  }

  /// The word that a directory's list begins with; made when there is none (a loser's 16 bytes stay unused, as in v8).
  int ListHead(uint64_t dir, uint64_t*& out) {
    BucketRef ref;
    if (files_.table().Find(DirlistKey(dir), ref) == FindResult::kAbsent) {
      const auto offset = files_.pool().Bump(sizeof(layout::OverlayDirlist), KernelFiles<A>::kAlign);
      if (!offset) return ENOSPC;
      const layout::OverlayDirlist head{4, 0, kNone};
      CopyIn<A>(files_.pool().At(*offset, sizeof(head)), &head, sizeof(head));
      const InsertResult result = files_.table().Insert(DirlistKey(dir), *offset, ref);
      if (result != InsertResult::kInserted && result != InsertResult::kExists) return ErrorOf(result);
    }
    auto* head = reinterpret_cast<layout::OverlayDirlist*>(files_.pool().At(ref.value, sizeof(layout::OverlayDirlist)));
    if (head == nullptr || A::Load(&head->type, std::memory_order_acquire) != 4) return EIO;
    out = &head->first;
    return 0;
  }

  int PrependTo(uint64_t* first, uint64_t offset) {
    layout::OverlayDirent* entry = At(offset);
    if (entry == nullptr) return EIO;
    uint64_t seen = A::Load(first, std::memory_order_acquire);
    for (int tries = 0; tries < kRetriesMax; tries++) {
      A::Store(&entry->dir_next, seen, std::memory_order_release);
      if (A::Cas(first, seen, offset, std::memory_order_acq_rel)) return 0;
    }
    return EAGAIN;
  }
  int Prepend(uint64_t dir, uint64_t offset) {
    uint64_t* first = nullptr;
    const int error = ListHead(dir, first);
    return error != 0 ? error : PrependTo(first, offset);
  }

  template <typename Visit>
  void VisitList(uint64_t dir, Visit visit) {
    uint64_t* first = nullptr;
    if (ListHead(dir, first) != 0) return;
    uint64_t at = A::Load(first, std::memory_order_acquire);
    for (uint64_t steps = 0; at != kNone && steps < kListMax; steps++) {
      if (At(at) == nullptr || !visit(at)) return;
      at = A::Load(&At(at)->dir_next, std::memory_order_acquire);
    }
  }

  KernelFiles<A>& files_;
  IntentTable<A>& intents_;
};

}  // namespace daxserve
