// The JavaScript class Mapping: checks arguments, copies, and keeps the table of windows.
#include "mapping.h"

#include <algorithm>
#include <cstring>
#include <map>

#define XXH_INLINE_ALL
#include "addon.h"
#include "arguments.h"
#include "atom.h"
#include "job.h"
#include "mapping_object.h"
#include "xxhash/xxhash.h"

namespace daxserve::binding {
namespace {

using MappingPtr = std::shared_ptr<Mapping>;

constexpr napi_type_tag kMappingTag{0x4d61707064617873, 0x9f1c52e07ab3d846};
// The largest external buffer that Node 20 takes.
constexpr uint64_t kWindowBytesMax = 4ull << 30;

bool ThrowClosed(Napi::Env env) {
  Napi::Error error = Napi::Error::New(env, "The mapping is closed.");
  error.Set("code", Napi::String::New(env, "DAXFS_CLOSED"));
  error.ThrowAsJavaScriptException();
  return false;
}

bool ThrowReadOnly(Napi::Env env) { return Check(env, Status::Errno(EACCES, "write to a read-only mapping")); }

bool GetNuma(Napi::Value value, NumaPolicy& numa) {
  if (value.IsUndefined()) return true;
  if (!value.IsObject()) return ThrowType(value.Env(), "numa must be an object");
  const auto object = value.As<Napi::Object>();
  std::string mode;
  if (!GetString(object.Get("mode"), "numa.mode", mode)) return false;
  if (mode == "interleave") {
    numa.mode = NumaPolicy::Mode::kInterleave;
    return true;
  }
  uint64_t node;
  if (mode != "bind") return ThrowType(value.Env(), "numa.mode must be 'interleave' or 'bind'");
  if (!GetNumber(object.Get("node"), "numa.node", 1023, node)) return false;
  numa = {NumaPolicy::Mode::kBind, static_cast<uint32_t>(node)};
  return true;
}

bool GetOptions(Napi::Value value, MapOptions& options) {
  if (value.IsUndefined()) return true;
  if (!value.IsObject()) return ThrowType(value.Env(), "options must be an object");
  const auto object = value.As<Napi::Object>();
  options.write = object.Get("write").ToBoolean();
  options.huge = object.Get("huge").ToBoolean();
  return GetNuma(object.Get("numa"), options.numa);
}

// Keeps the bytes of a window mapped for as long as its ArrayBuffer may be reached.
struct WindowHold {
  MappingPtr mapping;
};

struct Window {
  Napi::Reference<Napi::ArrayBuffer> buffer;
  WindowHold* hold;
};

class MappingObject : public Napi::ObjectWrap<MappingObject> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit MappingObject(const Napi::CallbackInfo& info);

  MappingPtr mapping() const { return mapping_; }

 private:
  using Info = const Napi::CallbackInfo&;

  Napi::Value Size(Info info) { return Napi::Number::New(info.Env(), static_cast<double>(size_)); }
  Napi::Value Read(Info info);
  void Write(Info info);
  void Zero(Info info);
  Napi::Value Load64(Info info);
  void Store64(Info info);
  Napi::Value Cas64(Info info);
  Napi::Value Populate(Info info);
  Napi::Value Equal(Info info);
  Napi::Value Digest(Info info);
  Napi::Value Xxh3(Info info);
  Napi::Value WindowOf(Info info);
  void Close(Info info);

  // Null after an error was thrown: the mapping is closed, or read-only where `write` is asked.
  bool Usable(Napi::Env env, bool write);
  char* Range(Info info, uint64_t& length, bool write);
  uint64_t* Word(Info info, bool write);
  Napi::Value NewWindow(Napi::Env env, char* start, uint64_t offset, uint64_t length);

  MappingPtr mapping_;
  uint64_t size_ = 0;
  std::map<std::pair<uint64_t, uint64_t>, Window> windows_;
};

void MappingObject::Init(Napi::Env env, Napi::Object exports) {
  const auto member = static_cast<napi_property_attributes>(napi_writable | napi_configurable);
  exports.Set("Mapping", DefineClass(env, "Mapping",
                                     {InstanceAccessor<&MappingObject::Size>("size"),
                                      InstanceMethod<&MappingObject::Read>("read", member),
                                      InstanceMethod<&MappingObject::Write>("write", member),
                                      InstanceMethod<&MappingObject::Zero>("zero", member),
                                      InstanceMethod<&MappingObject::Load64>("load64", member),
                                      InstanceMethod<&MappingObject::Store64>("store64", member),
                                      InstanceMethod<&MappingObject::Cas64>("cas64", member),
                                      InstanceMethod<&MappingObject::Populate>("populate", member),
                                      InstanceMethod<&MappingObject::Equal>("equal", member),
                                      InstanceMethod<&MappingObject::Digest>("digest", member),
                                      InstanceMethod<&MappingObject::Xxh3>("xxh3", member),
                                      InstanceMethod<&MappingObject::WindowOf>("window", member),
                                      InstanceMethod<&MappingObject::Close>("close", member)}));
}

MappingObject::MappingObject(Info info) : Napi::ObjectWrap<MappingObject>(info) {
  int fd;
  uint64_t offset;
  MapOptions options;
  if (!GetFd(info[0], fd) || !GetBytes(info[1], "offset", offset) || !GetBytes(info[2], "size", size_)) return;
  if (!GetOptions(info[3], options)) return;
  if (size_ == 0) {
    ThrowRange(info.Env(), "size must be above 0");
    return;
  }
  if (!Check(info.Env(), Mapping::Open(fd, offset, size_, options, mapping_))) return;
  info.This().As<Napi::Object>().TypeTag(&kMappingTag);
}

bool MappingObject::Usable(Napi::Env env, bool write) {
  if (!mapping_) return ThrowClosed(env);
  return !write || mapping_->writable() || ThrowReadOnly(env);
}

// Arguments (offset, length).
char* MappingObject::Range(Info info, uint64_t& length, bool write) {
  uint64_t offset;
  if (!Usable(info.Env(), write)) return nullptr;
  if (!GetBytes(info[0], "offset", offset) || !GetBytes(info[1], "length", length)) return nullptr;
  if (mapping_->Contains(offset, length)) return mapping_->At(offset, length);
  ThrowRange(info.Env(), "The range ends outside the mapping.");
  return nullptr;
}

// Argument (offset) of an aligned word.
uint64_t* MappingObject::Word(Info info, bool write) {
  uint64_t offset;
  if (!Usable(info.Env(), write) || !GetBytes(info[0], "offset", offset)) return nullptr;
  if (offset % 8 == 0 && mapping_->Contains(offset, 8)) return reinterpret_cast<uint64_t*>(mapping_->At(offset, 8));
  ThrowRange(info.Env(), "The word is not aligned to 8 bytes or lies outside the mapping.");
  return nullptr;
}

Napi::Value MappingObject::Read(Info info) {
  uint64_t length;
  const char* start = Range(info, length, false);
  if (start == nullptr) return info.Env().Undefined();
  return Napi::Buffer<char>::Copy(info.Env(), start, length);
}

void MappingObject::Write(Info info) {
  uint64_t offset;
  if (!Usable(info.Env(), true) || !GetBytes(info[0], "offset", offset)) return;
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    ThrowType(info.Env(), "bytes must be a Uint8Array");
    return;
  }
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const uint64_t length = bytes.ByteLength();
  if (!mapping_->Contains(offset, length)) {
    ThrowRange(info.Env(), "The range ends outside the mapping.");
    return;
  }
  // memmove: `bytes` may be a window of this very mapping.
  if (length > 0) std::memmove(mapping_->At(offset, length), bytes.Data(), length);
}

void MappingObject::Zero(Info info) {
  uint64_t length;
  if (char* start = Range(info, length, true)) std::memset(start, 0, length);
}

Napi::Value MappingObject::Load64(Info info) {
  const uint64_t* word = Word(info, false);
  if (word == nullptr) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), RealAtom::Load(word, std::memory_order_acquire));
}

void MappingObject::Store64(Info info) {
  uint64_t value;
  uint64_t* word = Word(info, true);
  if (word == nullptr || !GetWord(info[1], "value", value)) return;
  RealAtom::Store(word, value, std::memory_order_release);
}

Napi::Value MappingObject::Cas64(Info info) {
  uint64_t expected, desired;
  uint64_t* word = Word(info, true);
  if (word == nullptr || !GetWord(info[1], "expected", expected) || !GetWord(info[2], "desired", desired))
    return info.Env().Undefined();
  RealAtom::Cas(word, expected, desired, std::memory_order_seq_cst);
  return Napi::BigInt::New(info.Env(), expected);
}

Napi::Value MappingObject::Populate(Info info) {
  uint64_t length;
  const char* start = Range(info, length, false);
  if (start == nullptr) return info.Env().Undefined();
  const uint64_t offset = static_cast<uint64_t>(start - mapping_->At(0, 0));
  JobSpec job{"daxserve.populate", {}, [](Napi::Env env) { return env.Undefined(); }};
  if (info[2].IsFunction()) job.on_progress = info[2].As<Napi::Function>();
  job.work = [mapping = mapping_, offset, length](const Report& report) {
    return mapping->Populate(offset, length, [&report](uint64_t done) {
      report(done);
      return true;
    });
  };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value MappingObject::Equal(Info info) {
  uint64_t a, b, length;
  if (!Usable(info.Env(), false)) return info.Env().Undefined();
  if (!GetBytes(info[0], "offsetA", a) || !GetBytes(info[1], "offsetB", b) || !GetBytes(info[2], "length", length))
    return info.Env().Undefined();
  if (!mapping_->Contains(a, length) || !mapping_->Contains(b, length)) {
    ThrowRange(info.Env(), "The range ends outside the mapping.");
    return info.Env().Undefined();
  }
  auto same = std::make_shared<bool>(false);
  JobSpec job{"daxserve.equal", {}, [same](Napi::Env env) { return Napi::Boolean::New(env, *same); }};
  job.work = [mapping = mapping_, a, b, length, same](const Report&) {
    *same = std::memcmp(mapping->At(a, length), mapping->At(b, length), length) == 0;
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value MappingObject::Digest(Info info) {
  uint64_t length;
  const char* start = Range(info, length, false);
  if (start == nullptr) return info.Env().Undefined();
  auto sum = std::make_shared<XXH128_canonical_t>();
  const auto result = [sum](Napi::Env env) { return Napi::Buffer<unsigned char>::Copy(env, sum->digest, 16); };
  JobSpec job{"daxserve.digest", {}, result};
  job.work = [mapping = mapping_, start, length, sum](const Report&) {
    XXH128_canonicalFromHash(sum.get(), XXH3_128bits(start, length));
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value MappingObject::Xxh3(Info info) {
  uint64_t length;
  const char* start = Range(info, length, false);
  if (start == nullptr) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(XXH3_64bits(start, length)));
}

Napi::Value MappingObject::WindowOf(Info info) {
  uint64_t length;
  char* start = Range(info, length, false);
  if (start == nullptr) return info.Env().Undefined();
  if (length == 0) return Napi::ArrayBuffer::New(info.Env(), 0);
  if (length > kWindowBytesMax) {
    ThrowRange(info.Env(), "A window is at most 4 GiB long.");
    return info.Env().Undefined();
  }
  const uint64_t offset = static_cast<uint64_t>(start - mapping_->At(0, 0));
  const auto found = windows_.find({offset, length});
  if (found != windows_.end()) return found->second.buffer.Value();
  return NewWindow(info.Env(), start, offset, length);
}

Napi::Value MappingObject::NewWindow(Napi::Env env, char* start, uint64_t offset, uint64_t length) {
  auto* hold = new WindowHold{mapping_};
  const auto release = [](Napi::Env, void*, WindowHold* hold) { delete hold; };
  const auto buffer = Napi::ArrayBuffer::New(env, start, length, release, hold);
  if (env.IsExceptionPending()) {
    delete hold;
    return env.Undefined();
  }
  windows_.emplace(std::pair(offset, length), Window{Napi::Persistent(buffer), hold});
  return buffer;
}

// The bytes are unmapped here, unless a job still runs on them: a detached window can't reach them any more.
void MappingObject::Close(Info info) {
  for (auto& [range, window] : windows_) {
    Napi::ArrayBuffer buffer = window.buffer.Value();
    // First the hold: detaching hands it to the finalizer, which may run at once.
    const MappingPtr keep = std::move(window.hold->mapping);
    buffer.Detach();
    if (info.Env().IsExceptionPending()) return;
  }
  windows_.clear();
  mapping_.reset();
}

}  // namespace

std::optional<MappingView> ViewOf(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kMappingTag)) return std::nullopt;
  const MappingPtr mapping = MappingObject::Unwrap(value.As<Napi::Object>())->mapping();
  if (!mapping) return std::nullopt;
  auto* const base = reinterpret_cast<uint8_t*>(mapping->At(0, mapping->size()));
  return MappingView{base, mapping->size(), mapping->writable(), mapping};
}

// Argument (bytes): XXH3-64 of a copy, for what was read out of a region and is checked before it is believed.
static Napi::Value Xxh3OfBytes(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    ThrowType(info.Env(), "bytes must be a Uint8Array");
    return info.Env().Undefined();
  }
  const auto bytes = info[0].As<Napi::Uint8Array>();
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(XXH3_64bits(bytes.Data(), bytes.ByteLength())));
}

void InitMapping(Napi::Env env, Napi::Object exports) {
  MappingObject::Init(env, exports);
  exports.Set("xxh3", Napi::Function::New(env, Xxh3OfBytes, "xxh3"));
}

}  // namespace daxserve::binding
