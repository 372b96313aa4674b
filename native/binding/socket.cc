// Descriptor passing for JavaScript. sendFds and peerCredentials never block; the other two have their own threads.
#include "socket.h"

#include <unistd.h>

#include "addon.h"
#include "arguments.h"
#include "job.h"

namespace daxserve::binding {
namespace {

// Longest wait: what poll takes in milliseconds.
constexpr double kTimeoutMsMax = INT32_MAX;

bool GetFds(Napi::Value value, std::vector<int>& fds) {
  if (!value.IsArray()) return ThrowType(value.Env(), "fds must be an array");
  const auto array = value.As<Napi::Array>();
  if (array.Length() > kFdsMax) return ThrowRange(value.Env(), "One message carries at most 253 descriptors.");
  fds.resize(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    if (!GetFd(array.Get(i), fds[i])) return false;
  }
  return true;
}

Napi::Value SendFdsCall(const Napi::CallbackInfo& info) {
  int socket;
  std::vector<int> fds;
  ssize_t sent = -1;
  if (!GetFd(info[0], socket)) return info.Env().Undefined();
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().ByteLength() == 0) {
    ThrowType(info.Env(), "data must be a Uint8Array of at least one byte");
    return info.Env().Undefined();
  }
  if (!GetFds(info[2], fds)) return info.Env().Undefined();
  const auto data = info[1].As<Napi::Uint8Array>();
  const auto* bytes = reinterpret_cast<const char*>(data.Data());
  if (!Check(info.Env(), SendFds(socket, bytes, data.ByteLength(), fds, sent))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(sent));
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  int socket;
  Peer peer{};
  if (!GetFd(info[0], socket)) return info.Env().Undefined();
  if (!Check(info.Env(), PeerOf(socket, peer))) return info.Env().Undefined();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("pid", peer.pid);
  object.Set("uid", peer.uid);
  object.Set("gid", peer.gid);
  return object;
}

Napi::Value ConnectUnixCall(const Napi::CallbackInfo& info) {
  std::string path;
  uint64_t timeout_ms;
  if (!GetString(info[0], "path", path) || !GetNumber(info[1], "timeoutMs", kTimeoutMsMax, timeout_ms))
    return info.Env().Undefined();
  auto socket = std::make_shared<int>(-1);
  JobSpec job{"daxserve.connect", {}, [socket](Napi::Env env) { return Napi::Number::New(env, *socket); }};
  job.work = [path, timeout_ms, socket](const Report&) {
    return ConnectUnix(path, static_cast<uint32_t>(timeout_ms), *socket);
  };
  return StartJob(info.Env(), std::move(job));
}

void ShutDownCall(const Napi::CallbackInfo& info) {
  int socket;
  if (GetFd(info[0], socket)) Check(info.Env(), ShutDown(socket));
}

Napi::Value ToReceived(Napi::Env env, const Line& line) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array fds = Napi::Array::New(env, line.fds.size());
  for (size_t i = 0; i < line.fds.size(); i++) fds.Set(static_cast<uint32_t>(i), line.fds[i]);
  object.Set("data", Napi::Buffer<char>::Copy(env, line.data.data(), line.data.size()));
  object.Set("fds", fds);
  return object;
}

Napi::Value ExchangeLineCall(const Napi::CallbackInfo& info) {
  int socket;
  std::string line;
  uint64_t bytes_max, timeout_ms;
  if (!GetFd(info[0], socket) || !GetString(info[1], "line", line) || !GetBytes(info[2], "maxBytes", bytes_max) ||
      !GetNumber(info[3], "timeoutMs", kTimeoutMsMax, timeout_ms))
    return info.Env().Undefined();
  if (bytes_max == 0) {
    ThrowRange(info.Env(), "maxBytes must be above 0");
    return info.Env().Undefined();
  }
  auto answer = std::make_shared<Line>();
  JobSpec job{"daxserve.exchange", {}, [answer](Napi::Env env) { return ToReceived(env, *answer); }};
  job.work = [socket, line, bytes_max, timeout_ms, answer](const Report&) {
    return ExchangeLine(socket, line, bytes_max, static_cast<uint32_t>(timeout_ms), *answer);
  };
  return StartJob(info.Env(), std::move(job));
}

}  // namespace

void InitSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("sendFds", Napi::Function::New<SendFdsCall>(env, "sendFds"));
  exports.Set("peerCredentials", Napi::Function::New<PeerCredentials>(env, "peerCredentials"));
  exports.Set("connectUnix", Napi::Function::New<ConnectUnixCall>(env, "connectUnix"));
  exports.Set("shutDown", Napi::Function::New<ShutDownCall>(env, "shutDown"));
  exports.Set("exchangeLine", Napi::Function::New<ExchangeLineCall>(env, "exchangeLine"));
}

}  // namespace daxserve::binding
