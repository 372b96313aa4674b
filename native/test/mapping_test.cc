// Goal: mappings, range locks and line exchange keep their contracts under the sanitizers. Method: real files in memory and
// real sockets; two descriptions of one file stand for two processes.
#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "fence.h"
#include "socket.h"

using namespace daxserve;

namespace {

constexpr uint64_t kSize = 8 << 20;

void Expect(bool ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "mapping_test: %s\n", what);
  exit(1);
}

int MemoryFile() {
  const int fd = memfd_create("daxserve-mapping-test", MFD_CLOEXEC);
  Expect(fd >= 0 && ftruncate(fd, kSize) == 0, "memfd");
  return fd;
}

void CheckMapping() {
  const int fd = MemoryFile();
  std::shared_ptr<Mapping> writer, reader;
  Expect(Mapping::Open(fd, 0, kSize, {.write = true, .huge = true, .numa = {}}, writer).ok(), "open for writing");
  Expect(Mapping::Open(fd, 0, kSize, {}, reader).ok() && !reader->writable(), "open for reading");
  close(fd);
  memcpy(writer->At(4096, 5), "hello", 5);
  Expect(memcmp(reader->At(4096, 5), "hello", 5) == 0, "bytes are shared after the descriptor is closed");
  Expect(writer->Contains(kSize, 0) && !writer->Contains(kSize, 1) && !writer->Contains(1, UINT64_MAX), "bounds");
  uint64_t last = 0;
  const auto progress = [&last](uint64_t done) {
    Expect(done >= last, "progress grows");
    last = done;
    return true;
  };
  Expect(writer->Populate(100, kSize - 100, progress).ok() && last >= kSize - 100, "populate from inside a page");
  Expect(reader->Populate(0, kSize, progress).ok() || last > 0, "populate for reading");
  Expect(Mapping::Open(-1, 0, kSize, {}, reader).error() == EBADF, "a bad descriptor");
}

// A file shorter than its mapping: populating says so; touching would be SIGBUS.
void CheckShortFile() {
  const int fd = MemoryFile();
  std::shared_ptr<Mapping> mapping;
  Expect(Mapping::Open(fd, 0, kSize, {.write = true, .huge = false, .numa = {}}, mapping).ok(), "open");
  Expect(ftruncate(fd, kSize / 2) == 0, "truncate");
  const Status status = mapping->Populate(0, kSize, [](uint64_t) { return true; });
  Expect(status.error() == EFAULT, "populate behind the end says EFAULT");
  close(fd);
}

void CheckLocks() {
  const int a = MemoryFile();
  int b = -1;
  bool taken = false, held = true;
  Expect(Reopen(a, true, b).ok(), "reopen");
  Expect(SetOfdLock(a, LockType::kRead, 10, 10, taken).ok() && taken, "read lock");
  Expect(SetOfdLock(b, LockType::kRead, 15, 10, taken).ok() && taken, "read locks share");
  Expect(SetOfdLock(b, LockType::kWrite, 19, 1, taken).ok() && !taken, "a write lock on the last byte is refused");
  Expect(SetOfdLock(b, LockType::kWrite, 30, 1, taken).ok() && taken, "a write lock behind is not");
  Expect(TestOfdLock(a, 0, 10, held).ok() && !held, "our own lock is not held by another");
  Expect(TestOfdLock(b, 0, 11, held).ok() && held, "theirs is");
  // The lock lives on in the mapping alone.
  std::shared_ptr<Mapping> mapping;
  Expect(Mapping::Open(a, 0, 4096, {}, mapping).ok() && close(a) == 0, "map and close");
  Expect(TestOfdLock(b, 10, 1, held).ok() && held, "a mapping keeps the lock");
  mapping.reset();
  Expect(TestOfdLock(b, 10, 1, held).ok() && !held, "and the last one lets it go");
  close(b);
}

void CheckExchange() {
  int ends[2];
  Expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  const int file = MemoryFile();
  std::thread service([&] {
    char request[64];
    Expect(recv(ends[1], request, sizeof request, 0) == 4 && memcmp(request, "ask\n", 4) == 0, "the request");
    ssize_t sent;
    for (const char* part : {"ans", "wer\nmore\n"}) {
      Expect(SendFds(ends[1], part, strlen(part), {file, file}, sent).ok() && sent > 0, "send");
    }
  });
  Line line;
  Expect(ExchangeLine(ends[0], "ask", 100, 5000, line).ok() && line.data == "answer\n", "the first line");
  service.join();
  Expect(line.fds.size() == 4, "descriptors of both parts");
  for (const int fd : line.fds) close(fd);
  Line next;
  Expect(ExchangeLine(ends[0], "again", 100, 5000, next).ok() && next.data == "more\n", "the line behind it");
  Line none;
  Expect(ExchangeLine(ends[0], "x", 100, 20, none).error() == ETIMEDOUT, "silence");
  close(ends[1]);
  Expect(ExchangeLine(ends[0], "x", 100, 5000, none).error() == ECONNRESET, "the peer has gone");
  close(ends[0]);
  close(file);
}

}  // namespace

int main() {
  CheckMapping();
  CheckShortFile();
  CheckLocks();
  CheckExchange();
  printf("mapping_test: mapping, short file, locks, line exchange\n");
  return 0;
}
