// Registry: opening, hosts, and what JavaScript sees of the class.
#include "addon.h"
#include "registry_object.h"

namespace daxserve::binding {

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

RegistryObject::Core* RegistryObject::Open(Napi::Env env) {
  if (core_ && ViewOf(mapping_.Value())) return core_.get();
  heartbeat_.Stop();
  core_.reset();
  keep_.reset();
  ThrowCode(env, "DAXFS_CLOSED", "The region is closed; open it again.");
  return nullptr;
}

RegistryObject::Core* RegistryObject::OpenAttached(Napi::Env env) {
  Core* core = Open(env);
  if (core == nullptr || core->Attached()) return core;
  ThrowLost(env);
  return nullptr;
}

RegistryObject::Core* RegistryObject::OpenContent(Info info, ContentRef& ref) {
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

void InitRegistry(Napi::Env env, Napi::Object exports) { RegistryObject::Init(env, exports); }

}  // namespace daxserve::binding
