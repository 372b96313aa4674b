// The competitor of the copy engine: the plainest fast copies of a file into mapped memory, without any digest.
//   plain_copy SOURCE TARGET read|mmap THREADS fresh|there BLOCK
// TARGET is a file of at least the source's size; `there` touches its pages before the clock starts. Prints seconds.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

static void Fail(const char* what) {
  perror(what);
  exit(1);
}

static void ReadPart(int fd, uint8_t* to, size_t begin, size_t end, size_t block) {
  for (size_t at = begin; at < end;) {
    const ssize_t got = pread(fd, to + at, std::min(block, end - at), static_cast<off_t>(at));
    if (got <= 0) Fail("read");
    at += static_cast<size_t>(got);
  }
}

static void CopyPart(const uint8_t* from, uint8_t* to, size_t begin, size_t end, size_t block) {
  for (size_t at = begin; at < end; at += block) memcpy(to + at, from + at, std::min(block, end - at));
}

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const bool mapped = !strcmp(argv[3], "mmap");
  const size_t threads = static_cast<size_t>(atoi(argv[4]));
  const size_t block = static_cast<size_t>(atoll(argv[6]));
  const int target = open(argv[2], O_RDWR);
  struct stat source_stat;
  if (target < 0 || stat(argv[1], &source_stat) != 0) Fail("open");
  const size_t size = static_cast<size_t>(source_stat.st_size);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, target, 0);
  if (memory == MAP_FAILED) Fail("mmap");
  madvise(memory, size, MADV_HUGEPAGE);
  auto* to = static_cast<uint8_t*>(memory);
  if (!strcmp(argv[5], "there")) {
    for (size_t at = 0; at < size; at += 4096) to[at] = 1;
  }

  const auto start = std::chrono::steady_clock::now();
  const int source = open(argv[1], O_RDONLY);
  if (source < 0) Fail("open");
  void* map = mapped ? mmap(nullptr, size, PROT_READ, MAP_SHARED, source, 0) : nullptr;
  if (map == MAP_FAILED) Fail("mmap");
  std::vector<std::thread> running;
  for (size_t i = 0; i < threads; i++) {
    const size_t begin = size / threads * i, end = i + 1 == threads ? size : size / threads * (i + 1);
    running.emplace_back([=] {
      if (mapped) CopyPart(static_cast<const uint8_t*>(map), to, begin, end, block);
      else ReadPart(source, to, begin, end, block);
    });
  }
  for (auto& thread : running) thread.join();
  if (map) munmap(map, size);
  close(source);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  printf("%.9f\n", taken.count());
  return 0;
}
