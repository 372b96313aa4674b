// Goal: what an image says costs no more than the image is large. Method: images that no tool makes: directories that share
// their entries, a file larger than any cache whose slots others take meanwhile; work is counted, not timed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "cached_files.h"

using namespace daxserve;

namespace {

constexpr uint64_t kBlock = 4096;
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("hostile_image_test: FAILED: %s\n", what);
  failures++;
}

layout::Inode* InodeAt(std::vector<uint8_t>& bytes, uint32_t ino) {
  return reinterpret_cast<layout::Inode*>(bytes.data()) + (ino - 1);
}

/// `count` directories with the same bytes: names for all of them.
std::vector<uint8_t> SharedDirectories(uint32_t count) {
  const uint64_t data = count * sizeof(layout::Inode);
  std::vector<uint8_t> bytes(data + count * layout::kDirentStride);
  for (uint32_t ino = 1; ino <= count; ino++) {
    *InodeAt(bytes, ino) = {};
    InodeAt(bytes, ino)->mode = S_IFDIR | 0755;
    InodeAt(bytes, ino)->size = count * layout::kDirentSizeUnit;
    InodeAt(bytes, ino)->data_offset = data;
    auto* entry = reinterpret_cast<layout::Dirent*>(bytes.data() + data + (ino - 1) * layout::kDirentStride);
    entry->ino = ino;
    entry->name_len = static_cast<uint16_t>(std::snprintf(reinterpret_cast<char*>(entry->name), 16, "d%u", ino));
  }
  return bytes;
}

void ExportOfSharedDirectories() {
  const int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (const uint32_t count : {1u, 64u}) {
    const std::vector<uint8_t> bytes = SharedDirectories(count);
    const BaseImage image(bytes.data(), bytes.size(), 0, count);
    std::unique_ptr<BackingFiles> files;
    const int error = BackingFiles::OpenExport(root, image, 1, files);
    Require(error == (count == 1 ? 0 : ENFILE), count == 1 ? "a directory that names itself is walked once"
                                                           : "directories larger than the image together are refused");
  }
  close(root);
}

/// Whoever fills the first slot finds all others taken by then.
class TakenSource final : public BackingFiles {
 public:
  explicit TakenSource(PageCacheView view) : view_(view) { stamp_ = 1; }
  int ReadBlock(const layout::Inode&, uint64_t, uint8_t* block, uint64_t bytes) override {
    std::memset(block, 1, bytes);
    for (uint64_t at = 0; at < view_.slot_count; at++) {
      if (view_.slots[at].lo == 0) view_.slots[at].lo = slot_word::kTag.set(slot_word::kValid, PageTag(7, at));
    }
    return 0;
  }

 private:
  PageCacheView view_;
};

void WarmIntoFullCache() {
  constexpr uint64_t kSlots = 16;
  std::vector<Pair> memory((2 + kSlots) * kBlock / sizeof(Pair));
  auto* cache = reinterpret_cast<uint8_t*>(memory.data());
  auto* header = reinterpret_cast<layout::PageCacheHeader*>(cache);
  header->slot_meta_offset = kBlock;
  header->slot_data_offset = 2 * kBlock;
  std::vector<uint8_t> bytes(sizeof(layout::Inode));
  InodeAt(bytes, 1)->mode = S_IFREG | 0644;
  InodeAt(bytes, 1)->size = (layout::kPageIndexMax + 1) * kBlock;
  const BaseImage base(bytes.data(), bytes.size(), 0, 1);
  CachedImage image;
  image.base = &base;
  Require(PageCacheView::Open(cache, memory.size() * sizeof(Pair), kSlots, kBlock, image.view) == 0, "the cache opens");
  CachedFiles files(image, std::make_unique<TakenSource>(image.view));
  Require(files.Attach(memfd_create("image", MFD_CLOEXEC), 7) == 0 && files.attached(), "attached");
  uint64_t done = 0, wanted = 0;
  Require(files.WarmAll(done, wanted) == 0 && done == 1 && wanted == layout::kPageIndexMax + 1, "one page found room");
  Require(files.counters().misses <= kSlots * SlotPlaces::kWindow + 1, "a full cache is not asked for every page of a large file");
}

}  // namespace

int main() {
  ExportOfSharedDirectories();
  WarmIntoFullCache();
  if (failures == 0) std::printf("hostile_image_test: ok\n");
  return failures == 0 ? 0 : 1;
}
