// What a survivor does with the intent row of a host that died: the operation goes forward or back, as docs/OVERLAY.md says.
#pragma once
#include "overlay_name.h"

namespace daxserve {

/// Thread safety: as its front; any number of survivors may try, each row goes to one of them.
template <typename A, typename Front>
class OverlayRecovery {
 public:
  explicit OverlayRecovery(Front& front) : front_(front) {}

  /// Finishes or undoes the row's operation if its host is proved dead. True for the one caller that did.
  bool Row(uint32_t row) {
    const IntentKind kind = front_.intents().TakeDead(row);
    if (kind == IntentKind::kNone) return false;
    uint64_t args[IntentTable<A>::kArgs];
    for (int i = 0; i < IntentTable<A>::kArgs; i++) args[i] = front_.intents().Arg(row, i);
    if (kind == IntentKind::kCreate) RecoverCreate(args);
    if (kind == IntentKind::kUnlink) RecoverUnlink(args, row);
    if (kind == IntentKind::kRename) RecoverRename(args, row);
    front_.intents().End(row);
    return true;
  }

 private:
  /// The table's answer for the name in an entry: is it this entry?
  bool Names(uint64_t offset, layout::OverlayDirent& entry, NameRec& rec) {
    return front_.names().Entry(offset, entry) && front_.names().Find(entry.parent_ino, NameOf(entry), rec) == 0 &&
           rec.offset == offset;
  }

  /// {directory, entry, inode}. Named: it counts, and gets listed. Never seen by others: as if never begun. Else somebody
  /// may have moved or removed the name, or it never was there: the inode stays, and costs its space until the next check.
  void RecoverCreate(const uint64_t* args) {
    layout::OverlayDirent entry;
    NameRec rec;
    const uint64_t offset = args[1] & ~kPublished;
    const bool seen = args[1] != kNone && (args[1] & kPublished) != 0;
    const bool named = Names(offset, entry, rec);
    const bool parsed = named || front_.names().Entry(offset, entry);
    if (named) front_.names().Relist(offset, entry);
    // By what the name leads to, not by its entry: a neighbour of an equal key may have given it another.
    if (seen || named) return;
    if (parsed && entry.child_ino == args[2]) front_.names().Abandon(offset, entry);
    front_.RemoveInode(args[2]);
  }

  /// {directory, entry, inode, 1 once the name is gone}. Between the name's end and the mark a crash costs the space of
  /// the file until the next check; freeing without the mark could free what another remover freed before. A directory
  /// was claimed first: closed by the dead and not claimed any more, it is gone.
  void RecoverUnlink(const uint64_t* args, uint32_t row) {
    layout::OverlayDirent entry;
    NameRec rec;
    if (args[3] != 1 && !DirectoryGone(args, row)) {
      front_.ReopenDirectory(args[2], row);
      return;
    }
    if (args[1] != kNone && front_.names().Entry(args[1], entry)) {
      rec = {};
      rec.offset = args[1];
      rec.slot = entry.dir_next;
      front_.names().Discard(args[0], rec, row, 1);
    }
    front_.RemoveInode(args[2]);
  }

  bool DirectoryGone(const uint64_t* args, uint32_t row) {
    layout::OverlayDirent entry;
    NameRec rec;
    const bool closed = front_.ClosedBy(args[2], row);
    if (args[1] == kNone || !front_.names().Entry(args[1], entry) || front_.names().Find(entry.parent_ino, NameOf(entry), rec) != 0) {
      return false;
    }
    const bool live = rec.state == NameState::kLive && rec.ino == args[2];
    if (live && rec.claimed && rec.row == row) front_.names().Release(entry.parent_ino, NameOf(entry), rec, row, 1);
    return closed && !live;
  }

  /// {directory, source entry, replaced inode, moved inode, target entry}. Target held by the dead: forward. Else: back. The
  /// target is let go last, and nobody else can have moved it before.
  void RecoverRename(const uint64_t* args, uint32_t row) {
    layout::OverlayDirent source_entry, target_entry;
    NameRec source, target;
    const uint64_t offset = args[4] & ~kPublished;
    // By name, not by entry: a neighbour of an equal key may have given a name that the dead held another.
    const bool have_source = args[1] != kNone && front_.names().Entry(args[1], source_entry) &&
                             front_.names().Find(source_entry.parent_ino, NameOf(source_entry), source) == 0 &&
                             source.claimed && source.row == row;
    const bool parsed = args[4] != kNone && front_.names().Entry(offset, target_entry) &&
                        front_.names().Find(target_entry.parent_ino, NameOf(target_entry), target) == 0;
    const bool held = parsed && target.claimed && target.row == row && target.offset != source.offset;
    const bool have_target = held && target.state == NameState::kLive && target.ino == args[3];
    if (have_source && !have_target) {
      // A claim on another's name ends; an entry that never was published goes back to the pool.
      if (held) front_.names().Relist(target.offset, target_entry);
      else if (parsed && target.offset != offset && target_entry.child_ino == args[3]) front_.names().Abandon(offset, target_entry);
      front_.names().Release(source_entry.parent_ino, NameOf(source_entry), source, row, 1);
      if (args[2] != 0) front_.ReopenDirectory(args[2], row);
      return;
    }
    if (have_source) {
      const auto name = NameOf(source_entry);
      const bool hide = front_.lower().Has(source_entry.parent_ino, name);
      if (front_.names().UnlinkHeld(source_entry.parent_ino, name, source, hide, row) != 0) return;
      front_.names().Discard(source_entry.parent_ino, source, row, 1);
    }
    if (!have_target) return;
    if (args[2] != 0) front_.RemoveInode(args[2]);
    front_.names().Relist(target.offset, target_entry);
    if (front_.names().Find(target_entry.parent_ino, NameOf(target_entry), target) != 0 || !target.claimed || target.row != row) return;
    if (front_.names().Release(target_entry.parent_ino, NameOf(target_entry), target, row, 4) != 0) front_.names().ReleaseInPlace(target);
  }

  Front& front_;
};

}  // namespace daxserve
