// Registry: contents and the chunks they lie in.
#include "registry_object.h"

namespace daxserve::binding {

Napi::Value RegistryObject::ClaimContent(Info info) {
  Core* core = OpenAttached(info.Env());
  SourceKey key;
  static_assert(sizeof(key) == 16);
  if (core == nullptr || !GetBuffer(info[0], "key", sizeof(key), &key)) return info.Env().Undefined();
  const ClaimResult claim = core->Claim(key, NowMs());
  if (claim.outcome == ClaimOutcome::kLost) {
    ThrowLost(info.Env());
    return info.Env().Undefined();
  }
  static constexpr const char* kNames[] = {"claimed", "exists", "full"};
  Napi::Object result = claim.outcome == ClaimOutcome::kFull ? Napi::Object::New(info.Env())
                                                             : ToObject(info.Env(), claim.ref);
  result.Set("outcome", kNames[static_cast<size_t>(claim.outcome)]);
  return result;
}

Napi::Value RegistryObject::PublishContent(Info info) {
  ContentRef ref;
  layout::ContentRow row;
  Core* core = OpenContent(info, ref);
  if (core == nullptr || !GetBuffer(info[1], "row", sizeof(row), &row)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), core->Publish(ref, row, info[2].ToBoolean()));
}

void RegistryObject::AbandonContent(Info info) {
  ContentRef ref;
  if (Core* core = OpenContent(info, ref)) core->Abandon(ref);
}

Napi::Value RegistryObject::PinContent(Info info) {
  ContentRef ref;
  Core* core = OpenContent(info, ref);
  return Napi::Boolean::New(info.Env(), core != nullptr && core->Pin(ref));
}

void RegistryObject::UnpinContent(Info info) {
  ContentRef ref;
  if (Core* core = OpenContent(info, ref)) core->Unpin(ref);
}

Napi::Value RegistryObject::DrainContent(Info info) {
  ContentRef ref;
  Core* core = OpenContent(info, ref);
  if (core == nullptr) return info.Env().Undefined();
  const uint64_t pins = info[1].ToBoolean() ? uint64_t{1} << core->self().row : ~uint64_t{0};
  return Napi::Boolean::New(info.Env(), core->contents().Drain(ref, pins));
}

Napi::Value RegistryObject::FreeContent(Info info) {
  ContentRef ref;
  Core* core = OpenContent(info, ref);
  return Napi::Boolean::New(info.Env(), core != nullptr && core->Free(ref));
}

Napi::Value RegistryObject::QuarantineContent(Info info) {
  ContentRef ref;
  Core* core = OpenContent(info, ref);
  return Napi::Boolean::New(info.Env(), core != nullptr && core->contents().Quarantine(ref));
}

Napi::Value RegistryObject::ReadContent(Info info) {
  Core* core = Open(info.Env());
  uint32_t index;
  layout::ContentRow copy;
  if (core == nullptr || !GetIndex(info[0], index)) return info.Env().Undefined();
  if (!core->contents().Copy(index, copy)) return info.Env().Null();
  return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<uint8_t*>(&copy), sizeof(copy));
}

Napi::Value RegistryObject::ChecksumContent(Info info) {
  layout::ContentRow row;
  if (!GetBuffer(info[0], "row", sizeof(row), &row)) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), ContentChecksum(row));
}

Napi::Value RegistryObject::StampContents(Info info) {
  Core* core = Open(info.Env());
  std::vector<uint32_t> out;
  for (uint32_t index = 0; core != nullptr && index < core->contents().count(); index++) {
    const auto stamp = core->contents().StampOf(index);
    if (!stamp) continue;
    const StampWords words = WordsOf(index, *stamp);
    out.insert(out.end(), words.begin(), words.end());
  }
  return ToArray(info.Env(), out);
}

void RegistryObject::SetBytesDone(Info info) {
  ContentRef ref;
  uint64_t bytes;
  Core* core = OpenContent(info, ref);
  if (core != nullptr && GetBytes(info[1], "bytes", bytes)) core->contents().SetBytesDone(core->self(), ref, bytes);
}

void RegistryObject::TouchContent(Info info) {
  Core* core = Open(info.Env());
  uint32_t index;
  uint64_t now;
  if (core == nullptr || !GetIndex(info[0], index) || !GetBytes(info[1], "nowMs", now)) return;
  if (writable_) core->contents().Touch(index, now);
}

Napi::Value RegistryObject::SetKeep(Info info) {
  ContentRef ref;
  Core* core = OpenContent(info, ref);
  return Napi::Boolean::New(info.Env(), core != nullptr && core->contents().SetKeep(ref, info[1].ToBoolean()));
}

// -------------------------------------------------------------------------------------------------------- chunks

Napi::Value RegistryObject::AllocateRun(Info info) {
  Core* core = OpenAttached(info.Env());
  ContentRef ref;
  uint64_t count;
  if (core == nullptr || !GetBytes(info[0], "count", count) || !GetRef(info[1], ref)) return info.Env().Undefined();
  const auto first = core->AllocateRun(ref, count);
  return Napi::Number::New(info.Env(), first ? static_cast<double>(*first) : -1);
}

Napi::Value RegistryObject::Stats(Info info) {
  Core* core = Open(info.Env());
  if (core == nullptr) return info.Env().Undefined();
  const ChunkStats stats = core->chunks().Stats();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("total", static_cast<double>(stats.total));
  result.Set("free", static_cast<double>(stats.free));
  result.Set("largestFreeRun", static_cast<double>(stats.largest_free_run));
  result.Set("quarantined", static_cast<double>(stats.quarantined));
  result.Set("used", static_cast<double>(stats.used));
  return result;
}

Napi::Value RegistryObject::ReadChunk(Info info) {
  Core* core = Open(info.Env());
  uint64_t chunk;
  if (core == nullptr) return info.Env().Undefined();
  if (!GetNumber(info[0], "index", static_cast<double>(core->chunks().count()) - 1, chunk)) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), core->chunks().Word(chunk));
}

Napi::Value RegistryObject::ListRuns(Info info) {
  Core* core = Open(info.Env());
  ContentRef ref;
  if (core == nullptr || !GetRef(info[0], ref)) return info.Env().Undefined();
  std::vector<uint32_t> out;
  core->chunks().RunsOf(ref, [&out](uint64_t first, uint64_t count) {
    out.insert(out.end(), {static_cast<uint32_t>(first), static_cast<uint32_t>(count)});
  });
  return ToArray(info.Env(), out);
}

}  // namespace daxserve::binding
