// The JavaScript class PageCache: files of a split or export image, read through the image's page cache (cached_files.h).
#include "page_cache.h"

#include <cstdio>
#include <cstring>
#include <unordered_map>

#include "addon.h"
#include "arguments.h"
#include "cache_home.h"
#include "job.h"
#include "mapping_object.h"
#include "registry_arguments.h"

namespace daxserve::binding {
namespace {

using Info = const Napi::CallbackInfo&;

constexpr napi_type_tag kPageCacheTag{0x6461787365727665, 0x7061676563616368};

class PageCacheObject : public Napi::ObjectWrap<PageCacheObject> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit PageCacheObject(Info info);
  std::shared_ptr<CacheHome> home() const { return home_; }

 private:
  Napi::Value Open(Info info);
  Napi::Value Facts(Info info);
  Napi::Value Prewarm(Info info);
  Napi::Value Recover(Info info);
  Napi::Value ViewSlot(Info info);
  void Unpin(Info info);
  void Close(Info) { Drop(); }

  /// Null after an error was thrown.
  CachedFiles* Files(Napi::Env env);
  void Drop();

  struct View {
    Napi::Reference<Napi::ArrayBuffer> bytes;
    uint32_t pins = 0;
  };

  Napi::ObjectReference mapping_;
  std::shared_ptr<CacheHome> home_;
  /// One ArrayBuffer per slot, however often it is pinned.
  std::unordered_map<uint64_t, View> views_;
};

PageCacheObject::PageCacheObject(Info info) : Napi::ObjectWrap<PageCacheObject>(info) {
  if (!ViewOf(info[0])) {
    ThrowType(info.Env(), "mapping must be an open Mapping");
    return;
  }
  info.This().As<Napi::Object>().TypeTag(&kPageCacheTag);
  mapping_ = Napi::Persistent(info[0].As<Napi::Object>());
}

CachedFiles* PageCacheObject::Files(Napi::Env env) {
  if (home_ && ViewOf(mapping_.Value())) return &home_->files();
  ThrowCode(env, "DAXFS_CLOSED", "The page cache is not open; open the image again.");
  return nullptr;
}

// Views end before their slots are let go. (Without a close, views and pins last as long as the views are used.)
void PageCacheObject::Drop() {
  for (auto& [slot, view] : views_) {
    view.bytes.Value().Detach();
    for (; view.pins > 0; view.pins--) home_->files().Unpin({nullptr, slot});
  }
  views_.clear();
  home_.reset();
}

// Arguments ({fd, bootId} | null, {fd, tree} | null): a promise of 0 or a negative errno.
Napi::Value PageCacheObject::Open(Info info) {
  CacheOpening opening;
  uint8_t boot[16] = {};
  const auto mapping = ViewOf(mapping_.Value());
  if (!mapping || home_) return ThrowType(info.Env(), "The mapping is closed, or the cache is open already."), info.Env().Undefined();
  if (info[0].IsObject()) {
    const auto image = info[0].As<Napi::Object>();
    if (!GetFd(image.Get("fd"), opening.fd) || !GetBuffer(image.Get("bootId"), "bootId", sizeof(boot), boot))
      return info.Env().Undefined();
    std::memcpy(&opening.boot, boot, sizeof(opening.boot));
    opening.boot |= 1;
  }
  if (info[1].IsObject()) {
    const auto source = info[1].As<Napi::Object>();
    if (!GetFd(source.Get("fd"), opening.source)) return info.Env().Undefined();
    opening.tree = source.Get("tree").ToBoolean();
  }
  auto home = std::make_shared<CacheHome>(*mapping);
  auto outcome = std::make_shared<int>(0);
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
  JobSpec job{"daxserve.pageCache", {}, [this, self, home, outcome](Napi::Env env) -> Napi::Value {
                if (*outcome == 0) home_ = home;
                return Napi::Number::New(env, -*outcome);
              }};
  job.work = [home, opening, outcome](const Report&) {
    *outcome = home->Open(opening);
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value PageCacheObject::Facts(Info info) {
  const CachedFiles* files = Files(info.Env());
  if (files == nullptr) return info.Env().Undefined();
  const PageCacheCounters counters = files->counters();
  Napi::Object out = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) { out.Set(name, Napi::Number::New(info.Env(), static_cast<double>(value))); };
  out.Set("attached", files->attached());
  out.Set("hasSource", files->has_source());
  char stamp[17];
  std::snprintf(stamp, sizeof stamp, "%016llx", static_cast<unsigned long long>(files->source_stamp()));
  out.Set("sourceStamp", stamp);
  set("slots", files->slot_count());
  set("hits", counters.hits);
  set("misses", counters.misses);
  set("fills", counters.fills);
  set("fillErrors", counters.fill_errors);
  set("evictions", counters.evictions_unreferenced + counters.evictions_second_chance + counters.evictions_forced);
  set("pendingWaits", counters.pending_waits);
  set("fallbacks", counters.fallbacks);
  set("takeovers", counters.takeovers);
  set("sourceReads", counters.source_reads);
  set("sourceBytes", counters.source_bytes);
  return out;
}

// A promise of {pages, wanted}, or a negative errno.
Napi::Value PageCacheObject::Prewarm(Info info) {
  if (Files(info.Env()) == nullptr) return info.Env().Undefined();
  struct Outcome {
    int error = 0;
    uint64_t pages = 0;
    uint64_t wanted = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  JobSpec job{"daxserve.prewarm", {}, [outcome](Napi::Env env) -> Napi::Value {
                if (outcome->error != 0) return Napi::Number::New(env, -outcome->error);
                Napi::Object out = Napi::Object::New(env);
                out.Set("pages", Napi::Number::New(env, static_cast<double>(outcome->pages)));
                out.Set("wanted", Napi::Number::New(env, static_cast<double>(outcome->wanted)));
                return out;
              }};
  job.work = [home = home_, outcome](const Report&) {
    outcome->error = home->files().WarmAll(outcome->pages, outcome->wanted);
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

Napi::Value PageCacheObject::Recover(Info info) {
  CachedFiles* files = Files(info.Env());
  return files == nullptr ? info.Env().Undefined() : Napi::Number::New(info.Env(), files->Recover());
}

// Argument (slot) that the overlay has pinned: its bytes. The pin is ours from now on.
Napi::Value PageCacheObject::ViewSlot(Info info) {
  uint64_t slot;
  CachedFiles* files = Files(info.Env());
  if (files == nullptr || !GetNumber(info[0], "slot", static_cast<double>(files->slot_count()) - 1, slot)) return info.Env().Undefined();
  View& view = views_[slot];
  if (view.pins++ == 0) {
    auto* keep = new std::shared_ptr<CacheHome>(home_);
    const auto release = [](Napi::Env, void*, std::shared_ptr<CacheHome>* hold) { delete hold; };
    auto* data = const_cast<uint8_t*>(files->Block(slot));
    view.bytes = Napi::Persistent(Napi::ArrayBuffer::New(info.Env(), data, files->block_bytes(), release, keep));
  }
  return view.bytes.Value();
}

// Argument (slot): undoes one pin; with the last one the view has no bytes any more.
void PageCacheObject::Unpin(Info info) {
  uint64_t slot;
  if (!home_ || !GetBytes(info[0], "slot", slot)) return;
  const auto found = views_.find(slot);
  if (found == views_.end()) return;
  if (--found->second.pins == 0) {
    found->second.bytes.Value().Detach();
    views_.erase(found);
  }
  home_->files().Unpin({nullptr, slot});
}

void PageCacheObject::Init(Napi::Env env, Napi::Object exports) {
  const auto member = static_cast<napi_property_attributes>(napi_writable | napi_configurable);
  exports.Set("PageCache", DefineClass(env, "PageCache",
                                       {InstanceMethod<&PageCacheObject::Open>("open", member),
                                        InstanceMethod<&PageCacheObject::Facts>("facts", member),
                                        InstanceMethod<&PageCacheObject::Prewarm>("prewarm", member),
                                        InstanceMethod<&PageCacheObject::Recover>("recover", member),
                                        InstanceMethod<&PageCacheObject::ViewSlot>("view", member),
                                        InstanceMethod<&PageCacheObject::Unpin>("unpin", member),
                                        InstanceMethod<&PageCacheObject::Close>("close", member)}));
}

}  // namespace

std::shared_ptr<CachedFiles> CachedFilesOf(Napi::Value value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kPageCacheTag)) return nullptr;
  const auto home = PageCacheObject::Unwrap(value.As<Napi::Object>())->home();
  return home == nullptr ? nullptr : std::shared_ptr<CachedFiles>(home, &home->files());
}

void InitPageCache(Napi::Env env, Napi::Object exports) { PageCacheObject::Init(env, exports); }

}  // namespace daxserve::binding
