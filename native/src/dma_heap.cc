#include "dma_heap.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cassert>

namespace daxserve {
namespace {

// Spelled out because older system headers have neither the structures nor the numbers; they are fixed interfaces of
// the kernel, the same on every architecture.
#ifndef SYS_fsopen
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif

struct HeapAllocation {
  uint64_t length;
  uint32_t fd;
  uint32_t fd_flags;
  uint64_t heap_flags;
};
static_assert(sizeof(HeapAllocation) == 24);

constexpr unsigned long kHeapAllocate = _IOWR('H', 0, HeapAllocation);
constexpr unsigned long kBufferSync = _IOW('b', 0, uint64_t);
constexpr uint64_t kSyncReadWrite = 3;
constexpr uint64_t kSyncEnd = 4;
constexpr unsigned long kDaxfsExport = _IO('D', 1);

constexpr unsigned kOpenCloseOnExec = 1;  // FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
constexpr unsigned kSetFlag = 0;
constexpr unsigned kSetString = 1;
constexpr unsigned kSetFd = 5;
constexpr unsigned kCreate = 6;
constexpr unsigned kMoveEmptyPath = 4;

int Ioctl(int fd, unsigned long request, void* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(long fd) : fd_(static_cast<int>(fd)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// The context answers each read with one message, "e text", until it has no more.
std::string ReadLog(int context) {
  std::string log;
  char line[512];
  for (int i = 0; i < 16; i++) {
    const ssize_t length = read(context, line, sizeof line);
    if (length <= 0) break;
    const ssize_t prefix = length > 2 && line[1] == ' ' ? 2 : 0;
    if (!log.empty()) log += "; ";
    log.append(line + prefix, static_cast<size_t>(length - prefix));
    while (!log.empty() && log.back() == '\n') log.pop_back();
  }
  return log;
}

bool Configure(int context, const MountOption& option) {
  const char* const name = option.name.c_str();
  switch (option.kind) {
    case MountOption::Kind::kString:
      return syscall(SYS_fsconfig, context, kSetString, name, option.value.c_str(), 0) == 0;
    case MountOption::Kind::kFd:
      return syscall(SYS_fsconfig, context, kSetFd, name, nullptr, option.fd) == 0;
    case MountOption::Kind::kFlag:
      break;
  }
  return syscall(SYS_fsconfig, context, kSetFlag, name, nullptr, 0) == 0;
}

// errno is kept: reading the log may change it.
Status Failed(int context, std::string call, std::string& log) {
  const Status status = Status::Last(std::move(call));
  log = ReadLog(context);
  return status;
}

}  // namespace

Status AllocateDmaHeap(int heap, uint64_t length, int& out) {
  assert(length > 0);
  HeapAllocation allocation{length, 0, O_RDWR | O_CLOEXEC, 0};
  if (Ioctl(heap, kHeapAllocate, &allocation) < 0) return Status::Last("DMA_HEAP_IOCTL_ALLOC");
  out = static_cast<int>(allocation.fd);
  return Status::Ok();
}

Status SyncDmaBuf(int buffer, bool end) {
  uint64_t flags = kSyncReadWrite | (end ? kSyncEnd : 0);
  return Ioctl(buffer, kBufferSync, &flags) < 0 ? Status::Last("DMA_BUF_IOCTL_SYNC") : Status::Ok();
}

Status ExportDmaBuf(int fd, int& out) {
  const int result = Ioctl(fd, kDaxfsExport, nullptr);
  if (result < 0) return Status::Last("DAXFS_IOC_GET_DMABUF");
  out = result;
  return Status::Ok();
}

Status MountFilesystem(const std::string& type, const std::string& target, const std::vector<MountOption>& options,
                       std::string& log) {
  const Descriptor context(syscall(SYS_fsopen, type.c_str(), kOpenCloseOnExec));
  if (context.get() < 0) return Status::Last("fsopen");
  for (const MountOption& option : options) {
    if (!Configure(context.get(), option)) return Failed(context.get(), "fsconfig " + option.name, log);
  }
  if (syscall(SYS_fsconfig, context.get(), kCreate, nullptr, nullptr, 0) != 0)
    return Failed(context.get(), "fsconfig create", log);
  const Descriptor mount(syscall(SYS_fsmount, context.get(), kOpenCloseOnExec, 0));
  if (mount.get() < 0) return Failed(context.get(), "fsmount", log);
  if (syscall(SYS_move_mount, mount.get(), "", AT_FDCWD, target.c_str(), kMoveEmptyPath) != 0)
    return Status::Last("move_mount");
  return Status::Ok();
}

}  // namespace daxserve
