// Copies files into memory on native threads and digests them in the same pass.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "source_file.h"
#include "status.h"
#include "xxh3.h"

namespace daxserve {

struct CopyItem {
  std::string path;
  FileIdentity identity;
  /// Where byte 0 goes, from the start of the memory.
  uint64_t offset = 0;
};

struct CopyOptions {
  /// At least 1.
  unsigned threads = 2;
  /// The target holds only zeroes: holes of sparse files are skipped and stay holes.
  bool target_is_zero = false;
};

/// The first thing that went wrong.
struct CopyFailure {
  Status status;
  size_t index;
};

/// A copy in progress. Files are taken in order, in blocks of 2 MiB; all threads work on one large file together, each
/// on its own blocks. Writes exactly the bytes of the files, nothing between them.
/// Thread safety: `progress` and `Cancel` from any thread at any time; `failure` and `digests` after `done` was called.
class CopyJob {
 public:
  /// Starts up to `options.threads` threads. `done` is called once, from one of them, when no thread writes any more.
  /// REQUIRES: every item lies inside the memory at `base`, which outlives the job.
  /// EAGAIN when not even one thread can be had (`done` is not called then).
  static Status Start(uint8_t* base, std::vector<CopyItem> items, const CopyOptions& options, std::function<void()> done,
                      std::unique_ptr<CopyJob>& out);
  /// Cancels and waits.
  ~CopyJob();
  CopyJob(const CopyJob&) = delete;
  CopyJob& operator=(const CopyJob&) = delete;

  /// Bytes copied so far.
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }
  /// Every thread stops after the block in its hand.
  void Cancel();
  /// Waits for the threads. Not from `done`.
  void Join();

  const std::optional<CopyFailure>& failure() const { return failure_; }
  /// One per item, in their order. REQUIRES: no failure.
  const std::vector<Digest128>& digests() const { return digests_; }

 private:
  class LargeFile;
  struct Task {
    size_t index;
    std::shared_ptr<LargeFile> large;
    uint64_t block;
  };

  CopyJob(uint8_t* base, std::vector<CopyItem> items, const CopyOptions& options, std::function<void()> done);
  void Run();
  bool Next(Task& task);
  void Fail(size_t index, const Status& status);
  Status Perform(const Task& task, std::vector<UnitSum>& sums);
  Status CopySmall(size_t index, std::vector<UnitSum>& sums);
  void Finish();

  uint8_t* const base_;
  const std::vector<CopyItem> items_;
  const CopyOptions options_;
  const std::function<void()> done_;
  std::vector<pthread_t> running_;
  std::vector<Digest128> digests_;

  // @atomic progress_: a counter for display. relaxed: nothing is published by it.
  std::atomic<uint64_t> progress_{0};
  // @atomic stop_: false -> true. relaxed: only a wish; results are handed over by mutex_ and pthread_join.
  std::atomic<bool> stop_{false};

  std::mutex mutex_;  // guards what follows
  size_t next_index_ = 0;
  uint64_t next_block_ = 0;
  std::shared_ptr<LargeFile> current_;
  std::optional<CopyFailure> failure_;
  unsigned active_ = 0;
};

}  // namespace daxserve
