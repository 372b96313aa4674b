#include "backing_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <unordered_set>

#include "overlay_types.h"
#include "xxh3.h"

namespace daxserve {
namespace {

/// Open files of an exported tree.
constexpr size_t kOpenMax = 256;
/// Names of an exported tree: a hostile image could list one directory in many others, but each is walked once.
constexpr size_t kFilesMax = size_t{1} << 24;
constexpr size_t kPathBytesMax = 4096;

bool IsFile(uint32_t mode) { return (mode & S_IFMT) == S_IFREG; }

SourceIdentity IdentityOf(const struct stat& stat) {
  return {static_cast<uint64_t>(stat.st_size), int64_t{stat.st_mtim.tv_sec} * 1000000000 + stat.st_mtim.tv_nsec,
          static_cast<uint64_t>(stat.st_dev), static_cast<uint64_t>(stat.st_ino), stat.st_nlink > 0};
}

/// One open file; closed with its last reader.
class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }

  int Look(SourceIdentity& out) const {
    struct stat stat;
    if (fstat(fd_, &stat) != 0) return errno;
    if (!IsFile(stat.st_mode)) return ESTALE;
    out = IdentityOf(stat);
    return 0;
  }

  /// [offset, offset + length), then zeros up to `block_bytes`. Checked afterwards: what was read is of `identity`.
  int Read(const SourceIdentity& identity, uint64_t offset, uint64_t length, uint8_t* block, uint64_t block_bytes) const {
    if (length == 0) return EIO;
    for (uint64_t done = 0; done < length;) {
      const ssize_t got = pread(fd_, block + done, length - done, static_cast<off_t>(offset + done));
      if (got == 0) return ESTALE;
      if (got < 0 && errno != EINTR) return errno;
      if (got > 0) done += static_cast<uint64_t>(got);
    }
    std::memset(block + length, 0, block_bytes - length);
    SourceIdentity now;
    if (const int error = Look(now)) return error;
    return now == identity ? 0 : ESTALE;
  }

 private:
  int fd_;
};

/// Bytes of the block at `offset` that are the file's, which begins at `first`; 0: none are, the image has changed.
uint64_t LengthIn(uint64_t first, uint64_t size, uint64_t offset, uint64_t block_bytes) {
  const auto end = CheckedAdd(first, size);
  return !end || offset < first || offset >= *end ? 0 : std::min(*end - offset, block_bytes);
}

class Digest {
 public:
  void Add(uint64_t ino, const SourceIdentity& identity) {
    const uint64_t words[] = {ino, identity.size, static_cast<uint64_t>(identity.mtime_ns), identity.ino};
    words_.insert(words_.end(), std::begin(words), std::end(words));
  }
  uint64_t Sum() const {
    const uint64_t sum = Xxh3_64(reinterpret_cast<const uint8_t*>(words_.data()), words_.size() * sizeof(uint64_t));
    return sum == 0 ? 1 : sum;
  }

 private:
  std::vector<uint64_t> words_;
};

/// Calls visit(const layout::Inode&) -> errno for every regular file of the image that has bytes.
template <typename Visit>
int EachFile(const BaseImage& image, Visit visit) {
  layout::Inode inode;
  for (uint64_t ino = 1; ino <= image.inode_count(); ino++) {
    if (!image.Inode(ino, inode) || !IsFile(inode.mode) || inode.size == 0) continue;
    if (const int error = visit(inode)) return error;
  }
  return 0;
}

class SplitFile final : public BackingFiles {
 public:
  SplitFile(int fd, const SourceIdentity& identity) : file_(fd), identity_(identity) {
    Digest digest;
    digest.Add(0, identity);
    stamp_ = digest.Sum();
  }

  int ReadBlock(const layout::Inode& inode, uint64_t page, uint8_t* block, uint64_t block_bytes) override {
    const uint64_t offset = page * block_bytes;
    return file_.Read(identity_, offset, LengthIn(inode.data_offset, inode.size, offset, block_bytes), block, block_bytes);
  }

 private:
  OpenFile file_;
  SourceIdentity identity_;
};

class ExportedTree final : public BackingFiles {
 public:
  explicit ExportedTree(int fd) : root_(fd) {}
  ~ExportedTree() override { close(root_); }

  int Walk(const BaseImage& image, uint64_t root_ino) {
    std::vector<std::pair<uint64_t, std::string>> open{{root_ino, ""}};
    std::unordered_set<uint64_t> seen{root_ino};
    // Directories that share their entries would cost their product in time.
    uint64_t room = image.entries_max();
    while (!open.empty()) {
      const auto [ino, path] = std::move(open.back());
      open.pop_back();
      if (!WalkDirectory(image, ino, path, room, seen, open)) return ENFILE;
    }
    Digest digest;
    std::vector<uint64_t> inos;
    for (const auto& [ino, file] : files_) inos.push_back(ino);
    std::sort(inos.begin(), inos.end());
    for (const uint64_t ino : inos) digest.Add(ino, files_[ino].identity);
    stamp_ = digest.Sum();
    return 0;
  }

  int ReadBlock(const layout::Inode& inode, uint64_t page, uint8_t* block, uint64_t block_bytes) override {
    std::shared_ptr<OpenFile> file;
    const auto found = files_.find(inode.ino);
    if (found == files_.end() || found->second.identity.size != inode.size) return ESTALE;
    if (const int error = FileOf(inode.ino, found->second, file)) return error;
    const uint64_t offset = page * block_bytes;
    const int error = file->Read(found->second.identity, offset, LengthIn(0, inode.size, offset, block_bytes), block, block_bytes);
    // Perhaps the path leads to the right file by now: the next read opens it again.
    if (error == ESTALE) Forget(inode.ino);
    return error;
  }

 private:
  struct File {
    std::string path;
    SourceIdentity identity;
  };
  struct Open {
    std::shared_ptr<OpenFile> file;
    std::list<uint64_t>::iterator age;
  };

  /// Opens a path beneath the root, name by name, without following a link. @returns a descriptor or -errno
  int OpenBeneath(const std::string& path, int flags) const {
    int at = root_;
    for (size_t start = 0; start <= path.size();) {
      const size_t slash = std::min(path.find('/', start), path.size());
      const bool last = slash == path.size();
      const std::string name = path.substr(start, slash - start);
      const int how = last ? flags : O_PATH | O_DIRECTORY;
      const int next = openat(at, name.empty() ? "." : name.c_str(), how | O_NOFOLLOW | O_CLOEXEC);
      const int error = errno;
      if (at != root_) close(at);
      if (next < 0) return -error;
      at = next;
      start = slash + 1;
    }
    return at;
  }

  /// False: more files than anybody has, or than the image has room for. @param room entries that are left
  bool WalkDirectory(const BaseImage& image, uint64_t ino, const std::string& path, uint64_t& room,
                     std::unordered_set<uint64_t>& seen, std::vector<std::pair<uint64_t, std::string>>& open) {
    const OpenFile directory(OpenBeneath(path, O_PATH | O_DIRECTORY));
    bool fits = true;
    const uint64_t looked = image.List(ino, [&](const layout::Dirent& entry) {
      const std::string name(reinterpret_cast<const char*>(entry.name), entry.name_len);
      layout::Inode inode;
      if (CheckName(name) != 0 || path.size() + name.size() + 1 > kPathBytesMax || !image.Inode(entry.ino, inode)) return true;
      const std::string below = path.empty() ? name : path + "/" + name;
      if (IsDirectory(inode.mode)) {
        if (seen.insert(entry.ino).second) open.emplace_back(entry.ino, below);
      } else if (IsFile(inode.mode) && files_.find(entry.ino) == files_.end()) {
        struct stat stat;
        const bool there = fstatat(directory.fd(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 && IsFile(stat.st_mode);
        files_[entry.ino] = {below, there ? IdentityOf(stat) : SourceIdentity{}};
      }
      return fits = files_.size() < kFilesMax;
    });
    if (!fits || looked > room) return false;
    room -= looked;
    return true;
  }

  int FileOf(uint64_t ino, const File& wanted, std::shared_ptr<OpenFile>& out) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = open_.find(ino);
      if (found != open_.end()) {
        ages_.splice(ages_.begin(), ages_, found->second.age);
        out = found->second.file;
        return 0;
      }
    }
    const int fd = OpenBeneath(wanted.path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? ESTALE : -fd;
    out = std::make_shared<OpenFile>(fd);
    SourceIdentity now;
    if (const int error = out->Look(now)) return error;
    if (now != wanted.identity) return ESTALE;
    Keep(ino, out);
    return 0;
  }

  void Keep(uint64_t ino, const std::shared_ptr<OpenFile>& file) {
    const std::lock_guard lock(mutex_);
    if (open_.find(ino) != open_.end()) return;
    if (open_.size() == kOpenMax) {
      open_.erase(ages_.back());
      ages_.pop_back();
    }
    ages_.push_front(ino);
    open_[ino] = {file, ages_.begin()};
  }

  void Forget(uint64_t ino) {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(ino);
    if (found == open_.end()) return;
    ages_.erase(found->second.age);
    open_.erase(found);
  }

  const int root_;
  std::unordered_map<uint64_t, File> files_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, Open> open_;
  std::list<uint64_t> ages_;
};

}  // namespace

int BackingFiles::OpenSplit(int fd, const BaseImage& image, uint64_t block_bytes, std::unique_ptr<BackingFiles>& out) {
  uint64_t end = 0, files = 0;
  const int bad = EachFile(image, [&](const layout::Inode& inode) {
    const auto last = CheckedAdd(inode.data_offset, inode.size);
    if (!last || inode.data_offset % block_bytes != 0) return EINVAL;
    end = std::max(end, *last);
    files++;
    return 0;
  });
  if (bad != 0) return bad;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return errno;
  struct stat stat;
  const bool is_file = fstat(own, &stat) == 0 && IsFile(stat.st_mode);
  const bool long_enough = is_file && static_cast<uint64_t>(stat.st_size) >= end;
  if (!long_enough) {
    close(own);
    return is_file ? ESTALE : EINVAL;
  }
  out = std::make_unique<SplitFile>(own, IdentityOf(stat));
  return 0;
}

int BackingFiles::OpenExport(int fd, const BaseImage& image, uint64_t root_ino, std::unique_ptr<BackingFiles>& out) {
  // Files of a split image lie one after another; each exported one begins at 0.
  if (const int bad = EachFile(image, [](const layout::Inode& inode) { return inode.data_offset == 0 ? 0 : EINVAL; })) return bad;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return errno;
  auto tree = std::make_unique<ExportedTree>(own);
  if (const int error = tree->Walk(image, root_ino)) return error;
  out = std::move(tree);
  return 0;
}

}  // namespace daxserve
