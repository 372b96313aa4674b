// Goal: processes share one cache of an image: what one has read no other reads again; who dies or sleeps in the middle of a
// fill, or with a page pinned, holds up nobody. Method: real processes (fork), real locks, a source that stops where it is
// told to; both kinds of places, blocks of 4, 16 and 64 KiB.
#include "cached_files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>

#include "fence.h"

using namespace daxserve;

namespace {

constexpr uint64_t kSlots = 16;
constexpr uint64_t kFiles = 4;
constexpr uint64_t kPages = 6;
constexpr uint32_t kBoot = 7;

uint64_t block_bytes = 4096;
FrontKind homes = FrontKind::kKernel;
int image_fd = -1;
uint8_t* image = nullptr;
uint64_t image_bytes = 0;
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("cached_files_test: FAILED: %s (blocks of %llu, %s places)\n", what, static_cast<unsigned long long>(block_bytes),
              homes == FrontKind::kKernel ? "plain" : "mixed");
  failures++;
}

/// Shared with the children: how often the source was read, and what stops there.
struct Shared {
  uint64_t reads;
  uint32_t stop_page;  // source page + 1 at which `stopper` waits for ever
  pid_t stopper;
  uint32_t stopped;
  int error;
};
Shared* shared = nullptr;

uint64_t ByteAt(uint64_t ino, uint64_t page) { return ino << 32 | page; }

/// Each block holds its inode and page in its first and last word.
class TestSource final : public BackingFiles {
 public:
  explicit TestSource(uint64_t stamp) { stamp_ = stamp; }
  int ReadBlock(const layout::Inode& inode, uint64_t page, uint8_t* block, uint64_t bytes) override {
    RealAtom::FetchAdd(&shared->reads, uint64_t{1}, std::memory_order_relaxed);
    *reinterpret_cast<uint64_t*>(block) = ByteAt(inode.ino, page);
    if (shared->stop_page == page + 1 && shared->stopper == getpid()) {
      RealAtom::Store(&shared->stopped, uint32_t{1}, std::memory_order_release);
      while (shared->stop_page == page + 1) usleep(200);
    }
    *reinterpret_cast<uint64_t*>(block + bytes - 8) = ByteAt(inode.ino, page);
    return shared->error;
  }
};

/// A base of kFiles regular files behind a cache of kSlots slots, in memory that children share.
void MakeImage() {
  if (image != nullptr) munmap(image, image_bytes);
  if (image_fd >= 0) close(image_fd);
  image_bytes = (1 + 2 + kSlots) * block_bytes;
  image_fd = memfd_create("cached_files_test", MFD_CLOEXEC);
  if (image_fd < 0 || ftruncate(image_fd, static_cast<off_t>(image_bytes)) != 0) std::abort();
  image = static_cast<uint8_t*>(mmap(nullptr, image_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, image_fd, 0));
  if (image == MAP_FAILED) std::abort();
  auto* inodes = reinterpret_cast<layout::Inode*>(image);
  for (uint64_t i = 0; i < kFiles; i++) {
    inodes[i].ino = static_cast<uint32_t>(i + 1);
    inodes[i].mode = S_IFREG | 0644;
    inodes[i].size = kPages * block_bytes;
  }
  auto* header = reinterpret_cast<layout::PageCacheHeader*>(image + block_bytes);
  header->magic = layout::kPageCacheMagic;
  header->slot_meta_offset = block_bytes;
  header->slot_data_offset = 2 * block_bytes;
  *shared = {};
}

layout::PageCacheHeader* Header() { return reinterpret_cast<layout::PageCacheHeader*>(image + block_bytes); }

/// One process's opening of the image, with a row of its own.
struct Opened {
  BaseImage base{image, block_bytes, 0, kFiles};
  CachedImage place;
  std::unique_ptr<CachedFiles> files;
  int error = 0;

  explicit Opened(uint64_t stamp = 1, bool attach = true) {
    place.base = &base;
    place.homes = homes;
    place.header_offset = block_bytes;
    if (PageCacheView::Open(image + block_bytes, image_bytes - block_bytes, kSlots, block_bytes, place.view) != 0) std::abort();
    files = std::make_unique<CachedFiles>(place, std::make_unique<TestSource>(stamp));
    int fd = -1;
    if (!attach) return;
    if (!Reopen(image_fd, true, fd).ok()) std::abort();
    error = files->Attach(fd, kBoot);
  }

  /// 0 and the right block, or the error.
  int Read(uint64_t ino, uint64_t page) {
    std::vector<uint8_t> block(block_bytes);
    if (const int failed = files->Read(ino, page, block.data())) return failed;
    const auto word = [&](uint64_t at) { return *reinterpret_cast<const uint64_t*>(block.data() + at); };
    return word(0) == ByteAt(ino, page) && word(block_bytes - 8) == ByteAt(ino, page) ? 0 : EBADMSG;
  }
  bool Pin(uint64_t ino, uint64_t page, PagePin& out) {
    CachedFiles::Pinning pinning(*files);
    const bool held = Read(ino, page) == 0 && pinning.held();
    if (held) out = pinning.Take();
    return held;
  }
  PageCacheCounters counters() const { return files->counters(); }
};

pid_t Child(const std::function<void()>& work) {
  std::fflush(stdout);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  work();
  _exit(0);
}

void End(pid_t pid, int signal) {
  int status = 0;
  if (signal != 0) kill(pid, signal);
  waitpid(pid, &status, 0);
  Require(signal == SIGKILL ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended as it should");
}

bool Until(const uint32_t& word) {
  for (int tries = 0; tries < 1000000; tries++) {
    if (RealAtom::Load(&word, std::memory_order_acquire) != 0) return true;
    usleep(100);
  }
  return false;
}

uint64_t SlotsIn(uint64_t state) {
  uint64_t count = 0;
  const auto* slots = reinterpret_cast<const Pair*>(image + 2 * block_bytes);
  for (uint64_t i = 0; i < kSlots; i++) count += slot_word::kState.get(slots[i].lo) == state;
  return count;
}

/// What one process has read, the next ones do not read again.
void OneCopy() {
  MakeImage();
  Opened here;
  for (uint64_t page = 0; page < 3; page++) Require(here.Read(1, page) == 0 && here.Read(2, page) == 0, "read");
  Require(shared->reads == 6, "each block was read once");
  for (int i = 0; i < 3; i++) {
    const pid_t pid = Child([] {
      Opened there;
      for (uint64_t page = 0; page < 3; page++) {
        if (there.Read(1, page) != 0 || there.Read(2, page) != 0) _exit(1);
      }
      if (there.counters().hits != 6 || there.counters().source_reads != 0) _exit(2);
    });
    End(pid, 0);
  }
  Require(shared->reads == 6, "and by no other process");
  Require(Header()->totals[0].hits == 18, "who has left is counted in the totals");
}

/// A child stops in the middle of filling (inode 1, page 2).
pid_t Filler() {
  shared->stop_page = 3;
  const pid_t pid = Child([] {
    shared->stopper = getpid();
    Opened there;
    if (there.Read(1, 2) != 0) _exit(1);
  });
  Require(Until(shared->stopped), "the filler has begun");
  return pid;
}

void KilledFiller() {
  MakeImage();
  const pid_t pid = Filler();
  Opened here;
  Require(here.Read(1, 2) == 0, "a page that a live process fills slowly: waited for, then read past the cache");
  Require(here.counters().fallbacks == 1 && here.counters().fills == 0, "its slot is left alone");
  Require(SlotsIn(slot_word::kPending) == 1 && Header()->pending_count == 1, "PENDING");
  Require(here.Read(1, 3) == 0 && here.counters().fills == 1, "other pages go on");
  End(pid, SIGKILL);
  Require(here.Read(1, 2) == 0 && here.counters().takeovers == 1, "kill -9: the claim is taken over and filled");
  Require(SlotsIn(slot_word::kPending) == 0 && Header()->pending_count == 0, "nothing is PENDING");
  Require(here.files->Recover() == 1 && here.files->Recover() == 0, "and its row is free again");
}

/// A filler that only slept publishes when it wakes up, and its page is right.
void SleepingFiller() {
  MakeImage();
  const pid_t pid = Filler();
  kill(pid, SIGSTOP);
  Opened here;
  Require(here.Read(1, 2) == 0 && here.counters().takeovers == 0, "a paused process is not dead");
  shared->stop_page = 0;
  kill(pid, SIGCONT);
  End(pid, 0);
  const uint64_t reads = shared->reads;
  Require(here.Read(1, 2) == 0 && shared->reads == reads, "its fill serves the others");
}

/// Without a look by a reader: the next opening, or Recover, frees what the dead left.
void DeadClaims() {
  MakeImage();
  End(Filler(), SIGKILL);
  shared->stop_page = 0;
  Header()->pending_count = 5;
  Opened here;
  Require(SlotsIn(slot_word::kPending) == 0 && Header()->pending_count == 0, "opening frees the claims of the dead");
  shared->stopped = 0;
  End(Filler(), SIGKILL);
  shared->stop_page = 0;
  Require(SlotsIn(slot_word::kPending) == 1, "a second one died");
  Require(here.files->Recover() == 1 && SlotsIn(slot_word::kPending) == 0, "Recover frees its claim");
}

/// Pins of a dead process are told apart and dropped; those of a live one stay.
void DeadPins() {
  MakeImage();
  Opened here;
  PagePin mine;
  Require(here.Pin(1, 0, mine), "pinned here");
  const pid_t pid = Child([] {
    Opened there;
    PagePin pin;
    if (!there.Pin(1, 0, pin) || !there.Pin(1, 1, pin)) _exit(1);
    RealAtom::Store(&shared->stopped, uint32_t{1}, std::memory_order_release);
    for (;;) pause();
  });
  Require(Until(shared->stopped), "pinned there");
  Require(here.files->Recover() == 0, "it lives");
  End(pid, SIGKILL);
  Require(here.files->Recover() == 1, "it is dead");
  const auto* slots = reinterpret_cast<const Pair*>(image + 2 * block_bytes);
  uint64_t pins = 0;
  for (uint64_t i = 0; i < kSlots; i++) pins += slot_word::kPins.get(slots[i].lo);
  Require(pins == 1 && *reinterpret_cast<const uint64_t*>(mine.data) == ByteAt(1, 0), "only ours is left");
  here.files->Unpin(mine);
}

/// 15 processes pin; one more reads all the same.
void Guests() {
  MakeImage();
  std::vector<std::unique_ptr<Opened>> all;
  for (uint32_t i = 0; i < layout::kHostsMax; i++) all.push_back(std::make_unique<Opened>());
  for (const auto& one : all) Require(one->error == 0 && one->files->attached() && one->Read(1, 0) == 0, "15 take part");
  Opened guest;
  Require(guest.error == 0 && !guest.files->attached(), "the sixteenth is a guest");
  const uint64_t reads = shared->reads;
  Require(guest.Read(1, 0) == 0 && shared->reads == reads, "who finds what is cached");
  Require(guest.Read(1, 1) == 0 && shared->reads == reads + 1 && SlotsIn(slot_word::kValid) == 1, "and reads the rest past the cache");
  all.pop_back();
  Opened next;
  Require(next.files->attached(), "a row serves again");
}

void Errors() {
  MakeImage();
  Opened here;
  for (const int error : {EIO, ESTALE, ENOMEM}) {
    shared->error = error;
    Require(here.Read(1, 0) == error && SlotsIn(slot_word::kFree) == kSlots, "a failed fill: its error, and a FREE slot");
  }
  shared->error = 0;
  Require(here.Read(1, 0) == 0, "then it can be read");
  Require(here.counters().fill_errors == 3 && Header()->pending_count == 0, "counted");
  std::vector<uint8_t> block(block_bytes, 1);
  const uint64_t reads = shared->reads;
  Require(here.files->Read(1, kPages, block.data()) == 0 && block[0] == 0 && shared->reads == reads, "zeros behind the end, of no slot");
  Require(here.Read(9, 0) == EIO && here.Read(1, 0x100000) == EFBIG, "no inode, no page");
}

/// A source that looks otherwise than the cached pages' gives them up, once nobody uses them.
void OtherSource() {
  MakeImage();
  auto first = std::make_unique<Opened>(uint64_t{1});
  Require(first->Read(1, 0) == 0, "cached");
  Opened refused(2);
  Require(refused.error == EBUSY, "somebody uses pages of the old source");
  Opened reader(2, false);
  Require(reader.Read(1, 0) == 0 && reader.counters().hits == 0, "a reader does not believe them");
  first.reset();
  Opened second(2);
  Require(second.error == 0 && SlotsIn(slot_word::kValid) == 0, "then they are given up");
}

/// Eight processes read all pages in a cache that holds two thirds of them; some die on the way.
void Crowd() {
  MakeImage();
  std::vector<pid_t> children;
  for (uint64_t child = 0; child < 8; child++) {
    children.push_back(Child([child] {
      Opened there;
      uint64_t random = child + 1;
      for (int i = 0; i < 3000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        if (there.Read(1 + (random >> 60) % kFiles, (random >> 40) % kPages) != 0) _exit(1);
        if (child >= 6 && i == 1500) kill(getpid(), SIGKILL);
      }
    }));
  }
  for (uint64_t child = 0; child < 8; child++) {
    int status = 0;
    waitpid(children[child], &status, 0);
    Require(child >= 6 ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0, "every byte was right");
  }
  Opened here;
  const auto* slots = reinterpret_cast<const Pair*>(image + 2 * block_bytes);
  for (uint64_t i = 0; i < kSlots; i++) Require(slot_word::kPins.get(slots[i].lo) == 0, "no pin is left");
  Require(SlotsIn(slot_word::kPending) == 0 && Header()->pending_count == 0, "nothing is PENDING");
  for (uint64_t ino = 1; ino <= kFiles; ino++) {
    for (uint64_t page = 0; page < kPages; page++) Require(here.Read(ino, page) == 0, "all pages are right");
  }
}

void All() {
  OneCopy();
  KilledFiller();
  SleepingFiller();
  DeadClaims();
  DeadPins();
  Guests();
  Errors();
  OtherSource();
  Crowd();
}

}  // namespace

int main() {
  shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (shared == MAP_FAILED) return 1;
  for (const FrontKind kind : {FrontKind::kKernel, FrontKind::kPrivate}) {
    homes = kind;
    for (const uint64_t bytes : {uint64_t{4096}, uint64_t{16384}, uint64_t{65536}}) {
      block_bytes = bytes;
      All();
    }
  }
  std::printf("cached_files_test: %s\n", failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
