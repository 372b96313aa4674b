// Goal: a kernel-mountable front is v8 to the byte. Method: the format's own example (a module's run over a base image of
// 7 inodes) replayed; every entry, list, bucket and header word compared with what the module leaves.
#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

using Kernel = Overlay<RealAtom, KernelFront<RealAtom>>;

TestFront front({FrontKind::kKernel, 1024, 1 << 20, 0});

template <typename T>
const T& Entry(uint64_t offset) {
  return *reinterpret_cast<const T*>(front.pool() + offset);
}

void RequireInode(uint64_t offset, uint32_t mode, uint64_t size, uint32_t nlink) {
  const auto& entry = Entry<layout::OverlayInode>(offset);
  Require(entry.type == 1 && entry.mode == mode && entry.size == size && entry.nlink == nlink && entry.flags == 0,
          "inode entry at " + std::to_string(offset));
}

void RequireDirent(uint64_t offset, uint64_t parent, const std::string& name, uint64_t ino, uint32_t mode, uint32_t flags,
                   uint64_t dir_next) {
  layout::OverlayDirent want = MakeDirent(parent, name, ino, mode, flags);
  want.dir_next = dir_next;
  Require(std::memcmp(&want, front.pool() + offset, sizeof(want)) == 0, "dirent " + name);
}

void RequireBucket(uint64_t bucket, uint64_t key, uint64_t offset) {
  const Pair want{StateKey(key), offset};
  Require(front.view().table.buckets[bucket] == want, "bucket " + std::to_string(bucket));
}

void Replay(Kernel& overlay) {
  uint64_t ino = 0, dd = 0;
  Require(overlay.Truncate(3, 0) == 0 && WriteAt(overlay, 3, 0, "hello") == 0, "overwrite ino 3");
  Require(overlay.Create(1, "a", 0644, 0, 0, ino) == 0 && ino == 8 && WriteAt(overlay, ino, 0, "A") == 0, "create a");
  Require(overlay.Symlink(1, "sl", "target", 0, 0, ino) == 0 && ino == 9, "symlink sl");
  Require(overlay.Unlink(1, "modify.txt") == 0, "remove modify.txt");
  Require(overlay.Mkdir(1, "dd", 0755, 0, 0, dd) == 0 && dd == 10, "mkdir dd");
  Require(overlay.Create(dd, "f", 0644, 0, 0, ino) == 0 && ino == 11 && WriteAt(overlay, ino, 0, "F") == 0, "create dd/f");
}

void Compare() {
  RequireInode(0, 0100644, 5, 1);
  RequireInode(8192, 0100644, 1, 1);
  RequireInode(16384, 0120777, 6, 1);
  RequireInode(25184, 0040755, 0, 2);
  RequireInode(25520, 0100644, 1, 1);
  RequireDirent(8224, 1, "a", 8, 0100644, 0, kNone);
  RequireDirent(24576, 1, "sl", 9, 0120777, 0, 8224);
  RequireDirent(24880, 1, "modify.txt", 0, 0, 1, 24576);
  RequireDirent(25216, 1, "dd", 10, 0040755, 0, 24880);
  RequireDirent(25552, 10, "f", 11, 0100644, 0, kNone);
  const auto& root = Entry<layout::OverlayDirlist>(8528);
  const auto& dd = Entry<layout::OverlayDirlist>(25856);
  Require(root.type == 4 && root.reserved == 0 && root.first == 25216, "list of root");
  Require(dd.type == 4 && dd.reserved == 0 && dd.first == 25552, "list of dd");
  Require(std::memcmp(front.pool() + 4096, "hello\0\0\0", 8) == 0, "page of ino 3");
  Require(std::memcmp(front.pool() + 12288, "A\0", 2) == 0, "page of a");
  Require(std::memcmp(front.pool() + 20480, "target\0", 7) == 0, "page of sl: target and NUL");
  Require(std::memcmp(front.pool() + 28672, "F\0", 2) == 0, "page of f");
  RequireBucket(1023, InodeKey(3), 0);
  RequireBucket(1, InodeKey(8), 8192);
  RequireBucket(3, InodeKey(9), 16384);
  RequireBucket(5, InodeKey(10), 25184);
  RequireBucket(6, InodeKey(11), 25520);
  RequireBucket(0, PageKey(3, 0), 4096);
  RequireBucket(2, PageKey(8, 0), 12288);
  RequireBucket(4, PageKey(9, 0), 20480);
  RequireBucket(8, PageKey(11, 0), 28672);
  RequireBucket(1022, DirlistKey(1), 8528);
  RequireBucket(7, DirlistKey(10), 25856);
  const auto* header = front.Header();
  Require(header->pool_alloc == 32768 && header->next_ino == 12, "header words");
  Require(header->free_inode == kNone && header->free_data == kNone && header->free_dirent == kNone, "free lists unused");
}

void NothingElse() {
  int used = 0;
  for (uint64_t i = 0; i < 1024; i++) used += front.view().table.buckets[i].lo != 0;
  Require(used == 16, "16 buckets are used: 5 inodes, 4 pages, 2 lists, 5 names");
}

/// What a module and we must both read from it.
void ReadBack(Kernel& overlay) {
  const auto names = ListOf(overlay, 1);
  const std::map<std::string, uint64_t> want{{"b.txt", 3}, {"dir", 4}, {"link", 6}, {"c", 7}, {"a", 8}, {"sl", 9}, {"dd", 10}};
  Require(names == want, "root's names");
  Require(ReadAll(overlay, 3) == "hello" && ReadAll(overlay, 8) == "A", "bytes");
  FileStat stat;
  Require(overlay.Lookup(1, "modify.txt", stat) == ENOENT, "the removed base name is gone");
  Require(overlay.Lookup(4, "deep", stat) == 0 && stat.ino == 5 && ReadAll(overlay, 5) == "deep bytes", "base file");
}

/// Revival and deletion leave plain v8 words, no claims.
void Revival(Kernel& overlay) {
  uint64_t ino = 0;
  Require(overlay.Unlink(1, "a") == 0 && Entry<layout::OverlayDirent>(8224).flags == 1, "tombstone");
  Require(Entry<layout::OverlayDirent>(8224).child_ino == 8, "a tombstone keeps its child");
  const uint64_t pool = front.Header()->pool_alloc;
  Require(overlay.Create(1, "a", 0600, 0, 0, ino) == 0 && ino == 12, "revive a");
  const auto& entry = Entry<layout::OverlayDirent>(8224);
  Require(entry.flags == 0 && entry.child_ino == 12 && entry.child_mode == 0100600 && entry.name_len == 1 && entry.reserved[0] == 0,
          "the same entry lives again");
  Require(front.Header()->pool_alloc == pool + 32, "revival takes an inode entry only");
  Require(overlay.Create(1, "modify.txt", 0644, 0, 0, ino) == 0 && ListOf(overlay, 1).count("modify.txt") == 1,
          "a recreated base name is listed once (item 5)");
}

}  // namespace

int main() {
  TestBase base(7);
  base.Directory(1, 0755, {{"modify.txt", 2}, {"b.txt", 3}, {"dir", 4}, {"link", 6}, {"c", 7}});
  base.File(2, 0100644, "modify me");
  base.File(3, 0100644, "base bytes of three");
  base.Directory(4, 0755, {{"deep", 5}});
  base.File(5, 0100644, "deep bytes");
  base.File(6, 0120777, "b.txt");
  base.File(7, 0100644, "c");
  front.Clear(7);
  front.SetBase(base.Finish());
  Kernel overlay(front.Parts());
  Replay(overlay);
  Compare();
  NothingElse();
  ReadBack(overlay);
  Revival(overlay);
  std::printf("overlay_golden_test: %s\n", failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
