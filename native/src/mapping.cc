#include "mapping.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace daxserve {
namespace {

// One madvise call faults this much: long enough to be cheap, short enough that progress and cancel are lively.
constexpr uint64_t kPopulateStep = 64ull << 20;
constexpr int kPopulateThreads = 2;
constexpr unsigned kNodesMax = 1024;

using NodeMask = std::array<unsigned long, kNodesMax / (8 * sizeof(unsigned long))>;

// What the two populating threads share: they take steps from `next` until one fails.
struct PopulateRun {
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> done{0};
  std::atomic<int> error{0};
  std::mutex mutex;
  std::condition_variable wake;
  int running = kPopulateThreads;
};

int PopulateStep(char* start, uint64_t length, int advice) {
  while (madvise(start, length, advice) != 0) {
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
  return 0;
}

void PopulateLoop(PopulateRun& run, char* start, uint64_t length, int advice) {
  for (;;) {
    // relaxed: the counter only deals out steps, no other memory is published through it.
    const uint64_t at = run.next.fetch_add(kPopulateStep, std::memory_order_relaxed);
    if (at >= length || run.error.load(std::memory_order_relaxed) != 0) break;
    const uint64_t step = std::min(kPopulateStep, length - at);
    if (const int error = PopulateStep(start + at, step, advice)) {
      run.error.store(error, std::memory_order_relaxed);
      break;
    }
    run.done.fetch_add(step, std::memory_order_relaxed);
  }
  const std::lock_guard lock(run.mutex);
  run.running--;
  run.wake.notify_one();
}

// Waits for the threads and reports every 100 ms; a refusal of `progress` ends the run at the next step.
void AwaitPopulate(PopulateRun& run, const std::function<bool(uint64_t)>& progress) {
  std::unique_lock lock(run.mutex);
  while (!run.wake.wait_for(lock, std::chrono::milliseconds(100), [&run] { return run.running == 0; })) {
    lock.unlock();
    int none = 0;
    if (!progress(run.done.load(std::memory_order_relaxed)))
      run.error.compare_exchange_strong(none, ECANCELED, std::memory_order_relaxed);
    lock.lock();
  }
}

}  // namespace

Status Mapping::Open(int fd, uint64_t offset, uint64_t size, const MapOptions& options, std::shared_ptr<Mapping>& out) {
  assert(size > 0);
  const int protection = PROT_READ | (options.write ? PROT_WRITE : 0);
  void* data = mmap(nullptr, size, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) return Status::Last("mmap");
  out.reset(new Mapping(static_cast<char*>(data), size, options.write));
  if (options.huge) (void)madvise(data, size, MADV_HUGEPAGE);
  // A forked child that never asked for a core dump of the weights should not get one either.
  (void)madvise(data, size, MADV_DONTDUMP);
  const Status status = out->ApplyNuma(options.numa);
  if (!status.ok()) out.reset();
  return status;
}

Mapping::~Mapping() { munmap(data_, size_); }

Status Mapping::ApplyNuma(const NumaPolicy& numa) const {
  if (numa.mode == NumaPolicy::Mode::kDefault) return Status::Ok();
  NodeMask nodes{};
  if (numa.mode == NumaPolicy::Mode::kBind) {
    if (numa.node >= kNodesMax) return Status::Errno(EINVAL, "mbind");
    nodes[numa.node / (8 * sizeof(unsigned long))] = 1ul << (numa.node % (8 * sizeof(unsigned long)));
  } else if (syscall(SYS_get_mempolicy, nullptr, nodes.data(), kNodesMax, nullptr, MPOL_F_MEMS_ALLOWED) != 0) {
    return Status::Last("get_mempolicy");
  }
  const int mode = numa.mode == NumaPolicy::Mode::kBind ? MPOL_BIND : MPOL_INTERLEAVE;
  if (syscall(SYS_mbind, data_, size_, mode, nodes.data(), kNodesMax + 1, 0) != 0) return Status::Last("mbind");
  return Status::Ok();
}

Status Mapping::Populate(uint64_t offset, uint64_t length, const std::function<bool(uint64_t)>& progress) const {
  const int advice = writable_ ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  // madvise starts at pages; the mapping itself does too.
  const uint64_t head = offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  char* const start = At(offset, length) - head;
  length += head;
  PopulateRun run;
  std::array<std::thread, kPopulateThreads> threads;
  for (auto& thread : threads) thread = std::thread([&] { PopulateLoop(run, start, length, advice); });
  AwaitPopulate(run, progress);
  for (auto& thread : threads) thread.join();
  progress(run.done.load(std::memory_order_relaxed));
  const int error = run.error.load(std::memory_order_relaxed);
  return error == 0 ? Status::Ok() : Status::Errno(error, "madvise");
}

}  // namespace daxserve
