// Goal: memory errors become statuses and never end the process; jobs end cleanly with any number of threads. Method:
// truncate under an open source, shrink a target under its mapping, cancel at many points; a child shows that faults
// outside the guard still kill.
#include "copy.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fault_guard.h"

using namespace daxserve;

constexpr size_t kMib = 1024 * 1024;

static void Expect(bool ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "copy_test: %s (errno %d)\n", what, errno);
  exit(1);
}

// A file of `size` bytes that is removed with its object.
class TempFile {
 public:
  explicit TempFile(size_t size) {
    strcpy(path_, "/tmp/daxserve-copy-test-XXXXXX");
    fd_ = mkstemp(path_);
    std::vector<char> bytes(size);
    for (size_t i = 0; i < size; i++) bytes[i] = static_cast<char>(i * 31 + i / 777);
    Expect(fd_ >= 0 && write(fd_, bytes.data(), size) == static_cast<ssize_t>(size), "write a source");
  }
  ~TempFile() {
    close(fd_);
    unlink(path_);
  }
  int fd() const { return fd_; }
  const char* path() const { return path_; }
  FileIdentity identity() const {
    struct stat now;
    Expect(fstat(fd_, &now) == 0, "stat");
    return {static_cast<uint64_t>(now.st_size), now.st_mtim.tv_sec * 1'000'000'000ll + now.st_mtim.tv_nsec, now.st_ino};
  }

 private:
  char path_[64];
  int fd_;
};

static uint8_t* MapFd(int fd, size_t size) {
  void* map = mmap(nullptr, size, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  Expect(map != MAP_FAILED, "mmap");
  return static_cast<uint8_t*>(map);
}

static void TruncatedSource(size_t size, size_t left) {
  TempFile file(size);
  SourceFile source;
  Expect(source.Open(file.path(), file.identity(), false).ok(), "open");
  Expect(ftruncate(file.fd(), static_cast<off_t>(left)) == 0, "truncate");
  uint8_t* to = MapFd(-1, size);
  std::vector<UnitSum> sums(size / kXxhUnit + 1);
  const Status status = source.CopyBlock(0, size, to, sums.data());
  // Bytes of the page that holds the new end read as zero; then only the check afterwards finds the change.
  const bool last_page = size - left < 4096;
  Expect(last_page ? status.ok() : status.error() == ESTALE, "a truncated source is ESTALE");
  Expect(source.CheckUnchanged().error() == ESTALE, "the check finds the truncation");
  munmap(to, size);
}

static void ShrunkTarget(size_t size) {
  TempFile file(size);
  TempFile target(size);
  uint8_t* to = MapFd(target.fd(), size);
  Expect(ftruncate(target.fd(), 4096) == 0, "shrink");
  SourceFile source;
  Expect(source.Open(file.path(), file.identity(), false).ok(), "open");
  std::vector<UnitSum> sums(size / kXxhUnit + 1);
  Expect(source.CopyBlock(0, size, to, sums.data()).error() == ENOSPC, "a target without memory is ENOSPC");
  munmap(to, size);
}

static void UnguardedFaultKills() {
  TempFile file(8192);
  uint8_t* map = MapFd(file.fd(), 8192);
  Expect(ftruncate(file.fd(), 0) == 0, "truncate");
  InstallFaultHandler();
  Expect(RunGuarded([&] { map[4096] = 1; }).has_value(), "the guard catches");
  Expect(RunGuarded([&] { map[4096] = 1; }).has_value(), "the guard catches again");
  const pid_t child = fork();
  if (child == 0) {
    freopen("/dev/null", "w", stderr);
    map[4096] = 1;
    _exit(0);
  }
  int status;
  Expect(waitpid(child, &status, 0) == child && !(WIFEXITED(status) && WEXITSTATUS(status) == 0), "unguarded kills");
  munmap(map, 8192);
}

// Runs a job to its end and returns errno or 0; cancels once `cancel_at` bytes are copied.
static int RunJob(uint8_t* base, std::vector<CopyItem> items, unsigned threads, uint64_t cancel_at) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::unique_ptr<CopyJob> job;
  const Status started = CopyJob::Start(base, std::move(items), {threads, false}, [&] {
    std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  }, job);
  Expect(started.ok(), "start");
  std::unique_lock lock(mutex);
  while (!done && job->progress() < cancel_at) changed.wait_for(lock, std::chrono::microseconds(50));
  if (!done) job->Cancel();
  changed.wait(lock, [&] { return done; });
  lock.unlock();
  job->Join();
  return job->failure() ? job->failure()->status.error() : 0;
}

static void CancelAnywhere() {
  constexpr size_t kSize = 9 * kMib + 4321;
  TempFile large(kSize), small(5000);
  uint8_t* base = MapFd(-1, 4 * 10 * kMib);
  std::vector<CopyItem> items;
  for (uint64_t i = 0; i < 4; i++) {
    items.push_back({large.path(), large.identity(), i * 10 * kMib});
    items.push_back({small.path(), small.identity(), i * 10 * kMib + kSize + 100});
  }
  for (unsigned threads : {1u, 2u, 5u}) {
    Expect(RunJob(base, items, threads, UINT64_MAX) == 0, "a whole job");
    for (uint64_t at = 0; at < 36 * kMib; at += 6 * kMib) {
      const int error = RunJob(base, items, threads, at);
      Expect(error == 0 || error == ECANCELED, "a cancelled job");
    }
  }
  munmap(base, 4 * 10 * kMib);
}

static void FailsOnce() {
  TempFile large(7 * kMib);
  uint8_t* base = MapFd(-1, 8 * kMib);
  FileIdentity wrong = large.identity();
  wrong.mtime_ns++;
  for (int i = 0; i < 20; i++) {
    Expect(RunJob(base, {{large.path(), wrong, 0}}, 4, UINT64_MAX) == ESTALE, "every thread gives the one reason");
  }
  Expect(RunJob(base, {{"/nonexistent", wrong, 0}}, 2, UINT64_MAX) == ENOENT, "a missing file");
  munmap(base, 8 * kMib);
}

int main() {
  InstallFaultHandler();
  for (size_t left : {size_t{0}, size_t{4096}, kMib, 2 * kMib - 8192, 2 * kMib - 1}) TruncatedSource(2 * kMib, left);
  TruncatedSource(300 * 1024, 100);  // the read() way
  ShrunkTarget(2 * kMib);
  ShrunkTarget(300 * 1024);
  UnguardedFaultKills();
  CancelAnywhere();
  FailsOnce();
  printf("copy_test: truncation, shrunk targets, cancellation and failures as specified\n");
  return 0;
}
