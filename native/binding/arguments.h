// Reading arguments: every getter throws a JavaScript error and returns false when the value does not fit.
#pragma once
#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace daxserve::binding {

inline bool ThrowType(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return false;
}

inline bool ThrowRange(Napi::Env env, const std::string& message) {
  Napi::Error error = Napi::RangeError::New(env, message);
  error.Set("code", Napi::String::New(env, "ERR_OUT_OF_RANGE"));
  error.ThrowAsJavaScriptException();
  return false;
}

/// A whole number from 0 to `max` (at most 2^53 - 1).
inline bool GetNumber(Napi::Value value, const char* name, double max, uint64_t& out) {
  if (!value.IsNumber()) return ThrowType(value.Env(), std::string(name) + " must be a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= max) || std::trunc(number) != number)
    return ThrowRange(value.Env(), std::string(name) + " must be a whole number from 0 to " + std::to_string(max));
  out = static_cast<uint64_t>(number);
  return true;
}

/// An offset or a length in bytes.
inline bool GetBytes(Napi::Value value, const char* name, uint64_t& out) {
  return GetNumber(value, name, 9007199254740991.0, out);
}

inline bool GetFd(Napi::Value value, int& out) {
  uint64_t number;
  if (!GetNumber(value, "fd", INT32_MAX, number)) return false;
  out = static_cast<int>(number);
  return true;
}

inline bool GetString(Napi::Value value, const char* name, std::string& out) {
  if (!value.IsString()) return ThrowType(value.Env(), std::string(name) + " must be a string");
  out = value.As<Napi::String>().Utf8Value();
  return true;
}

inline bool GetWord(Napi::Value value, const char* name, uint64_t& out) {
  bool lossless = false;
  if (!value.IsBigInt()) return ThrowType(value.Env(), std::string(name) + " must be a bigint");
  out = value.As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless || ThrowRange(value.Env(), std::string(name) + " must fit in 64 bits without sign");
}

}  // namespace daxserve::binding
