// Target: opening: superblock, overlay header, page cache header and registry header are hostile, also while they are
// read, and what is opened is then read. The registry header's checksum is made to fit, so that its numbers are reached.
#include <sys/mman.h>

#include <memory>

#include "../binding/cache_home.h"
#include "../binding/overlay_home.h"
#include "front_world.h"
#include "registry.h"

using namespace daxserve;
using namespace daxserve::fuzz;

namespace {

constexpr uint64_t kOverlayAt = 8 * 4096;
constexpr uint64_t kOverlayBytes = 4096 + kTableBytes + kPoolBytes;
constexpr uint64_t kCacheAt = kOverlayAt + kOverlayBytes;
constexpr uint64_t kCacheBytes = 10 * 4096;
constexpr uint64_t kRegistryAt = kCacheAt + kCacheBytes;
constexpr uint64_t kRegistryBytes = 8 * 4096;
constexpr uint64_t kRegionBytes = kRegistryAt + kRegistryBytes;

template <typename T>
T* At(const Memory& memory, uint64_t offset) {
  return reinterpret_cast<T*>(memory.data() + offset);
}

class World {
 public:
  World() : memory_(kRegionBytes) {
    CopyBase();
    Fill<FrontWorld<KernelFront, FrontKind::kKernel>>(kernel_);
    Fill<FrontWorld<PrivateFront, FrontKind::kPrivate>>(private_);
    Hostile& hostile = Hostile::Get();
    MakeSuperblock();
    MakeCache();
    MakeRegistry();
    if (file_ < 0 || ftruncate(file_, kBigOutside) != 0) Hostile::Fail("no file in memory");
    hostile.Track(memory_);
    hostile.Name(memory_.data(), 112);
    hostile.Name(memory_.data() + kOverlayAt, 80);
    hostile.Name(memory_.data() + kCacheAt, 48);
    hostile.Name(memory_.data() + kCacheAt + offsetof(layout::PageCacheHeader, users), 2 * sizeof(layout::PageCacheUser));
    hostile.Name(memory_.data() + kRegistryAt, 176);
    hostile.Name(memory_.data() + kRegistryAt + 12288, 4096);
    for (const uint64_t word : {kOverlayAt, kCacheAt, kRegistryAt, kRegionBytes, kOverlayBytes, kRegionBytes - 4096}) {
      hostile.Word(word);
    }
  }

  void Run(Input& input) {
    const uint8_t flags = input.U8();
    std::memcpy(memory_.data() + kOverlayAt, (flags & 1 ? private_ : kernel_).data(), kOverlayBytes);
    Hostile::Get().Begin(input);
    std::memcpy(memory_.data() + kOverlayAt + 4096, (flags & 1 ? private_ : kernel_).data() + 4096, kOverlayBytes - 4096);
    if (flags & 1) At<layout::Superblock>(memory_, 0)->version ^= layout::kPrivateFrontBit;
    if (flags & 2) Seal(kRegistryAt);
    try {
      ReadRegistry();
      const bool cached = OpenCache(flags);
      ReadFront(input, cached);
    } catch (const Stopped&) {
    }
    Hostile::Get().Close(home_);
    Hostile::Get().Close(cache_);
    Hostile::Get().End();
  }

 private:
  template <typename Front>
  static void Fill(std::vector<uint8_t>& out) {
    const auto world = std::make_unique<Front>();
    out.assign(world->overlay().data(), world->overlay().data() + world->overlay().size());
    Hostile::Get().Forget();
  }
  void CopyBase() {
    const BaseWorld base(true);
    std::memcpy(memory_.data() + 4096, base.memory().data(), base.memory().size());
    Hostile::Get().Forget();
  }

  void MakeSuperblock() {
    auto* head = At<layout::Superblock>(memory_, 0);
    head->magic = layout::kSuperblockMagic;
    head->version = layout::kSuperblockVersion;
    head->block_size = 4096;
    head->total_size = kRegistryAt;
    head->base_offset = 4096;
    head->base_size = 7 * 4096;
    head->inode_count = kBaseInodes;
    head->root_inode = 1;
    head->overlay_offset = kOverlayAt;
    head->overlay_size = kOverlayBytes;
    head->overlay_bucket_count = kBuckets;
    head->pcache_offset = kCacheAt;
    head->pcache_size = kCacheBytes;
    head->pcache_slot_count = 8;
    std::memcpy(memory_.data() + kOverlayAt, kernel_.data(), kOverlayBytes);
  }
  void MakeCache() {
    auto* header = At<layout::PageCacheHeader>(memory_, kCacheAt);
    header->magic = layout::kPageCacheMagic;
    header->version = layout::kPageCacheVersion;
    header->slot_meta_offset = 4096;
    header->slot_data_offset = 2 * 4096;
  }
  void MakeRegistry() {
    auto* header = At<layout::RegistryHeader>(memory_, kRegistryAt);
    header->magic = layout::kRegistryMagic;
    header->format_version = layout::kRegistryFormatVersion;
    header->fingerprint = layout::kFingerprint;
    header->region_size = 2 * layout::kChunkBytes;
    header->registry_offset = kRegistryAt;
    header->registry_size = kRegistryBytes;
    header->chunk_count = 2;
    header->host_count = 3;
    header->content_count = 2;
    header->name_count = 4;
    header->intent_count = kIntents;
    header->hosts_offset = kRegistryStateOffset + sizeof(layout::RegistryState);
    header->contents_offset = header->hosts_offset + 3 * sizeof(layout::HostRow);
    header->names_offset = header->contents_offset + 2 * sizeof(layout::ContentRow);
    header->intents_offset = header->names_offset + 4 * sizeof(layout::NameRow);
    header->words_offset = header->intents_offset + kIntents * sizeof(layout::IntentRow);
    Seal(kRegistryAt);
    if (!ReadGeometry(memory_.data(), kRegionBytes, kRegistryAt)) Hostile::Fail("the sound registry is refused");
    std::memcpy(memory_.data() + kRegistryAt + 4096, header, 4096);
    // The host that opens, and one whose lock is gone.
    auto* rows = At<layout::HostRow>(memory_, kRegistryAt + header->hosts_offset);
    for (const int row : {0, 2}) rows[row].word = words::Host(words::HostState::kLive, 7);
  }
  void Seal(uint64_t at) {
    auto* header = At<layout::RegistryHeader>(memory_, at);
    header->checksum = Xxh3_64(memory_.data() + at, offsetof(layout::RegistryHeader, checksum));
  }

  void ReadRegistry() {
    tables_ = {};
    const auto geometry = ReadGeometry(memory_.data(), kRegionBytes, kRegistryAt);
    if (!geometry) return;
    tables_.hosts = geometry->hosts;
    tables_.host_count = geometry->host_count;
    const auto* header = At<layout::RegistryHeader>(memory_, kRegistryAt);
    if (header->intents_offset % 64 == 0) {
      tables_.intents = kRegistryAt + header->intents_offset;
      tables_.intent_count = header->intent_count;
    }
    Registry<FuzzAtom> registry(memory_.data(), *geometry, {3, 3});
    layout::ContentRow content;
    layout::HostRow host;
    char name[200];
    for (uint32_t i = 0; i < geometry->host_count; i++) registry.hosts().Copy(i, host);
    for (uint32_t i = 0; i < geometry->content_count; i++) registry.contents().Copy(i, content);
    for (uint32_t i = 0; i < geometry->name_count; i++) {
      if (const auto named = registry.names().At(i)) registry.names().NameAt(i, named->hash, name);
    }
    registry.names().Find("a:latest");
    registry.chunks().Stats();
  }

  /// What is opened lives until the run has ended: a destructor may not be stopped.
  bool OpenCache(uint8_t flags) {
    const binding::MappingView view{memory_.data(), kRegionBytes, (flags & 4) == 0, nullptr};
    cache_ = std::make_shared<binding::CacheHome>(view);
    if (cache_->Open({flags & 8 ? -1 : file_, flags & 16 ? -1 : file_, false, 7}) != 0) return false;
    uint64_t done = 0, wanted = 0;
    uint8_t block[kBlockBytesMax];
    for (uint64_t ino = 1; ino <= kBaseInodes; ino++) cache_->files().Read(ino, 0, block);
    cache_->files().WarmAll(done, wanted);
    cache_->files().Recover();
    cache_->files().counters();
    return true;
  }

  void ReadFront(Input& input, bool cached) {
    const binding::MappingView view{memory_.data(), kRegionBytes, (input.U8() & 1) != 0, nullptr};
    std::shared_ptr<CachedFiles> files;
    if (cached) files = {cache_, &cache_->files()};
    tables_.fd = dup(file_);
    if (binding::OverlayHome::Open(view, tables_, {0, 7}, home_, files) != 0) return;
    home_->With([](auto& overlay) {
      FileStat stat;
      OverlayPaths paths(overlay);
      for (const char* path : {"a", "way", "d/f", "new"}) paths.Stat(path, true, stat);
      uint64_t done = 0, names = 0;
      uint8_t bytes[100];
      overlay.Read(stat.ino, 5000, bytes, sizeof(bytes), done);
      overlay.Readdir(overlay.root(), [&](std::string_view, uint64_t, uint32_t) { return ++names < 1000; });
      return 0;
    });
    if (!home_->writable()) return;
    home_->With([](auto& overlay) {
      FileStat stat;
      OverlayPaths paths(overlay);
      if (paths.Open("new", O_CREAT, {0644, 1, 1}, stat) == 0) overlay.Write(stat.ino, 4000, Bytes("0123456789"), 10);
      if (paths.Open("big", O_CREAT, {0644, 1, 1}, stat) == 0) overlay.Write(stat.ino, 4000, Bytes("0123456789"), 10);
      return overlay.Recover();
    });
  }

  Memory memory_;
  std::vector<uint8_t> kernel_, private_;
  binding::HostTables tables_;
  /// Stands for the image, of which only the locks matter, and for the source of a split image.
  const int file_ = memfd_create("open", MFD_CLOEXEC);
  std::shared_ptr<binding::CacheHome> cache_;
  std::shared_ptr<binding::OverlayHome> home_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World& world = *new World;
  Input input(data, size);
  world.Run(input);
  return 0;
}
