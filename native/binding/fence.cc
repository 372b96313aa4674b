// Locks, clones and fresh descriptions for JavaScript. All of these return at once; fallocate has its own thread.
#include "fence.h"

#include "addon.h"
#include "arguments.h"
#include "job.h"

namespace daxserve::binding {
namespace {

bool GetRange(const Napi::CallbackInfo& info, size_t first, uint64_t& start, uint64_t& length) {
  if (!GetBytes(info[first], "start", start) || !GetBytes(info[first + 1], "length", length)) return false;
  return length > 0 || ThrowRange(info.Env(), "length must be above 0");
}

bool GetLockType(Napi::Value value, LockType& type) {
  std::string name;
  if (!GetString(value, "type", name)) return false;
  if (name == "read") type = LockType::kRead;
  else if (name == "write") type = LockType::kWrite;
  else if (name == "unlock") type = LockType::kUnlock;
  else return ThrowType(value.Env(), "type must be 'read', 'write' or 'unlock'");
  return true;
}

Napi::Value OfdLock(const Napi::CallbackInfo& info) {
  int fd;
  LockType type;
  uint64_t start, length;
  bool taken = false;
  if (!GetFd(info[0], fd) || !GetLockType(info[1], type) || !GetRange(info, 2, start, length))
    return info.Env().Undefined();
  if (!Check(info.Env(), SetOfdLock(fd, type, start, length, taken))) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), taken);
}

Napi::Value OfdHeld(const Napi::CallbackInfo& info) {
  int fd;
  uint64_t start, length;
  bool held = false;
  if (!GetFd(info[0], fd) || !GetRange(info, 1, start, length)) return info.Env().Undefined();
  if (!Check(info.Env(), TestOfdLock(fd, start, length, held))) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), held);
}

Napi::Value CloneReadOnlyCall(const Napi::CallbackInfo& info) {
  std::string path;
  int fd = -1;
  if (!GetString(info[0], "path", path)) return info.Env().Undefined();
  if (!Check(info.Env(), CloneReadOnly(path.c_str(), fd))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value ReopenCall(const Napi::CallbackInfo& info) {
  int fd, fresh = -1;
  if (!GetFd(info[0], fd)) return info.Env().Undefined();
  if (!Check(info.Env(), Reopen(fd, info[1].ToBoolean(), fresh))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), fresh);
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  int fd;
  uint64_t start, length;
  if (!GetFd(info[0], fd) || !GetRange(info, 1, start, length)) return info.Env().Undefined();
  JobSpec job{"daxserve.fallocate", {}, [](Napi::Env env) { return env.Undefined(); }};
  job.work = [fd, start, length](const Report&) { return Reserve(fd, start, length); };
  return StartJob(info.Env(), std::move(job));
}

}  // namespace

void InitFence(Napi::Env env, Napi::Object exports) {
  exports.Set("ofdLock", Napi::Function::New<OfdLock>(env, "ofdLock"));
  exports.Set("ofdHeld", Napi::Function::New<OfdHeld>(env, "ofdHeld"));
  exports.Set("cloneReadOnly", Napi::Function::New<CloneReadOnlyCall>(env, "cloneReadOnly"));
  exports.Set("reopen", Napi::Function::New<ReopenCall>(env, "reopen"));
  exports.Set("fallocate", Napi::Function::New<Fallocate>(env, "fallocate"));
}

}  // namespace daxserve::binding
