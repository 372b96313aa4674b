// Names of a private front. The table alone says what a name means: key -> immutable directory entry, so creating,
// removing and replacing a name are one CAS each. Beside it every directory keeps an index for listing: slot i of
// directory d is the key of "page i of d", its value an entry of that name; a listed name counts only if the table agrees.
//
// Equal keys (2^-63): the entry found first gets kCollided and the next name tries salt 1, and so on. A chain only grows at
// its end, a collided entry that is removed leaves a nameless tombstone: no name is ever cut off, none gets in twice.
#pragma once
#include "fnv.h"
#include "overlay_name.h"
#include "private_files.h"

namespace daxserve {

template <typename A, typename Names = FnvNames>
class PrivateNames {
 public:
  static constexpr uint32_t kCollided = 2;
  static constexpr uint32_t kClaimed = 4;
  static constexpr unsigned kRowShift = 8;
  /// Most slots of a directory: its "pages".
  static constexpr uint64_t kSlotsMax = uint64_t{layout::kPageIndexMax} + 1;

  PrivateNames(PrivateFiles<A>& files, IntentTable<A>& intents) : files_(files), intents_(intents) {}

  int Find(uint64_t dir, std::string_view name, NameRec& out) {
    out = {};
    for (uint32_t salt = 0; salt < kSaltsMax; salt++) {
      BucketRef ref;
      layout::OverlayDirent entry;
      const int error = LoadEntry(Names::Key(dir, Bytes(name), name.size(), salt), ref, entry);
      if (error == ENOENT) {
        out.salt = salt;
        return 0;
      }
      if (error != 0) return error;
      if (entry.parent_ino == dir && NameOf(entry) == name) {
        Fill(ref, entry, salt, out);
        return 0;
      }
      if (!(entry.flags & kCollided)) {
        Fill(ref, entry, salt, out);
        out.state = NameState::kAbsent;
        out.follow = true;
        return 0;
      }
    }
    return ELOOP;
  }

  /// Makes the name live unless it is. `row` learns the new entry's offset in argument `arg` before anybody can see it, with
  /// kPublished as soon as somebody may. @param hold claimed by `row` from the first moment
  int Link(uint64_t dir, std::string_view name, uint64_t ino, uint32_t mode, uint32_t row, int arg, bool hold = false) {
    const auto offset = NewEntry(MakeDirent(dir, name, ino, mode, hold ? kClaimed | row << kRowShift : 0));
    if (!offset) return ENOSPC;
    intents_.SetArg(row, arg, *offset);
    BucketRef slot;
    int error = TakeSlot(dir, name, *offset, slot);
    if (error == 0) {
      intents_.SetArg(row, arg, *offset | kPublished);
      error = Publish(dir, name, *offset);
      if (error != 0) files_.table().Remove(slot);
    }
    if (error != 0) {
      intents_.SetArg(row, arg, kNone);
      files_.Retire(EntryType::kDirent, *offset);
    }
    return error;
  }

  /// Hides a name of the base.
  int LinkTombstone(uint64_t dir, std::string_view name) {
    const auto offset = NewEntry(MakeDirent(dir, name, 0, 0, kTombstoneFlag));
    if (!offset) return ENOSPC;
    const int error = Publish(dir, name, *offset);
    if (error != 0) files_.pool().Free(EntryType::kDirent, *offset);
    return error;
  }

  /// Takes a live (or our own claimed) name out; `hide` leaves a tombstone for the base's name beneath.
  /// @returns 0, EAGAIN (it changed), ENOSPC, EBUSY. The entry itself is freed by Discard.
  int Unlink(uint64_t dir, std::string_view name, const NameRec& rec, bool hide) {
    // Before the name is gone, so that from then on its slot leads to the very entry that was taken out: FreeSlot looks at that.
    if (!SettleSlot(dir, name, rec.slot, rec.offset)) return EBUSY;
    const bool collided = (rec.flags & kCollided) != 0;
    if (!hide && !collided) return files_.table().Remove(rec.ref) ? 0 : EAGAIN;
    auto entry = MakeDirent(dir, name, 0, 0, kTombstoneFlag | (collided ? kCollided : 0));
    if (!hide) {
      entry.parent_ino = 0;
      entry.name_len = 0;
    }
    const auto offset = NewEntry(entry);
    if (!offset) return ENOSPC;
    BucketRef ref = rec.ref;
    if (files_.table().Replace(ref, *offset)) return 0;
    files_.pool().Free(EntryType::kDirent, *offset);
    return EAGAIN;
  }

  /// As Unlink for a name that `row` holds, but never ENOSPC: without room for a tombstone the name's own entry becomes it.
  int UnlinkHeld(uint64_t dir, std::string_view name, NameRec& rec, bool hide, uint32_t row) {
    const int error = Unlink(dir, name, rec, hide);
    return error == ENOSPC ? Bury(dir, name, rec, row) : error;
  }

  /// After Unlink: frees the name's slot and the entry. The intent forgets the entry before the memory is anybody's.
  void Discard(uint64_t dir, const NameRec& rec, uint32_t row, int arg) {
    FreeSlot(dir, rec.slot, rec.offset);
    intents_.SetArg(row, arg, kNone);
    if (!rec.buried) files_.Retire(EntryType::kDirent, rec.offset);
  }

  /// The live name gets another child, in one step.
  int Swap(uint64_t dir, std::string_view name, const NameRec& rec, uint64_t ino, uint32_t mode, uint32_t row, int arg, bool hold) {
    auto entry = MakeDirent(dir, name, ino, mode, (rec.flags & kCollided) | (hold ? kClaimed | row << kRowShift : 0));
    entry.dir_next = rec.slot;
    const auto offset = NewEntry(entry);
    if (!offset) return ENOSPC;
    intents_.SetArg(row, arg, *offset);
    return Exchange(dir, name, rec, *offset) ? 0 : EAGAIN;
  }

  /// Marks a live name as being moved by `row`: until released nobody else changes it, everybody still sees it.
  int Claim(uint64_t dir, std::string_view name, NameRec& rec, uint32_t row, int arg) {
    const int error = Remark(dir, name, rec, (rec.flags & kCollided) | kClaimed | row << kRowShift, row, arg);
    // A neighbour may have given it another entry since.
    if (error == 0) intents_.SetArg(row, arg, rec.offset);
    return error;
  }
  int Release(uint64_t dir, std::string_view name, NameRec& rec, uint32_t row, int arg) {
    return Remark(dir, name, rec, rec.flags & kCollided, row, arg);
  }

  /// Release without a new entry, for when there is no room.
  bool ReleaseInPlace(const NameRec& rec) { return SetFlags(rec, rec.flags & kCollided); }

  /// Calls visit(name, rec) -> bool (go on) for every live name.
  template <typename Visit>
  int List(uint64_t dir, Visit visit) {
    PrivateInode inode;
    if (const int error = files_.Load(dir, inode)) return error;
    const uint64_t slots = inode.size < kSlotsMax ? inode.size : kSlotsMax;
    for (uint64_t slot = 0; slot < slots; slot++) {
      BucketRef ref;
      layout::OverlayDirent entry;
      if (LoadEntry(PageKey(dir, slot), ref, entry) != 0 || entry.parent_ino != dir) continue;
      NameRec rec;
      if (Find(dir, NameOf(entry), rec) != 0 || rec.state != NameState::kLive || rec.slot != slot) continue;
      if (!visit(NameOf(entry), rec)) return 0;
    }
    return 0;
  }

  /// A copy of an entry that an intent names. False when it cannot be one.
  bool Entry(uint64_t offset, layout::OverlayDirent& out) {
    const uint8_t* from = offset == kNone ? nullptr : files_.pool().At(offset, sizeof(out));
    if (from == nullptr) return false;
    CopyOut<A>(&out, from, sizeof(out));
    return IsDirent(out);
  }

  /// Recovery: an entry that was never published leaves its slot and the pool.
  void Abandon(uint64_t offset, const layout::OverlayDirent& entry) {
    FreeSlot(entry.parent_ino, entry.dir_next, offset);
    files_.Retire(EntryType::kDirent, offset);
  }

  /// Nothing to repair: a name is published by one CAS, its slot before.
  void Relist(uint64_t, const layout::OverlayDirent&) {}

 private:
  static constexpr uint32_t kSaltsMax = 1024;
  static constexpr uint64_t kProbesPerSize = 16;

  int LoadEntry(uint64_t key, BucketRef& ref, layout::OverlayDirent& out) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      if (files_.table().Find(key, ref) == FindResult::kAbsent) return ENOENT;
      if (!files_.CopyEntry(ref, &out, sizeof(out))) return EIO;
      if (files_.table().Still(ref)) return IsDirent(out) ? 0 : EIO;
    }
    return EAGAIN;
  }

  static void Fill(const BucketRef& ref, const layout::OverlayDirent& entry, uint32_t salt, NameRec& out) {
    out.state = entry.flags & kTombstoneFlag ? NameState::kTombstone : NameState::kLive;
    out.ino = entry.child_ino;
    out.mode = entry.child_mode;
    out.claimed = (entry.flags & kClaimed) != 0;
    out.row = entry.flags >> kRowShift;
    out.ref = ref;
    out.offset = private_value::Offset(ref.value);
    out.flags = entry.flags;
    out.slot = entry.dir_next;
    out.salt = salt;
  }

  std::optional<uint64_t> NewEntry(const layout::OverlayDirent& entry) {
    const auto offset = files_.pool().Allocate(EntryType::kDirent);
    if (offset) CopyIn<A>(files_.pool().At(*offset, sizeof(entry)), &entry, sizeof(entry));
    return offset;
  }

  /// Puts an entry of ours into the table where no live one is.
  int Publish(uint64_t dir, std::string_view name, uint64_t offset) {
    for (int tries = 0; tries < kRetriesMax; tries++) {
      NameRec rec;
      if (const int error = Find(dir, name, rec)) return error;
      if (rec.state == NameState::kLive) return EEXIST;
      if (rec.follow) {
        if (const int error = MarkCollided(rec)) return error;
        continue;
      }
      if (rec.state == NameState::kTombstone) {
        if (const int error = Revive(rec, offset); error != EAGAIN) return error;
        continue;
      }
      BucketRef ref;
      const auto result = files_.table().Insert(Names::Key(dir, Bytes(name), name.size(), rec.salt), offset, ref);
      if (result != InsertResult::kExists) return ErrorOf(result);
    }
    return EAGAIN;
  }

  int Revive(const NameRec& rec, uint64_t offset) {
    if (rec.flags & kCollided) AddFlags(offset, kCollided);
    BucketRef ref = rec.ref;
    if (!files_.table().Replace(ref, offset)) return EAGAIN;
    files_.Retire(EntryType::kDirent, rec.offset);
    return 0;
  }

  /// The last entry of a chain learns that one follows. @returns 0 (it may have changed: look again), ENOSPC
  int MarkCollided(const NameRec& rec) {
    layout::OverlayDirent entry;
    if (!files_.CopyEntry(rec.ref, &entry, sizeof(entry)) || !files_.table().Still(rec.ref)) return 0;
    // Another read of the same bytes: what was a name before may be none now.
    if (!IsDirent(entry)) return 0;
    entry.flags |= kCollided;
    const auto offset = NewEntry(entry);
    if (!offset) return ENOSPC;
    // The intent of whoever holds the name knows the old entry: that costs its space until the next check.
    Exchange(entry.parent_ino, NameOf(entry), rec, *offset, (entry.flags & kClaimed) != 0);
    return 0;
  }

  /// Another entry for the same name: first in the table, then in the slot, then the old one is free, unless `keep`.
  bool Exchange(uint64_t dir, std::string_view name, const NameRec& rec, uint64_t offset, bool keep = false) {
    BucketRef ref = rec.ref;
    if (!files_.table().Replace(ref, offset)) {
      files_.pool().Free(EntryType::kDirent, offset);
      return false;
    }
    SettleSlot(dir, name, rec.slot, offset);
    if (!keep) files_.Retire(EntryType::kDirent, rec.offset);
    return true;
  }

  /// Makes a slot name the entry that the table names; a moment ago that was `offset`. Everybody who changes the table settles
  /// before freeing the old entry, and looks at the slot before the table: a look that is out of date then fails its CAS.
  /// @returns false: others were faster too often
  bool SettleSlot(uint64_t dir, std::string_view name, uint64_t slot, uint64_t offset) {
    if (slot >= kSlotsMax) return true;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      BucketRef ref;
      NameRec now;
      if (files_.table().Find(PageKey(dir, slot), ref) == FindResult::kAbsent) return true;
      if (private_value::Offset(ref.value) == offset) return true;
      if (Find(dir, name, now) != 0 || now.state != NameState::kLive || now.slot != slot) return true;
      if (private_value::Offset(ref.value) == now.offset || files_.table().Replace(ref, now.offset)) return true;
    }
    return false;
  }

  /// Frees the slot of an entry that nobody has freed yet. A survivor may come when the dead had freed the slot already: then
  /// it is empty, or leads to the entry of another name.
  void FreeSlot(uint64_t dir, uint64_t slot, uint64_t offset) {
    BucketRef ref;
    if (slot >= kSlotsMax || files_.table().Find(PageKey(dir, slot), ref) == FindResult::kAbsent) return;
    if (private_value::Offset(ref.value) == offset) files_.table().Remove(ref);
  }

  int Remark(uint64_t dir, std::string_view name, NameRec& rec, uint32_t flags, uint32_t row, int arg) {
    auto entry = MakeDirent(dir, name, rec.ino, rec.mode, flags);
    entry.dir_next = rec.slot;
    const auto offset = NewEntry(entry);
    if (!offset) return ENOSPC;
    intents_.SetArg(row, arg, *offset);
    if (!Exchange(dir, name, rec, *offset)) return EAGAIN;
    return Find(dir, name, rec);
  }

  /// Changes one word of an entry that nobody but its claimer may replace.
  bool SetFlags(const NameRec& rec, uint32_t flags) {
    auto* word = reinterpret_cast<uint64_t*>(files_.pool().At(rec.offset, sizeof(layout::OverlayDirent)));
    uint64_t seen = uint64_t{rec.flags} << 32 | 3;
    // @atomic overlay_dirent.{type, flags}  an entry that went back to the pool has a link there, and the CAS fails
    return word != nullptr && A::Cas(word, seen, uint64_t{flags} << 32 | 3, std::memory_order_acq_rel);
  }

  /// The name is gone with the word. From then on the entry is the table's, as any tombstone: whoever revives the name frees
  /// it. The bucket gets a new version, so that a neighbour of an equal key who copied the entry before cannot put the
  /// name back; where it was quicker, it is done again. Before the word: a recycled entry is not in that bucket any more.
  int Bury(uint64_t dir, std::string_view name, NameRec& rec, uint32_t row) {
    if (!files_.table().Still(rec.ref) || !SetFlags(rec, kTombstoneFlag | (rec.flags & kCollided))) return EAGAIN;
    rec.buried = true;
    BucketRef ref = rec.ref;
    if (files_.table().Replace(ref, rec.offset)) return 0;
    NameRec now;
    const int error = Find(dir, name, now);
    const bool back = now.state == NameState::kLive && now.claimed && now.row == row;
    return error != 0 || back ? EAGAIN : 0;
  }

  void AddFlags(uint64_t offset, uint32_t flags) {
    uint8_t* at = files_.pool().At(offset, sizeof(layout::OverlayDirent));
    if (at == nullptr) return;
    uint32_t all = 0;
    CopyOut<A>(&all, at + 4, sizeof(all));
    all |= flags;
    CopyIn<A>(at + 4, &all, sizeof(all));
  }

  /// A slot of the directory for the entry, found from the name on so that creators do not meet; doubles the directory's
  /// slots when the neighbourhood is taken.
  int TakeSlot(uint64_t dir, std::string_view name, uint64_t offset, BucketRef& out) {
    const uint64_t hash = FnvName(dir, Bytes(name), name.size());
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PrivateInode inode;
      if (const int error = files_.Load(dir, inode)) return error;
      const uint64_t slots = inode.size < kSlotsMax ? inode.size : kSlotsMax;
      const uint64_t probes = slots == kSlotsMax || slots < kProbesPerSize ? slots : kProbesPerSize;
      for (uint64_t probe = 0; probe < probes; probe++) {
        const uint64_t slot = (hash + probe) % slots;
        CopyIn<A>(files_.pool().At(offset, sizeof(layout::OverlayDirent)) + offsetof(layout::OverlayDirent, dir_next),
                  &slot, sizeof(slot));
        const InsertResult result = files_.table().Insert(PageKey(dir, slot), offset, out);
        if (result != InsertResult::kExists) return ErrorOf(result);
      }
      if (slots == kSlotsMax) return ENOSPC;
      PrivateInode next = inode;
      next.size = slots == 0 ? 8 : slots * 2 < kSlotsMax ? slots * 2 : kSlotsMax;
      const int error = files_.Store(inode, next);
      if (error != 0 && error != EAGAIN) return error;
    }
    return EAGAIN;
  }

  PrivateFiles<A>& files_;
  IntentTable<A>& intents_;
};

}  // namespace daxserve
