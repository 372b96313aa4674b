// startCopy: reads the items, runs a CopyJob, settles its promise on the main thread.
#include "copy.h"

#include <utility>

#include "addon.h"
#include "arguments.h"
#include "bounds.h"
#include "mapping_object.h"

namespace daxserve::binding {
namespace {

constexpr double kThreadsMax = 64;

/// Lives while its thread-safe function does, and while JavaScript holds `progress` or `cancel`. Main thread only.
struct RunningCopy {
  RunningCopy(Napi::Env env, MappingView view)
      : env(env), deferred(Napi::Promise::Deferred::New(env)), view(std::move(view)) {}

  Napi::Env env;
  Napi::Promise::Deferred deferred;
  std::optional<MappingView> view;
  std::unique_ptr<CopyJob> job;
  uint64_t copied = 0;
};

using RunningPtr = std::shared_ptr<RunningCopy>;

bool GetPath(Napi::Value value, std::string& path) {
  if (value.IsBuffer()) {
    const auto bytes = value.As<Napi::Buffer<char>>();
    path.assign(bytes.Data(), bytes.Length());
  } else if (!GetString(value, "path", path)) {
    return false;
  }
  if (path.empty() || path.find('\0') != std::string::npos)
    return ThrowType(value.Env(), "path must not be empty or hold a NUL");
  return true;
}

bool GetMtime(Napi::Value value, int64_t& out) {
  bool lossless = false;
  if (!value.IsBigInt()) return ThrowType(value.Env(), "mtimeNs must be a bigint");
  out = value.As<Napi::BigInt>().Int64Value(&lossless);
  return lossless || ThrowRange(value.Env(), "mtimeNs must fit in 64 bits");
}

bool GetItem(Napi::Value value, const MappingView& view, CopyItem& item) {
  if (!value.IsObject()) return ThrowType(value.Env(), "an item must be an object");
  const auto object = value.As<Napi::Object>();
  if (!GetPath(object.Get("path"), item.path) || !GetBytes(object.Get("size"), "size", item.identity.size) ||
      !GetMtime(object.Get("mtimeNs"), item.identity.mtime_ns) ||
      !GetWord(object.Get("ino"), "ino", item.identity.ino) || !GetBytes(object.Get("offset"), "offset", item.offset))
    return false;
  return InBounds(item.offset, item.identity.size, view.size) ||
         ThrowRange(value.Env(), "an item lies outside the mapping");
}

bool GetItems(Napi::Value value, const MappingView& view, std::vector<CopyItem>& items) {
  if (!value.IsArray()) return ThrowType(value.Env(), "items must be an array");
  const auto array = value.As<Napi::Array>();
  items.resize(array.Length());
  for (uint32_t i = 0; i < items.size(); i++) {
    const Napi::HandleScope scope(value.Env());
    if (!GetItem(array.Get(i), view, items[i])) return false;
  }
  return true;
}

bool GetOptions(Napi::Value value, CopyOptions& options) {
  if (!value.IsObject()) return true;
  const auto object = value.As<Napi::Object>();
  options.target_is_zero = object.Get("targetIsZero").ToBoolean();
  const Napi::Value threads = object.Get("threads");
  uint64_t count;
  if (threads.IsUndefined()) return true;
  if (!GetNumber(threads, "threads", kThreadsMax, count)) return false;
  options.threads = static_cast<unsigned>(count);
  return count > 0 || ThrowRange(value.Env(), "threads must be at least 1");
}

Napi::Value Digests(Napi::Env env, const CopyJob& job) {
  Napi::Array digests = Napi::Array::New(env, job.digests().size());
  for (uint32_t i = 0; i < job.digests().size(); i++) {
    const Napi::HandleScope scope(env);
    digests.Set(i, Napi::Buffer<uint8_t>::Copy(env, job.digests()[i].data(), job.digests()[i].size()));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("digests", digests);
  return result;
}

/// Waits for the threads; afterwards nothing of the mapping is touched.
void Stop(RunningCopy& copy) {
  if (!copy.job) return;
  copy.job->Cancel();
  copy.job->Join();
  copy.copied = copy.job->progress();
}

void OnEnvironmentEnd(void* data) { Stop(*static_cast<RunningCopy*>(data)); }

void Settle(RunningCopy& copy) {
  const Napi::Env env = copy.env;
  Stop(copy);
  if (const auto& failure = copy.job->failure()) {
    Napi::Error error = ToError(env, failure->status);
    error.Set("index", Napi::Number::New(env, static_cast<double>(failure->index)));
    copy.deferred.Reject(error.Value());
  } else {
    copy.deferred.Resolve(Digests(env, *copy.job));
  }
  copy.job.reset();
  copy.view.reset();
}

// Called once, by the last copying thread. `env` is null while the environment goes away.
void OnDone(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;
  const Napi::HandleScope scope(env);
  auto& copy = *static_cast<RunningPtr*>(context);
  napi_remove_env_cleanup_hook(env, OnEnvironmentEnd, copy.get());
  Settle(*copy);
}

void OnFinalized(napi_env, void* data, void*) { delete static_cast<RunningPtr*>(data); }

Napi::Object JobObject(Napi::Env env, const RunningPtr& copy) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("done", copy->deferred.Promise());
  object.Set("progress", Napi::Function::New(env, [copy](const Napi::CallbackInfo& info) -> Napi::Value {
    const uint64_t bytes = copy->job ? copy->job->progress() : copy->copied;
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  }));
  object.Set("cancel", Napi::Function::New(env, [copy](const Napi::CallbackInfo&) {
    if (copy->job) copy->job->Cancel();
  }));
  return object;
}

bool Launch(Napi::Env env, const RunningPtr& copy, std::vector<CopyItem> items, const CopyOptions& options) {
  napi_threadsafe_function channel;
  auto* context = new RunningPtr(copy);
  if (napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "daxserve copy"), 0, 1, context,
                                      OnFinalized, context, OnDone, &channel) != napi_ok) {
    delete context;
    return Check(env, Status::Errno(EAGAIN, "napi_create_threadsafe_function"));
  }
  const auto done = [channel] {
    napi_call_threadsafe_function(channel, nullptr, napi_tsfn_blocking);
    napi_release_threadsafe_function(channel, napi_tsfn_release);
  };
  const Status status = CopyJob::Start(copy->view->base, std::move(items), options, done, copy->job);
  if (!status.ok()) {
    napi_release_threadsafe_function(channel, napi_tsfn_abort);
    return Check(env, status);
  }
  napi_add_env_cleanup_hook(env, OnEnvironmentEnd, copy.get());
  return true;
}

Napi::Value StartCopy(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::optional<MappingView> view = ViewOf(info[0]);
  std::vector<CopyItem> items;
  CopyOptions options;
  if (!view) {
    ThrowType(env, "startCopy needs an open Mapping");
    return {};
  }
  if (!view->writable) {
    Check(env, Status::Errno(EACCES, "startCopy into a read-only mapping"));
    return {};
  }
  if (!GetItems(info[1], *view, items) || !GetOptions(info[2], options)) return {};
  auto copy = std::make_shared<RunningCopy>(env, std::move(*view));
  if (!Launch(env, copy, std::move(items), options)) return {};
  return JobObject(env, copy);
}

}  // namespace

void InitCopy(Napi::Env env, Napi::Object exports) { exports.Set("startCopy", Napi::Function::New(env, StartCopy)); }

}  // namespace daxserve::binding
