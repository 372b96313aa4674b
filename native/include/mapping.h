// One mmap of a region or of a part of it: the owner of the address range, and the slow work done on it.
#pragma once
#include <atomic>
#include <cassert>
#include <cstdint>
#include <functional>
#include <memory>

#include "bounds.h"
#include "status.h"

namespace daxserve {

/// Where the pages of a mapping should come from on a machine with several memory nodes.
struct NumaPolicy {
  enum class Mode { kDefault, kInterleave, kBind };
  Mode mode = Mode::kDefault;
  /// For kBind: the node, 0..1023.
  uint32_t node = 0;
};

struct MapOptions {
  bool write = false;
  /// madvise(MADV_HUGEPAGE) before the first touch; a refusal is ignored (the pages are then small).
  bool huge = false;
  NumaPolicy numa;
};

/// A shared mapping. Thread safety: const after Open; the bytes are shared with other threads and processes, so
/// structures inside are reached through atom.h and everything else must be owned by the caller.
/// Shared by shared_ptr: a running job keeps the range mapped after the owner has let go.
class Mapping {
 public:
  /// Maps [offset, offset + size) of `fd`; the descriptor may be closed afterwards. REQUIRES: size > 0.
  static Status Open(int fd, uint64_t offset, uint64_t size, const MapOptions& options, std::shared_ptr<Mapping>& out);

  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint64_t size() const { return size_; }
  bool writable() const { return writable_; }
  bool Contains(uint64_t offset, uint64_t length) const { return InBounds(offset, length, size_); }

  /// First byte of [offset, offset + length). REQUIRES: Contains(offset, length).
  char* At(uint64_t offset, uint64_t length) const {
    assert(Contains(offset, length));
    return data_ + offset;
  }

  /// Faults every page of the range in, with two threads, without SIGBUS: ENOSPC or ENOMEM when memory is short
  /// (a tmpfs that is full says EFAULT), EINVAL where the kernel lacks MADV_POPULATE (before 5.14).
  /// `progress` is called from the calling thread with the bytes done so far; false stops with ECANCELED.
  Status Populate(uint64_t offset, uint64_t length, const std::function<bool(uint64_t)>& progress) const;

 private:
  Mapping(char* data, uint64_t size, bool writable) : data_(data), size_(size), writable_(writable) {}
  Status ApplyNuma(const NumaPolicy& numa) const;

  char* const data_;
  const uint64_t size_;
  const bool writable_;
};

}  // namespace daxserve
