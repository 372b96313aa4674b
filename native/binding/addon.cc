// The module: every part registers its own functions and classes.
#include "addon.h"

#include "layout.gen.h"

namespace daxserve::binding {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  // What this binary was built with: a region of another layout is refused, and so is a stale build.
  exports.Set("fingerprint", Napi::BigInt::New(env, layout::kFingerprint));
  exports.Set("registryFormatVersion", Napi::Number::New(env, layout::kRegistryFormatVersion));
  InitMapping(env, exports);
  InitFence(env, exports);
  InitSocket(env, exports);
  InitCopy(env, exports);
  InitRegistry(env, exports);
  InitDmaHeap(env, exports);
  InitOverlay(env, exports);
  InitPageCache(env, exports);
  return exports;
}

}  // namespace daxserve::binding

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return daxserve::binding::Init(env, exports); }
NODE_API_MODULE(daxserve, Init)
