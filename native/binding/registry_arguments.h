// Arguments and results of the class Registry: references, keys, identities, names, word lists.
#pragma once
#include <napi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "registry.h"

namespace daxserve::binding {

inline bool ThrowCode(Napi::Env env, const char* code, const char* text) {
  Napi::Error error = Napi::Error::New(env, text);
  error.Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
  return false;
}

inline bool ThrowLost(Napi::Env env) {
  return ThrowCode(env, "DAXFS_HOST_LOST", "This host's row in the region was taken over; attach again as a new host.");
}

inline bool GetRef(Napi::Value value, ContentRef& ref) {
  if (!value.IsObject()) return ThrowType(value.Env(), "ref must be an object {index, generation}");
  const auto object = value.As<Napi::Object>();
  uint64_t index;
  uint64_t generation;
  if (!GetNumber(object.Get("index"), "ref.index", layout::kNoContent - 1, index)) return false;
  const auto max = static_cast<double>(layout::content_word::kGeneration.max());
  if (!GetNumber(object.Get("generation"), "ref.generation", max, generation)) return false;
  ref = {static_cast<uint32_t>(index), static_cast<uint32_t>(generation)};
  return true;
}

inline Napi::Object ToObject(Napi::Env env, ContentRef ref) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", ref.index);
  object.Set("generation", ref.generation);
  return object;
}

inline Napi::Value ToValue(Napi::Env env, const std::optional<ContentRef>& ref) {
  if (!ref) return env.Null();
  return ToObject(env, *ref);
}

inline Napi::Value ToArray(Napi::Env env, const std::vector<uint32_t>& words) {
  Napi::Uint32Array array = Napi::Uint32Array::New(env, words.size());
  std::copy(words.begin(), words.end(), array.Data());
  return array;
}

/// Exactly `size` bytes of a Uint8Array.
inline bool GetBuffer(Napi::Value value, const char* name, size_t size, void* out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    return ThrowType(value.Env(), std::string(name) + " must be a Buffer");
  const auto bytes = value.As<Napi::Uint8Array>();
  if (bytes.ByteLength() != size)
    return ThrowRange(value.Env(), std::string(name) + " must have " + std::to_string(size) + " bytes");
  std::memcpy(out, bytes.Data(), size);
  return true;
}

/// The words of a Uint32Array of exactly `count`, to be written before the call returns.
inline bool GetWords(Napi::Value value, const char* name, size_t count, uint32_t*& out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    return ThrowType(value.Env(), std::string(name) + " must be a Uint32Array");
  auto words = value.As<Napi::Uint32Array>();
  if (words.ElementLength() != count)
    return ThrowRange(value.Env(), std::string(name) + " must have " + std::to_string(count) + " words");
  out = words.Data();
  return true;
}

inline bool GetModelName(Napi::Value value, std::string& out) {
  if (!GetString(value, "name", out)) return false;
  const bool fits = !out.empty() && out.size() <= layout::kModelNameBytesMax;
  return fits || ThrowRange(value.Env(), "name must have 1 to 194 bytes");
}

inline bool GetIdentity(Napi::Value value, HostIdentity& out) {
  if (!value.IsObject()) return ThrowType(value.Env(), "identity must be an object");
  const auto object = value.As<Napi::Object>();
  std::string name;
  uint64_t pid;
  if (!GetString(object.Get("name"), "identity.name", name)) return false;
  if (name.empty() || name.size() > sizeof(out.name))
    return ThrowRange(value.Env(), "identity.name must have 1 to 64 bytes");
  if (!GetBuffer(object.Get("bootId"), "identity.bootId", sizeof(out.boot_id), out.boot_id)) return false;
  if (!GetNumber(object.Get("pid"), "identity.pid", UINT32_MAX, pid)) return false;
  if (!GetWord(object.Get("startTime"), "identity.startTime", out.start_time)) return false;
  out.pid = static_cast<uint32_t>(pid);
  out.name_len = static_cast<uint32_t>(name.size());
  std::memcpy(out.name, name.data(), name.size());
  return true;
}

/// Milliseconds since the Unix epoch.
inline uint64_t NowMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

/// Words per row of `stampContents` and `stampName`.
inline constexpr size_t kStampWords = 10;
using StampWords = std::array<uint32_t, kStampWords>;

inline StampWords WordsOf(uint32_t index, const ContentTable<RealAtom>::Stamp& stamp) {
  StampWords out{index, stamp.flags};
  auto* next = out.data() + 2;
  for (const uint64_t word : {stamp.word, stamp.sequence, stamp.last_access_ms, stamp.bytes_done}) {
    *next++ = static_cast<uint32_t>(word);
    *next++ = static_cast<uint32_t>(word >> 32);
  }
  return out;
}

}  // namespace daxserve::binding
