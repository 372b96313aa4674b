// How other parts of the binding see a JavaScript PageCache object.
#pragma once
#include <napi.h>

#include <memory>

#include "cached_files.h"

namespace daxserve::binding {

/// The open cache of a PageCache object, kept alive with the memory behind it; null when `value` is something else, is not
/// open yet or is closed.
std::shared_ptr<CachedFiles> CachedFilesOf(Napi::Value value);

}  // namespace daxserve::binding
