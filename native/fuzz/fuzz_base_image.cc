// Target: the reader of base images: inode table, directories and bytes are hostile, also while they are read, and so are
// the numbers that place them.
#include <memory>

#include "front_world.h"

using namespace daxserve;
using namespace daxserve::fuzz;

namespace {

void One(Input& input, const BaseImage& image) {
  const uint64_t ino = input.U8() < 250 ? input.U8() % 9 : input.U64();
  layout::Inode inode{};
  layout::Dirent entry{};
  image.Inode(ino, inode);
  static const char* const kNames[] = {"keep", "big", "sub", "deep", "way", "", "none"};
  image.Find(ino, kNames[input.U8() % 7], entry);
  uint64_t entries = 0;
  const uint64_t looked = image.List(ino, [&](const layout::Dirent& found) {
    if (found.name_len > layout::kNameBytesMax) Hostile::Fail("a name is too long");
    entries++;
    return true;
  });
  if (entries > looked || looked > image.entries_max()) Hostile::Fail("a directory of more entries than the image has room for");
  const uint32_t length = input.U16() % 9001u;
  const std::unique_ptr<uint8_t[]> bytes(new uint8_t[length]);
  const uint64_t offset = uint64_t{input.U16()} << (input.U8() % 49);
  if (inode.mode != 0) image.Read(inode, offset, bytes.get(), length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static BaseWorld& world = *new BaseWorld;
  Input input(data, size);
  const uint8_t flags = input.U8();
  const uint64_t inode_offset = flags & 1 ? input.U64() : 0;
  const uint32_t inode_count = flags & 2 ? input.U32() : kBaseInodes;
  Hostile::Get().Begin(input);
  const BaseImage image(world.memory().data(), world.memory().size(), inode_offset, inode_count);
  try {
    for (int i = 0; i < 16 && !input.Empty(); i++) One(input, image);
  } catch (const Stopped&) {
  }
  Hostile::Get().End();
  return 0;
}
