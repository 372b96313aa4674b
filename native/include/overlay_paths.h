// Paths over an overlay: walking them, following links, and moves that keep the tree a tree. As POSIX has it.
#pragma once
#include <fcntl.h>

#include <string>
#include <vector>

#include "overlay.h"

namespace daxserve {

inline constexpr size_t kPathBytesMax = 4095;

/// Where a path ends. `stat.ino` 0: no such name in `dir`.
struct PathEnd {
  uint64_t dir = 0;
  /// Empty: the path ends in "/", "." or "..", which name no entry that could be changed.
  std::string name;
  FileStat stat;
  /// Why there is no such name: ENOENT, or ENAMETOOLONG, which counts only after the way to the name.
  int missing = ENOENT;
  /// A slash behind the name: it must be a directory.
  bool slash = false;
  /// Ends in "..".
  bool up = false;
  /// Directories from the root to `dir`, both included.
  std::vector<uint64_t> above;
  /// The name of each but the first.
  std::vector<std::string> names;

  bool exists() const { return stat.ino != 0; }
};

/// What the last name of a path means: what it leads to, a link itself, or the entry whatever it is and though a slash
/// follows (what is about to be made, moved or removed).
enum class LastName { kFollow, kLink, kEntry };

/// Who makes a file, and with which permissions.
struct Maker {
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

/// Thread safety: as its overlay: one thread. Every operation returns 0 or an errno.
template <typename O>
class OverlayPaths {
 public:
  explicit OverlayPaths(O& overlay) : overlay_(overlay) {}

  int Stat(std::string_view path, bool follow, FileStat& out) {
    PathEnd end;
    if (const int error = Walk(path, follow ? LastName::kFollow : LastName::kLink, end)) return error;
    if (!end.exists()) return ENOENT;
    out = end.stat;
    return 0;
  }

  /// open(2) with the O_* bits of `flags`; a regular file or a directory.
  int Open(std::string_view path, int flags, Maker maker, FileStat& out) {
    const bool create = (flags & O_CREAT) != 0, exclusive = create && (flags & O_EXCL);
    if (create && NamesDirectory(path)) return NoDirectoryMade(path);
    const LastName last = exclusive || (flags & O_NOFOLLOW) ? LastName::kLink : LastName::kFollow;
    for (int tries = 0; tries < kRetriesMax; tries++) {
      PathEnd end;
      if (const int error = Walk(path, last, end)) return error;
      if (end.exists() || !create) {
        const int error = OpenFound(end, flags, out);
        if (error == ENOENT && end.exists()) continue;  // another file has its name now
        return error;
      }
      out = {0, S_IFREG | maker.mode, maker.uid, maker.gid, 0, 1};
      const int error = overlay_.Create(end.dir, end.name, maker.mode, maker.uid, maker.gid, out.ino);
      if (error != EEXIST || exclusive) return error;
    }
    return EAGAIN;
  }

  int Mkdir(std::string_view path, Maker maker) {
    PathEnd end;
    uint64_t ino;
    if (const int error = Walk(path, LastName::kEntry, end)) return error;
    if (end.exists()) return EEXIST;
    return overlay_.Mkdir(end.dir, end.name, maker.mode, maker.uid, maker.gid, ino);
  }

  int Symlink(std::string_view target, std::string_view path, Maker maker) {
    PathEnd end;
    uint64_t ino;
    if (target.empty()) return ENOENT;
    if (target.size() > kSymlinkBytesMax) return ENAMETOOLONG;
    if (const int error = Walk(path, LastName::kEntry, end)) return error;
    if (end.exists()) return EEXIST;
    return end.slash ? end.missing : overlay_.Symlink(end.dir, end.name, target, maker.uid, maker.gid, ino);
  }

  int Readlink(std::string_view path, std::string& out) {
    for (int tries = 0; tries < kReplacedMax; tries++) {
      FileStat stat;
      if (const int error = Stat(path, false, stat)) return error;
      uint64_t length = 0;
      out.resize(kSymlinkBytesMax + 1);
      const int error = overlay_.Readlink(stat.ino, out.data(), length);
      out.resize(error == 0 ? length : 0);
      if (error != ENOENT) return error;  // else another link has its name now
    }
    return EAGAIN;
  }

  int Unlink(std::string_view path) {
    PathEnd end;
    if (const int error = Walk(path, LastName::kEntry, end)) return error;
    if (!end.exists()) return end.missing;
    if (end.name.empty() || IsDirectory(end.stat.mode)) return EISDIR;
    return end.slash ? ENOTDIR : overlay_.Unlink(end.dir, end.name);
  }

  int Rmdir(std::string_view path) {
    PathEnd end;
    if (const int error = Walk(path, LastName::kEntry, end)) return error;
    if (!end.exists()) return end.missing;
    if (end.name.empty()) return end.up ? ENOTEMPTY : end.stat.ino == overlay_.root() ? EBUSY : EINVAL;
    return IsDirectory(end.stat.mode) ? overlay_.Rmdir(end.dir, end.name) : ENOTDIR;
  }

  /// Two directories that are moved into each other at once would leave the tree. So a directory moves to another parent
  /// only while it is claimed and no directory on the way to its target is: of movers that meet in a circle, the one that
  /// claimed last sees a claim, or that the way has changed, and looks again.
  int Rename(std::string_view from, std::string_view to) {
    for (int tries = 0; tries < kMovesMax; tries++) {
      const int error = RenameOnce(from, to);
      if (error != ESTALE) return error;
      // Those who met must not meet again at once.
      for (int i = (tries * 7 + static_cast<int>(from.size())) % 64; i >= 0; i--) RealAtom::Pause();
    }
    return EBUSY;
  }

 private:
  static constexpr int kMovesMax = 4096;

  int RenameOnce(std::string_view from, std::string_view to) {
    PathEnd source, target;
    if (const int error = Walk(from, LastName::kEntry, source)) return error;
    if (const int error = Walk(to, LastName::kEntry, target)) return error;
    if (source.name.empty() || target.name.empty()) return EBUSY;
    if (!source.exists()) return source.missing;
    if (target.missing != ENOENT) return target.missing;
    const bool directory = IsDirectory(source.stat.mode);
    if (!directory && (source.slash || target.slash)) return ENOTDIR;
    if (directory && Contains(target.above, source.stat.ino)) return EINVAL;
    if (target.exists() && Contains(source.above, target.stat.ino)) return ENOTEMPTY;
    const bool stays = !directory || source.dir == target.dir;
    return overlay_.Rename(source.dir, source.name, target.dir, target.name, true,
                           [&] { return stays || IsSteady(target); });
  }

  bool IsSteady(const PathEnd& end) {
    for (size_t i = 0; i < end.names.size(); i++) {
      if (!overlay_.Steady(end.above[i], end.names[i], end.above[i + 1])) return false;
    }
    return true;
  }

  /// Ends in a name and a slash.
  static bool NamesDirectory(std::string_view path) {
    const size_t end = path.find_last_not_of('/');
    if (!path.ends_with('/') || end == path.npos) return false;
    const std::string_view last = path.substr(0, end + 1).substr(path.substr(0, end + 1).rfind('/') + 1);
    return last != "." && last != "..";
  }
  /// open(2) with O_CREAT looks at the way to such a path and no further.
  int NoDirectoryMade(std::string_view path) {
    path = path.substr(0, path.find_last_not_of('/') + 1);
    const size_t cut = path.rfind('/');
    PathEnd end;
    if (cut == path.npos || cut == 0) return EISDIR;
    const int error = Walk(path.substr(0, cut + 1), LastName::kFollow, end);
    return error != 0 ? error : EISDIR;
  }

  static bool Contains(const std::vector<uint64_t>& above, uint64_t ino) {
    return std::find(above.begin(), above.end(), ino) != above.end();
  }

  int OpenFound(const PathEnd& end, int flags, FileStat& out) {
    if (!end.exists()) return ENOENT;
    out = end.stat;
    if ((flags & O_CREAT) && (flags & O_EXCL)) return EEXIST;
    if ((out.mode & S_IFMT) == S_IFLNK) return ELOOP;
    const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (IsDirectory(out.mode)) return writes ? EISDIR : 0;
    if (flags & O_DIRECTORY) return ENOTDIR;
    if (!(flags & O_TRUNC) || out.size == 0) return 0;
    out.size = 0;
    return overlay_.Truncate(out.ino, 0);
  }

  /// A link on the way was replaced between two looks at it.
  static constexpr int kReplaced = -1;
  static constexpr int kReplacedMax = 256;

  /// Steps from the root. Only the last name may be missing.
  int Walk(std::string_view path, LastName last_name, PathEnd& end) {
    if (path.empty()) return ENOENT;
    if (path.size() > kPathBytesMax) return ENAMETOOLONG;
    for (int tries = 0; tries < kReplacedMax; tries++) {
      end = {};
      const int error = WalkOnce(path, last_name, end);
      if (error != kReplaced) return error;
    }
    return EAGAIN;
  }

  int WalkOnce(std::string_view path, LastName last_name, PathEnd& end) {
    std::string rest(path);
    int links = 0;
    if (const int error = AtRoot(end)) return error;
    for (size_t at = rest.find_first_not_of('/'); at != rest.npos; at = rest.find_first_not_of('/')) {
      const size_t cut = std::min(rest.find('/', at), rest.size());
      const std::string name = rest.substr(at, cut - at);
      rest.erase(0, cut);
      const bool last = rest.find_first_not_of('/') == rest.npos;
      if (const int error = Step(name, last && !rest.empty(), end)) return error;
      const bool through = !last || (end.slash && last_name != LastName::kEntry);
      if (!end.exists()) return through || (end.missing != ENOENT && last_name != LastName::kEntry) ? end.missing : 0;
      if ((end.stat.mode & S_IFMT) == S_IFLNK && (through || last_name == LastName::kFollow)) {
        if (++links > kSymlinksMax) return ELOOP;
        if (const int error = Expand(end, rest)) return error;
        continue;
      }
      if (through && !IsDirectory(end.stat.mode)) return ENOTDIR;
    }
    return 0;
  }

  int AtRoot(PathEnd& end) {
    end.above = {overlay_.root()};
    end.names.clear();
    end.dir = overlay_.root();
    end.name.clear();
    return overlay_.Stat(overlay_.root(), end.stat);
  }

  /// From where `end` is to one name in it.
  int Step(const std::string& name, bool slash, PathEnd& end) {
    const uint64_t from = end.name.empty() ? end.dir : end.stat.ino;
    if (!end.name.empty()) {
      end.above.push_back(from);
      end.names.push_back(end.name);
    }
    end.slash = slash;
    end.up = name == "..";
    if (name == "." || end.up) {
      if (end.up && end.above.size() > 1) {
        end.above.pop_back();
        end.names.pop_back();
      }
      end.name.clear();
      end.dir = end.above.back();
      return overlay_.Stat(end.dir, end.stat);
    }
    end.dir = from;
    end.name = name;
    end.missing = ENOENT;
    const int error = overlay_.Lookup(end.dir, name, end.stat);
    if (error == 0 || (error != ENOENT && error != ENAMETOOLONG)) return error;
    end.stat = {};
    end.missing = error;
    return 0;
  }

  /// Puts a link's target before what is left of the path.
  int Expand(PathEnd& end, std::string& rest) {
    char target[kSymlinkBytesMax + 1];
    uint64_t length = 0;
    const int error = overlay_.Readlink(end.stat.ino, target, length);
    if (error != 0) return error == ENOENT ? kReplaced : error;
    if (length + rest.size() > kPathBytesMax) return ENAMETOOLONG;
    if (length > 0 && target[0] == '/') {
      if (const int error = AtRoot(end)) return error;
    } else {
      end.name.clear();
    }
    rest.insert(0, target, length);
    return rest.find_first_not_of('/') == rest.npos && length == 0 ? ENOENT : overlay_.Stat(end.dir, end.stat);
  }

  O& overlay_;
};

}  // namespace daxserve
