#include <cstring>

#include "addon.h"

namespace daxserve::binding {

Napi::Error ToError(Napi::Env env, const Status& status) {
  const char* name = strerrorname_np(status.error());
  const std::string code = name ? name : "EUNKNOWN";
  Napi::Error error = Napi::Error::New(env, code + ": " + strerror(status.error()) + ", " + status.call());
  error.Set("code", Napi::String::New(env, code));
  error.Set("errno", Napi::Number::New(env, -status.error()));
  error.Set("syscall", Napi::String::New(env, status.call()));
  return error;
}

bool Check(Napi::Env env, const Status& status) {
  if (status.ok()) return true;
  ToError(env, status).ThrowAsJavaScriptException();
  return false;
}

}  // namespace daxserve::binding
