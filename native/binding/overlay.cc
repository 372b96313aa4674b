// The JavaScript class Overlay: checks arguments and turns results into values; the operations are in overlay_paths.h and
// overlay.h. A failure is returned as a negative errno: TypeScript words it, and most are no surprise to the caller.
#include <fcntl.h>

#include <vector>

#include "addon.h"
#include "arguments.h"
#include "job.h"
#include "mapping_object.h"
#include "overlay_home.h"
#include "page_cache.h"
#include "registry_arguments.h"

namespace daxserve::binding {
namespace {

using Info = const Napi::CallbackInfo&;
using HomePtr = std::shared_ptr<OverlayHome>;

struct Transfer {
  uint64_t ino = 0;
  uint64_t offset = 0;
  uint8_t* bytes = nullptr;
  uint64_t length = 0;
};

bool GetPath(Napi::Value value, std::string& out) {
  if (value.IsString()) return GetString(value, "path", out);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    return ThrowType(value.Env(), "path must be a string or a Uint8Array");
  const auto bytes = value.As<Napi::Uint8Array>();
  out.assign(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  return true;
}

// Arguments (mode, uid, gid) from `at` on.
bool GetMaker(Info info, size_t at, Maker& out) {
  uint64_t mode, uid, gid;
  if (!GetNumber(info[at], "mode", 07777, mode) || !GetNumber(info[at + 1], "uid", UINT32_MAX, uid)) return false;
  if (!GetNumber(info[at + 2], "gid", UINT32_MAX, gid)) return false;
  out = {static_cast<uint32_t>(mode), static_cast<uint32_t>(uid), static_cast<uint32_t>(gid)};
  return true;
}

// Arguments (ino, offset, bytes); without an offset where `append`.
bool GetTransfer(Info info, bool append, Transfer& out) {
  const size_t last = append ? 1 : 2;
  if (!GetBytes(info[0], "ino", out.ino) || (!append && !GetBytes(info[1], "offset", out.offset))) return false;
  if (!info[last].IsTypedArray() || info[last].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    return ThrowType(info.Env(), "bytes must be a Uint8Array");
  auto bytes = info[last].As<Napi::Uint8Array>();
  out.bytes = bytes.Data();
  out.length = bytes.ByteLength();
  return true;
}

bool GetTables(Napi::Value value, HostTables& out) {
  if (!value.IsObject()) return ThrowType(value.Env(), "tables must be an object");
  const auto object = value.As<Napi::Object>();
  uint64_t host_count, intent_count;
  int fd;
  if (!GetBytes(object.Get("hostsOffset"), "hostsOffset", out.hosts)) return false;
  if (!GetNumber(object.Get("hostCount"), "hostCount", layout::kHostsMax, host_count)) return false;
  if (!GetBytes(object.Get("intentsOffset"), "intentsOffset", out.intents)) return false;
  if (!GetNumber(object.Get("intentCount"), "intentCount", kNoIntent, intent_count)) return false;
  if (!GetBuffer(object.Get("bootId"), "bootId", sizeof(out.boot_id), out.boot_id)) return false;
  if (!GetFd(object.Get("fd"), fd)) return false;
  if (out.hosts % 64 != 0 || out.intents % 64 != 0) return ThrowRange(value.Env(), "Tables are aligned to 64 bytes.");
  out.host_count = static_cast<uint32_t>(host_count);
  out.intent_count = static_cast<uint32_t>(intent_count);
  out.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return out.fd >= 0 || Check(value.Env(), Status::Last("fcntl"));
}

bool GetSelf(Napi::Value value, Owner& out) {
  uint64_t host, generation;
  if (!value.IsObject()) return ThrowType(value.Env(), "host must be an object {index, generation}");
  const auto object = value.As<Napi::Object>();
  if (!GetNumber(object.Get("index"), "host.index", layout::kHostsMax - 1, host)) return false;
  if (!GetNumber(object.Get("generation"), "host.generation", UINT16_MAX, generation)) return false;
  out = {static_cast<uint32_t>(host), static_cast<uint32_t>(generation)};
  return true;
}

Napi::Value Number(Napi::Env env, double value) { return Napi::Number::New(env, value); }

// A count, or the error in its place.
double Outcome(int error, uint64_t value = 0) { return error == 0 ? static_cast<double>(value) : -error; }

Napi::Value StatOr(Napi::Env env, int error, const FileStat& stat) {
  if (error != 0) return Number(env, -error);
  Napi::Object out = Napi::Object::New(env);
  out.Set("ino", Number(env, static_cast<double>(stat.ino)));
  out.Set("mode", stat.mode);
  out.Set("uid", stat.uid);
  out.Set("gid", stat.gid);
  out.Set("size", Number(env, static_cast<double>(stat.size)));
  out.Set("nlink", stat.nlink);
  return out;
}

double ReadInto(OverlayHome& home, const Transfer& part) {
  uint64_t done = 0;
  const int error = home.With([&](auto& overlay) { return overlay.Read(part.ino, part.offset, part.bytes, part.length, done); });
  return Outcome(error, done);
}

// At once or not at all: -EAGAIN where a source would have to be read.
double ReadCached(OverlayHome& home, const Transfer& part) {
  const CachedFiles::OnlyCached only;
  return ReadInto(home, part);
}

double WriteFrom(OverlayHome& home, const Transfer& part) {
  const int error = home.With([&](auto& overlay) { return overlay.Write(part.ino, part.offset, part.bytes, part.length); });
  return Outcome(error, part.length);
}

// @returns where the bytes went
double AppendFrom(OverlayHome& home, const Transfer& part) {
  uint64_t at = 0;
  const int error = home.With([&](auto& overlay) { return overlay.Append(part.ino, part.bytes, part.length, at); });
  return Outcome(error, at);
}

using Work = double (*)(OverlayHome&, const Transfer&);

class OverlayObject : public Napi::ObjectWrap<OverlayObject> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit OverlayObject(Info info);

 private:
  Napi::Value Facts(Info info);
  Napi::Value BucketsUsed(Info info);
  Napi::Value Stat(Info info);
  Napi::Value StatInode(Info info);
  Napi::Value Open(Info info);
  Napi::Value Mkdir(Info info);
  Napi::Value Rmdir(Info info);
  Napi::Value Unlink(Info info);
  Napi::Value UnlinkLater(Info info);
  Napi::Value Rename(Info info);
  Napi::Value Symlink(Info info);
  Napi::Value Readlink(Info info);
  Napi::Value Readdir(Info info);
  Napi::Value Chmod(Info info);
  Napi::Value Chown(Info info);
  Napi::Value Truncate(Info info);
  Napi::Value TruncateSync(Info info);
  Napi::Value Recover(Info info);
  Napi::Value ReadSync(Info info) { return Now(info, ReadInto, false, false); }
  Napi::Value ReadCachedSync(Info info) { return Now(info, ReadCached, false, false); }
  Napi::Value PinBlock(Info info);
  Napi::Value WriteSync(Info info) { return Now(info, WriteFrom, true, false); }
  Napi::Value AppendSync(Info info) { return Now(info, AppendFrom, true, true); }
  Napi::Value Read(Info info) { return Later(info, ReadInto, false, false); }
  Napi::Value Write(Info info) { return Later(info, WriteFrom, true, false); }
  Napi::Value Append(Info info) { return Later(info, AppendFrom, true, true); }
  void Close(Info) { home_.reset(); }

  /// The home while the mapping is open; null after an error was thrown.
  OverlayHome* Home(Napi::Env env);
  /// As Home, for what changes something. @param error EROFS where the mapping is read-only; then nothing was thrown
  OverlayHome* Writable(Napi::Env env, int& error);
  template <typename Do>
  Napi::Value Change(Info info, Do work);
  template <typename Do>
  Napi::Value ChangePath(Info info, Do work);
  Napi::Value Now(Info info, Work work, bool writes, bool append);
  Napi::Value Later(Info info, Work work, bool writes, bool append);

  Napi::ObjectReference mapping_;
  HomePtr home_;
};

OverlayObject::OverlayObject(Info info) : Napi::ObjectWrap<OverlayObject>(info) {
  const auto view = ViewOf(info[0]);
  HostTables tables;
  Owner self;
  if (!view) {
    ThrowType(info.Env(), "mapping must be an open Mapping");
    return;
  }
  if (!info[2].IsNull() && !GetSelf(info[2], self)) return;
  if (!info[1].IsNull() && !GetTables(info[1], tables)) return;
  if (const int error = OverlayHome::Open(*view, tables, self, home_, CachedFilesOf(info[3]))) {
    Check(info.Env(), Status::Errno(error, "open overlay"));
    return;
  }
  mapping_ = Napi::Persistent(info[0].As<Napi::Object>());
}

OverlayHome* OverlayObject::Home(Napi::Env env) {
  if (home_ && ViewOf(mapping_.Value())) return home_.get();
  home_.reset();
  ThrowCode(env, "DAXFS_CLOSED", "The region is closed; open it again.");
  return nullptr;
}

OverlayHome* OverlayObject::Writable(Napi::Env env, int& error) {
  OverlayHome* home = Home(env);
  error = home != nullptr && !home->writable() ? EROFS : 0;
  return error == 0 ? home : nullptr;
}

// Runs work(overlay) -> errno, which may change the region.
template <typename Do>
Napi::Value OverlayObject::Change(Info info, Do work) {
  int error = 0;
  if (OverlayHome* home = Writable(info.Env(), error)) error = home->With(work);
  return Number(info.Env(), -error);
}

// As Change, for work(paths, path) on argument 0.
template <typename Do>
Napi::Value OverlayObject::ChangePath(Info info, Do work) {
  std::string path;
  if (!GetPath(info[0], path)) return info.Env().Undefined();
  return Change(info, [&](auto& overlay) {
    OverlayPaths paths(overlay);
    return work(paths, path);
  });
}

Napi::Value OverlayObject::Facts(Info info) {
  const OverlayHome* home = Home(info.Env());
  if (home == nullptr) return info.Env().Undefined();
  const OverlayParts& parts = home->parts();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("kind", home->kind() == FrontKind::kPrivate ? "private" : "kernel");
  out.Set("blockBytes", Number(info.Env(), static_cast<double>(parts.view.block_bytes)));
  out.Set("fileBytesMax", Number(info.Env(), (layout::kPageIndexMax + 1.0) * static_cast<double>(parts.view.block_bytes)));
  out.Set("poolBytes", Number(info.Env(), static_cast<double>(parts.view.pool_bytes)));
  // @atomic overlay_header.pool_alloc  relaxed: a number for people
  const uint64_t allocated = RealAtom::Load(&parts.view.header->pool_alloc, std::memory_order_relaxed);
  out.Set("poolAllocated", Number(info.Env(), static_cast<double>(allocated)));
  out.Set("bucketCount", Number(info.Env(), static_cast<double>(parts.view.table.count)));
  return out;
}

// A promise, for a table may have gigabytes.
Napi::Value OverlayObject::BucketsUsed(Info info) {
  if (Home(info.Env()) == nullptr) return info.Env().Undefined();
  auto used = std::make_shared<double>(0);
  JobSpec job{"daxserve.buckets", {}, [used](Napi::Env env) { return Number(env, *used); }};
  job.work = [home = home_, used](const Report&) {
    *used = static_cast<double>(CountUsed<RealAtom>(home->parts().view.table, home->kind()));
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

// Arguments (path, follow).
Napi::Value OverlayObject::Stat(Info info) {
  std::string path;
  FileStat stat;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetPath(info[0], path)) return info.Env().Undefined();
  const bool follow = info[1].ToBoolean();
  const int error = home->With([&](auto& overlay) { return OverlayPaths(overlay).Stat(path, follow, stat); });
  return StatOr(info.Env(), error, stat);
}

Napi::Value OverlayObject::StatInode(Info info) {
  uint64_t ino;
  FileStat stat;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetBytes(info[0], "ino", ino)) return info.Env().Undefined();
  const int error = home->With([&](auto& overlay) { return overlay.Stat(ino, stat); });
  return StatOr(info.Env(), error, stat);
}

// Arguments (path, flags, mode, uid, gid).
Napi::Value OverlayObject::Open(Info info) {
  std::string path;
  uint64_t flags;
  Maker maker;
  FileStat stat;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetPath(info[0], path)) return info.Env().Undefined();
  if (!GetNumber(info[1], "flags", INT32_MAX, flags) || !GetMaker(info, 2, maker)) return info.Env().Undefined();
  const bool changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
  if (changes && !home->writable()) return Number(info.Env(), -EROFS);
  const int error = home->With(
      [&](auto& overlay) { return OverlayPaths(overlay).Open(path, static_cast<int>(flags), maker, stat); });
  return StatOr(info.Env(), error, stat);
}

// Arguments (path, mode, uid, gid).
Napi::Value OverlayObject::Mkdir(Info info) {
  Maker maker;
  if (!GetMaker(info, 1, maker)) return info.Env().Undefined();
  return ChangePath(info, [&](auto& paths, const std::string& path) { return paths.Mkdir(path, maker); });
}

Napi::Value OverlayObject::Rmdir(Info info) {
  return ChangePath(info, [](auto& paths, const std::string& path) { return paths.Rmdir(path); });
}

Napi::Value OverlayObject::Unlink(Info info) {
  return ChangePath(info, [](auto& paths, const std::string& path) { return paths.Unlink(path); });
}

// Argument (path): a promise, for a large file has many pages to free.
Napi::Value OverlayObject::UnlinkLater(Info info) {
  std::string path;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetPath(info[0], path)) return info.Env().Undefined();
  auto outcome = std::make_shared<double>(-EROFS);
  JobSpec job{"daxserve.unlink", {}, [outcome](Napi::Env env) { return Number(env, *outcome); }};
  job.work = [home = home->writable() ? home_ : nullptr, path, outcome](const Report&) {
    if (home) *outcome = Outcome(home->With([&](auto& overlay) { return OverlayPaths(overlay).Unlink(path); }));
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

// Arguments (from, to).
Napi::Value OverlayObject::Rename(Info info) {
  std::string to;
  if (!GetPath(info[1], to)) return info.Env().Undefined();
  return ChangePath(info, [&](auto& paths, const std::string& from) { return paths.Rename(from, to); });
}

// Arguments (path, target, uid, gid).
Napi::Value OverlayObject::Symlink(Info info) {
  std::string target;
  uint64_t uid, gid;
  if (!GetPath(info[1], target) || !GetNumber(info[2], "uid", UINT32_MAX, uid)) return info.Env().Undefined();
  if (!GetNumber(info[3], "gid", UINT32_MAX, gid)) return info.Env().Undefined();
  const Maker maker{0777, static_cast<uint32_t>(uid), static_cast<uint32_t>(gid)};
  return ChangePath(info, [&](auto& paths, const std::string& path) { return paths.Symlink(target, path, maker); });
}

Napi::Value OverlayObject::Readlink(Info info) {
  std::string path, target;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetPath(info[0], path)) return info.Env().Undefined();
  const int error = home->With([&](auto& overlay) { return OverlayPaths(overlay).Readlink(path, target); });
  if (error != 0) return Number(info.Env(), -error);
  return Napi::Buffer<char>::Copy(info.Env(), target.data(), target.size());
}

// Argument (ino): {names: all bytes one after another, entries: length of the name, mode, inode number of each}.
Napi::Value OverlayObject::Readdir(Info info) {
  uint64_t ino;
  std::string names;
  std::vector<double> entries;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetBytes(info[0], "ino", ino)) return info.Env().Undefined();
  const int error = home->With([&](auto& overlay) {
    return overlay.Readdir(ino, [&](std::string_view name, uint64_t child, uint32_t mode) {
      names.append(name);
      entries.insert(entries.end(), {static_cast<double>(name.size()), static_cast<double>(mode), static_cast<double>(child)});
      return true;
    });
  });
  if (error != 0) return Number(info.Env(), -error);
  Napi::Float64Array numbers = Napi::Float64Array::New(info.Env(), entries.size());
  std::copy(entries.begin(), entries.end(), numbers.Data());
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("names", Napi::Buffer<char>::Copy(info.Env(), names.data(), names.size()));
  out.Set("entries", numbers);
  return out;
}

// Arguments (ino, permissions).
Napi::Value OverlayObject::Chmod(Info info) {
  uint64_t ino, mode;
  if (!GetBytes(info[0], "ino", ino) || !GetNumber(info[1], "mode", 07777, mode)) return info.Env().Undefined();
  return Change(info, [&](auto& overlay) { return overlay.Chmod(ino, static_cast<uint32_t>(mode)); });
}

// Arguments (ino, uid, gid).
Napi::Value OverlayObject::Chown(Info info) {
  uint64_t ino, uid, gid;
  if (!GetBytes(info[0], "ino", ino) || !GetNumber(info[1], "uid", UINT32_MAX, uid)) return info.Env().Undefined();
  if (!GetNumber(info[2], "gid", UINT32_MAX, gid)) return info.Env().Undefined();
  return Change(info, [&](auto& overlay) {
    return overlay.Chown(ino, static_cast<uint32_t>(uid), static_cast<uint32_t>(gid));
  });
}

// Arguments (ino, size): a promise, for a large file has many pages to free.
Napi::Value OverlayObject::Truncate(Info info) {
  int error = 0;
  Transfer part;
  if (!GetBytes(info[0], "ino", part.ino) || !GetBytes(info[1], "size", part.length)) return info.Env().Undefined();
  OverlayHome* home = Writable(info.Env(), error);
  if (home == nullptr && error == 0) return info.Env().Undefined();
  auto outcome = std::make_shared<double>(-error);
  JobSpec job{"daxserve.truncate", {}, [outcome](Napi::Env env) { return Number(env, *outcome); }};
  job.work = [home = error == 0 ? home_ : nullptr, part, outcome](const Report&) {
    if (home) *outcome = Outcome(home->With([&](auto& overlay) { return overlay.Truncate(part.ino, part.length); }));
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

// Arguments (ino, size).
Napi::Value OverlayObject::TruncateSync(Info info) {
  uint64_t ino, size;
  if (!GetBytes(info[0], "ino", ino) || !GetBytes(info[1], "size", size)) return info.Env().Undefined();
  return Change(info, [&](auto& overlay) { return overlay.Truncate(ino, size); });
}

// @returns intents of dead hosts that were finished; 0 where the mapping is read-only
Napi::Value OverlayObject::Recover(Info info) {
  int error = 0;
  uint32_t done = 0;
  if (OverlayHome* home = Writable(info.Env(), error)) done = home->With([](auto& overlay) { return overlay.Recover(); });
  return Number(info.Env(), done);
}

Napi::Value OverlayObject::Now(Info info, Work work, bool writes, bool append) {
  Transfer part;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetTransfer(info, append, part)) return info.Env().Undefined();
  return Number(info.Env(), writes && !home->writable() ? -EROFS : work(*home, part));
}

// Arguments (ino, offset): the slot that now holds the block, pinned; -EINVAL where the block is not the page cache's.
Napi::Value OverlayObject::PinBlock(Info info) {
  uint64_t ino, offset;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetBytes(info[0], "ino", ino) || !GetBytes(info[1], "offset", offset)) return info.Env().Undefined();
  if (home->cached() == nullptr) return Number(info.Env(), -EINVAL);
  CachedFiles::Pinning pinning(*home->cached());
  uint8_t byte;
  const double done = ReadInto(*home, {ino, offset, &byte, 1});
  if (done < 0) return Number(info.Env(), done);
  return Number(info.Env(), pinning.held() ? static_cast<double>(pinning.Take().slot) : -EINVAL);
}

// On a thread of its own; the bytes' memory is held until the promise settles.
Napi::Value OverlayObject::Later(Info info, Work work, bool writes, bool append) {
  Transfer part;
  OverlayHome* home = Home(info.Env());
  if (home == nullptr || !GetTransfer(info, append, part)) return info.Env().Undefined();
  auto hold = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[append ? 1 : 2].As<Napi::Object>()));
  auto outcome = std::make_shared<double>(-EROFS);
  JobSpec job{"daxserve.overlay", {}, [outcome, hold](Napi::Env env) { return Number(env, *outcome); }};
  const bool refused = writes && !home->writable();
  job.work = [home = home_, part, work, outcome, refused](const Report&) {
    if (!refused) *outcome = work(*home, part);
    return Status::Ok();
  };
  return StartJob(info.Env(), std::move(job));
}

void OverlayObject::Init(Napi::Env env, Napi::Object exports) {
  const auto member = static_cast<napi_property_attributes>(napi_writable | napi_configurable);
  exports.Set("Overlay", DefineClass(env, "Overlay",
                                     {InstanceMethod<&OverlayObject::Facts>("facts", member),
                                      InstanceMethod<&OverlayObject::BucketsUsed>("bucketsUsed", member),
                                      InstanceMethod<&OverlayObject::Stat>("stat", member),
                                      InstanceMethod<&OverlayObject::StatInode>("statInode", member),
                                      InstanceMethod<&OverlayObject::Open>("open", member),
                                      InstanceMethod<&OverlayObject::Mkdir>("mkdir", member),
                                      InstanceMethod<&OverlayObject::Rmdir>("rmdir", member),
                                      InstanceMethod<&OverlayObject::Unlink>("unlink", member),
                                      InstanceMethod<&OverlayObject::UnlinkLater>("unlinkLater", member),
                                      InstanceMethod<&OverlayObject::Rename>("rename", member),
                                      InstanceMethod<&OverlayObject::Symlink>("symlink", member),
                                      InstanceMethod<&OverlayObject::Readlink>("readlink", member),
                                      InstanceMethod<&OverlayObject::Readdir>("readdir", member),
                                      InstanceMethod<&OverlayObject::Chmod>("chmod", member),
                                      InstanceMethod<&OverlayObject::Chown>("chown", member),
                                      InstanceMethod<&OverlayObject::Truncate>("truncate", member),
                                      InstanceMethod<&OverlayObject::TruncateSync>("truncateSync", member),
                                      InstanceMethod<&OverlayObject::Recover>("recover", member),
                                      InstanceMethod<&OverlayObject::ReadSync>("readSync", member),
                                      InstanceMethod<&OverlayObject::ReadCachedSync>("readCached", member),
                                      InstanceMethod<&OverlayObject::PinBlock>("pinBlock", member),
                                      InstanceMethod<&OverlayObject::WriteSync>("writeSync", member),
                                      InstanceMethod<&OverlayObject::AppendSync>("appendSync", member),
                                      InstanceMethod<&OverlayObject::Read>("read", member),
                                      InstanceMethod<&OverlayObject::Write>("write", member),
                                      InstanceMethod<&OverlayObject::Append>("append", member),
                                      InstanceMethod<&OverlayObject::Close>("close", member)}));
}

}  // namespace

void InitOverlay(Napi::Env env, Napi::Object exports) { OverlayObject::Init(env, exports); }

}  // namespace daxserve::binding
