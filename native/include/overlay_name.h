// A name of a directory as the overlay holds it; what the operations of both kinds of front are written in.
#pragma once
#include "overlay_types.h"

namespace daxserve {

enum class NameState { kAbsent, kTombstone, kLive };

/// One look at a name. Changing operations take it back and fail with EAGAIN when the name changed since.
struct NameRec {
  NameState state = NameState::kAbsent;
  uint64_t ino = 0;
  uint32_t mode = 0;
  /// Being renamed or revived under this intent row (kNoIntent: by a host without rows).
  bool claimed = false;
  uint32_t row = kNoIntent;
  // Where it was found; only the front that filled it in looks at these.
  BucketRef ref;
  uint64_t offset = kNone;
  uint32_t flags = 0;
  uint64_t slot = kNone;
  uint32_t salt = 0;
  /// The entry at the end of a chain of equal keys that must first learn that it has a follower.
  bool follow = false;
  /// It was removed, and its entry stays as its tombstone.
  bool buried = false;
};

inline constexpr uint32_t kTombstoneFlag = 1;
/// Bit 0 of an entry's offset in an intent: others may have seen the entry, and what was named by it may have moved on.
inline constexpr uint64_t kPublished = 1;

/// Builds a directory entry; `name` must have passed CheckName.
inline layout::OverlayDirent MakeDirent(uint64_t dir, std::string_view name, uint64_t ino, uint32_t mode, uint32_t flags) {
  layout::OverlayDirent entry{};
  entry.type = 3;
  entry.flags = flags;
  entry.parent_ino = dir;
  entry.child_ino = ino;
  entry.child_mode = mode;
  entry.name_len = static_cast<uint16_t>(name.size());
  entry.next = kNone;
  entry.dir_next = kNone;
  std::memcpy(entry.name, name.data(), name.size());
  return entry;
}

/// False for an entry that breaks a rule.
inline bool IsDirent(const layout::OverlayDirent& entry) {
  return entry.type == 3 && entry.name_len <= layout::kNameBytesMax;
}
inline std::string_view NameOf(const layout::OverlayDirent& entry) {
  return {reinterpret_cast<const char*>(entry.name), entry.name_len};
}

}  // namespace daxserve
