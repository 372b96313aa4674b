// What a fuzzing input says, read from its front: choices first, the rest is for operations.
#pragma once
#include <cstdint>
#include <cstring>

namespace daxserve::fuzz {

/// Reads on behind the end give 0.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), left_(size) {}

  bool Empty() const { return left_ == 0; }
  template <typename T>
  T Take() {
    T value = 0;
    const size_t bytes = left_ < sizeof(T) ? left_ : sizeof(T);
    if (bytes != 0) std::memcpy(&value, at_, bytes);
    at_ += bytes;
    left_ -= bytes;
    return value;
  }
  uint8_t U8() { return Take<uint8_t>(); }
  uint16_t U16() { return Take<uint16_t>(); }
  uint32_t U32() { return Take<uint32_t>(); }
  uint64_t U64() { return Take<uint64_t>(); }
  uint32_t Below(uint32_t end) { return end <= 256 ? U8() % end : U16() % end; }

 private:
  const uint8_t* at_;
  size_t left_;
};

}  // namespace daxserve::fuzz
