// What the parts of the binding share: their registration, and the one way a Status becomes a JavaScript error.
#pragma once
#include <napi.h>

#include "status.h"

namespace daxserve::binding {

void InitMapping(Napi::Env env, Napi::Object exports);
void InitFence(Napi::Env env, Napi::Object exports);
void InitSocket(Napi::Env env, Napi::Object exports);
void InitCopy(Napi::Env env, Napi::Object exports);
void InitRegistry(Napi::Env env, Napi::Object exports);
void InitDmaHeap(Napi::Env env, Napi::Object exports);
void InitOverlay(Napi::Env env, Napi::Object exports);
void InitPageCache(Napi::Env env, Napi::Object exports);

/// An Error as Node's own system errors: {code: 'ENOSPC', errno: -28, syscall: 'fallocate'}.
Napi::Error ToError(Napi::Env env, const Status& status);

/// Throws ToError(status) unless ok; returns ok.
bool Check(Napi::Env env, const Status& status);

}  // namespace daxserve::binding
