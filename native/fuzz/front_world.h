// A small front that is fuzzed: base image, overlay of either kind and intent rows, each in memory of its own.
#pragma once
#include "fuzz_atom.h"
#include "kernel_front.h"
#include "overlay_paths.h"
#include "private_front.h"

namespace daxserve::fuzz {

inline constexpr uint64_t kBuckets = 128;
inline constexpr uint64_t kPoolBytes = 20 * 4096;
inline constexpr uint64_t kTableBytes = 4096;
inline constexpr uint32_t kIntents = 4;
inline constexpr uint32_t kBaseInodes = 6;

/// Size of `big` where its bytes are not in the image.
inline constexpr uint64_t kBigOutside = 12 * 4096 + 5;

/// Root with `keep` (1 byte), `big` (5000 bytes), `sub` with `deep` (4 bytes), and the link `way` to sub/deep.
class BaseWorld {
 public:
  /// `outside`: the bytes of files are in a source, each from its first on.
  explicit BaseWorld(bool outside = false) : memory_(7 * 4096) {
    Put(1, 0040755, 4096, 4 * layout::kDirentSizeUnit);
    Put(2, 0100644, outside ? 0 : 3 * 4096, 1);
    Put(3, 0100600, outside ? 0 : 4 * 4096, outside ? kBigOutside : 5000);
    Put(4, 0040700, 2 * 4096, layout::kDirentSizeUnit);
    Put(5, 0100644, outside ? 0 : 3 * 4096, 4);
    Put(6, 0120777, 6 * 4096, 8);
    Entry(4096, 0, 2, "keep");
    Entry(4096, 1, 3, "big");
    Entry(4096, 2, 4, "sub");
    Entry(4096, 3, 6, "way");
    Entry(2 * 4096, 0, 5, "deep");
    std::memset(memory_.data() + 3 * 4096, 'b', 3 * 4096);
    std::memcpy(memory_.data() + 6 * 4096, "sub/deep", 8);
    Hostile& hostile = Hostile::Get();
    hostile.Track(memory_);
    hostile.Name(memory_.data(), kBaseInodes * sizeof(layout::Inode));
    for (int i = 0; i < 4; i++) hostile.Name(memory_.data() + 4096 + i * layout::kDirentStride, 16);
  }

  BaseImage Image() const { return {memory_.data(), memory_.size(), 0, kBaseInodes}; }
  const Memory& memory() const { return memory_; }

 private:
  void Put(uint32_t ino, uint32_t mode, uint64_t at, uint64_t size) {
    auto* inode = reinterpret_cast<layout::Inode*>(memory_.data()) + (ino - 1);
    inode->ino = ino;
    inode->mode = mode;
    inode->data_offset = at;
    inode->size = size;
    inode->nlink = 1;
  }
  void Entry(uint64_t at, int index, uint32_t ino, const char* name) {
    auto* entry = reinterpret_cast<layout::Dirent*>(memory_.data() + at + index * layout::kDirentStride);
    entry->ino = ino;
    entry->mode = (reinterpret_cast<layout::Inode*>(memory_.data()) + (ino - 1))->mode;
    entry->name_len = static_cast<uint16_t>(std::strlen(name));
    std::memcpy(entry->name, name, entry->name_len);
  }

  Memory memory_;
};

/// Hosts from 2 on are proved dead.
inline bool IsDead(void*, Owner owner) { return owner.host >= 2; }

template <template <typename, typename> class Front, FrontKind kKind>
class FrontWorld {
 public:
  using Fs = Overlay<FuzzAtom, Front<FuzzAtom, FnvNames>>;

  FrontWorld() : image_(base_.Image()), overlay_(4096 + kTableBytes + kPoolBytes), rows_(4096) {
    MakeEmpty();
    MakeTree();
    Hostile& hostile = Hostile::Get();
    hostile.Track(overlay_);
    hostile.Track(rows_);
    hostile.Name(overlay_.data(), 80);
    hostile.Name(rows_.data(), kIntents * sizeof(layout::IntentRow));
    NameEntries(hostile);
  }

  /// What a host works on. False: the header's numbers are refused.
  bool Parts(uint32_t host, bool base, bool intents, bool read_only, OverlayParts& out) {
    out = {};
    if (OverlayView::Open(overlay_.data(), overlay_.size(), kBuckets, 4096, out.view) != 0) return false;
    out.base = base ? &image_ : nullptr;
    if (intents) out.intents = {reinterpret_cast<layout::IntentRow*>(rows_.data()), kIntents};
    out.self = {host, 7};
    out.owners = {IsDead, nullptr};
    out.read_only = read_only;
    return true;
  }

  const Memory& overlay() const { return overlay_; }

 private:
  layout::OverlayHeader* Header() { return reinterpret_cast<layout::OverlayHeader*>(overlay_.data()); }
  Pair* Buckets() { return reinterpret_cast<Pair*>(overlay_.data() + 4096); }
  uint8_t* PoolAt(uint64_t offset) { return overlay_.data() + 4096 + kTableBytes + offset; }

  void MakeEmpty() {
    auto* header = Header();
    header->magic = layout::kOverlayMagic;
    header->version = layout::kOverlayVersion;
    header->bucket_offset = 4096;
    header->pool_offset = 4096 + kTableBytes;
    header->pool_size = kPoolBytes;
    header->free_inode = header->free_data = header->free_dirent = kNone;
    header->next_ino = kBaseInodes + 1;
  }

  /// Files, directories, a link, tombstones, freed entries; then hosts that die in the middle of their work.
  void MakeTree() {
    OverlayParts parts;
    if (!Parts(0, true, true, false, parts)) Hostile::Fail("the sound front does not open");
    Fs fs(parts);
    OverlayPaths<Fs> paths(fs);
    FileStat stat;
    const uint8_t bytes[9000] = {1, 2, 3};
    Need(paths.Mkdir("d", {0755, 1, 1}));
    Need(paths.Mkdir("d/e", {0755, 1, 1}));
    for (const char* path : {"a", "d/f", "d/g", "gone"}) {
      Need(paths.Open(path, O_CREAT, {0644, 1, 1}, stat));
      Need(fs.Write(stat.ino, 0, bytes, path[0] == 'a' ? 9000 : 10));
    }
    Need(paths.Symlink("d/f", "l", {0, 1, 1}));
    Need(paths.Unlink("gone"));
    Need(paths.Unlink("keep"));
    Need(paths.Rename("d/g", "d/h"));
    Need(fs.Truncate(stat.ino, 4));
    for (uint32_t host = 2; host < 5; host++) Die(host);
  }
  static void Need(int error) {
    if (error != 0 && error != ENOENT) Hostile::Fail("the sound front cannot be made");
  }

  void Die(uint32_t host) {
    OverlayParts parts;
    if (!Parts(host, true, true, false, parts)) return;
    Fs fs(parts);
    OverlayPaths<Fs> paths(fs);
    FileStat stat;
    Input none(nullptr, 0);
    Hostile::Get().Begin(none);
    Hostile::Get().DieAfter(host == 2 ? 60 : host == 3 ? 75 : 90);
    try {
      if (host == 2) paths.Open("half", O_CREAT, {0644, 1, 1}, stat);
      if (host == 3) paths.Rename("d/f", "moved");
      if (host == 4) paths.Rmdir("d/e");
    } catch (const Stopped&) {
    }
    Hostile::Get().End();
  }

  /// Every bucket in use, every entry of the pool, and words that lead there.
  void NameEntries(Hostile& hostile) {
    hostile.Word(kNone);
    for (uint64_t ino = 1; ino < kBaseInodes + 6; ino++) hostile.Word(ino);
    for (uint64_t i = 0; i < kBuckets; i++) {
      const Pair bucket = Buckets()[i];
      if (bucket.lo == 0 && bucket.hi == 0) continue;
      hostile.Name(&Buckets()[i], sizeof(Pair));
      hostile.Word(bucket.lo);
      hostile.Word(bucket.hi);
    }
    hostile.Name(Buckets(), kBuckets * sizeof(Pair));
    for (uint64_t* head : {&Header()->free_inode, &Header()->free_data, &Header()->free_dirent}) hostile.Link(head);
    const uint64_t end = Header()->pool_alloc;
    for (uint64_t at = 0; at + 32 <= end && hostile.areas().size() < 200; at += 16) {
      uint32_t type;
      std::memcpy(&type, PoolAt(at), sizeof(type));
      if (type == 0 || type > 1000) continue;
      hostile.Name(PoolAt(at), 48);
      hostile.Word(at);
      if (type == 3) hostile.Target(at);
      if (type == 3) hostile.Link(PoolAt(at) + offsetof(layout::OverlayDirent, next));
      if (type == 3) hostile.Link(PoolAt(at) + offsetof(layout::OverlayDirent, dir_next));
      if (type == 4) hostile.Link(PoolAt(at) + offsetof(layout::OverlayDirlist, first));
    }
  }

  BaseWorld base_;
  BaseImage image_;
  Memory overlay_;
  Memory rows_;
};

/// One input: flags, changes, then operations of two hosts, until the input ends.
template <typename World>
class FrontRun {
 public:
  FrontRun(World& world, Input& input) : world_(world), input_(input) {}

  void Go() {
    const uint8_t flags = input_.U8();
    Hostile::Get().Begin(input_);
    try {
      for (int i = 0; i < kOpsMax && !input_.Empty(); i++) One(flags);
    } catch (const Stopped&) {
    }
    Hostile::Get().End();
  }

 private:
  using Fs = typename World::Fs;
  static constexpr int kOpsMax = 24;

  void One(uint8_t flags) {
    const uint8_t op = input_.U8();
    OverlayParts parts;
    const bool read_only = (flags & 12) == 12;
    if (!world_.Parts(op >> 7, (flags & 1) == 0, (flags & 2) == 0, read_only, parts)) return;
    Fs fs(parts);
    OverlayPaths<Fs> paths(fs);
    if ((flags & 16) != 0 && !read_only) Hostile::Get().DieAfter(input_.U8() * 2u);
    try {
      if (read_only) LookOnly(fs, paths, op & 7);
      else if ((op & 1) == 0) ByPath(fs, paths, op >> 1 & 15);
      else ByNumber(fs, op >> 1 & 15);
    } catch (const Stopped&) {
      if ((flags & 16) == 0) throw;
    }
    Hostile::Get().Live();
  }

  /// Nothing may be written through a mapping for reading.
  void LookOnly(Fs& fs, OverlayPaths<Fs>& paths, uint32_t op) {
    const bool quiet = !Hostile::Get().changing();
    const uint64_t before = quiet ? Sum() : 0;
    Look(fs, paths, op);
    if (quiet && Sum() != before) Hostile::Fail("a reader wrote");
  }
  uint64_t Sum() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < world_.overlay().size(); i += 8) {
      uint64_t word;
      std::memcpy(&word, world_.overlay().data() + i, 8);
      sum = (sum ^ word) * 0x100000001b3;
    }
    return sum;
  }

  const char* Path() {
    static const std::string kLong(255, 'n');
    static const char* const kPaths[] = {"a",    "d",      "d/e",    "d/f",   "d/h", "l",       "gone",   "keep", "big", "sub",
                                         "new",  "d/new",  "sub/deep", "way", "half", "moved",  "d/e/x",  ".",    "..",  "/",
                                         "d/../a", "l/x",  "way/",   "sub/n", "d/",  kLong.c_str()};
    return kPaths[input_.Below(sizeof(kPaths) / sizeof(kPaths[0]))];
  }
  uint64_t Ino() {
    const uint8_t choice = input_.U8();
    return choice < 250 ? choice % 20 : input_.U64();
  }
  uint64_t Offset() { return uint64_t{input_.U16()} << (input_.U8() % 34); }
  uint32_t Length() { return input_.U16() % 9001u; }

  void ByPath(Fs& fs, OverlayPaths<Fs>& paths, uint32_t op) {
    FileStat stat;
    std::string target;
    switch (op) {
      case 0: paths.Open(Path(), O_CREAT, {0644, 1, 1}, stat); return;
      case 1: paths.Open(Path(), O_CREAT | O_EXCL, {0644, 1, 1}, stat); return;
      case 2: paths.Open(Path(), O_RDWR | O_TRUNC, {0644, 1, 1}, stat); return;
      case 3: paths.Mkdir(Path(), {0755, 1, 1}); return;
      case 4: paths.Symlink(Path(), Path(), {0, 1, 1}); return;
      case 5: paths.Unlink(Path()); return;
      case 6: paths.Rmdir(Path()); return;
      case 7:
      case 8: {
        const char* from = Path();
        paths.Rename(from, Path());
        return;
      }
      default: Look(fs, paths, op & 7);
    }
  }

  void Look(Fs& fs, OverlayPaths<Fs>& paths, uint32_t op) {
    FileStat stat;
    std::string target;
    switch (op) {
      case 0: paths.Stat(Path(), true, stat); return;
      case 1: paths.Stat(Path(), false, stat); return;
      case 2: paths.Readlink(Path(), target); return;
      case 3: paths.Open(Path(), O_RDONLY, {}, stat); return;
      case 4: fs.Lookup(Ino(), Path(), stat); return;
      case 5: List(fs, Ino()); return;
      case 6: fs.Stat(Ino(), stat); return;
      default: Read(fs, Ino());
    }
  }

  void ByNumber(Fs& fs, uint32_t op) {
    uint64_t at = 0;
    char target[kSymlinkBytesMax + 1];
    switch (op) {
      case 0:
      case 1: Read(fs, Ino()); return;
      case 2:
      case 3: Write(fs, Ino()); return;
      case 4: {
        const std::vector<uint8_t> bytes(Length(), 7);
        fs.Append(Ino(), bytes.data(), bytes.size(), at);
        return;
      }
      case 5:
      case 6: {
        const uint64_t ino = Ino();
        fs.Truncate(ino, Offset());
        return;
      }
      case 7: fs.Chmod(Ino(), input_.U16()); return;
      case 8: fs.Chown(Ino(), input_.U16(), 5); return;
      case 9:
      case 10: fs.Recover(); return;
      case 11: fs.Readlink(Ino(), target, at); return;
      case 12: {
        const uint64_t dir = Ino();
        const char* name = Path();
        fs.Steady(dir, name, Ino());
        return;
      }
      default: List(fs, Ino());
    }
  }

  void List(Fs& fs, uint64_t dir) {
    fs.Readdir(dir, [](std::string_view name, uint64_t, uint32_t) {
      if (name.size() > layout::kNameBytesMax) Hostile::Fail("a name is too long");
      return true;
    });
  }

  /// The buffers are exactly as long as they are said to be.
  void Read(Fs& fs, uint64_t ino) {
    const uint64_t offset = Offset();
    const uint32_t length = Length();
    std::vector<uint8_t> bytes(length);
    uint64_t done = 0;
    if (fs.Read(ino, offset, bytes.data(), length, done) == 0 && done > length) Hostile::Fail("read more than was asked for");
  }
  void Write(Fs& fs, uint64_t ino) {
    const uint64_t offset = Offset();
    const std::vector<uint8_t> bytes(Length(), 9);
    fs.Write(ino, offset, bytes.data(), bytes.size());
  }

  World& world_;
  Input& input_;
};

}  // namespace daxserve::fuzz
