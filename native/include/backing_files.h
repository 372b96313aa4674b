// The files behind a page cache: one file for all inodes (split mode), or a tree of files (export mode). Read through
// descriptors; what is not the file that was there at the start any more is an error, never bytes.
#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base_image.h"

namespace daxserve {

/// What a source file looked like when it was first seen.
struct SourceIdentity {
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  uint64_t device = 0;
  uint64_t ino = 0;
  /// It has a name: what is deleted while it is open counts as gone.
  bool named = false;
  bool operator==(const SourceIdentity&) const = default;
};

/// Thread safety: ReadBlock from any number of threads.
class BackingFiles {
 public:
  virtual ~BackingFiles() = default;

  /// Split: `fd` (duplicated) has the bytes of all files. @returns EINVAL: the image is of another mode; ESTALE: the file
  /// ends before the last file of the image does
  static int OpenSplit(int fd, const BaseImage& image, uint64_t block_bytes, std::unique_ptr<BackingFiles>& out);
  /// Export: `fd` (duplicated) is the directory. Names are looked up beneath it, links are never followed. Files that are not there, or
  /// have another size than in the image, give ESTALE when they are read. @returns EINVAL: the image is of another mode; ENFILE: too many files
  static int OpenExport(int fd, const BaseImage& image, uint64_t root_ino, std::unique_ptr<BackingFiles>& out);

  /// Bytes of block `page` of the source (pages of the whole file in split mode) that belong to the file; zeros behind.
  /// @returns 0; ESTALE: changed, replaced, shorter or gone; EACCES, EIO, ...
  virtual int ReadBlock(const layout::Inode& inode, uint64_t page, uint8_t* block, uint64_t block_bytes) = 0;

  /// Digest of what all files looked like; never 0. Other bytes behind the same names give another stamp.
  uint64_t stamp() const { return stamp_; }

 protected:
  uint64_t stamp_ = 0;
};

}  // namespace daxserve
