// An open mapping as the parts of the binding that know nothing of JavaScript see it.
#pragma once
#include <cstdint>
#include <memory>

namespace daxserve::binding {

/// The bytes stay mapped while a copy of `keep` lives, also when JavaScript calls close() meanwhile.
struct MappingView {
  uint8_t* base;
  uint64_t size;
  bool writable;
  std::shared_ptr<const void> keep;
};

}  // namespace daxserve::binding
