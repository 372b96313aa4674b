#include "job.h"

#include <thread>

#include "addon.h"

namespace daxserve::binding {
namespace {

// Lives from StartJob to the final message; the thread only reads `spec.work` and writes messages.
struct Job {
  Napi::Promise::Deferred deferred;
  JobSpec spec;
  Napi::FunctionReference progress;
  napi_threadsafe_function channel = nullptr;
};

struct Message {
  bool final;
  uint64_t bytes;
  Status status;
};

void Settle(Napi::Env env, Job* job, const Status& status) {
  if (!status.ok()) {
    job->deferred.Reject(ToError(env, status).Value());
  } else {
    const Napi::Value value = job->spec.result(env);
    if (env.IsExceptionPending()) job->deferred.Reject(env.GetAndClearPendingException().Value());
    else job->deferred.Resolve(value);
  }
  delete job;
}

// `env` is null while the environment goes away: then only the memory is given back.
void OnMessage(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<Message> message(static_cast<Message*>(data));
  auto* job = static_cast<Job*>(context);
  if (raw == nullptr) return;
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  if (message->final) return Settle(env, job, message->status);
  if (job->progress.IsEmpty()) return;
  job->progress.Call({Napi::Number::New(env, static_cast<double>(message->bytes))});
  // A throwing listener is the caller's bug and must not lose the job: it surfaces as an uncaught exception.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

void Run(Job* job) {
  const napi_threadsafe_function channel = job->channel;
  const auto post = [channel](bool final, uint64_t bytes, Status status) {
    auto* message = new Message{final, bytes, std::move(status)};
    if (napi_call_threadsafe_function(channel, message, napi_tsfn_blocking) != napi_ok) delete message;
  };
  const bool reports = !job->progress.IsEmpty();
  const Status status = job->spec.work([&post, reports](uint64_t bytes) {
    if (reports) post(false, bytes, Status::Ok());
  });
  post(true, 0, status);
  napi_release_threadsafe_function(channel, napi_tsfn_release);
}

}  // namespace

Napi::Promise StartJob(Napi::Env env, JobSpec spec) {
  auto* job = new Job{Napi::Promise::Deferred::New(env), std::move(spec), {}, nullptr};
  const Napi::Promise promise = job->deferred.Promise();
  if (!job->spec.on_progress.IsEmpty()) job->progress = Napi::Persistent(job->spec.on_progress);
  const napi_status made =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, job->spec.name), 0, 1, nullptr,
                                      nullptr, job, OnMessage, &job->channel);
  if (made != napi_ok) {
    Settle(env, job, Status::Errno(EAGAIN, "napi_create_threadsafe_function"));
    return promise;
  }
  std::thread(Run, job).detach();
  return promise;
}

}  // namespace daxserve::binding
