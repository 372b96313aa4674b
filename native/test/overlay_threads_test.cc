// Goal: what the schedules showed holds on real threads and memory orders. Method: 4 threads of 4 hosts mix all operations
// on one front (run under ASan and TSan); acknowledged files are all there afterwards, with their own bytes.
#include <thread>

#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

constexpr int kThreads = 4;
#if defined(__SANITIZE_THREAD__)
constexpr int kRounds = 400;
#else
constexpr int kRounds = 3000;
#endif

/// Content tells whose file it is: a page that belongs to somebody else is seen at once.
std::string Content(uint64_t ino, size_t bytes) { return std::string(bytes, static_cast<char>('A' + ino % 26)); }

template <typename Front>
void Work(TestFront& front, uint32_t host, std::map<std::string, uint64_t>& mine, std::string& wrong) {
  PageHand hand;
  OverlayParts parts = front.Parts({host, 1});
  parts.hand = &hand;
  Overlay<RealAtom, Front> overlay(parts);
  uint64_t random = host + 1;
  for (int i = 0; i < kRounds && wrong.empty(); i++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const std::string own = "t" + std::to_string(host) + "-" + std::to_string((random >> 40) % 8);
    const std::string common = "common" + std::to_string((random >> 50) % 4);
    uint64_t ino = 0, at = 0;
    FileStat stat;
    if (!mine.count(own)) {
      if (overlay.Create(1, own, 0644, 0, 0, ino) != 0) continue;
      const std::string text = Content(ino, 1 + (random >> 33) % 9000);
      if (overlay.Append(ino, Bytes(text), text.size(), at) == 0) mine[own] = ino;
      else if (overlay.Unlink(1, own) != 0) wrong = "own file cannot be removed";
    } else if (random >> 63) {
      const std::string text = ReadAll(overlay, mine[own]);
      if (text.empty() || text != Content(mine[own], text.size())) wrong = "foreign bytes in " + own;
    } else {
      if (overlay.Unlink(1, own) != 0) wrong = "unlink " + own;
      mine.erase(own);
    }
    if (overlay.Create(1, common, 0644, 0, 0, ino) == EEXIST) {
      if (i % 3 == 0) (void)overlay.Unlink(1, common);
      else (void)overlay.Rename(1, common, 1, "common" + std::to_string(i % 4), true);
    }
    if (i % 50 == 0) overlay.Readdir(1, [](std::string_view, uint64_t, uint32_t) { return true; });
  }
}

template <typename Front>
void Stress(FrontKind kind, const char* what) {
  TestFront front({kind, 1 << 16, kind == FrontKind::kPrivate ? 4u << 20 : 256u << 20, 64});
  std::map<std::string, uint64_t> mine[kThreads];
  std::string wrong[kThreads];
  std::thread threads[kThreads];
  for (uint32_t t = 0; t < kThreads; t++) threads[t] = std::thread([&, t] { Work<Front>(front, t, mine[t], wrong[t]); });
  for (auto& thread : threads) thread.join();
  Overlay<RealAtom, Front> overlay(front.Parts({9, 1}));
  const auto names = ListOf(overlay, 1);
  size_t acknowledged = 0;
  for (int t = 0; t < kThreads; t++) {
    Require(wrong[t].empty(), wrong[t]);
    acknowledged += mine[t].size();
    for (const auto& [name, ino] : mine[t]) {
      Require(names.count(name) && names.at(name) == ino, "acknowledged " + name);
      const std::string text = ReadAll(overlay, ino);
      Require(!text.empty() && text == Content(ino, text.size()), "bytes of " + name);
    }
  }
  std::printf("overlay_threads_test: %s: %d rounds in each of %d threads, %zu files at the end\n", what, kRounds, kThreads, acknowledged);
}

}  // namespace

int main() {
  Stress<PrivateFront<RealAtom>>(FrontKind::kPrivate, "private");
  Stress<KernelFront<RealAtom>>(FrontKind::kKernel, "kernel-mountable");
  std::printf("overlay_threads_test: %s\n", failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
