// What all owners contend for: names that one may win, logs that all append to, cells of one page, directories that move
// into each other, names that everybody makes and removes.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "names.h"

namespace daxserve::stress {

/// One record of a log; its length divides no page.
struct Record {
  uint32_t owner;
  uint32_t log;
  uint64_t sequence;
  uint64_t fill[11];
  uint64_t check;
};
inline constexpr uint64_t kRecordBytes = sizeof(Record);
inline constexpr uint32_t kCellPages = 8;
inline constexpr uint32_t kCellBytes = 64;

inline Record MakeRecord(uint32_t owner, uint32_t log, uint64_t sequence) {
  Record record{owner, log, sequence, {}, 0};
  uint64_t state = sequence << 16 | owner << 8 | log;
  for (uint64_t& word : record.fill) word = Next(state) | 1;
  record.check = Next(state) | 1;
  return record;
}

template <typename O>
class Shared {
 public:
  Shared(O& overlay, Journal& journal, uint32_t owner)
      : overlay_(overlay), paths_(overlay), journal_(journal), part_(journal.owners[owner]), owner_(owner) {}

  static std::string Race(uint32_t index) { return "race/r" + std::to_string(index); }
  static std::string Log(uint32_t index) { return "log" + std::to_string(index); }

  bool Draw(Operation& op) {
    op.tag = static_cast<uint32_t>(part_.operations) & 0x7fffffff;
    op.salt = Next(part_.random);
    const bool mine = op.verb == Verb::kRaceUnlink;
    op.a = static_cast<uint32_t>(Below(part_.random, op.verb == Verb::kLog ? kLogs : kRaces));
    op.b = static_cast<uint32_t>(Below(part_.random, kMoves * kMoves));
    op.before_a.size = op.verb == Verb::kLog ? part_.log_next[op.a] : part_.cell;
    return !mine || (part_.races >> op.a & 1) != 0;
  }

  int Do(const Operation& op) {
    switch (op.verb) {
      case Verb::kRaceCreate: return RaceCreate(op);
      case Verb::kRaceUnlink: return RaceUnlink(op);
      case Verb::kLog: return Append(op.a);
      case Verb::kCell: return WriteCell(part_.cell + 1);
      case Verb::kMove: return Move(op);
      default: return Hot(op);
    }
  }

  void Apply(const Operation& op, int result) {
    if (op.verb == Verb::kRaceCreate && result == 0) part_.races |= 1u << op.a;
    if (op.verb == Verb::kRaceUnlink) part_.races &= ~(1u << op.a);
    if (op.verb == Verb::kLog) part_.log_next[op.a] = op.before_a.size + 1;
    if (op.verb == Verb::kCell) part_.cell = op.before_a.size + 1;
  }

  bool Resolve(const Operation& op) {
    if (op.verb == Verb::kRaceCreate || op.verb == Verb::kRaceUnlink) return ResolveRace(op);
    if (op.verb == Verb::kLog) return ResolveLog(op);
    // A cell may be half old, half new: the new value is written again.
    if (op.verb == Verb::kCell && WriteCell(op.before_a.size + 1) == 0) Apply(op, 0);
    return false;
  }

  /// Everybody is at rest.
  void CheckAll() {
    for (uint32_t i = 0; i < kRaces; i++) CheckRace(i);
    for (uint32_t i = 0; i < kLogs; i++) CheckLog(i);
    for (uint32_t k = 0; k < kOwners; k++) CheckCell(k);
    CheckTree();
  }

 private:
  static constexpr uint32_t kMovers = 3;
  static constexpr uint32_t kMoves = 5;  // places where one of three directories may be

  int OpenAt(const std::string& path, int flags, uint32_t tag, uint64_t& ino) {
    FileStat stat;
    const int error = paths_.Open(path, flags | O_RDWR, {0600, kUidBase + owner_, tag}, stat);
    ino = stat.ino;
    return error;
  }

  void Win(uint32_t index) {
    uint32_t none = 0;
    std::atomic_ref<uint32_t> holder(journal_.holders[index]);
    if (!holder.compare_exchange_strong(none, owner_ + 1)) Broken("%s: won by owner %u while owner %u has it", Race(index).c_str(), owner_, none - 1);
  }

  int RaceCreate(const Operation& op) {
    uint64_t ino;
    const int error = OpenAt(Race(op.a), O_CREAT | O_EXCL, op.tag, ino);
    if (error == 0) Win(op.a);
    const bool mine = (part_.races >> op.a & 1) != 0;
    if (mine && error != EEXIST && error != EBUSY && error != EAGAIN) Broken("%s: made again (errno %d)", Race(op.a).c_str(), error);
    return error == EEXIST ? -EEXIST : error;
  }

  int RaceUnlink(const Operation& op) {
    std::atomic_ref<uint32_t>(journal_.holders[op.a]).store(0);
    const int error = paths_.Unlink(Race(op.a));
    if (error == ENOENT) Broken("%s: owner %u had it and it is gone", Race(op.a).c_str(), owner_);
    if (error != 0) Win(op.a);
    return error;
  }

  bool ResolveRace(const Operation& op) {
    FileStat stat;
    const bool ours = paths_.Stat(Race(op.a), false, stat) == 0 && stat.uid == kUidBase + owner_;
    std::atomic_ref<uint32_t> holder(journal_.holders[op.a]);
    if (ours && holder.load() != owner_ + 1) Win(op.a);
    if (!ours && holder.load() == owner_ + 1) Broken("%s: owner %u had it and it is gone", Race(op.a).c_str(), owner_);
    part_.races = ours ? part_.races | 1u << op.a : part_.races & ~(1u << op.a);
    return ours;
  }

  void CheckRace(uint32_t index) {
    FileStat stat;
    const int error = paths_.Stat(Race(index), false, stat);
    if (error != 0 && error != ENOENT) Broken("%s: errno %d", Race(index).c_str(), error);
    const uint32_t holder = error == 0 ? stat.uid - kUidBase + 1 : 0;
    if (holder != journal_.holders[index]) Broken("%s: owner %u, not %u", Race(index).c_str(), holder - 1, journal_.holders[index] - 1);
    for (uint32_t k = 0; k < kOwners; k++) {
      const bool mine = (journal_.owners[k].races >> index & 1) != 0;
      if (mine != (holder == k + 1)) Broken("%s: owner %u believes otherwise", Race(index).c_str(), k);
    }
  }

  int Append(uint32_t log) {
    uint64_t ino, at;
    if (const int error = OpenAt(Log(log), 0, 0, ino)) return error;
    const Record record = MakeRecord(owner_, log, part_.log_next[log]);
    return overlay_.Append(ino, reinterpret_cast<const uint8_t*>(&record), sizeof(record), at);
  }

  /// Nobody can say whether it is there, and the number is never used again.
  bool ResolveLog(const Operation& op) {
    uint32_t& count = part_.uncertain_count[op.a];
    if (count < kUncertainMax) part_.uncertain[op.a][count] = op.before_a.size;
    Barrier();
    if (count == 0 || part_.uncertain[op.a][count - 1] != op.before_a.size) count++;
    Apply(op, 0);
    return false;
  }

  void CheckLog(uint32_t log) {
    uint64_t ino, done = 0;
    FileStat stat;
    if (OpenAt(Log(log), 0, 0, ino) != 0 || overlay_.Stat(ino, stat) != 0) Broken("%s is gone", Log(log).c_str());
    std::vector<uint8_t> bytes(stat.size);
    if (overlay_.Read(ino, 0, bytes.data(), bytes.size(), done) != 0 || done != stat.size) Broken("%s cannot be read", Log(log).c_str());
    if (stat.size % kRecordBytes != 0) Broken("%s has %lu bytes, no whole records", Log(log).c_str(), stat.size);
    std::vector<std::vector<uint8_t>> seen(kOwners);
    for (uint32_t k = 0; k < kOwners; k++) seen[k].resize(journal_.owners[k].log_next[log]);
    uint64_t holes = 0, uncertain = 0, missing = 0;
    for (uint64_t at = 0; at < stat.size; at += kRecordBytes) {
      Record record;
      std::memcpy(&record, bytes.data() + at, sizeof(record));
      const bool known = record.owner < kOwners && record.log == log && record.sequence < seen[record.owner].size();
      const Record whole = MakeRecord(record.owner, log, record.sequence);
      if (!known || std::memcmp(&record, &whole, sizeof(record)) != 0) holes++;
      else if (seen[record.owner][record.sequence]++ != 0) Broken("%s: record %lu of owner %u twice", Log(log).c_str(), record.sequence, record.owner);
    }
    for (uint32_t k = 0; k < kOwners; k++) {
      const OwnerPart& part = journal_.owners[k];
      const uint32_t count = std::min(part.uncertain_count[log], kUncertainMax);
      const std::set<uint64_t> open(part.uncertain[log], part.uncertain[log] + count);
      for (uint64_t i = 0; i < seen[k].size(); i++) {
        if (seen[k][i] == 0 && !open.contains(i)) Broken("%s: acknowledged record %lu of owner %u is missing", Log(log).c_str(), i, k);
        missing += seen[k][i] == 0;
      }
      uncertain += count;
    }
    if (holes > missing || missing > uncertain) Broken("%s: %lu holes, %lu records missing, %lu were under way", Log(log).c_str(), holes, missing, uncertain);
  }

  static uint64_t CellAt(uint32_t owner, uint64_t value) { return value % kCellPages * 4096 + owner * kCellBytes + 17; }

  /// Cells of all owners share their pages; value v goes to page v % 8.
  int WriteCell(uint64_t value) {
    uint64_t ino, done = 0, words[kCellBytes / 8], before[kCellBytes / 8];
    if (const int error = OpenAt("cells", 0, 0, ino)) return error;
    const uint64_t last = value - 1;
    if (last > 0) {
      if (overlay_.Read(ino, CellAt(owner_, last), reinterpret_cast<uint8_t*>(before), sizeof(before), done) != 0) return EAGAIN;
      CheckWords(owner_, before, last);
    }
    for (uint64_t& word : words) word = value << 8 | owner_;
    return overlay_.Write(ino, CellAt(owner_, value), reinterpret_cast<const uint8_t*>(words), sizeof(words));
  }

  static void CheckWords(uint32_t owner, const uint64_t* words, uint64_t value) {
    for (uint32_t i = 0; i < kCellBytes / 8; i++) {
      if (words[i] != (value << 8 | owner)) Broken("cell of owner %u: word %u is 0x%lx, not value %lu", owner, i, words[i], value);
    }
  }

  void CheckCell(uint32_t owner) {
    const uint64_t last = journal_.owners[owner].cell;
    for (uint64_t value = last > kCellPages ? last - kCellPages + 1 : 1; value <= last; value++) {
      uint64_t ino, done = 0, words[kCellBytes / 8];
      if (OpenAt("cells", 0, 0, ino) != 0) Broken("cells is gone");
      if (overlay_.Read(ino, CellAt(owner, value), reinterpret_cast<uint8_t*>(words), sizeof(words), done) != 0) Broken("cells cannot be read");
      CheckWords(owner, words, value);
    }
  }

  /// Place `index` of directory m: the root, below one of the others, below both.
  static std::string MoverAt(uint32_t mover, uint32_t index) {
    const std::string self = "m" + std::to_string(mover), one = "m" + std::to_string((mover + 1) % kMovers),
                      two = "m" + std::to_string((mover + 2) % kMovers);
    const std::string places[] = {self, one + "/" + self, two + "/" + self, one + "/" + two + "/" + self, two + "/" + one + "/" + self};
    return places[index % kMoves];
  }

  static bool Allowed(int error) {
    return error == 0 || error == ENOENT || error == EEXIST || error == EINVAL || error == ENOTEMPTY || error == EBUSY ||
           error == EAGAIN || error == EISDIR || error == ENOTDIR || error == ENOSPC;
  }

  int Judge(const char* what, int error) {
    if (!Allowed(error)) Broken("%s: errno %d", what, error);
    if (error == EBUSY || error == EAGAIN) part_.busy++;
    return error == ENOSPC ? ENOSPC : 0;
  }

  int Move(const Operation& op) {
    const uint32_t mover = op.a % kMovers;
    return Judge("moving a directory", paths_.Rename(MoverAt(mover, op.b), MoverAt(mover, op.b / kMoves)));
  }

  /// Every directory that moves is in the tree once, with the file that was put into it.
  void CheckTree() {
    std::map<std::string, int> seen;
    FileStat stat;
    if (overlay_.Stat(overlay_.root(), stat) != 0) Broken("no root");
    Count(stat.ino, 0, seen);
    for (uint32_t i = 0; i < kMovers; i++) {
      const std::string name = "m" + std::to_string(i);
      if (seen[name] != 1) Broken("directory %s is %d times in the tree", name.c_str(), seen[name]);
      if (seen["mark-" + name] != 1) Broken("directory %s lost its file", name.c_str());
    }
  }

  void Count(uint64_t ino, int depth, std::map<std::string, int>& seen) {
    if (depth > 16) Broken("directories lead to each other");
    std::vector<uint64_t> below;
    const int error = overlay_.Readdir(ino, [&](std::string_view name, uint64_t child, uint32_t mode) {
      if (name.starts_with("m")) seen[std::string(name)]++;
      if (IsDirectory(mode)) below.push_back(child);
      return true;
    });
    if (error != 0) Broken("readdir: errno %d", error);
    for (uint64_t child : below) Count(child, depth + 1, seen);
  }

  /// Everybody's names: anything may be there, nothing may break.
  int Hot(const Operation& op) {
    const std::string name = "hot/x" + std::to_string(op.a % 6), other = "hot/x" + std::to_string(op.b % 6);
    uint8_t bytes[700];
    uint64_t ino, done = 0, at;
    FileStat stat;
    switch (op.salt % 9) {
      case 0: return Judge("hot unlink", paths_.Unlink(name));
      case 1: return Judge("hot rename", paths_.Rename(name, other));
      case 2: return Judge("hot mkdir", paths_.Mkdir(name, {0755, kUidBase + owner_, op.tag}));
      case 3: return Judge("hot rmdir", paths_.Rmdir(name));
      case 4: return Judge("hot child", OpenAt(name + "/y", O_CREAT, op.tag, ino));
      case 5: return Judge("hot unchild", paths_.Unlink(name + "/y"));
      case 6: return Judge("hot readdir", paths_.Stat("hot", true, stat) != 0 ? 0 : overlay_.Readdir(stat.ino, [](std::string_view, uint64_t, uint32_t) { return true; }));
      case 7:
        if (const int error = OpenAt(name, op.salt >> 32 & O_TRUNC, op.tag, ino)) return Judge("hot open", error);
        return Judge("hot truncate", overlay_.Truncate(ino, op.salt >> 40 & 0x1fff));
      default: break;
    }
    if (const int error = OpenAt(name, O_CREAT, op.tag, ino)) return Judge("hot create", error);
    Pattern(op.salt, bytes, sizeof(bytes));
    if (op.salt >> 60 == 0) return Judge("hot append", overlay_.Append(ino, bytes, sizeof(bytes), at));
    if (const int error = overlay_.Write(ino, op.salt >> 48 & 0x1fff, bytes, sizeof(bytes))) return Judge("hot write", error);
    return Judge("hot read", overlay_.Read(ino, 0, bytes, sizeof(bytes), done));
  }

  O& overlay_;
  OverlayPaths<O> paths_;
  Journal& journal_;
  OwnerPart& part_;
  uint32_t owner_;
};

}  // namespace daxserve::stress
