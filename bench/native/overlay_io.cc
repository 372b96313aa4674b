// File data of an overlay beside the same calls on a file of tmpfs: the rows of the format's paper, and a few more.
//   overlay_io TMPFS_FILE PRIVATE_REGION KERNEL_REGION MIB ROUNDS [ROWS]
// ROWS: only rows whose name contains it.
// Prints a line "row <tab> side <tab> microseconds per call" per measurement; the sides take turns within every round. Both work on an
// open file: no path is looked up inside the clock. The regions hold nothing else and are written over.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "overlay_home.h"

using namespace daxserve;
using daxserve::binding::OverlayHome;

namespace {

constexpr uint64_t kKiB = 1024;
constexpr int kThreadsMax = 4;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

/// One side of the comparison: `files` files of the same size.
class Side {
 public:
  virtual ~Side() = default;
  virtual const char* name() const = 0;
  /// Empty files again. Not timed.
  virtual void Reset(int files) = 0;
  virtual void Write(int file, uint64_t offset, const uint8_t* from, uint64_t length) = 0;
  virtual void Read(int file, uint64_t offset, uint8_t* to, uint64_t length) = 0;
};

class Tmpfs : public Side {
 public:
  explicit Tmpfs(std::string path) : path_(std::move(path)) {}
  ~Tmpfs() override { Close(); }
  const char* name() const override { return "tmpfs"; }

  void Reset(int files) override {
    Close();
    for (int i = 0; i < files; i++) {
      const std::string path = path_ + std::to_string(i);
      const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
      if (fd < 0) Fail("open");
      // Gone by itself, whatever ends this program.
      unlink(path.c_str());
      fds_.push_back(fd);
    }
  }
  void Write(int file, uint64_t offset, const uint8_t* from, uint64_t length) override {
    if (pwrite(fds_[static_cast<size_t>(file)], from, length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length)) Fail("pwrite");
  }
  void Read(int file, uint64_t offset, uint8_t* to, uint64_t length) override {
    if (pread(fds_[static_cast<size_t>(file)], to, length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length)) Fail("pread");
  }

 private:
  void Close() {
    for (const int fd : fds_) close(fd);
    fds_.clear();
  }

  std::string path_;
  std::vector<int> fds_;
};

/// A region's overlay, opened and called as region.fs does.
class Region : public Side {
 public:
  Region(const char* name, const std::string& path) : name_(name), fd_(open(path.c_str(), O_RDWR)) {
    struct stat stat;
    if (fd_ < 0 || fstat(fd_, &stat) != 0) Fail(path.c_str());
    bytes_ = static_cast<uint64_t>(stat.st_size);
    Map();
    // Header, table, and the root's inode at the start of the pool.
    pristine_.assign(base_ + head_.overlay_offset, home_->parts().view.pool + head_.block_size);
    Reset(1);
  }
  ~Region() override {
    Unmap();
    close(fd_);
  }
  const char* name() const override { return name_; }

  /// The overlay as it was created, through a fresh mapping: the first touch of each page is a (minor) fault, as in a
  /// process that has just opened the region. The memory behind is there, as it is in every region.
  void Reset(int files) override {
    Unmap();
    Map();
    std::memcpy(base_ + head_.overlay_offset, pristine_.data(), pristine_.size());
    inos_.assign(static_cast<size_t>(files), 0);
    for (int i = 0; i < files; i++) {
      const std::string name = "file" + std::to_string(i);
      uint64_t& ino = inos_[static_cast<size_t>(i)];
      errno = home_->With([&](auto& overlay) { return overlay.Create(head_.root_inode, name, 0644, 0, 0, ino); });
      if (errno != 0) Fail("create");
    }
  }
  void Write(int file, uint64_t offset, const uint8_t* from, uint64_t length) override {
    const uint64_t ino = inos_[static_cast<size_t>(file)];
    errno = home_->With([&](auto& overlay) { return overlay.Write(ino, offset, from, length); });
    if (errno != 0) Fail("overlay write");
  }
  void Read(int file, uint64_t offset, uint8_t* to, uint64_t length) override {
    const uint64_t ino = inos_[static_cast<size_t>(file)];
    uint64_t done = 0;
    errno = home_->With([&](auto& overlay) { return overlay.Read(ino, offset, to, length, done); });
    if (errno != 0 || done != length) Fail("overlay read");
  }

 private:
  void Map() {
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (at == MAP_FAILED) Fail("mmap");
    base_ = static_cast<uint8_t*>(at);
    std::memcpy(&head_, base_, sizeof(head_));
    errno = OverlayHome::Open({base_, bytes_, true, nullptr}, {}, {0, 1}, home_);
    if (errno != 0) Fail("open overlay");
  }
  void Unmap() {
    home_.reset();
    munmap(base_, bytes_);
  }

  const char* name_;
  int fd_;
  uint64_t bytes_ = 0;
  uint8_t* base_ = nullptr;
  layout::Superblock head_;
  std::shared_ptr<OverlayHome> home_;
  std::vector<uint8_t> pristine_;
  std::vector<uint64_t> inos_;
};

struct Row {
  std::string name;
  uint64_t block;
  int threads = 1;
  bool write = false;
  bool random = false;
  bool own_files = false;
  bool first = false;
};

class Bench {
 public:
  Bench(std::vector<std::unique_ptr<Side>> sides, uint64_t bytes, int rounds, std::string only)
      : sides_(std::move(sides)), bytes_(bytes), rounds_(rounds), only_(std::move(only)) {
    for (auto& buffer : buffers_) {
      buffer.resize(1024 * kKiB);
      for (size_t i = 0; i < buffer.size(); i++) buffer[i] = static_cast<uint8_t>(i * 31 + i / 4096);
    }
  }

  /// One file for all threads, or one each; `first` writes pages that the file never had.
  void Run(const std::vector<Row>& rows, int files) {
    for (auto& side : sides_) Fill(*side, files);
    for (const Row& row : rows) {
      if (row.name.find(only_) == row.name.npos) continue;
      for (int round = -1; round < rounds_; round++) {
        for (size_t i = 0; i < sides_.size(); i++) {
          // Each side is first, second and last equally often.
          Side& side = *sides_[(i + static_cast<size_t>(round + 1)) % sides_.size()];
          if (row.first) side.Reset(files);
          const double time = Measure(side, row, static_cast<uint64_t>(round + 2));
          // The first round warms caches and page tables and does not count.
          if (round >= 0) std::printf("%s\t%s\t%.4f\n", row.name.c_str(), side.name(), time);
        }
      }
      std::fflush(stdout);
    }
  }

 private:
  void Fill(Side& side, int files) {
    side.Reset(files);
    for (int file = 0; file < files; file++) {
      for (uint64_t at = 0; at < bytes_ / static_cast<uint64_t>(files); at += 1024 * kKiB) side.Write(file, at, buffers_[0].data(), 1024 * kKiB);
    }
  }

  /// Microseconds per call, from the common start of all threads to the end of the last.
  double Measure(Side& side, const Row& row, uint64_t seed) {
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < row.threads; t++) {
      threads.emplace_back([&, t] {
        const std::vector<uint64_t> offsets = Offsets(row, t, seed);
        ready.fetch_add(1, std::memory_order_release);
        while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
        Work(side, row, t, offsets);
      });
    }
    while (ready.load(std::memory_order_acquire) < row.threads) std::this_thread::yield();
    const auto start = std::chrono::steady_clock::now();
    go.store(true, std::memory_order_release);
    for (auto& thread : threads) thread.join();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    return took.count() / static_cast<double>(bytes_ / row.block);
  }

  void Work(Side& side, const Row& row, int thread, const std::vector<uint64_t>& offsets) {
    const int file = row.own_files ? thread : 0;
    uint8_t* buffer = buffers_[thread].data();
    for (const uint64_t offset : offsets) {
      if (row.write) side.Write(file, offset, buffer, row.block);
      else side.Read(file, offset, buffer, row.block);
    }
  }

  /// What a thread visits: its share of the bytes, in order or at random.
  std::vector<uint64_t> Offsets(const Row& row, int thread, uint64_t seed) const {
    const auto threads = static_cast<uint64_t>(row.threads);
    const uint64_t file = row.own_files ? bytes_ / threads : bytes_, blocks = file / row.block;
    std::vector<uint64_t> offsets(bytes_ / threads / row.block);
    uint64_t random = seed * 1000 + static_cast<uint64_t>(thread);
    for (uint64_t i = 0; i < offsets.size(); i++) {
      random = random * 6364136223846793005 + 1442695040888963407;
      offsets[i] = (row.random ? (random >> 33) % blocks : i) * row.block;
    }
    return offsets;
  }

  std::vector<std::unique_ptr<Side>> sides_;
  uint64_t bytes_;
  int rounds_;
  std::string only_;
  std::vector<uint8_t> buffers_[kThreadsMax];
};

std::vector<Row> Sequential() {
  std::vector<Row> rows;
  for (const auto& [text, block] : {std::pair{"4K", 4 * kKiB}, {"64K", 64 * kKiB}, {"1M", 1024 * kKiB}}) {
    const std::string size = text;
    rows.push_back({"sequential first write " + size, block, 1, true, false, false, true});
    rows.push_back({"sequential rewrite " + size, block, 1, true});
    rows.push_back({"sequential read " + size, block});
  }
  return rows;
}

std::vector<Row> Random() {
  return {{"random read 4K, 1 thread", 4 * kKiB, 1, false, true},
          {"random read 4K, 2 threads", 4 * kKiB, 2, false, true},
          {"random read 4K, 4 threads", 4 * kKiB, 4, false, true},
          {"random read 64K, 4 threads", 64 * kKiB, 4, false, true},
          {"random write 4K, 1 thread", 4 * kKiB, 1, true, true},
          {"random write 4K, 4 threads", 4 * kKiB, 4, true, true}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  std::vector<std::unique_ptr<Side>> sides;
  sides.push_back(std::make_unique<Tmpfs>(argv[1]));
  sides.push_back(std::make_unique<Region>("private", argv[2]));
  sides.push_back(std::make_unique<Region>("kernel", argv[3]));
  Bench bench(std::move(sides), strtoull(argv[4], nullptr, 10) * kKiB * kKiB, atoi(argv[5]), argc > 6 ? argv[6] : "");
  bench.Run(Sequential(), 1);
  bench.Run(Random(), 1);
  bench.Run({{"random write 4K, 4 threads, a file each", 4 * kKiB, 4, true, true, true},
             {"random read 4K, 4 threads, a file each", 4 * kKiB, 4, false, true, true}}, kThreadsMax);
}
