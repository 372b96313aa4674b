// Memory of a DMA heap and the mount that keeps it: the system calls that Node lacks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "status.h"

namespace daxserve {

/// Allocates `length` bytes from an open heap (DMA_HEAP_IOCTL_ALLOC), zeroed by the kernel; `out` is a dma-buf, read-write,
/// close-on-exec. ENOTTY: not a heap. REQUIRES: length > 0.
Status AllocateDmaHeap(int heap, uint64_t length, int& out);

/// Brackets access by the CPU (DMA_BUF_IOCTL_SYNC, read and write): once before, once after with `end`.
Status SyncDmaBuf(int buffer, bool end);

/// The dma-buf behind a mount of type daxfs; `fd` is any file or directory in it. ENOENT: a mount of a physical range,
/// ENOTTY: not such a mount.
Status ExportDmaBuf(int fd, int& out);

/// One parameter of a mount.
struct MountOption {
  enum class Kind { kFlag, kString, kFd };
  std::string name;
  Kind kind = Kind::kFlag;
  std::string value;
  int fd = -1;
};

/// Mounts through fsopen, fsconfig, fsmount, move_mount. On failure `log` is what the filesystem said about it, if anything.
/// ENODEV at fsopen: the kernel does not know the type.
Status MountFilesystem(const std::string& type, const std::string& target, const std::vector<MountOption>& options,
                       std::string& log);

}  // namespace daxserve
