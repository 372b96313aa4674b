// The module: every part registers its own functions and classes.
#include "addon.h"

namespace daxserve::binding {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  InitMapping(env, exports);
  InitFence(env, exports);
  InitSocket(env, exports);
  InitCopy(env, exports);
  InitRegistry(env, exports);
  return exports;
}

}  // namespace daxserve::binding

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return daxserve::binding::Init(env, exports); }
NODE_API_MODULE(daxserve, Init)
