// One file being copied into a region: opened once, checked against what the planner saw, read by several threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "status.h"
#include "xxh3.h"

namespace daxserve {

/// What the planner saw. Another size, mtime or inode fails with ESTALE.
struct FileIdentity {
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  uint64_t ino = 0;
};

/// Thread safety: `CopyBlock` may run on several threads at once; `Open` and `Close` not beside anything else.
class SourceFile {
 public:
  SourceFile() = default;
  ~SourceFile() { Close(); }
  SourceFile(const SourceFile&) = delete;
  SourceFile& operator=(const SourceFile&) = delete;

  /// Opens a regular file without blocking on anything else: EINVAL for a FIFO, socket, device or directory.
  /// `target_is_zero`: holes of a sparse file need no copy, and pages of the target are probably not there yet.
  Status Open(const std::string& path, const FileIdentity& identity, bool target_is_zero);
  /// ESTALE when the open file is no longer the one that was planned.
  Status CheckUnchanged() const;
  void Close();

  /// Copies [offset, offset + length) to `to`; `sums` gets its whole units that lie before the file's tail.
  /// REQUIRES: inside the planned size; offset a multiple of 1024. ESTALE when the file has shrunk, ENOSPC when memory
  /// behind `to` cannot be had, EIO when either is damaged.
  Status CopyBlock(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const;

  /// Units that CopyBlock sums for this range.
  size_t UnitsIn(uint64_t offset, size_t length) const;

 private:
  void Map();
  void ReadAhead(uint64_t offset) const;
  bool IsHole(uint64_t offset, size_t length) const;
  Status CopyMapped(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const;
  Status CopyRead(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const;

  int fd_ = -1;
  const uint8_t* map_ = nullptr;
  bool target_is_zero_ = false;
  bool sparse_ = false;
  FileIdentity identity_;
};

}  // namespace daxserve
