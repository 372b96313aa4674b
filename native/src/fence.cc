#include "fence.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cassert>
#include <cstdio>

namespace daxserve {
namespace {

// Spelled out because C libraries before 2.36 have neither the calls nor the constants; the numbers are the same on
// every architecture.
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
constexpr unsigned kOpenTreeClone = 1;
constexpr uint64_t kMountReadOnly = 0x1;
constexpr uint64_t kMountNoSuid = 0x2;
constexpr uint64_t kMountNoExec = 0x8;

struct MountAttributes {
  uint64_t set;
  uint64_t clear;
  uint64_t propagation;
  uint64_t userns_fd;
};
static_assert(sizeof(MountAttributes) == 32);

struct flock RangeLock(short type, uint64_t start, uint64_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(start);
  lock.l_len = static_cast<off_t>(length);
  return lock;
}

short TypeOf(LockType type) {
  if (type == LockType::kRead) return F_RDLCK;
  return type == LockType::kWrite ? F_WRLCK : F_UNLCK;
}

}  // namespace

Status SetOfdLock(int fd, LockType type, uint64_t start, uint64_t length, bool& taken) {
  assert(length > 0);
  struct flock lock = RangeLock(TypeOf(type), start, length);
  taken = fcntl(fd, F_OFD_SETLK, &lock) == 0;
  if (taken || errno == EAGAIN || errno == EACCES) return Status::Ok();
  return Status::Last("fcntl");
}

Status TestOfdLock(int fd, uint64_t start, uint64_t length, bool& held) {
  assert(length > 0);
  struct flock lock = RangeLock(F_WRLCK, start, length);
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return Status::Last("fcntl");
  held = lock.l_type != F_UNLCK;
  return Status::Ok();
}

Status CloneReadOnly(const char* path, int& fd) {
  const long tree = syscall(SYS_open_tree, AT_FDCWD, path, kOpenTreeClone | O_CLOEXEC);
  if (tree < 0) return Status::Last("open_tree");
  MountAttributes attributes{};
  attributes.set = kMountReadOnly | kMountNoSuid | kMountNoExec;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    const Status status = Status::Last("mount_setattr");
    close(static_cast<int>(tree));
    return status;
  }
  fd = static_cast<int>(tree);
  return Status::Ok();
}

Status Reopen(int fd, bool write, int& out) {
  char path[40];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  out = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  return out < 0 ? Status::Last("open") : Status::Ok();
}

Status Reserve(int fd, uint64_t offset, uint64_t length) {
  while (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
    if (errno != EINTR) return Status::Last("fallocate");
  }
  return Status::Ok();
}

}  // namespace daxserve
