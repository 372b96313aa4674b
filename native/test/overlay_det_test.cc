// Goal: operations of several hosts on one front are as if one after another, a dead host leaves nothing half done, and no
// one ever sees or writes a recycled page. Method: bounded-exhaustive and seeded schedules of 2-3 actors on both kinds of
// front; one actor stopped for ever after each of its steps, then recovery; outcomes compared with the sequential ones.
#include "det.h"
#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

using Private = PrivateFront<DetAtom>;
using Kernel = KernelFront<DetAtom>;
constexpr FrontKind KindOf(Private*) { return FrontKind::kPrivate; }
constexpr FrontKind KindOf(Kernel*) { return FrontKind::kKernel; }
template <typename F>
constexpr FrontKind kKind = KindOf(static_cast<F*>(nullptr));

bool ok = true;
int results[3];
uint64_t inos[3];
std::string texts[3];
PageHand hands[3];

template <typename F>
TestFront& Front() {
  static TestFront front({kKind<F>, 64, 80 * 1024, 8});
  return front;
}
bool DeadActor(void*, Owner owner) { return det::Crashed(static_cast<int>(owner.host)); }
template <typename F>
Overlay<DetAtom, F> Host(uint32_t host) {
  return Overlay<DetAtom, F>(Front<F>().Parts({host, 1}, {DeadActor, nullptr}));
}
template <typename F>
std::string Name(const char* what) {
  return std::string(kKind<F> == FrontKind::kPrivate ? "private: " : "kernel: ") + what;
}
void Reset() {
  for (int& result : results) result = -1;
  for (uint64_t& ino : inos) ino = 0;
  for (PageHand& hand : hands) hand = {};
}

/// Every schedule of at most two preemptions (up to a bound), random ones, and actor 0 dead after each step.
template <typename F>
void Run(const char* what, std::function<void()> setup, std::vector<std::function<void()>> actors, std::function<void()> check,
         bool crashes = true) {
  det::Scenario scenario{Name<F>(what), [=] { Front<F>().Clear(); Reset(); setup(); }, std::move(actors), std::move(check)};
  det::Options options;
  options.preemptions_max = 2;
  options.runs_max = 6000;
  ok &= det::Explore(scenario, options).ok;
  ok &= det::RunSeeded(scenario, 1, 3000).ok;
  if (!crashes) return;
  options.preemptions_max = 0;
  options.runs_max = 4;
  ok &= det::ExploreCrashes(scenario, 0, options).ok;
  ok &= det::RunSeeded(scenario, 999, 3000, true).ok;
}

template <typename F>
std::function<void()> Create(int actor, const char* name) {
  return [=] { results[actor] = Host<F>(static_cast<uint32_t>(actor)).Create(1, name, 0644, 0, 0, inos[actor]); };
}

/// After recovery by host 7: the directory lists exactly what lookups find, each inode behind it.
template <typename F>
std::map<std::string, uint64_t> Recovered() {
  auto overlay = Host<F>(7);
  overlay.Recover();
  const auto names = ListOf(overlay, 1);
  for (const auto& [name, ino] : names) {
    FileStat stat;
    DET_CHECK(overlay.Lookup(1, name, stat) == 0 && stat.ino == ino);
  }
  for (const char* name : {"a", "b", "c", "d"}) {
    FileStat stat;
    DET_CHECK((overlay.Lookup(1, name, stat) == 0) == (names.count(name) != 0));
  }
  DET_CHECK(overlay.Recover() == 0 && failures == 0);
  return names;
}

/// Section 15 items 7 and 20: one creator wins on all hosts; a dead one leaves all or nothing.
template <typename F>
void ExclusiveCreate(bool revive) {
  auto setup = [=] {
    if (!revive) return;
    auto overlay = Host<F>(7);
    uint64_t ino;
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, ino) == 0 && overlay.Unlink(1, "a") == 0);
  };
  Run<F>(revive ? "two creators revive one name" : "two creators, one name", setup, {Create<F>(0, "a"), Create<F>(1, "a")}, [] {
    const auto names = Recovered<F>();
    int won = 0;
    for (int i = 0; i < 2; i++) {
      if (results[i] == 0) DET_CHECK(names.count("a") && names.at("a") == inos[i]);
      won += results[i] == 0;
      DET_CHECK(results[i] == 0 || results[i] == EEXIST || (results[i] == -1 && det::Crashed(i)) || (results[i] == EBUSY && (det::Crashed(1 - i) || kKind<F> == FrontKind::kKernel)));
    }
    DET_CHECK(won <= 1 && (won == 1 || det::Crashed(0) || det::Crashed(1)));
    uint64_t ino;
    DET_CHECK(Host<F>(7).Create(1, "a", 0644, 0, 0, ino) == (names.count("a") ? EEXIST : 0));
  });
}

template <typename F>
void CreateBeside() {
  Run<F>("two creators, two names", [] {}, {Create<F>(0, "a"), Create<F>(1, "b")}, [] {
    const auto names = Recovered<F>();
    DET_CHECK(det::Crashed(0) || (results[0] == 0 && names.at("a") == inos[0]));
    DET_CHECK(det::Crashed(1) || (results[1] == 0 && names.at("b") == inos[1]));
  });
}

/// Section 15 item 6: never neither name, also when the mover dies.
template <typename F>
void RenameSeen() {
  static uint64_t ino;
  auto setup = [] { DET_CHECK(Host<F>(7).Create(1, "a", 0644, 0, 0, ino) == 0); };
  auto look = [] {
    auto overlay = Host<F>(1);
    FileStat stat;
    if (overlay.Lookup(1, "a", stat) == ENOENT) DET_CHECK(overlay.Lookup(1, "b", stat) == 0 && stat.ino == ino);
  };
  Run<F>("rename under a reader", setup, {[] { results[0] = Host<F>(0).Rename(1, "a", 1, "b", true); }, look}, [] {
    const auto names = Recovered<F>();
    DET_CHECK(names.size() == 1 && names.begin()->second == ino);
    DET_CHECK(results[0] != 0 || names.count("b"));
  });
}

template <typename F>
void RenameReplace() {
  static uint64_t a, b;
  auto setup = [] {
    auto overlay = Host<F>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && overlay.Create(1, "b", 0644, 0, 0, b) == 0);
    DET_CHECK(WriteAt(overlay, a, 0, "new") == 0 && WriteAt(overlay, b, 0, "old") == 0);
  };
  auto read = [] {
    auto overlay = Host<F>(1);
    FileStat stat;
    const int error = overlay.Lookup(1, "b", stat);
    DET_CHECK(error == 0 && (stat.ino == a || stat.ino == b));
    const std::string text = ReadAll(overlay, stat.ino);
    DET_CHECK(text == "new" || text == "old" || text == "<none>" || text == "<error>");
  };
  Run<F>("rename over a file under a reader", setup, {[] { results[0] = Host<F>(0).Rename(1, "a", 1, "b", true); }, read}, [] {
    const auto names = Recovered<F>();
    auto overlay = Host<F>(7);
    DET_CHECK(names.count("b"));
    const bool moved = names.at("b") == a;
    DET_CHECK(moved ? names.count("a") == 0 : names.at("a") == a && names.at("b") == b);
    DET_CHECK(ReadAll(overlay, names.at("b")) == (moved ? "new" : "old"));
    DET_CHECK(results[0] != 0 || moved);
  });
}

template <typename F>
void RenameDuel() {
  static uint64_t ino;
  auto setup = [] { DET_CHECK(Host<F>(7).Create(1, "a", 0644, 0, 0, ino) == 0); };
  auto move = [](int actor, const char* to) {
    return [=] { results[actor] = Host<F>(static_cast<uint32_t>(actor)).Rename(1, "a", 1, to, true); };
  };
  Run<F>("two renames of one name", setup, {move(0, "b"), move(1, "c")}, [] {
    const auto names = Recovered<F>();
    DET_CHECK(names.size() == 1 && names.begin()->second == ino);
    DET_CHECK(results[0] != 0 || results[1] != 0);
    DET_CHECK(results[0] != 0 || names.count("b"));
    DET_CHECK(results[1] != 0 || names.count("c"));
  });
}

/// What a rename wanted to replace is moved away meanwhile, and lives on there.
template <typename F>
void RenameOverMoved() {
  static uint64_t a, b;
  auto setup = [] {
    auto overlay = Host<F>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, "one") == 0);
    DET_CHECK(overlay.Create(1, "b", 0644, 0, 0, b) == 0 && WriteAt(overlay, b, 0, "two") == 0);
  };
  auto move = [](int actor, const char* from, const char* to) {
    return [=] { results[actor] = Host<F>(static_cast<uint32_t>(actor)).Rename(1, from, 1, to, true); };
  };
  Run<F>("a rename over a name that is moved away", setup, {move(0, "a", "b"), move(1, "b", "c")}, [] {
    const auto names = Recovered<F>();
    auto overlay = Host<F>(7);
    for (const auto& [name, ino] : names) DET_CHECK(ReadAll(overlay, ino) == (ino == a ? "one" : "two"));
    if (results[1] == 0) DET_CHECK(names.count("c"));
    if (results[0] == 0) DET_CHECK(names.count("a") == 0);
    if (names.count("c") && names.at("c") == a) DET_CHECK(results[0] == 0 || det::Crashed(0));
  });
}

template <typename F>
void UnlinkDuel() {
  static uint64_t ino;
  auto setup = [] {
    auto overlay = Host<F>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, ino) == 0 && WriteAt(overlay, ino, 0, "text") == 0);
  };
  auto unlink = [](int actor) { return [=] { results[actor] = Host<F>(static_cast<uint32_t>(actor)).Unlink(1, "a"); }; };
  Run<F>("two unlinks of one name", setup, {unlink(0), unlink(1)}, [] {
    const auto names = Recovered<F>();
    DET_CHECK(results[0] != 0 || results[1] != 0);
    if (results[0] == 0 || results[1] == 0) DET_CHECK(names.empty());
    if (!det::Crashed(0) && !det::Crashed(1)) DET_CHECK(names.empty());
  });
}

/// rmdir and a create in it: never both.
template <typename F>
void RmdirBesideCreate() {
  static uint64_t dir;
  auto setup = [] { DET_CHECK(Host<F>(7).Mkdir(1, "d", 0755, 0, 0, dir) == 0); };
  auto create = [] { results[1] = Host<F>(1).Create(dir, "x", 0644, 0, 0, inos[1]); };
  Run<F>("rmdir beside a create", setup, {[] { results[0] = Host<F>(0).Rmdir(1, "d"); }, create}, [] {
    const auto names = Recovered<F>();
    DET_CHECK(results[0] != 0 || results[1] != 0);
    DET_CHECK(results[0] != 0 || names.empty());
    DET_CHECK(results[1] != 0 || (names.count("d") && ListOf(*std::make_unique<Overlay<DetAtom, F>>(Host<F>(7)), dir).count("x")));
  });
}

/// The worst moment for a reader: stopped in the middle of its copy while the page goes to another file.
void RecycledUnderReader() {
  static uint64_t a;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(4096, 'a')) == 0);
  };
  auto read = [] { texts[0] = ReadAll(*std::make_unique<Overlay<DetAtom, Private>>(Host<Private>(0)), a); };
  auto recycle = [] {
    auto overlay = Host<Private>(1);
    uint64_t b;
    DET_CHECK(overlay.Unlink(1, "a") == 0 && overlay.Create(1, "b", 0644, 0, 0, b) == 0);
    DET_CHECK(WriteAt(overlay, b, 0, std::string(4096, 'b')) == 0);
  };
  Run<Private>("a page is recycled under a reader", setup, {read, recycle}, [] {
    DET_CHECK(det::Crashed(0) || texts[0] == std::string(4096, 'a') || texts[0] == "<none>" || texts[0] == "<error>");
  }, false);
}

/// The worst moment for a writer: it wakes up after its file is gone and its page is another file's.
void RecycledUnderWriter() {
  static uint64_t a, b;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    b = 0;
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(4096, 'a')) == 0);
  };
  auto write = [] { results[0] = WriteAt(*std::make_unique<Overlay<DetAtom, Private>>(Host<Private>(0)), a, 100, "WWWW"); };
  auto recycle = [] {
    auto overlay = Host<Private>(1);
    DET_CHECK(overlay.Unlink(1, "a") == 0 && overlay.Create(1, "b", 0644, 0, 0, b) == 0);
    DET_CHECK(WriteAt(overlay, b, 0, std::string(4096, 'b')) == 0);
  };
  Run<Private>("a page is recycled under a writer", setup, {write, recycle}, [] {
    if (b == 0 || det::Crashed(1)) return;
    auto overlay = Host<Private>(7);
    DET_CHECK(ReadAll(overlay, b) == std::string(4096, 'b'));
    DET_CHECK(results[0] == 0 || results[0] == ENOENT || det::Crashed(0));
  });
}

/// An actor's overlay with a hand.
Overlay<DetAtom, Private> Handed(int actor) {
  OverlayParts parts = Front<Private>().Parts({static_cast<uint32_t>(actor), 1}, {DeadActor, nullptr});
  parts.hand = &hands[actor];
  return Overlay<DetAtom, Private>(parts);
}

/// Every page is in one place: the file, a hand or the free list. @returns how many there are
size_t PagesInOnePlace(uint64_t ino, uint64_t pages) {
  auto files = PrivateFiles<DetAtom>(Front<Private>().Parts({7, 1}));
  std::vector<uint64_t> seen;
  for (uint64_t page = 0; page < pages; page++) {
    BucketRef ref;
    if (files.table().Find(PageKey(ino, page), ref) == FindResult::kFound) seen.push_back(private_value::Offset(ref.value));
  }
  for (const PageHand& hand : hands) {
    if (hand.page != kNone) seen.push_back(hand.page);
  }
  while (const auto free = files.pool().Pop(EntryType::kPage)) seen.push_back(*free);
  std::sort(seen.begin(), seen.end());
  DET_CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
  return seen.size();
}

/// A page goes from the file to the writer's hand and back into the file while a reader is in the middle of copying it.
void RewrittenUnderReader() {
  static uint64_t a;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(4096, 'a')) == 0);
  };
  auto read = [] { texts[0] = ReadAll(*std::make_unique<Overlay<DetAtom, Private>>(Host<Private>(0)), a); };
  auto rewrite = [] {
    auto overlay = Handed(1);
    for (const char c : {'b', 'c', 'd'}) results[1] = WriteAt(overlay, a, 0, std::string(4096, c));
    overlay.front().files().EmptyHand();
  };
  Run<Private>("a page is rewritten from a hand under a reader", setup, {read, rewrite}, [] {
    const std::string& text = texts[0];
    DET_CHECK(det::Crashed(0) || (text.size() == 4096 && text == std::string(4096, text[0]) && text[0] >= 'a' && text[0] <= 'd'));
    const size_t pages = PagesInOnePlace(a, 1);
    DET_CHECK(det::Crashed(1) || (results[1] == 0 && hands[1].page == kNone && pages == 2));
  }, false);
}

/// Two hosts rewrite one page, each through its hand: no page is in two places, and none is lost while both live.
void HandsOfTwoWriters() {
  static uint64_t a;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(4096, 'a')) == 0);
  };
  auto write = [](int actor, char c) {
    return [=] {
      auto overlay = Handed(actor);
      for (int i = 0; i < 2; i++) results[actor] = WriteAt(overlay, a, 0, std::string(4096, c));
    };
  };
  Run<Private>("two hands on one page", setup, {write(0, 'b'), write(1, 'c')}, [] {
    auto overlay = Host<Private>(7);
    const std::string text = ReadAll(overlay, a);
    DET_CHECK(text.size() == 4096 && text == std::string(4096, text[0]));
    const size_t pages = PagesInOnePlace(a, 1);
    const bool whole = !det::Crashed(0) && !det::Crashed(1);
    DET_CHECK(!whole || (results[0] == 0 && results[1] == 0 && text[0] != 'a' && pages == 3));
  });
}

/// One hand takes the pages of a file that goes while another writes into it.
void HandsBesideUnlink() {
  static uint64_t a;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(8192, 'a')) == 0);
  };
  auto write = [] {
    auto overlay = Handed(0);
    for (const uint64_t at : {0, 4096}) results[0] = WriteAt(overlay, a, at, std::string(4096, 'b'));
  };
  auto unlink = [] { results[1] = Handed(1).Unlink(1, "a"); };
  Run<Private>("a hand writes a file that another removes", setup, {write, unlink}, [] {
    auto overlay = Host<Private>(7);
    overlay.Recover();
    DET_CHECK(results[0] == 0 || results[0] == ENOENT || det::Crashed(0));
    const bool whole = !det::Crashed(0) && !det::Crashed(1);
    DET_CHECK(!whole || (results[1] == 0 && ReadAll(overlay, a) == "<none>"));
    const size_t pages = PagesInOnePlace(a, 2);
    DET_CHECK(!whole || pages >= 2);
    BucketRef ref;
    auto& table = overlay.front().files().table();
    for (const uint64_t page : {0, 1}) DET_CHECK(!whole || table.Find(PageKey(a, page), ref) == FindResult::kAbsent);
  });
}

/// Section 15 item 18: two writers of one page, both parts stay (private); the larger size wins (both kinds).
template <typename F>
void WritersOfOnePage() {
  static uint64_t a;
  auto setup = [] { DET_CHECK(Host<F>(7).Create(1, "a", 0644, 0, 0, a) == 0); };
  auto write = [](int actor, uint64_t at, const char* text) {
    return [=] { results[actor] = WriteAt(*std::make_unique<Overlay<DetAtom, F>>(Host<F>(static_cast<uint32_t>(actor))), a, at, text); };
  };
  Run<F>("two writers of one page", setup, {write(0, 0, "abcd"), write(1, 4, "efgh")}, [] {
    auto overlay = Host<F>(7);
    const std::string text = ReadAll(overlay, a);
    if (results[0] == 0) DET_CHECK(text.substr(0, 4) == "abcd");
    if (results[1] == 0) DET_CHECK(text.size() == 8 && text.substr(4) == "efgh");
  });
}

template <typename F>
void Appends() {
  static uint64_t a;
  auto setup = [] { DET_CHECK(Host<F>(7).Create(1, "a", 0644, 0, 0, a) == 0); };
  auto append = [](int actor, const char* text) {
    return [=] {
      uint64_t at;
      results[actor] = Host<F>(static_cast<uint32_t>(actor)).Append(a, Bytes(text), 3, at);
    };
  };
  Run<F>("two appends", setup, {append(0, "one"), append(1, "two")}, [] {
    auto overlay = Host<F>(7);
    const std::string text = ReadAll(overlay, a);
    for (int i = 0; i < 2; i++) DET_CHECK(results[i] != 0 || text.find(i == 0 ? "one" : "two") != text.npos);
    if (!det::Crashed(0) && !det::Crashed(1)) DET_CHECK(text == "onetwo" || text == "twoone");
  });
}

/// A write and a truncation are one before the other: never a size with the bytes gone.
void TruncateBesideWrite() {
  static uint64_t a;
  auto setup = [] {
    auto overlay = Host<Private>(7);
    DET_CHECK(overlay.Create(1, "a", 0644, 0, 0, a) == 0 && WriteAt(overlay, a, 0, std::string(5000, 'x')) == 0);
  };
  auto write = [] { results[1] = WriteAt(*std::make_unique<Overlay<DetAtom, Private>>(Host<Private>(1)), a, 4090, "0123456789"); };
  Run<Private>("truncate beside a write", setup, {[] { results[0] = Host<Private>(0).Truncate(a, 10); }, write}, [] {
    auto overlay = Host<Private>(7);
    FileStat stat;
    DET_CHECK(overlay.Stat(a, stat) == 0);
    const std::string text = ReadAll(overlay, a);
    const std::string ten(10, 'x');
    std::string first = ten, second = ten + std::string(4080, '\0') + "0123456789", before(5000, 'x');
    std::string whole = before;
    whole.replace(4090, 10, "0123456789");
    if (results[0] == 0 && results[1] == 0) DET_CHECK(text == first || text == second);
    else DET_CHECK(text == first || text == second || text == before || text == whole || det::Crashed(1));
    // Nothing old comes back when the file grows again.
    if (results[0] != 0 || results[1] != 0) return;
    DET_CHECK(overlay.Truncate(a, 10) == 0 && overlay.Truncate(a, 6000) == 0);
    DET_CHECK(ReadAll(overlay, a) == ten + std::string(5990, '\0'));
  });
}

template <typename F>
void Both() {
  ExclusiveCreate<F>(false);
  ExclusiveCreate<F>(true);
  CreateBeside<F>();
  RenameSeen<F>();
  RenameReplace<F>();
  RenameDuel<F>();
  RenameOverMoved<F>();
  UnlinkDuel<F>();
  RmdirBesideCreate<F>();
  WritersOfOnePage<F>();
  Appends<F>();
}

}  // namespace

int main() {
  Both<Private>();
  Both<Kernel>();
  RecycledUnderReader();
  RecycledUnderWriter();
  TruncateBesideWrite();
  RewrittenUnderReader();
  HandsOfTwoWriters();
  HandsBesideUnlink();
  std::printf("overlay_det_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
