// Goal: both kinds of front behave as one filesystem model, and lose nothing at a limit. Method: seeded random operations
// against a map of paths (inode, bytes, mode), over an empty front and over a base image; every limit from both sides.
#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

struct Random {
  uint64_t state;
  uint64_t operator()(uint64_t below) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % below;
  }
};

/// The model: nodes by number; a directory maps names to numbers.
struct Node {
  uint32_t mode = 0;
  std::string bytes;
  std::map<std::string, int> children;
};
struct Model {
  std::map<int, Node> nodes;
  int next = 1;
};

template <typename Front>
class Play {
 public:
  Play(TestFront& front, uint64_t seed) : overlay_(front.Parts()), random_{seed} {
    model_.nodes[0].mode = 0040755;
    ino_[0] = 1;
  }

  /// What the base holds, as the model knows it.
  int AddBase(int parent, const std::string& name, uint32_t mode, const std::string& bytes, uint64_t ino) {
    const int node = model_.next++;
    model_.nodes[node] = {mode, bytes, {}};
    model_.nodes[parent].children[name] = node;
    ino_[node] = ino;
    return node;
  }

  void Step() {
    const int dir = RandomNode(true);
    const std::string name = "n" + std::to_string(random_(12));
    switch (random_(13)) {
      case 0: case 1: return Create(dir, name, false);
      case 2: return Create(dir, name, true);
      case 3: case 4: return Remove(dir, name, false);
      case 5: return Remove(dir, name, true);
      case 6: case 7: return Rename(dir, name, RandomNode(true), "n" + std::to_string(random_(12)));
      case 8: return Truncate(RandomNode(false), random_(30000));
      case 9: return Append(RandomNode(false));
      case 10: return Chmod(RandomNode(false));
      default: return Write(RandomNode(false), random_(20000), 1 + random_(9000));
    }
  }

  void Compare() { CompareDirectory(0); }
  const Model& model() const { return model_; }

 private:
  int RandomNode(bool directory) {
    std::vector<int> fitting;
    for (const auto& [node, content] : model_.nodes) {
      if (IsDirectory(content.mode) == directory) fitting.push_back(node);
    }
    return fitting.empty() ? -1 : fitting[random_(fitting.size())];
  }

  void Create(int dir, const std::string& name, bool directory) {
    uint64_t ino = 0;
    const int error = directory ? overlay_.Mkdir(ino_[dir], name, 0755, 1, 2, ino) : overlay_.Create(ino_[dir], name, 0644, 1, 2, ino);
    const bool exists = model_.nodes[dir].children.count(name) != 0;
    Require(error == (exists ? EEXIST : 0), "create " + name + " gives " + std::to_string(error));
    if (error != 0) return;
    const int node = model_.next++;
    model_.nodes[node].mode = directory ? 0040755 : 0100644;
    model_.nodes[dir].children[name] = node;
    ino_[node] = ino;
  }

  void Remove(int dir, const std::string& name, bool directory) {
    const auto found = model_.nodes[dir].children.find(name);
    int want = 0;
    if (found == model_.nodes[dir].children.end()) want = ENOENT;
    else if (IsDirectory(model_.nodes[found->second].mode) != directory) want = directory ? ENOTDIR : EISDIR;
    else if (!model_.nodes[found->second].children.empty()) want = ENOTEMPTY;
    const int error = directory ? overlay_.Rmdir(ino_[dir], name) : overlay_.Unlink(ino_[dir], name);
    Require(error == want, "remove " + name + " gives " + std::to_string(error) + ", want " + std::to_string(want));
    if (error == 0) Drop(dir, name);
  }

  void Drop(int dir, const std::string& name) {
    const int node = model_.nodes[dir].children[name];
    model_.nodes[dir].children.erase(name);
    model_.nodes.erase(node);
  }

  bool Below(int node, int ancestor) {
    if (node == ancestor) return true;
    for (const auto& [name, child] : model_.nodes[ancestor].children) {
      if (Below(node, child)) return true;
    }
    return false;
  }

  void Rename(int from_dir, const std::string& from, int to_dir, const std::string& to) {
    auto& source = model_.nodes[from_dir].children;
    auto& target = model_.nodes[to_dir].children;
    if (source.count(from) && Below(to_dir, source[from])) return;  // the path layer refuses it
    int want = 0;
    if (!source.count(from)) want = ENOENT;
    else if (target.count(to) && target[to] != source[from]) want = ReplaceError(source[from], target[to]);
    const int error = overlay_.Rename(ino_[from_dir], from, ino_[to_dir], to, true);
    Require(error == want, "rename gives " + std::to_string(error) + ", want " + std::to_string(want));
    if (error != 0 || (from_dir == to_dir && from == to)) return;
    const int node = source[from];
    if (target.count(to)) Drop(to_dir, to);
    source.erase(from);
    target[to] = node;
  }

  int ReplaceError(int node, int over) {
    const bool a = IsDirectory(model_.nodes[node].mode), b = IsDirectory(model_.nodes[over].mode);
    if (a != b) return b ? EISDIR : ENOTDIR;
    return model_.nodes[over].children.empty() ? 0 : ENOTEMPTY;
  }

  void Write(int node, uint64_t at, uint64_t length) {
    if (node < 0) return;
    std::string bytes(length, static_cast<char>('a' + random_(26)));
    Require(WriteAt(overlay_, ino_[node], at, bytes) == 0, "write");
    auto& content = model_.nodes[node].bytes;
    if (content.size() < at + length) content.resize(at + length, 0);
    content.replace(at, length, bytes);
  }

  void Append(int node) {
    if (node < 0 || model_.nodes[node].bytes.size() > 60000) return;
    const std::string bytes(1 + random_(6000), static_cast<char>('A' + random_(26)));
    uint64_t at = 0;
    Require(overlay_.Append(ino_[node], Bytes(bytes), bytes.size(), at) == 0, "append");
    Require(at == model_.nodes[node].bytes.size(), "at the end");
    model_.nodes[node].bytes += bytes;
  }

  void Truncate(int node, uint64_t size) {
    if (node < 0) return;
    Require(overlay_.Truncate(ino_[node], size) == 0, "truncate");
    model_.nodes[node].bytes.resize(size, 0);
  }

  void Chmod(int node) {
    if (node < 0) return;
    const auto bits = static_cast<uint32_t>(random_(01000));
    Require(overlay_.Chmod(ino_[node], bits) == 0 && overlay_.Chown(ino_[node], 5, bits) == 0, "chmod, chown");
    auto& mode = model_.nodes[node].mode;
    mode = (mode & S_IFMT) | bits;
  }

  void CompareDirectory(int dir) {
    std::map<std::string, uint64_t> want;
    for (const auto& [name, child] : model_.nodes[dir].children) want[name] = ino_[child];
    Require(ListOf(overlay_, ino_[dir]) == want, "names of a directory");
    for (const auto& [name, child] : model_.nodes[dir].children) {
      FileStat stat;
      Require(overlay_.Lookup(ino_[dir], name, stat) == 0 && stat.ino == ino_[child], "lookup " + name);
      Require(stat.mode == model_.nodes[child].mode, "mode of " + name);
      if (IsDirectory(stat.mode)) CompareDirectory(child);
      else Require(ReadAll(overlay_, stat.ino) == model_.nodes[child].bytes, "bytes of " + name);
    }
  }

  Overlay<RealAtom, Front> overlay_;
  Random random_;
  Model model_;
  std::map<int, uint64_t> ino_;
};

uint64_t Seed() {
  const char* text = std::getenv("DAXSERVE_SEED");
  return text != nullptr && *text != 0 ? std::strtoull(text, nullptr, 0) : 4711;
}

template <typename Front>
void PlayEmpty(FrontKind kind, uint64_t seed) {
  TestFront front({kind, 4096, 64 << 20, 16});
  Play<Front> play(front, seed);
  for (int i = 0; i < 3000 && failures == 0; i++) {
    play.Step();
    if (i % 100 == 99) play.Compare();
  }
}

template <typename Front>
void PlayBase(FrontKind kind, uint64_t seed) {
  TestBase base(6);
  std::string big(13000, 'b');
  base.Directory(1, 0755, {{"n1", 2}, {"n2", 3}, {"n3", 4}, {"n4", 6}});
  base.File(2, 0100644, "one");
  base.File(3, 0100644, big);
  base.Directory(4, 0755, {{"n5", 5}});
  base.File(5, 0100600, std::string(4096, 'f'));
  base.File(6, 0100644, "");
  TestFront front({kind, 4096, 64 << 20, 16});
  front.Clear(6);
  front.SetBase(base.Finish());
  Play<Front> play(front, seed);
  play.AddBase(0, "n1", 0100644, "one", 2);
  play.AddBase(0, "n2", 0100644, big, 3);
  play.AddBase(play.AddBase(0, "n3", 0040755, "", 4), "n5", 0100600, std::string(4096, 'f'), 5);
  play.AddBase(0, "n4", 0100644, "", 6);
  for (int i = 0; i < 2000 && failures == 0; i++) {
    play.Step();
    if (i % 50 == 49) play.Compare();
  }
}

/// Limits: the error, and nothing lost.
template <typename Front>
void Limits(FrontKind kind) {
  TestFront front({kind, 64, 256 * 1024, 16});
  Overlay<RealAtom, Front> overlay(front.Parts());
  uint64_t ino = 0, file = 0;
  Require(overlay.Create(1, "keep", 0644, 0, 0, file) == 0 && WriteAt(overlay, file, 0, "kept") == 0, "a file");
  Require(overlay.Create(1, std::string(256, 'x'), 0644, 0, 0, ino) == ENAMETOOLONG, "256 bytes");
  Require(overlay.Create(1, std::string(255, 'x'), 0644, 0, 0, ino) == 0, "255 bytes");
  for (const char* bad : {"", ".", "..", "a/b"}) Require(overlay.Create(1, bad, 0644, 0, 0, ino) == EINVAL, "bad name");
  Require(overlay.Create(file, "x", 0644, 0, 0, ino) == ENOTDIR && overlay.Create(99, "x", 0644, 0, 0, ino) == ENOENT, "no directory");
  Require(WriteAt(overlay, file, overlay.size_max() - 1, "xy") == EFBIG && overlay.Truncate(file, overlay.size_max() + 1) == EFBIG, "EFBIG");
  Require(WriteAt(overlay, file, ~uint64_t{0}, "x") == EFBIG, "an offset that overflows");
  Require(overlay.Truncate(file, overlay.size_max()) == 0 && overlay.Truncate(file, 4) == 0, "the largest size");
  Require(WriteAt(overlay, file, overlay.size_max() - 1, "z") == 0 && overlay.Truncate(file, 4) == 0, "the last byte");
  Require(overlay.Symlink(1, "l", std::string(4096, 't'), 0, 0, ino) == ENAMETOOLONG, "a target of 4096 bytes");
  Require(overlay.Symlink(1, "l", std::string(4095, 't'), 0, 0, ino) == 0, "4095");
  char target[kSymlinkBytesMax + 1];
  uint64_t length = 0;
  Require(overlay.Readlink(ino, target, length) == 0 && length == 4095 && target[4094] == 't', "readlink");
  Require(overlay.Readlink(file, target, length) == EINVAL && overlay.Unlink(1, "l") == 0, "not a link");
  int created = 0, error = 0;
  while ((error = overlay.Create(1, "f" + std::to_string(created), 0644, 0, 0, ino)) == 0) created++;
  Require(error == ENOSPC && created > 5, "the table is full: ENOSPC");
  Require(static_cast<int>(ListOf(overlay, 1).size()) == created + 2, "and the directory holds what was acknowledged");
  Require(ReadAll(overlay, file) == "kept", "and the file its bytes");
}

template <typename Front>
void PoolLimit(FrontKind kind) {
  TestFront front({kind, 1024, 64 * 1024, 16});
  PageHand hand;
  OverlayParts parts = front.Parts();
  parts.hand = &hand;
  Overlay<RealAtom, Front> overlay(parts);
  uint64_t file = 0;
  Require(overlay.Create(1, "big", 0644, 0, 0, file) == 0, "create");
  std::string page(4096, 'p');
  uint64_t pages = 0;
  int error = 0;
  while ((error = WriteAt(overlay, file, pages * 4096, page)) == 0) pages++;
  Require(error == ENOSPC && pages > 8, "the pool is full: ENOSPC");
  Require(ReadAll(overlay, file) == std::string(pages * 4096, 'p'), "what was acknowledged is there");
  if (kind != FrontKind::kPrivate) return;
  Require(overlay.Unlink(1, "big") == 0, "unlink on a full pool");
  for (int round = 0; round < 200; round++) {
    const std::string name = "r" + std::to_string(round);
    uint64_t ino = 0;
    Require(overlay.Create(1, name, 0644, 0, 0, ino) == 0, "recycled: create");
    for (uint64_t i = 0; i + 2 < pages; i++) Require(WriteAt(overlay, ino, i * 4096, page) == 0, "recycled: write");
    Require(overlay.Unlink(1, name) == 0, "recycled: unlink");
  }
}

/// Two names with one key: chained in v8, salted in a private front. Neither is ever cut off.
struct Colliding {
  static uint64_t Key(uint64_t, const uint8_t*, size_t, uint32_t salt = 0) { return 0x5555 + salt; }
};

template <typename Front>
void Collisions(FrontKind kind) {
  TestFront front({kind, 1024, 1 << 20, 16});
  Play<Front> play(front, Seed());
  for (int i = 0; i < 600 && failures == 0; i++) {
    play.Step();
    if (i % 20 == 19) play.Compare();
  }
}

}  // namespace

int main() {
  const uint64_t seed = Seed();
  std::printf("overlay_model_test: DAXSERVE_SEED=%llu\n", static_cast<unsigned long long>(seed));
  for (uint64_t i = 0; i < 4; i++) {
    PlayEmpty<PrivateFront<RealAtom>>(FrontKind::kPrivate, seed + i);
    PlayEmpty<KernelFront<RealAtom>>(FrontKind::kKernel, seed + i);
    PlayBase<PrivateFront<RealAtom>>(FrontKind::kPrivate, seed + i);
    PlayBase<KernelFront<RealAtom>>(FrontKind::kKernel, seed + i);
  }
  Limits<PrivateFront<RealAtom>>(FrontKind::kPrivate);
  Limits<KernelFront<RealAtom>>(FrontKind::kKernel);
  PoolLimit<PrivateFront<RealAtom>>(FrontKind::kPrivate);
  PoolLimit<KernelFront<RealAtom>>(FrontKind::kKernel);
  Collisions<PrivateFront<RealAtom, Colliding>>(FrontKind::kPrivate);
  Collisions<KernelFront<RealAtom, Colliding>>(FrontKind::kKernel);
  std::printf("overlay_model_test: %s\n", failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
