// How other parts of the binding see a JavaScript Mapping object.
#pragma once
#include <napi.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace daxserve::binding {

/// An open mapping. The bytes stay mapped while a copy of `keep` lives, also when JavaScript calls close() meanwhile.
struct MappingView {
  uint8_t* base;
  uint64_t size;
  bool writable;
  std::shared_ptr<const void> keep;
};

/// The view of a Mapping object; nothing when `value` is something else or is closed.
std::optional<MappingView> ViewOf(Napi::Value value);

}  // namespace daxserve::binding
