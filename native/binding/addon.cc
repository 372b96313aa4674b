// The module: every part registers its own functions and classes.
#include "addon.h"

#include "layout.gen.h"

namespace daxserve::binding {

// Weak until copy.cc and registry.cc are there.
[[gnu::weak]] void InitCopy(Napi::Env env, Napi::Object exports);
[[gnu::weak]] void InitRegistry(Napi::Env env, Napi::Object exports);

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  // What this binary was built with: a region of another layout is refused, and so is a stale build.
  exports.Set("fingerprint", Napi::BigInt::New(env, layout::kFingerprint));
  exports.Set("registryFormatVersion", Napi::Number::New(env, layout::kRegistryFormatVersion));
  InitMapping(env, exports);
  InitFence(env, exports);
  InitSocket(env, exports);
  if (InitCopy) InitCopy(env, exports);
  if (InitRegistry) InitRegistry(env, exports);
  return exports;
}

}  // namespace daxserve::binding

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return daxserve::binding::Init(env, exports); }
NODE_API_MODULE(daxserve, Init)
