#include "source_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <csignal>
#include <cstring>

#include "fault_guard.h"

namespace daxserve {
namespace {

/// Below this, mapping and unmapping cost more than read() loses (measured: bench/load-warm.ts).
constexpr uint64_t kMapSizeMin = 512 * 1024;
/// One read(): small enough that its bytes are still in L2 when they are summed.
constexpr size_t kReadBytes = 256 * 1024;
constexpr uint64_t kReadAheadBytes = 8 * 1024 * 1024;
constexpr uint64_t kPageBytes = 4096;

Status Compare(int fd, const FileIdentity& want, struct stat& now) {
  if (fstat(fd, &now) != 0) return Status::Last("fstat");
  if (S_ISDIR(now.st_mode)) return Status::Errno(EISDIR, "open");
  if (!S_ISREG(now.st_mode)) return Status::Errno(EINVAL, "not a regular file");
  const int64_t mtime_ns = now.st_mtim.tv_sec * int64_t{1'000'000'000} + now.st_mtim.tv_nsec;
  const bool same = static_cast<uint64_t>(now.st_size) == want.size && mtime_ns == want.mtime_ns && now.st_ino == want.ino;
  return same ? Status::Ok() : Status::Errno(ESTALE, "the source file has changed");
}

Status FromFault(const MemoryFault& fault, const uint8_t* to, size_t length) {
  const auto* at = static_cast<const uint8_t*>(fault.address);
  if (fault.code != BUS_ADRERR) return Status::Errno(EIO, "memory error");
  if (at >= to && at < to + length) return Status::Errno(ENOSPC, "store into the region");
  return Status::Errno(ESTALE, "the source file has shrunk");
}

/// Makes fresh pages in one call instead of a fault each; what it cannot do, the copy finds out.
void MakePages(uint8_t* to, size_t length) {
#ifdef MADV_POPULATE_WRITE
  const auto begin = reinterpret_cast<uintptr_t>(to) & ~uintptr_t{kPageBytes - 1};
  const auto end = reinterpret_cast<uintptr_t>(to) + length;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
#else
  (void)to, (void)length;
#endif
}

UnitSum ZeroUnit() {
  static const UnitSum sum = [] {
    const uint8_t zeros[kXxhUnit] = {};
    UnitSum one;
    SumUnits(zeros, 1, &one);
    return one;
  }();
  return sum;
}

}  // namespace

Status SourceFile::Open(const std::string& path, const FileIdentity& identity, bool target_is_zero) {
  assert(fd_ < 0);
  identity_ = identity;
  // NONBLOCK: a FIFO must not wait for a writer before we can see what it is.
  fd_ = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (fd_ < 0) return Status::Last("open");
  struct stat now;
  if (Status status = Compare(fd_, identity, now); !status.ok()) return status;
  target_is_zero_ = target_is_zero;
  sparse_ = target_is_zero && static_cast<uint64_t>(now.st_blocks) * 512 < identity.size;
  if (identity.size >= kMapSizeMin) Map();
  return Status::Ok();
}

/// A file that cannot be mapped (some FUSE mounts) is read instead.
void SourceFile::Map() {
  void* map = mmap(nullptr, identity_.size, PROT_READ, MAP_SHARED, fd_, 0);
  if (map == MAP_FAILED) return;
  map_ = static_cast<const uint8_t*>(map);
  madvise(map, identity_.size, MADV_SEQUENTIAL);
}

/// A cold file is asked for in large pieces; for a warm one this is one cheap look. (Populating the page tables first
/// is slower than faulting through the copy: the kernel maps whole folios at a fault.)
void SourceFile::ReadAhead(uint64_t offset) const {
  unsigned char resident = 0;
  auto* at = const_cast<uint8_t*>(map_) + (offset & ~(kPageBytes - 1));
  if (mincore(at, 1, &resident) != 0 || (resident & 1) != 0) return;
  madvise(at, std::min(kReadAheadBytes, identity_.size - offset), MADV_WILLNEED);
}

Status SourceFile::CheckUnchanged() const {
  struct stat now;
  return Compare(fd_, identity_, now);
}

bool SourceFile::IsHole(uint64_t offset, size_t length) const {
  const off_t data = lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
  return data < 0 ? errno == ENXIO : static_cast<uint64_t>(data) >= offset + length;
}

void SourceFile::Close() {
  if (map_) munmap(const_cast<uint8_t*>(map_), identity_.size);
  if (fd_ >= 0) close(fd_);
  map_ = nullptr;
  fd_ = -1;
}

size_t SourceFile::UnitsIn(uint64_t offset, size_t length) const {
  const uint64_t summed = UnitsOf(identity_.size) * kXxhUnit;
  return offset >= summed ? 0 : std::min<uint64_t>(length, summed - offset) / kXxhUnit;
}

Status SourceFile::CopyBlock(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const {
  assert(offset % kXxhUnit == 0 && offset + length <= identity_.size);
  if (sparse_ && IsHole(offset, length)) {
    std::fill_n(sums, UnitsIn(offset, length), ZeroUnit());
    return Status::Ok();
  }
  if (target_is_zero_) MakePages(to, length);
  return map_ ? CopyMapped(offset, length, to, sums) : CopyRead(offset, length, to, sums);
}

Status SourceFile::CopyMapped(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const {
  const uint8_t* from = map_ + offset;
  const size_t units = UnitsIn(offset, length);
  ReadAhead(offset);
  const auto fault = RunGuarded([=] {
    CopyUnits(to, from, units, sums);
    memcpy(to + units * kXxhUnit, from + units * kXxhUnit, length - units * kXxhUnit);
  });
  return fault ? FromFault(*fault, to, length) : Status::Ok();
}

Status SourceFile::CopyRead(uint64_t offset, size_t length, uint8_t* to, UnitSum* sums) const {
  const size_t units = UnitsIn(offset, length);
  size_t summed = 0;
  for (size_t done = 0; done < length;) {
    const size_t want = std::min(kReadBytes, length - done);
    const ssize_t got = pread(fd_, to + done, want, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EFAULT ? Status::Errno(ENOSPC, "store into the region") : Status::Last("read");
    if (got == 0) return Status::Errno(ESTALE, "the source file has shrunk");
    done += static_cast<size_t>(got);
    const size_t ready = std::min(units, done / kXxhUnit);
    const auto fault = RunGuarded([=] { SumUnits(to + summed * kXxhUnit, ready - summed, sums + summed); });
    if (fault) return FromFault(*fault, to, length);
    summed = ready;
  }
  return Status::Ok();
}

}  // namespace daxserve
