// How other parts of the binding see a JavaScript Mapping object.
#pragma once
#include <napi.h>

#include <optional>

#include "mapping_view.h"

namespace daxserve::binding {

/// The view of a Mapping object; nothing when `value` is something else or is closed.
std::optional<MappingView> ViewOf(Napi::Value value);

}  // namespace daxserve::binding
