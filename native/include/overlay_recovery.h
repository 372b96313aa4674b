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

  /// {directory, entry, inode}. Published: it counts, and gets listed. Not published: as if never begun.
  void RecoverCreate(const uint64_t* args) {
    layout::OverlayDirent entry;
    NameRec rec;
    const bool named = Names(args[1], entry, rec);
    const bool parsed = named || front_.names().Entry(args[1], entry);
    if (named) front_.names().Relist(args[1], entry);
    // By what the name leads to, not by its entry: a neighbour of an equal key may have given it another.
    if (parsed && rec.ino == args[2] && front_.names().Find(entry.parent_ino, NameOf(entry), rec) == 0 &&
        rec.state == NameState::kLive && rec.ino == args[2]) {
      return;
    }
    if (parsed && !named && entry.child_ino == args[2]) front_.names().Abandon(args[1], entry);
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

  /// {directory, source entry, replaced inode, moved inode, target entry}. Target there: forward. Else: back.
  void RecoverRename(const uint64_t* args, uint32_t row) {
    layout::OverlayDirent source_entry, target_entry;
    NameRec source, target;
    const bool have_source = Names(args[1], source_entry, source) && source.claimed && source.row == row;
    const bool named = Names(args[4], target_entry, target);
    const bool have_target = named && target.state == NameState::kLive && target.ino == args[3];
    // A claim of the dead host on the target ends; an entry that never was published goes back to the pool.
    if (named && !have_target && target.claimed && target.row == row) front_.names().Relist(args[4], target_entry);
    if (!named && front_.names().Entry(args[4], target_entry) && target_entry.child_ino == args[3]) {
      front_.names().Abandon(args[4], target_entry);
    }
    if (have_source && !have_target) {
      front_.names().Release(source_entry.parent_ino, NameOf(source_entry), source, row, 1);
      if (args[2] != 0) front_.ReopenDirectory(args[2], row);
      return;
    }
    if (have_target) front_.names().Relist(args[4], target_entry);
    if (have_source) {
      const auto name = NameOf(source_entry);
      if (front_.names().Unlink(source_entry.parent_ino, name, source, front_.lower().Has(source_entry.parent_ino, name)) != 0) return;
      front_.names().Discard(source_entry.parent_ino, source, row, 1);
    }
    if (args[2] != 0 && have_target) front_.RemoveInode(args[2]);
  }

  Front& front_;
};

}  // namespace daxserve
