// A thread that gives signs of life, so that a busy event loop is not taken for a dead host.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace daxserve {

/// Thread safety: Start and Stop from one thread. The thread ends by itself when `beat` says false.
class Heartbeat {
 public:
  ~Heartbeat() { Stop(); }

  /// Calls `beat` now and every `interval` until Stop. REQUIRES: what `beat` uses outlives Stop.
  void Start(std::chrono::milliseconds interval, std::function<bool()> beat) {
    Stop();
    stopping_ = false;
    thread_ = std::thread([this, interval, beat = std::move(beat)] { Run(interval, beat); });
  }

  /// Returns when the thread is gone. Idempotent.
  void Stop() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  void Run(std::chrono::milliseconds interval, const std::function<bool()>& beat) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_ && beat()) wake_.wait_for(lock, interval, [this] { return stopping_; });
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
  bool stopping_ = false;
};

}  // namespace daxserve
