// The names that belong to one owner: drawn, done, written down, and after a kill found as before or as after.
// Everybody's names lie in the same directories, so their table buckets, slots, chains and pages are each other's neighbours.
#pragma once
#include <fcntl.h>

#include <string>
#include <vector>

#include "attach.h"
#include "journal.h"

namespace daxserve::stress {

inline constexpr uint32_t kUidBase = 1000;

template <typename O>
class Names {
 public:
  Names(O& overlay, OwnerPart& part, uint32_t owner) : overlay_(overlay), paths_(overlay), part_(part), owner_(owner) {}

  static std::string Directory(uint32_t index) { return "d" + std::to_string(index % kDirectories); }
  static std::string Leaf(uint32_t owner, uint32_t index) {
    std::string leaf = "o" + std::to_string(owner) + "n" + std::to_string(index);
    // Some names as long as names may be.
    return index % 8 == 7 ? leaf + std::string(255 - leaf.size(), 'x') : leaf;
  }
  static std::string Path(uint32_t owner, uint32_t index) { return Directory(index) + "/" + Leaf(owner, index); }
  std::string Path(uint32_t index) const { return Path(owner_, index); }
  std::string Child(uint32_t index, uint32_t child) const { return Path(index) + "/c" + std::to_string(child); }
  std::string Target(uint32_t tag) const { return "nowhere/" + std::string(tag % 200, 'y') + std::to_string(tag); }

  /// Fills in what the verb needs. False: it makes no sense now.
  bool Draw(Operation& op, bool small) {
    op.a = Pick(op.verb);
    op.b = static_cast<uint32_t>(Below(part_.random, kNames));
    op.tag = static_cast<uint32_t>(part_.operations) & 0x7fffffff;
    op.salt = Next(part_.random);
    op.before_a = part_.names[op.a];
    op.before_b = part_.names[op.b];
    op.body = FreeBody();
    const Name& name = op.before_a;
    const uint64_t longest = small ? 3000 : 20000;
    switch (op.verb) {
      case Verb::kOpenNew: return name.kind != Kind::kLink;
      case Verb::kWrite:
        op.offset = Below(part_.random, kBodyBytesMax - 1);
        if (small) op.offset %= 9000;
        op.length = 1 + Below(part_.random, Least(longest, kBodyBytesMax - op.offset));
        return name.kind == Kind::kFile;
      case Verb::kAppend:
        op.offset = name.size;
        op.length = 1 + Below(part_.random, Least(longest, 5000));
        return name.kind == Kind::kFile && op.offset + op.length <= (small ? 12000 : kBodyBytesMax);
      case Verb::kTruncate:
        op.length = Below(part_.random, 3) == 0 ? 0 : Below(part_.random, small ? 12000 : kBodyBytesMax);
        return name.kind == Kind::kFile;
      case Verb::kChmod: op.mode = static_cast<uint32_t>(Below(part_.random, 01000)); return name.kind == Kind::kFile;
      case Verb::kRead: return name.kind == Kind::kFile;
      case Verb::kChild:
      case Verb::kUnchild: op.b = static_cast<uint32_t>(Below(part_.random, kChildren)); return name.kind == Kind::kDirectory;
      default: return true;
    }
  }

  /// What the operation must answer.
  int Expected(const Operation& op) const {
    const Name &a = op.before_a, &b = op.before_b;
    const bool directory = a.kind == Kind::kDirectory;
    switch (op.verb) {
      case Verb::kCreate:
      case Verb::kMkdir:
      case Verb::kSymlink: return a.kind == Kind::kAbsent ? 0 : EEXIST;
      case Verb::kOpenNew: return directory ? EISDIR : 0;
      case Verb::kUnlink: return a.kind == Kind::kAbsent ? ENOENT : directory ? EISDIR : 0;
      case Verb::kRmdir: return a.kind == Kind::kAbsent ? ENOENT : !directory ? ENOTDIR : a.children != 0 ? ENOTEMPTY : 0;
      case Verb::kStat: return a.kind == Kind::kAbsent ? ENOENT : 0;
      case Verb::kChild: return (a.children >> op.b & 1) != 0 ? EEXIST : 0;
      case Verb::kUnchild: return (a.children >> op.b & 1) != 0 ? 0 : ENOENT;
      case Verb::kRename:
        if (a.kind == Kind::kAbsent) return ENOENT;
        if (op.a == op.b || b.kind == Kind::kAbsent) return 0;
        if (directory != (b.kind == Kind::kDirectory)) return directory ? ENOTDIR : EISDIR;
        return b.kind == Kind::kDirectory && b.children != 0 ? ENOTEMPTY : 0;
      default: return 0;
    }
  }

  int Do(const Operation& op) {
    const Maker maker{0644, kUidBase + owner_, op.tag};
    FileStat stat;
    switch (op.verb) {
      case Verb::kCreate: return paths_.Open(Path(op.a), O_CREAT | O_EXCL | O_RDWR, maker, stat);
      case Verb::kOpenNew: return paths_.Open(Path(op.a), O_CREAT | O_TRUNC | O_RDWR, maker, stat);
      case Verb::kMkdir: return paths_.Mkdir(Path(op.a), maker);
      case Verb::kSymlink: return paths_.Symlink(Target(op.tag), Path(op.a), maker);
      case Verb::kUnlink: return paths_.Unlink(Path(op.a));
      case Verb::kRmdir: return paths_.Rmdir(Path(op.a));
      case Verb::kRename: return paths_.Rename(Path(op.a), Path(op.b));
      case Verb::kChild: return paths_.Open(Child(op.a, op.b), O_CREAT | O_EXCL | O_RDWR, maker, stat);
      case Verb::kUnchild: return paths_.Unlink(Child(op.a, op.b));
      case Verb::kStat: return paths_.Stat(Path(op.a), false, stat);
      case Verb::kRead: CheckFile(op.a, part_.names[op.a]); return 0;
      case Verb::kReaddir: CheckListing(op.a % kDirectories); return 0;
      default: break;
    }
    if (const int error = paths_.Open(Path(op.a), O_RDWR, maker, stat)) return error;
    uint64_t at = 0;
    switch (op.verb) {
      case Verb::kWrite: return overlay_.Write(stat.ino, op.offset, Bytes(op), op.length);
      case Verb::kAppend:
        if (const int error = overlay_.Append(stat.ino, Bytes(op), op.length, at)) return error;
        if (at != op.offset) Broken("%s: an append went to %lu, not %lu", Path(op.a).c_str(), at, op.offset);
        return 0;
      case Verb::kTruncate: return overlay_.Truncate(stat.ino, op.length);
      case Verb::kChmod: return overlay_.Chmod(stat.ino, op.mode);
      default: return 0;
    }
  }

  /// Writes down what the operation did; doing it twice does no harm.
  void Apply(const Operation& op) {
    Name& a = part_.names[op.a];
    switch (op.verb) {
      case Verb::kCreate: Make(a, op, Kind::kFile); break;
      case Verb::kOpenNew:
        if (op.before_a.kind == Kind::kAbsent) Make(a, op, Kind::kFile);
        else Resize(a, op.before_a.size, 0);
        break;
      case Verb::kMkdir: Make(a, op, Kind::kDirectory); break;
      case Verb::kSymlink: Make(a, op, Kind::kLink); break;
      case Verb::kUnlink:
      case Verb::kRmdir: a = {}; break;
      case Verb::kRename:
        if (op.a == op.b) break;
        part_.names[op.b] = op.before_a;
        a = {};
        break;
      case Verb::kChild: a.children = op.before_a.children | 1u << op.b; break;
      case Verb::kUnchild: a.children = op.before_a.children & ~(1u << op.b); break;
      case Verb::kWrite:
      case Verb::kAppend:
        Pattern(op.salt, part_.bodies[a.body] + op.offset, op.length);
        a.size = op.before_a.size > op.offset + op.length ? op.before_a.size : op.offset + op.length;
        break;
      case Verb::kTruncate: Resize(a, op.before_a.size, op.length); break;
      case Verb::kChmod: a.mode = op.mode; break;
      default: break;
    }
  }

  /// The operation was cut short by a kill: it must be as before or as after. @returns true: as after
  bool Resolve(const Operation& op) {
    if (op.verb == Verb::kWrite || op.verb == Verb::kAppend) return ResolveWrite(op);
    if (op.verb == Verb::kTruncate) return ResolveTruncate(op);
    if (op.verb == Verb::kOpenNew && op.before_a.kind == Kind::kFile) {
      Operation cut = op;
      cut.length = 0;
      return ResolveTruncate(cut);
    }
    if (Expected(op) != 0 || op.verb == Verb::kRead || op.verb == Verb::kStat || op.verb == Verb::kReaddir) return false;
    const bool before = Matches(op.a, op.before_a) && (op.verb != Verb::kRename || Matches(op.b, op.before_b));
    Apply(op);
    const bool after = Matches(op.a, part_.names[op.a]) && (op.verb != Verb::kRename || Matches(op.b, part_.names[op.b]));
    if (op.verb == Verb::kRename && op.a == op.b) return before;
    const char* verb = kVerbs[static_cast<int>(op.verb)];
    if (!before && !after) Broken("%s %s %s: neither as before nor as after", verb, Path(op.a).c_str(), Path(op.b).c_str());
    if (after) return true;
    part_.names[op.a] = op.before_a;
    if (op.verb == Verb::kRename) part_.names[op.b] = op.before_b;
    return false;
  }

  void CheckAll() {
    for (uint32_t i = 0; i < kNames; i++) {
      const Name& name = part_.names[i];
      if (!Matches(i, name)) Broken("%s is not what its owner left (kind %u, tag %u)", Path(i).c_str(), uint32_t(name.kind), name.tag);
      if (name.kind == Kind::kFile) CheckFile(i, name);
    }
  }

  /// Own names in one of the shared directories: those that are, once each, and no other.
  void CheckListing(uint32_t directory) {
    FileStat stat;
    if (const int error = paths_.Stat(Directory(directory), true, stat)) Broken("%s: errno %d", Directory(directory).c_str(), error);
    uint32_t seen[kNames] = {};
    const std::string mine = "o" + std::to_string(owner_) + "n";
    const int error = overlay_.Readdir(stat.ino, [&](std::string_view name, uint64_t, uint32_t) {
      if (name.substr(0, mine.size()) == mine) seen[std::strtoul(std::string(name).c_str() + mine.size(), nullptr, 10) % kNames]++;
      return true;
    });
    if (error != 0) Broken("readdir of %s: errno %d", Directory(directory).c_str(), error);
    for (uint32_t i = directory; i < kNames; i += kDirectories) {
      const uint32_t expected = part_.names[i].kind == Kind::kAbsent ? 0 : 1;
      if (seen[i] != expected) Broken("%s is listed %u times, not %u", Path(i).c_str(), seen[i], expected);
    }
  }

 private:
  static uint64_t Least(uint64_t a, uint64_t b) { return a < b ? a : b; }

  /// A name for which the verb has something to do, if one is found quickly.
  uint32_t Pick(Verb verb) {
    const bool fresh = verb == Verb::kCreate || verb == Verb::kMkdir || verb == Verb::kSymlink || verb == Verb::kOpenNew;
    const bool nested = verb == Verb::kRmdir || verb == Verb::kChild || verb == Verb::kUnchild;
    uint32_t at = 0;
    for (int tries = 0; tries < 6; tries++) {
      at = static_cast<uint32_t>(Below(part_.random, kNames));
      const Kind kind = part_.names[at].kind;
      if (fresh ? kind == Kind::kAbsent : nested ? kind == Kind::kDirectory : kind == Kind::kFile) break;
    }
    return at;
  }

  uint32_t FreeBody() const {
    bool used[kBodies] = {};
    for (const Name& name : part_.names) {
      if (name.kind == Kind::kFile) used[name.body] = true;
    }
    for (uint32_t body = 0; body < kBodies; body++) {
      if (!used[body]) return body;
    }
    return 0;
  }

  const uint8_t* Bytes(const Operation& op) {
    buffer_.resize(op.length);
    Pattern(op.salt, buffer_.data(), op.length);
    return buffer_.data();
  }

  void Make(Name& name, const Operation& op, Kind kind) {
    if (kind == Kind::kFile) std::memset(part_.bodies[op.body], 0, kBodyBytesMax);
    name = {kind, op.tag, 0644, op.body, 0, 0, 0};
  }

  /// Invariant: behind the size a body is zero.
  void Resize(Name& name, uint64_t from, uint64_t to) {
    if (to < from) std::memset(part_.bodies[name.body] + to, 0, from - to);
    name.size = to;
  }

  /// By what lies there: kind, maker, mode, target, children. Bytes and sizes of files are looked at elsewhere.
  bool Matches(uint32_t index, const Name& name) {
    FileStat stat;
    const int error = paths_.Stat(Path(index), false, stat);
    if (error != 0 && error != ENOENT) Broken("stat %s: errno %d", Path(index).c_str(), error);
    if (name.kind == Kind::kAbsent || error != 0) return name.kind == Kind::kAbsent && error != 0;
    const uint32_t type = name.kind == Kind::kFile ? S_IFREG : name.kind == Kind::kLink ? S_IFLNK : S_IFDIR;
    if ((stat.mode & S_IFMT) != type || stat.uid != kUidBase + owner_ || stat.gid != name.tag) return false;
    if (name.kind == Kind::kFile) return (stat.mode & 07777) == name.mode;
    if (name.kind == Kind::kDirectory) return ChildrenOf(stat.ino) == name.children;
    std::string target;
    return paths_.Readlink(Path(index), target) == 0 && target == Target(name.tag);
  }

  uint32_t ChildrenOf(uint64_t ino) {
    uint32_t children = 0;
    const int error = overlay_.Readdir(ino, [&](std::string_view name, uint64_t, uint32_t) {
      const uint32_t bit = name.size() == 2 && name[0] == 'c' ? 1u << (name[1] - '0') : 1u << 31;
      children = (children & bit) != 0 ? children | 1u << 30 : children | bit;
      return true;
    });
    if (error != 0) Broken("readdir: errno %d", error);
    return children;
  }

  void CheckFile(uint32_t index, const Name& name) {
    FileStat stat;
    const std::string path = Path(index);
    if (const int error = paths_.Stat(path, false, stat)) Broken("%s: errno %d", path.c_str(), error);
    if (stat.size != name.size) Broken("%s has %lu bytes, not %lu", path.c_str(), stat.size, name.size);
    Load(path, stat.ino, name.size);
    const uint8_t* body = part_.bodies[name.body];
    for (uint64_t i = 0; i < name.size; i++) {
      if (buffer_[i] != body[i]) Broken("%s: byte %lu of %lu is 0x%02x, not 0x%02x (inode %lu)", path.c_str(), i, name.size, buffer_[i], body[i], stat.ino);
    }
  }

  void Load(const std::string& path, uint64_t ino, uint64_t size) {
    buffer_.assign(size + 1, 0xee);
    uint64_t done = 0;
    const int error = overlay_.Read(ino, 0, buffer_.data(), size + 1, done);
    if (error != 0 || done != size) Broken("read %s: errno %d, %lu of %lu bytes", path.c_str(), error, done, size);
  }

  uint64_t InodeOf(uint32_t index, uint64_t& size) {
    FileStat stat;
    if (const int error = paths_.Stat(Path(index), false, stat)) Broken("%s is gone: errno %d", Path(index).c_str(), error);
    size = stat.size;
    return stat.ino;
  }

  /// Each byte old or new, the size old or new. The part behind the size may show when the file grows: it is made to.
  bool ResolveWrite(const Operation& op) {
    Name& name = part_.names[op.a];
    uint64_t size = 0;
    const uint64_t ino = InodeOf(op.a, size), before = op.before_a.size, end = op.offset + op.length;
    const uint64_t after = before > end ? before : end;
    if (size < before || size > after) Broken("%s: a write cut short left %lu bytes, not %lu to %lu", Path(op.a).c_str(), size, before, after);
    if (size < after && overlay_.Truncate(ino, after) == 0) size = after;
    fresh_.resize(op.length);
    Pattern(op.salt, fresh_.data(), op.length);
    Adopt(op, ino, size, op.offset, end, fresh_.data());
    name.size = size;
    return true;
  }

  /// A cut may leave bytes that show again when the file grows (kernel-mountable fronts); never others than were there.
  bool ResolveTruncate(const Operation& op) {
    Name& name = part_.names[op.a];
    uint64_t size = 0;
    const uint64_t ino = InodeOf(op.a, size), before = op.before_a.size;
    if (size != before && size != op.length) Broken("%s: a cut left %lu bytes of %lu or %lu", Path(op.a).c_str(), size, before, op.length);
    const uint64_t most = before > op.length ? before : op.length, least = before + op.length - most;
    if (size < most && overlay_.Truncate(ino, most) == 0) size = most;
    fresh_.assign(most - least, 0);
    Adopt(op, ino, size, least, most, fresh_.data());
    name.size = size;
    return true;
  }

  /// Bytes of [from, to) are old or those of `fresh`, all others old; what is found counts from now on.
  void Adopt(const Operation& op, uint64_t ino, uint64_t size, uint64_t from, uint64_t to, const uint8_t* fresh) {
    uint8_t* body = part_.bodies[part_.names[op.a].body];
    Load(Path(op.a), ino, size);
    for (uint64_t i = 0; i < size; i++) {
      const bool changed = i >= from && i < to && buffer_[i] == fresh[i - from];
      if (buffer_[i] != body[i] && !changed) Broken("%s: byte %lu is 0x%02x after a %s cut short, was 0x%02x", Path(op.a).c_str(), i, buffer_[i], kVerbs[static_cast<int>(op.verb)], body[i]);
      body[i] = buffer_[i];
    }
  }

  O& overlay_;
  OverlayPaths<O> paths_;
  OwnerPart& part_;
  uint32_t owner_;
  std::vector<uint8_t> buffer_, fresh_;
};

}  // namespace daxserve::stress
