// The system calls of the fence: range locks owned by open file descriptions, fresh descriptions, read-only clones.
#pragma once
#include <cstdint>

#include "status.h"

namespace daxserve {

enum class LockType { kRead, kWrite, kUnlock };

/// F_OFD_SETLK on [start, start + length) through the description of `fd`. `taken` is false when another
/// description holds a conflicting lock. REQUIRES: length > 0 (0 would mean "to the end of the file").
Status SetOfdLock(int fd, LockType type, uint64_t start, uint64_t length, bool& taken);

/// True in `held` when another description than that of `fd` holds any lock on the range.
Status TestOfdLock(int fd, uint64_t start, uint64_t length, bool& held);

/// A detached read-only clone of the mount that `path` lies on, rooted at that very file. `fd` is an O_PATH descriptor
/// of the file in the clone; opening it for writing is refused by the kernel (EROFS), to root as well.
/// Fails with EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.12, EINVAL for files without a place (memfd).
Status CloneReadOnly(const char* path, int& fd);

/// A fresh description of the file behind `fd` (through /proc/self/fd), close-on-exec.
Status Reopen(int fd, bool write, int& out);

/// Reserves [offset, offset + length); resumes after signals.
Status Reserve(int fd, uint64_t offset, uint64_t length);

}  // namespace daxserve
