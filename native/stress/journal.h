// What the processes of the stress test write down outside the region: a file that all of them map, so that what a
// process had stored is still there after kill -9. One part per owner, written by one process at a time.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>

namespace daxserve::stress {

inline constexpr uint32_t kOwners = 8;
/// Names that belong to one owner; a rename takes one body more.
inline constexpr uint32_t kNames = 24;
inline constexpr uint32_t kBodies = kNames + 1;
inline constexpr uint32_t kBodyBytesMax = 40 * 1024;
inline constexpr uint32_t kChildren = 4;
inline constexpr uint32_t kDirectories = 4;
inline constexpr uint32_t kRaces = 16;
inline constexpr uint32_t kLogs = 2;
inline constexpr uint32_t kContents = 2;
/// Appends that were under way at a kill, of one owner and log.
inline constexpr uint32_t kUncertainMax = 4096;
inline constexpr uint64_t kMagic = 0x5354524553534a31;

enum class Kind : uint32_t { kAbsent, kFile, kLink, kDirectory };

/// One name as its owner knows it. `tag` is in the gid of what it names, the owner in the uid.
struct Name {
  Kind kind;
  uint32_t tag;
  uint32_t mode;
  uint32_t body;
  uint64_t size;
  uint32_t children;
  uint32_t reserved;
};

/// How far the operation in hand is. After kBegun either outcome is right, after kReturned only the one in `result`.
enum class Phase : uint32_t { kIdle, kBegun, kReturned };

enum class Verb : uint32_t {
  kCreate, kOpenNew, kWrite, kAppend, kTruncate, kRead, kUnlink, kRename, kMkdir, kRmdir, kSymlink, kStat, kChmod,
  kChild, kUnchild, kReaddir, kRaceCreate, kRaceUnlink, kLog, kCell, kMove, kHot, kPage, kLoad, kDrop, kCount,
};
inline constexpr const char* kVerbs[] = {
    "create", "open", "write", "append", "truncate", "read", "unlink", "rename", "mkdir", "rmdir", "symlink", "stat", "chmod",
    "child", "unchild", "readdir", "race-create", "race-unlink", "log", "cell", "move", "hot", "page", "load", "drop"};

struct Operation {
  Verb verb;
  uint32_t a, b;
  uint32_t tag;
  uint32_t mode;
  uint32_t body;
  uint64_t offset, length, salt;
  /// The names before it began, so that it can be written down twice.
  Name before_a, before_b;
};

struct OwnerPart {
  uint64_t random;
  uint64_t operations;
  uint64_t starts;
  uint64_t resolved_done, resolved_undone;
  uint64_t busy, full;
  Phase phase;
  int32_t result;
  Operation operation;
  uint64_t log_next[kLogs];
  uint32_t uncertain_count[kLogs];
  uint64_t uncertain[kLogs][kUncertainMax];
  uint64_t cell;
  uint32_t races;  // bit i: race name i is ours
  uint32_t content[kContents];  // 1: loaded under our name
  uint64_t verbs[static_cast<size_t>(Verb::kCount)];
  Name names[kNames];
  uint8_t bodies[kBodies][kBodyBytesMax];
};

struct Journal {
  uint64_t magic;
  /// Set by the parent: finish the operation in hand, detach, exit.
  uint32_t stop;
  /// Set by a process that met ENOSPC: time for a fresh region.
  uint32_t full;
  /// Row of the registry whose content the loaders copy.
  uint32_t template_content;
  uint32_t reserved;
  uint32_t holders[kRaces];
  OwnerPart owners[kOwners];
};

inline void Barrier() { std::atomic_thread_fence(std::memory_order_seq_cst); }

/// splitmix64 over a word that lives in the journal: a successor goes on where its predecessor was.
inline uint64_t Next(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
inline uint64_t Below(uint64_t& state, uint64_t end) { return (Next(state) >> 11) % end; }

/// Bytes that only this salt gives; never zero, so that a hole is seen.
inline void Pattern(uint64_t salt, uint8_t* to, uint64_t length) {
  for (uint64_t at = 0; at < length; at += 8) {
    const uint64_t word = Next(salt) | 0x0101010101010101;
    std::memcpy(to + at, &word, length - at < 8 ? length - at : 8);
  }
}

}  // namespace daxserve::stress
