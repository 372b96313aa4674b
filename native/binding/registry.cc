// The JavaScript class Registry: checks arguments and turns results into objects; the protocols are in registry.h.
#include "registry.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "heartbeat.h"
#include "mapping_object.h"
#include "registry_arguments.h"

namespace daxserve::binding {
namespace {

using Core = Registry<RealAtom>;
using Info = const Napi::CallbackInfo&;

uint64_t NowMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

constexpr size_t kStampWords = 10;
using StampWords = std::array<uint32_t, kStampWords>;

StampWords WordsOf(uint32_t index, const ContentTable<RealAtom>::Stamp& stamp) {
  StampWords out{index, stamp.flags};
  auto* next = out.data() + 2;
  for (const uint64_t word : {stamp.word, stamp.sequence, stamp.last_access_ms, stamp.bytes_done}) {
    *next++ = static_cast<uint32_t>(word);
    *next++ = static_cast<uint32_t>(word >> 32);
  }
  return out;
}

class RegistryObject : public Napi::ObjectWrap<RegistryObject> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit RegistryObject(Info info);
  ~RegistryObject() override { heartbeat_.Stop(); }

 private:
  Napi::Value AttachHost(Info info);
  void StartHeartbeat(Info info);
  void DetachHost(Info info);
  Napi::Value StillAttached(Info info);

  Napi::Value ClaimContent(Info info);
  Napi::Value PublishContent(Info info);
  void AbandonContent(Info info);
  Napi::Value PinContent(Info info);
  void UnpinContent(Info info);
  Napi::Value DrainContent(Info info);
  Napi::Value FreeContent(Info info);
  Napi::Value QuarantineContent(Info info);
  Napi::Value ReadContent(Info info);
  Napi::Value ChecksumContent(Info info);
  Napi::Value StampContents(Info info);
  Napi::Value StampName(Info info);
  void SetBytesDone(Info info);
  void TouchContent(Info info);
  Napi::Value SetKeep(Info info);

  Napi::Value AllocateRun(Info info);
  Napi::Value Stats(Info info);
  Napi::Value ReadChunk(Info info);
  Napi::Value ListRuns(Info info);

  Napi::Value SetName(Info info);
  Napi::Value FindName(Info info);
  Napi::Value ListTargets(Info info);
  Napi::Value ReadName(Info info);

  Napi::Value ListHosts(Info info);
  Napi::Value LapseHost(Info info);
  Napi::Value RecoverHost(Info info);
  void ClearHostBit(Info info);

  /// The registry while its mapping is open; null after an error was thrown. Closing the mapping ends the heartbeat.
  Core* Open(Napi::Env env);
  /// As Open, and this host attached.
  Core* OpenAttached(Napi::Env env);
  /// As OpenAttached, with argument 0 as a content.
  Core* OpenContent(Info info, ContentRef& ref);
  bool GetRow(Napi::Value value, uint32_t& row);
  bool GetIndex(Napi::Value value, uint32_t& index);

  Napi::ObjectReference mapping_;
  // Keeps the bytes mapped for a running heartbeat, whatever JavaScript closes; else a closed region is let go at once.
  std::shared_ptr<const void> keep_;
  std::unique_ptr<Core> core_;
  /// Without it no host can attach, and nothing is written.
  bool writable_ = false;
  Heartbeat heartbeat_;
};

RegistryObject::RegistryObject(Info info) : Napi::ObjectWrap<RegistryObject>(info) {
  const auto view = ViewOf(info[0]);
  uint64_t offset;
  if (!view) {
    ThrowType(info.Env(), "mapping must be an open Mapping");
    return;
  }
  if (!GetBytes(info[1], "registryOffset", offset)) return;
  const auto geometry = ReadGeometry(view->base, view->size, offset);
  if (!geometry) {
    ThrowCode(info.Env(), "DAXFS_CORRUPT", "Neither copy of the registry header is sound.");
    return;
  }
  mapping_ = Napi::Persistent(info[0].As<Napi::Object>());
  writable_ = view->writable;
  core_ = std::make_unique<Core>(view->base, *geometry);
}

Core* RegistryObject::Open(Napi::Env env) {
  if (core_ && ViewOf(mapping_.Value())) return core_.get();
  heartbeat_.Stop();
  core_.reset();
  keep_.reset();
  ThrowCode(env, "DAXFS_CLOSED", "The region is closed; open it again.");
  return nullptr;
}

Core* RegistryObject::OpenAttached(Napi::Env env) {
  Core* core = Open(env);
  if (core == nullptr || core->Attached()) return core;
  ThrowLost(env);
  return nullptr;
}

Core* RegistryObject::OpenContent(Info info, ContentRef& ref) {
  Core* core = OpenAttached(info.Env());
  return core != nullptr && GetRef(info[0], ref) ? core : nullptr;
}

bool RegistryObject::GetRow(Napi::Value value, uint32_t& row) {
  uint64_t number;
  if (!GetNumber(value, "row", core_->hosts().count() - 1, number)) return false;
  row = static_cast<uint32_t>(number);
  return true;
}

bool RegistryObject::GetIndex(Napi::Value value, uint32_t& index) {
  uint64_t number;
  if (!GetNumber(value, "index", core_->contents().count() - 1, number)) return false;
  index = static_cast<uint32_t>(number);
  return true;
}

// --------------------------------------------------------------------------------------------------------- hosts

Napi::Value RegistryObject::AttachHost(Info info) {
  Core* core = Open(info.Env());
  uint32_t row;
  HostIdentity identity;
  if (core == nullptr || !GetRow(info[0], row) || !GetIdentity(info[1], identity)) return info.Env().Undefined();
  if (!writable_) {
    Check(info.Env(), Status::Errno(EACCES, "attach to a read-only mapping"));
    return info.Env().Undefined();
  }
  heartbeat_.Stop();
  if (!core->Attach(row, identity, NowMs())) {
    ThrowCode(info.Env(), "DAXFS_HOST_BUSY", "The host row belongs to another host id; choose another row.");
    return info.Env().Undefined();
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("generation", core->self().generation);
  return result;
}

void RegistryObject::StartHeartbeat(Info info) {
  Core* core = OpenAttached(info.Env());
  uint64_t interval;
  if (core == nullptr || !GetNumber(info[0], "intervalMs", 3600000, interval)) return;
  const HostRef self = core->self();
  keep_ = ViewOf(mapping_.Value())->keep;
  heartbeat_.Start(std::chrono::milliseconds(std::max<uint64_t>(1, interval)),
                   [core, self] { return core->hosts().Beat(self); });
}

void RegistryObject::DetachHost(Info info) {
  heartbeat_.Stop();
  if (Core* core = Open(info.Env())) core->Detach();
  keep_.reset();
}

Napi::Value RegistryObject::StillAttached(Info info) {
  Core* core = Open(info.Env());
  return Napi::Boolean::New(info.Env(), core != nullptr && core->Attached());
}

Napi::Value RegistryObject::ListHosts(Info info) {
  Core* core = Open(info.Env());
  Napi::Array list = Napi::Array::New(info.Env());
  if (core == nullptr) return list;
  uint32_t length = 0;
  for (uint32_t row = 0; row < core->hosts().count(); row++) {
    layout::HostRow copy;
    if (!core->hosts().Copy(row, copy)) continue;
    Napi::Object entry = Napi::Object::New(info.Env());
    entry.Set("index", row);
    entry.Set("row", Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<uint8_t*>(&copy), sizeof(copy)));
    list.Set(length++, entry);
  }
  return list;
}

Napi::Value RegistryObject::LapseHost(Info info) {
  Core* core = OpenAttached(info.Env());
  uint32_t row;
  uint64_t generation;
  if (core == nullptr || !GetRow(info[0], row)) return info.Env().Undefined();
  if (!GetNumber(info[1], "generation", UINT16_MAX, generation)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), core->hosts().Lapse({row, static_cast<uint32_t>(generation)}));
}

Napi::Value RegistryObject::RecoverHost(Info info) {
  Core* core = OpenAttached(info.Env());
  uint32_t row;
  uint64_t proof;
  if (core == nullptr || !GetRow(info[0], row)) return info.Env().Undefined();
  if (!GetNumber(info[1], "proof", static_cast<uint64_t>(Proof::kGone), proof)) return info.Env().Undefined();
  const Recovered done = core->Recover(row, static_cast<Proof>(proof));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("contents", static_cast<double>(done.contents));
  result.Set("chunks", static_cast<double>(done.chunks));
  result.Set("names", static_cast<double>(done.names));
  result.Set("pins", static_cast<double>(done.pins));
  return result;
}

void RegistryObject::ClearHostBit(Info info) {
  Core* core = OpenAttached(info.Env());
  uint32_t index;
  uint32_t row;
  if (core == nullptr || !GetIndex(info[0], index) || !GetRow(info[1], row)) return;
  core->contents().ClearBit({index, words::GenerationOfContent(core->contents().Word(index))}, row);
}

// ------------------------------------------------------------------------------------------------------ contents

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

// --------------------------------------------------------------------------------------------------------- names

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

void RegistryObject::Init(Napi::Env env, Napi::Object exports) {
  using Self = RegistryObject;
  exports.Set("Registry",
              DefineClass(env, "Registry",
                          {InstanceMethod<&Self::AttachHost>("attachHost"),
                           InstanceMethod<&Self::StartHeartbeat>("startHeartbeat"),
                           InstanceMethod<&Self::DetachHost>("detachHost"),
                           InstanceMethod<&Self::StillAttached>("stillAttached"),
                           InstanceMethod<&Self::ClaimContent>("claimContent"),
                           InstanceMethod<&Self::PublishContent>("publishContent"),
                           InstanceMethod<&Self::AbandonContent>("abandonContent"),
                           InstanceMethod<&Self::PinContent>("pinContent"),
                           InstanceMethod<&Self::UnpinContent>("unpinContent"),
                           InstanceMethod<&Self::DrainContent>("drainContent"),
                           InstanceMethod<&Self::FreeContent>("freeContent"),
                           InstanceMethod<&Self::QuarantineContent>("quarantineContent"),
                           InstanceMethod<&Self::ReadContent>("readContent"),
                           InstanceMethod<&Self::ChecksumContent>("checksumContent"),
                           InstanceMethod<&Self::StampContents>("stampContents"),
                           InstanceMethod<&Self::StampName>("stampName"),
                           InstanceMethod<&Self::SetBytesDone>("setBytesDone"),
                           InstanceMethod<&Self::TouchContent>("touchContent"),
                           InstanceMethod<&Self::SetKeep>("setKeep"),
                           InstanceMethod<&Self::AllocateRun>("allocateRun"),
                           InstanceMethod<&Self::Stats>("chunkStats"),
                           InstanceMethod<&Self::ReadChunk>("readChunk"),
                           InstanceMethod<&Self::ListRuns>("listRuns"),
                           InstanceMethod<&Self::SetName>("setName"),
                           InstanceMethod<&Self::FindName>("findName"),
                           InstanceMethod<&Self::ListTargets>("listTargets"),
                           InstanceMethod<&Self::ReadName>("readName"),
                           InstanceMethod<&Self::ListHosts>("listHosts"),
                           InstanceMethod<&Self::LapseHost>("lapseHost"),
                           InstanceMethod<&Self::RecoverHost>("recoverHost"),
                           InstanceMethod<&Self::ClearHostBit>("clearHostBit")}));
}

}  // namespace

void InitRegistry(Napi::Env env, Napi::Object exports) { RegistryObject::Init(env, exports); }

}  // namespace daxserve::binding
