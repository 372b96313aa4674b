#include "copy.h"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <csignal>

#include "fault_guard.h"

namespace daxserve {
namespace {

constexpr size_t kBlockBytes = 2 * 1024 * 1024;
constexpr size_t kBlockUnits = kBlockBytes / kXxhUnit;
static_assert(kBlockBytes % kXxhUnit == 0 && kBlockBytes <= 8 * 1024 * 1024, "cancel stops within a block");

/// A thread that takes no signal but those of its own faults.
int StartThread(pthread_t* thread, void* (*entry)(void*), void* argument) {
  sigset_t all, before;
  sigfillset(&all);
  for (int own : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGABRT, SIGTRAP}) sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, nullptr, entry, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

}  // namespace

/// A file of several blocks. Threads copy blocks in any order; the sums are folded in order by whoever completes the
/// next one. Invariant: blocks [0, folded_) are folded; a block is copied only while block < folded_ + window.
class CopyJob::LargeFile {
 public:
  LargeFile(const CopyItem& item, const CopyOptions& options)
      : item_(item), options_(options), window_(size_t{options.threads} * 2), sums_(window_ * kBlockUnits), ready_(window_) {}

  uint64_t blocks() const { return (item_.identity.size + kBlockBytes - 1) / kBlockBytes; }

  /// Copies one block; the call that completes the file also checks it and sets `digest`.
  Status Copy(uint64_t block, uint8_t* to, std::atomic<uint64_t>& progress, Digest128& digest) {
    if (Status status = Enter(block); !status.ok()) return status;
    const uint64_t offset = block * kBlockBytes;
    const size_t length = std::min<uint64_t>(kBlockBytes, item_.identity.size - offset);
    const Status status = source_.CopyBlock(offset, length, to + offset, SumsOf(block));
    if (!status.ok()) return Abandon(status);
    progress.fetch_add(length, std::memory_order_relaxed);
    return Leave(block) ? Complete(to, digest) : Status::Ok();
  }

 private:
  UnitSum* SumsOf(uint64_t block) { return sums_.data() + block % window_ * kBlockUnits; }

  /// Opens the file for the first caller; waits until the block is inside the window.
  Status Enter(uint64_t block) {
    std::unique_lock lock(mutex_);
    if (!opened_) {
      opened_ = true;
      outcome_ = source_.Open(item_.path, item_.identity, options_.target_is_zero);
    }
    moved_.wait(lock, [&] { return !outcome_.ok() || block < folded_ + window_; });
    return outcome_;
  }

  /// Every other thread on the file gives up with the same reason, whoever reports it first.
  Status Abandon(const Status& status) {
    std::lock_guard lock(mutex_);
    outcome_ = status;
    moved_.notify_all();
    return status;
  }

  /// Marks the block copied and folds what is next in order. True for the caller that folded the last block.
  bool Leave(uint64_t block) {
    std::lock_guard lock(mutex_);
    ready_[block % window_] = true;
    const uint64_t before = folded_;
    while (folded_ < blocks() && ready_[folded_ % window_]) {
      const uint64_t offset = folded_ * kBlockBytes;
      const size_t length = std::min<uint64_t>(kBlockBytes, item_.identity.size - offset);
      fold_.Add(SumsOf(folded_), source_.UnitsIn(offset, length));
      ready_[folded_ % window_] = false;
      folded_++;
    }
    if (folded_ != before) moved_.notify_all();
    return folded_ != before && folded_ == blocks();
  }

  Status Complete(const uint8_t* to, Digest128& digest) {
    if (Status status = source_.CheckUnchanged(); !status.ok()) return status;
    const auto fault = RunGuarded([&] { digest = fold_.Finish128(to, item_.identity.size); });
    source_.Close();
    return fault ? Status::Errno(EIO, "memory error") : Status::Ok();
  }

  const CopyItem& item_;
  const CopyOptions& options_;
  const size_t window_;
  SourceFile source_;

  std::mutex mutex_;  // guards what follows; sums_ by the ready_ flags
  std::condition_variable moved_;
  bool opened_ = false;
  Status outcome_ = Status::Ok();
  uint64_t folded_ = 0;
  Fold fold_;
  std::vector<UnitSum> sums_;
  std::vector<bool> ready_;
};

CopyJob::CopyJob(uint8_t* base, std::vector<CopyItem> items, const CopyOptions& options, std::function<void()> done)
    : base_(base), items_(std::move(items)), options_(options), done_(std::move(done)), digests_(items_.size()) {}

Status CopyJob::Start(uint8_t* base, std::vector<CopyItem> items, const CopyOptions& options, std::function<void()> done,
                      std::unique_ptr<CopyJob>& out) {
  assert(options.threads > 0);
  InstallFaultHandler();
  std::unique_ptr<CopyJob> job(new CopyJob(base, std::move(items), options, std::move(done)));
  auto entry = [](void* self) -> void* {
    static_cast<CopyJob*>(self)->Run();
    return nullptr;
  };
  {
    std::lock_guard lock(job->mutex_);  // holds the threads back until all are counted
    for (unsigned i = 0; i < options.threads; i++) {
      pthread_t thread;
      if (StartThread(&thread, entry, job.get()) == 0) job->running_.push_back(thread);
    }
    job->active_ = static_cast<unsigned>(job->running_.size());
  }
  if (job->running_.empty()) return Status::Errno(EAGAIN, "pthread_create");
  out = std::move(job);
  return Status::Ok();
}

CopyJob::~CopyJob() {
  Cancel();
  Join();
}

void CopyJob::Cancel() { stop_.store(true, std::memory_order_relaxed); }

void CopyJob::Join() {
  for (pthread_t thread : running_) pthread_join(thread, nullptr);
  running_.clear();
}

void CopyJob::Run() {
  pthread_setname_np(pthread_self(), "daxserve-copy");
  std::vector<UnitSum> sums(kBlockUnits);
  Task task;
  while (Next(task)) {
    const Status status = Perform(task, sums);
    if (!status.ok()) Fail(task.index, status);
  }
  task.large.reset();
  Finish();
}

/// The next block of the file in progress, or the next file. False when there is none or the job stops.
bool CopyJob::Next(Task& task) {
  std::lock_guard lock(mutex_);
  if (current_ && next_block_ == current_->blocks()) current_.reset();
  if (!current_) {
    if (next_index_ == items_.size()) return false;
    if (items_[next_index_].identity.size > kBlockBytes) {
      current_ = std::make_shared<LargeFile>(items_[next_index_], options_);
      next_block_ = 0;
    }
    next_index_++;
  }
  task = {next_index_ - 1, current_, current_ ? next_block_++ : 0};
  if (stop_.load(std::memory_order_relaxed)) {
    if (!failure_) failure_ = {Status::Errno(ECANCELED, "copy"), task.index};
    return false;
  }
  return true;
}

void CopyJob::Fail(size_t index, const Status& status) {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = {status, index};
  stop_.store(true, std::memory_order_relaxed);
}

Status CopyJob::Perform(const Task& task, std::vector<UnitSum>& sums) {
  if (!task.large) return CopySmall(task.index, sums);
  return task.large->Copy(task.block, base_ + items_[task.index].offset, progress_, digests_[task.index]);
}

Status CopyJob::CopySmall(size_t index, std::vector<UnitSum>& sums) {
  const CopyItem& item = items_[index];
  const size_t size = item.identity.size;
  uint8_t* to = base_ + item.offset;
  SourceFile source;
  if (Status status = source.Open(item.path, item.identity, options_.target_is_zero); !status.ok()) return status;
  if (Status status = source.CopyBlock(0, size, to, sums.data()); !status.ok()) return status;
  if (Status status = source.CheckUnchanged(); !status.ok()) return status;
  Fold fold;
  fold.Add(sums.data(), source.UnitsIn(0, size));
  const auto fault = RunGuarded([&] { digests_[index] = fold.Finish128(to, size); });
  progress_.fetch_add(size, std::memory_order_relaxed);
  return fault ? Status::Errno(EIO, "memory error") : Status::Ok();
}

void CopyJob::Finish() {
  {
    std::lock_guard lock(mutex_);
    if (--active_ > 0) return;
    current_.reset();
  }
  done_();
}

}  // namespace daxserve
