// Blocking work on a thread of its own, with a promise on the main thread. Not libuv's pool: a wait of minutes there
// would starve the file system calls of the whole process.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>

#include "status.h"

namespace daxserve::binding {

/// What the work may call to report a count of bytes to the main thread.
using Report = std::function<void(uint64_t)>;

struct JobSpec {
  const char* name;
  /// Runs on the job's own thread; touches no JavaScript value.
  std::function<Status(const Report&)> work;
  /// Runs on the main thread after success; makes the promise's value.
  std::function<Napi::Value(Napi::Env)> result;
  /// Optional JavaScript function that gets the reported counts.
  Napi::Function on_progress = {};
};

/// Starts the thread. The promise rejects with ToError(status) when the work fails.
Napi::Promise StartJob(Napi::Env env, JobSpec spec);

}  // namespace daxserve::binding
