// DMA heaps and mounts for JavaScript. Allocation and mounting have threads of their own: both may take seconds.
#include "dma_heap.h"

#include <utility>

#include "addon.h"
#include "arguments.h"
#include "job.h"

namespace daxserve::binding {
namespace {

Napi::Value AllocateCall(const Napi::CallbackInfo& info) {
  int heap;
  uint64_t length;
  if (!GetFd(info[0], heap) || !GetBytes(info[1], "length", length)) return info.Env().Undefined();
  if (length == 0) {
    ThrowRange(info.Env(), "length must be above 0");
    return info.Env().Undefined();
  }
  auto buffer = std::make_shared<int>(-1);
  JobSpec job{"daxserve.dmaHeap", {}, [buffer](Napi::Env env) { return Napi::Number::New(env, *buffer); }};
  job.work = [heap, length, buffer](const Report&) { return AllocateDmaHeap(heap, length, *buffer); };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value SyncCall(const Napi::CallbackInfo& info) {
  int buffer;
  if (GetFd(info[0], buffer)) Check(info.Env(), SyncDmaBuf(buffer, info[1].ToBoolean()));
  return info.Env().Undefined();
}

Napi::Value ExportCall(const Napi::CallbackInfo& info) {
  int fd, buffer = -1;
  if (!GetFd(info[0], fd) || !Check(info.Env(), ExportDmaBuf(fd, buffer))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), buffer);
}

// {name}, {name, value: string} or {name, fd: number}.
bool GetOption(Napi::Value value, MountOption& option) {
  if (!value.IsObject()) return ThrowType(value.Env(), "a mount option must be an object");
  const auto object = value.As<Napi::Object>();
  if (!GetString(object.Get("name"), "name", option.name)) return false;
  if (object.Has("fd")) {
    option.kind = MountOption::Kind::kFd;
    return GetFd(object.Get("fd"), option.fd);
  }
  if (!object.Has("value")) return true;
  option.kind = MountOption::Kind::kString;
  return GetString(object.Get("value"), "value", option.value);
}

bool GetOptions(Napi::Value value, std::vector<MountOption>& options) {
  if (!value.IsArray()) return ThrowType(value.Env(), "options must be an array");
  const auto array = value.As<Napi::Array>();
  options.resize(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    if (!GetOption(array.Get(i), options[i])) return false;
  }
  return true;
}

// What the filesystem itself said goes into the error's text: it names the broken rule.
Status WithLog(const Status& status, const std::string& log) {
  return status.ok() || log.empty() ? status : Status::Errno(status.error(), status.call() + " (" + log + ")");
}

Napi::Value MountCall(const Napi::CallbackInfo& info) {
  std::string type, target;
  std::vector<MountOption> options;
  if (!GetString(info[0], "type", type) || !GetString(info[1], "target", target) || !GetOptions(info[2], options))
    return info.Env().Undefined();
  JobSpec job{"daxserve.mount", {}, [](Napi::Env env) { return env.Undefined(); }};
  job.work = [type, target, options = std::move(options)](const Report&) {
    std::string log;
    const Status status = MountFilesystem(type, target, options, log);
    return WithLog(status, log);
  };
  return StartJob(info.Env(), std::move(job));
}

}  // namespace

void InitDmaHeap(Napi::Env env, Napi::Object exports) {
  exports.Set("dmaHeapAllocate", Napi::Function::New<AllocateCall>(env, "dmaHeapAllocate"));
  exports.Set("dmaBufSync", Napi::Function::New<SyncCall>(env, "dmaBufSync"));
  exports.Set("daxfsDmaBuf", Napi::Function::New<ExportCall>(env, "daxfsDmaBuf"));
  exports.Set("mountFilesystem", Napi::Function::New<MountCall>(env, "mountFilesystem"));
}

}  // namespace daxserve::binding
