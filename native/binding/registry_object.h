// The JavaScript class Registry: checks arguments and turns results into objects; the protocols are in registry.h.
#pragma once
#include <memory>

#include "heartbeat.h"
#include "mapping_object.h"
#include "registry_arguments.h"

namespace daxserve::binding {

class RegistryObject : public Napi::ObjectWrap<RegistryObject> {
 public:
  using Core = Registry<RealAtom>;
  using Info = const Napi::CallbackInfo&;

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

}  // namespace daxserve::binding
