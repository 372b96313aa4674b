// Target: the files of a split or export image read through its page cache: base image, cache header, rows of its users,
// slots and the source's stamp are hostile, also while files are opened, read, pre-warmed, pinned and recovered; a host dies
// in the middle, a source changes.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "cached_files.h"
#include "fence.h"
#include "front_world.h"

using namespace daxserve;
using namespace daxserve::fuzz;

namespace {

constexpr uint64_t kSlots = 8;
constexpr uint64_t kBlock = 4096;
constexpr uint32_t kBoot = 7;

uint64_t LockOf(uint32_t row) { return offsetof(layout::PageCacheHeader, users) + row * sizeof(layout::PageCacheUser); }
void Need(bool condition, const char* what) {
  if (!condition) Hostile::Fail(what);
}

/// A directory with what an exported image names; gone with the process.
class Tree {
 public:
  Tree() {
    Need(mkdtemp(path_) != nullptr, "no directory can be made");
    Need(mkdirat(AT_FDCWD, (Path() + "/sub").c_str(), 0700) == 0, "no directory can be made");
    close(Put("/keep", 1));
    close(Put("/sub/deep", 4));
    big = Put("/big", kBigOutside);
    root = open(path_, O_PATH | O_DIRECTORY | O_CLOEXEC);
    Need(root >= 0, "the directory does not open");
  }
  ~Tree() {
    for (const char* name : {"/keep", "/big", "/sub/deep"}) unlink((Path() + name).c_str());
    rmdir((Path() + "/sub").c_str());
    rmdir(path_);
  }
  int root = -1;
  int big = -1;

 private:
  std::string Path() const { return path_; }
  int Put(const char* name, off_t bytes) {
    const int fd = open((Path() + name).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    Need(fd >= 0 && ftruncate(fd, bytes) == 0, "no file can be made");
    return fd;
  }
  char path_[32] = "/tmp/daxserve-fuzz-XXXXXX";
};

/// One process that has the image open.
struct Host {
  CachedImage image;
  std::unique_ptr<CachedFiles> files;
  /// Of the image: its locks are the host's life.
  int fd = -1;
  std::vector<PagePin> pins;
};

class World {
 public:
  World() : base_(true), image_(base_.Image()), cache_((2 + kSlots) * kBlock) {
    image_fd_ = memfd_create("image", MFD_CLOEXEC);
    source_ = memfd_create("source", MFD_CLOEXEC);
    Need(image_fd_ >= 0 && source_ >= 0, "no file in memory");
    ResetSource();
    MakeCache();
    Hostile& hostile = Hostile::Get();
    hostile.Track(cache_);
    hostile.Name(cache_.data(), 144);
    hostile.Name(Users(), 4 * sizeof(layout::PageCacheUser));
    for (uint32_t row = 0; row < 4; row++) {
      hostile.Name(&Users()[row], 16);
      hostile.Word(Users()[row].word);
    }
    for (uint64_t i = 0; i < kSlots; i++) {
      hostile.Word(Slots()[i].lo);
      hostile.Word(Slots()[i].hi);
    }
    hostile.Name(Slots(), kSlots * sizeof(Pair));
  }

  void Run(Input& input) {
    const uint8_t flags = input.U8();
    homes_ = flags & 1 ? FrontKind::kPrivate : FrontKind::kKernel;
    Hostile::Get().Begin(input);
    try {
      for (int i = 0; i < 24 && !input.Empty(); i++) One(input, (flags & 2) != 0);
    } catch (const Stopped&) {
    }
    for (auto& host : hosts_) Hostile::Get().Close(host);
    Hostile::Get().End();
    dead_.clear();
    if (source_changed_) ResetSource();
  }

 private:
  layout::PageCacheHeader* Header() { return reinterpret_cast<layout::PageCacheHeader*>(cache_.data()); }
  layout::PageCacheUser* Users() { return Header()->users; }
  Pair* Slots() { return reinterpret_cast<Pair*>(cache_.data() + kBlock); }

  /// Row 0 is of a host that died with pages pinned, row 1 of one that lives and fills, row 2 of one of another kernel.
  void MakeCache() {
    Header()->magic = layout::kPageCacheMagic;
    Header()->version = layout::kPageCacheVersion;
    Header()->slot_meta_offset = kBlock;
    Header()->slot_data_offset = 2 * kBlock;
    Open(0, 1, true);
    uint8_t block[kBlock];
    for (uint64_t page = 0; page < 2; page++) {
      CachedFiles::Pinning pinning(*hosts_[0]->files);
      Need(hosts_[0]->files->Read(3, page, block) == 0 && pinning.held(), "the sound cache does not read");
      pinning.Take();
    }
    Kill(0);
    Users()[1].word = 1 | 3 << 16 | uint64_t{kBoot} << 32;
    Users()[2].word = 1 | 5 << 16 | uint64_t{kBoot + 1} << 32;
    Fill(2, 1, 3);
    Fill(5, 0, 1);
    Fill(7, 2, 5);
    bool taken = false;
    Need(Reopen(image_fd_, true, alive_).ok() && SetOfdLock(alive_, LockType::kWrite, LockOf(1), 1, taken).ok() && taken, "no lock");
  }
  /// PENDING by a host.
  void Fill(uint64_t page, uint64_t host, uint64_t generation) {
    Pair& slot = Slots()[PageTag(3, page) & (kSlots - 1)];
    slot.lo = slot_word::kTag.set(slot_word::kPending, PageTag(3, page));
    slot.hi = slot_word::kOwnerGeneration.set(slot_word::kOwnerHost.set(slot_word::kOwned, host), generation);
    Header()->pending_count++;
  }

  void ResetSource() {
    SetSource(kBigOutside, 1000);
    source_changed_ = false;
  }
  /// Of both modes: the one file, and one of the tree.
  void SetSource(uint64_t bytes, time_t seconds) {
    const timespec times[2] = {{seconds, 0}, {seconds, 0}};
    for (const int fd : {source_, tree_.big}) {
      Need(ftruncate(fd, static_cast<off_t>(bytes)) == 0 && futimens(fd, times) == 0, "the source cannot change");
    }
    source_changed_ = true;
  }

  /// @param kind 0 without a source, 1 split, 2 export
  void Open(uint32_t host, uint32_t kind, bool attach) {
    Hostile::Get().Close(hosts_[host]);
    auto opened = std::make_unique<Host>();
    CachedImage& image = opened->image;
    image.base = &image_;
    image.homes = homes_;
    if (PageCacheView::Open(cache_.data(), cache_.size(), kSlots, kBlock, image.view) != 0) return;
    std::unique_ptr<BackingFiles> files;
    if (kind == 1 && BackingFiles::OpenSplit(source_, image_, kBlock, files) != 0) return;
    if (kind == 2 && BackingFiles::OpenExport(tree_.root, image_, 1, files) != 0) return;
    opened->files = std::make_unique<CachedFiles>(image, std::move(files));
    hosts_[host] = std::move(opened);
    if (!attach) return;
    Need(Reopen(image_fd_, true, hosts_[host]->fd).ok(), "the image does not open");
    hosts_[host]->files->Attach(hosts_[host]->fd, kBoot);
  }
  /// Its locks are gone at once; what it leaves in the region stays.
  void Kill(uint32_t host) {
    if (!hosts_[host]) return;
    if (hosts_[host]->fd >= 0) dup2(source_, hosts_[host]->fd);
    dead_.push_back(std::move(hosts_[host]));
  }
  void One(Input& input, bool mortal) {
    const uint8_t op = input.U8();
    const uint32_t host = op >> 7;
    if (mortal) Hostile::Get().DieAfter(input.U8() * 2u);
    try {
      Do(input, host, op & 15);
    } catch (const Stopped&) {
      if (!mortal) throw;
      Kill(host);
    }
    Hostile::Get().Live();
  }

  void Do(Input& input, uint32_t host, uint32_t op) {
    if (op >= 14) return Open(host, input.U8() % 3, op == 14);
    if (!hosts_[host]) Open(host, 1 + (input.U8() & 1), true);
    if (!hosts_[host]) return;
    CachedFiles& files = *hosts_[host]->files;
    uint64_t done = 0, wanted = 0;
    switch (op) {
      case 0:
      case 1:
      case 2:
      case 3: Read(input, files); return;
      case 4: {
        const CachedFiles::OnlyCached only;
        Read(input, files);
        return;
      }
      case 5:
      case 6: Pin(input, *hosts_[host]); return;
      case 7: Unpin(*hosts_[host]); return;
      case 8: {
        layout::Inode inode;
        if (image_.Inode(Ino(input), inode)) files.Warm(inode, input.U8());
        return;
      }
      case 9: files.WarmAll(done, wanted); return;
      case 10: files.Recover(); return;
      case 11: files.counters(); return;
      case 12: SetSource(input.U8() & 1 ? kBigOutside : input.U16(), input.U8()); return;
      default: Kill(host);
    }
  }

  static uint64_t Ino(Input& input) {
    const uint8_t choice = input.U8();
    return choice < 250 ? choice % 8 : input.U64();
  }
  static uint64_t Page(Input& input) {
    const uint8_t choice = input.U8();
    return choice < 250 ? choice % 12 : input.U64();
  }
  void Read(Input& input, CachedFiles& files) {
    const uint64_t ino = Ino(input);
    const std::unique_ptr<uint8_t[]> block(new uint8_t[kBlock]);
    files.Read(ino, Page(input), block.get());
  }
  void Pin(Input& input, Host& host) {
    CachedFiles::Pinning pinning(*host.files);
    Read(input, *host.files);
    if (!pinning.held()) return;
    host.pins.push_back(pinning.Take());
    Need(host.pins.back().slot < kSlots, "a pin of no slot");
  }
  void Unpin(Host& host) {
    if (host.pins.empty()) return;
    host.files->Unpin(host.pins.back());
    host.pins.pop_back();
  }
  BaseWorld base_;
  BaseImage image_;
  Memory cache_;
  Tree tree_;
  int image_fd_ = -1, source_ = -1, alive_ = -1;
  bool source_changed_ = false;
  FrontKind homes_ = FrontKind::kKernel;
  std::unique_ptr<Host> hosts_[2];
  std::vector<std::unique_ptr<Host>> dead_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  Input input(data, size);
  world.Run(input);
  return 0;
}
