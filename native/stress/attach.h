// One process of the stress test as a host of the region: what daxfs/open-region.ts and daxfs/host.ts do, in C++.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "../binding/overlay_home.h"
#include "fence.h"
#include "registry.h"

namespace daxserve::stress {

/// What must not be: told to the parent, which then stops everybody.
[[noreturn]] inline void Broken(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::printf("BROKEN ");
  std::vprintf(format, args);
  std::printf("\n");
  va_end(args);
  std::fflush(stdout);
  _exit(3);
}

/// Where the tables lie, from the parent's command line.
struct Place {
  std::string path;
  uint64_t registry_offset = 0;
  uint64_t intents_offset = 0;
  uint32_t intent_count = 0;
  uint64_t chunks_offset = 0;
  uint8_t boot_id[16] = {};
};

inline uint8_t* MapFile(const char* path, uint64_t& size, int& fd) {
  fd = open(path, O_RDWR | O_CLOEXEC);
  struct stat stat;
  if (fd < 0 || fstat(fd, &stat) != 0) Broken("open %s: errno %d", path, errno);
  size = static_cast<uint64_t>(stat.st_size);
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) Broken("mmap %s: errno %d", path, errno);
  return static_cast<uint8_t*>(at);
}

/// Attached from construction to the end of the process.
class Host {
 public:
  Host(const Place& place, const std::string& name) : place_(place) {
    base_ = MapFile(place.path.c_str(), size_, fd_);
    bool taken = false;
    if (!SetOfdLock(fd_, LockType::kRead, 1, 1, taken).ok() || !taken) Broken("the region is being created");
    const auto geometry = ReadGeometry(base_, size_, place.registry_offset);
    if (!geometry) Broken("no sound registry header");
    geometry_ = *geometry;
    registry_ = std::make_unique<Registry<RealAtom>>(base_, geometry_);
    lock_fd_ = open(place.path.c_str(), O_RDWR | O_CLOEXEC);
    TakeRow(name);
    registry_->Recover(registry_->self().row, Proof::kDead);
    OpenOverlay();
  }

  binding::OverlayHome& home() { return *home_; }
  Registry<RealAtom>& registry() { return *registry_; }
  uint8_t* base() { return base_; }
  uint8_t* Chunk(uint64_t index) { return base_ + place_.chunks_offset + index * layout::kChunkBytes; }
  Owner self() const { return {registry_->self().row, registry_->self().generation}; }
  const Geometry& geometry() const { return geometry_; }
  /// True when nobody of this kernel holds the row.
  bool Dead(uint32_t row) const {
    bool held = true;
    const auto state = words::StateOfHost(registry_->hosts().Word(row));
    return state == words::HostState::kFree || (SameKernel(row) && TestOfdLock(fd_, RowOffset(row), 1, held).ok() && !held);
  }

  void Detach() { registry_->Detach(); }

  /// What a service does for its dead neighbours: their claims of contents, chunks and names.
  void RecoverNeighbours() {
    for (uint32_t row = 0; row < geometry_.host_count; row++) {
      if (row == registry_->self().row || words::StateOfHost(registry_->hosts().Word(row)) == words::HostState::kFree) continue;
      int fd = open(place_.path.c_str(), O_RDWR | O_CLOEXEC);
      bool taken = false;
      // Held while it is cleared up, so that nobody attaches to the row meanwhile.
      if (fd >= 0 && SetOfdLock(fd, LockType::kWrite, RowOffset(row), 1, taken).ok() && taken && SameKernel(row)) {
        const uint64_t word = registry_->hosts().Word(row);
        registry_->hosts().Lapse({row, words::GenerationOfHost(word)});
        registry_->Recover(row, Proof::kGone);
      }
      close(fd);
    }
  }

 private:
  uint64_t RowOffset(uint32_t row) const { return geometry_.hosts + uint64_t{row} * sizeof(layout::HostRow); }

  bool LockRow(uint32_t row) {
    bool taken = false;
    return SetOfdLock(lock_fd_, LockType::kWrite, RowOffset(row), 1, taken).ok() && taken;
  }

  layout::HostRow Row(uint32_t row) const {
    layout::HostRow copy;
    RealAtom::CopyOut(&copy, base_ + RowOffset(row), sizeof(copy));
    return copy;
  }
  bool SameKernel(uint32_t row) const { return std::memcmp(Row(row).boot_id, place_.boot_id, 16) == 0; }

  void TakeRow(const std::string& name) {
    const int fd = open(place_.path.c_str(), O_RDWR | O_CLOEXEC);
    for (bool taken = false;;) {
      if (!SetOfdLock(fd, LockType::kWrite, geometry_.state, 1, taken).ok()) Broken("lock: errno %d", errno);
      if (taken) break;
      usleep(200);
    }
    HostIdentity identity;
    std::memcpy(identity.boot_id, place_.boot_id, 16);
    identity.pid = static_cast<uint32_t>(getpid());
    identity.name_len = static_cast<uint32_t>(name.size());
    std::memcpy(identity.name, name.data(), name.size());
    const auto row = ChooseRow(name);
    if (!row) Broken("all host rows are taken");
    if (!registry_->Attach(*row, identity, 1)) Broken("row %u cannot be attached", *row);
    close(fd);
  }

  /// As takeHostRow: the one of our name, a free one, one of a dead host of this kernel.
  std::optional<uint32_t> ChooseRow(const std::string& name) {
    for (int choice = 0; choice < 3; choice++) {
      for (uint32_t row = 0; row < geometry_.host_count; row++) {
        const auto state = words::StateOfHost(registry_->hosts().Word(row));
        const layout::HostRow copy = Row(row);
        const bool named = state != words::HostState::kFree && copy.name_len == name.size() &&
                           std::memcmp(copy.name, name.data(), name.size()) == 0;
        const bool fits = choice == 0 ? named : choice == 1 ? state == words::HostState::kFree : SameKernel(row);
        if (fits && LockRow(row)) return row;
      }
    }
    return std::nullopt;
  }

  void OpenOverlay() {
    binding::HostTables tables;
    tables.hosts = geometry_.hosts;
    tables.host_count = geometry_.host_count;
    tables.intents = place_.intents_offset;
    tables.intent_count = place_.intent_count;
    std::memcpy(tables.boot_id, place_.boot_id, 16);
    tables.fd = open(place_.path.c_str(), O_RDWR | O_CLOEXEC);
    const binding::MappingView view{base_, size_, true, nullptr};
    if (const int error = binding::OverlayHome::Open(view, tables, self(), home_)) Broken("open overlay: errno %d", error);
  }

  Place place_;
  uint8_t* base_ = nullptr;
  uint64_t size_ = 0;
  int fd_ = -1;
  int lock_fd_ = -1;
  Geometry geometry_;
  std::unique_ptr<Registry<RealAtom>> registry_;
  std::shared_ptr<binding::OverlayHome> home_;
};

}  // namespace daxserve::stress
