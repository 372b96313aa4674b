#include "job.h"

#include <mutex>
#include <thread>

#include "addon.h"

namespace daxserve::binding {
namespace {

// The one thing that thread and main thread share. When the environment ends it destroys the function under a running
// thread, so the thread goes through this lock and finds null.
struct Channel {
  std::mutex mutex;
  napi_threadsafe_function function = nullptr;
};

// Main thread only; deleted when the function is finalized, after the last message.
struct Job {
  Napi::Promise::Deferred deferred;
  std::function<Napi::Value(Napi::Env)> result;
  Napi::FunctionReference progress;
  std::shared_ptr<Channel> channel;
  bool hooked = false;
};

struct Message {
  bool final;
  uint64_t bytes;
  Status status;
};

void Disconnect(void* data) {
  auto* job = static_cast<Job*>(data);
  const std::lock_guard lock(job->channel->mutex);
  job->channel->function = nullptr;
  job->hooked = false;
}

// False while the environment is being terminated (a worker thread's end): then every call that could run JavaScript
// fails, and node-addon-api takes such a failure for a fatal one.
bool CanRunJavaScript(napi_env env) {
  napi_value object, undefined;
  return napi_create_object(env, &object) == napi_ok && napi_get_undefined(env, &undefined) == napi_ok &&
         napi_set_named_property(env, object, "probe", undefined) == napi_ok;
}

void Settle(Napi::Env env, Job* job, const Status& status) {
  if (!status.ok()) {
    job->deferred.Reject(ToError(env, status).Value());
    return;
  }
  const Napi::Value value = job->result(env);
  if (env.IsExceptionPending()) job->deferred.Reject(env.GetAndClearPendingException().Value());
  else job->deferred.Resolve(value);
}

// `raw` is null while the environment goes away: then only the message is given back.
void OnMessage(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<Message> message(static_cast<Message*>(data));
  auto* job = static_cast<Job*>(context);
  if (raw == nullptr || !CanRunJavaScript(raw)) return;
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  if (message->final) return Settle(env, job, message->status);
  job->progress.Call({Napi::Number::New(env, static_cast<double>(message->bytes))});
  // A throwing listener is the caller's bug and must not lose the job: it surfaces as an uncaught exception.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

void OnFinalize(napi_env env, void* data, void*) {
  auto* job = static_cast<Job*>(data);
  if (job->hooked) napi_remove_env_cleanup_hook(env, Disconnect, job);
  delete job;
}

void Post(Channel& channel, bool final, uint64_t bytes, Status status) {
  const std::lock_guard lock(channel.mutex);
  if (channel.function == nullptr) return;
  auto* message = new Message{final, bytes, std::move(status)};
  if (napi_call_threadsafe_function(channel.function, message, napi_tsfn_nonblocking) != napi_ok) delete message;
  if (!final) return;
  napi_release_threadsafe_function(channel.function, napi_tsfn_release);
  channel.function = nullptr;
}

void Run(std::shared_ptr<Channel> channel, std::function<Status(const Report&)> work, bool reports) {
  Status status = work([&channel, reports](uint64_t bytes) {
    if (reports) Post(*channel, false, bytes, Status::Ok());
  });
  // What the work holds on to (a mapping) is let go before anybody hears of the end.
  work = nullptr;
  Post(*channel, true, 0, std::move(status));
}

}  // namespace

Napi::Promise StartJob(Napi::Env env, JobSpec spec) {
  auto* job = new Job{Napi::Promise::Deferred::New(env), std::move(spec.result), {}, std::make_shared<Channel>()};
  const Napi::Promise promise = job->deferred.Promise();
  const bool reports = !spec.on_progress.IsEmpty();
  if (reports) job->progress = Napi::Persistent(spec.on_progress);
  const napi_status made =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, spec.name), 0, 1, job, OnFinalize,
                                      job, OnMessage, &job->channel->function);
  if (made != napi_ok) {
    job->deferred.Reject(ToError(env, Status::Errno(EAGAIN, "napi_create_threadsafe_function")).Value());
    delete job;
    return promise;
  }
  // After the function's own hook, hence run before it.
  job->hooked = napi_add_env_cleanup_hook(env, Disconnect, job) == napi_ok;
  std::thread(Run, job->channel, std::move(spec.work), reports).detach();
  return promise;
}

}  // namespace daxserve::binding
