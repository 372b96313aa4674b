// Registry: names.
#include "registry_object.h"

namespace daxserve::binding {

Napi::Value RegistryObject::SetName(Info info) {
  Core* core = OpenAttached(info.Env());
  std::string name;
  std::optional<ContentRef> target;
  NameExpectation expected{info[2].IsUndefined(), {}};
  if (core == nullptr || !GetModelName(info[0], name)) return info.Env().Undefined();
  if (!info[1].IsNull() && !GetRef(info[1], target.emplace())) return info.Env().Undefined();
  if (!expected.any && !info[2].IsNull() && !GetRef(info[2], expected.ref.emplace())) return info.Env().Undefined();
  const NameResult done = core->SetName(name, target, expected);
  if (done.outcome == NameOutcome::kLost) {
    ThrowLost(info.Env());
    return info.Env().Undefined();
  }
  static constexpr const char* kNames[] = {"set", "conflict", "full", "busy"};
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("outcome", kNames[static_cast<size_t>(done.outcome)]);
  if (done.outcome == NameOutcome::kSet) result.Set("previous", ToValue(info.Env(), done.ref));
  if (done.outcome == NameOutcome::kConflict) result.Set("current", ToValue(info.Env(), done.ref));
  return result;
}

Napi::Value RegistryObject::FindName(Info info) {
  Core* core = Open(info.Env());
  std::string name;
  if (core == nullptr || !GetModelName(info[0], name)) return info.Env().Undefined();
  return ToValue(info.Env(), core->names().Find(name));
}

Napi::Value RegistryObject::ListTargets(Info info) {
  Core* core = Open(info.Env());
  std::vector<uint32_t> out;
  for (uint32_t index = 0; core != nullptr && index < core->names().count(); index++) {
    const auto named = core->names().At(index);
    if (!named) continue;
    const auto [target, hash] = *named;
    const auto low = static_cast<uint32_t>(hash), high = static_cast<uint32_t>(hash >> 32);
    out.insert(out.end(), {index, target.index, target.generation, low, high});
  }
  return ToArray(info.Env(), out);
}

Napi::Value RegistryObject::ReadName(Info info) {
  Core* core = Open(info.Env());
  uint64_t index, low, high;
  if (core == nullptr) return info.Env().Undefined();
  if (!GetNumber(info[0], "index", core->names().count() - 1, index) || !GetNumber(info[1], "low", UINT32_MAX, low) ||
      !GetNumber(info[2], "high", UINT32_MAX, high))
    return info.Env().Undefined();
  char name[sizeof(layout::NameRow::name)];
  return Napi::String::New(info.Env(), name, core->names().NameAt(static_cast<uint32_t>(index), high << 32 | low, name));
}

Napi::Value RegistryObject::StampName(Info info) {
  Core* core = Open(info.Env());
  std::string name;
  uint32_t* out = nullptr;
  if (core == nullptr || !GetModelName(info[0], name) || !GetWords(info[1], "stamp", kStampWords, out))
    return info.Env().Undefined();
  const auto target = core->names().Find(name);
  const auto stamp = target ? core->contents().StampOf(target->index) : std::nullopt;
  if (!stamp || words::GenerationOfContent(stamp->word) != target->generation) return Napi::Number::New(info.Env(), -1);
  std::ranges::copy(WordsOf(target->index, *stamp), out);
  return Napi::Number::New(info.Env(), target->generation);
}

}  // namespace daxserve::binding
