// Goal: a rename on a full front moves the name or changes nothing, also when the mover dies; a base name needs a tombstone.
// Method: a front over a base image with exactly n free directory entries, for every n that matters; bounded-exhaustive
// and seeded schedules of a mover, a reader and a creator; the mover stopped for ever after each of its steps, then recovery.
#include "det.h"
#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

bool ok = true;
int results[2];

using Atomic = DetAtom;
using Files = PrivateFiles<Atomic>;
/// "a" and "n" have one key, as two of 2^63 names may.
struct OneKey {
  static uint64_t Key(uint64_t dir, const uint8_t* name, size_t bytes, uint32_t salt = 0) {
    return *name == 'a' || *name == 'n' ? 0x5555 + salt : FnvNames::Key(dir, name, bytes, salt);
  }
};
template <typename Names>
using Host = Overlay<Atomic, PrivateFront<Atomic, Names>>;

/// A base with the files a (inode 2) and b (inode 3).
const BaseImage* Base() {
  static TestBase base(3);
  static const BaseImage* image = [] {
    base.Directory(1, 0755, {{"a", 2}, {"b", 3}});
    base.File(2, 0100644, "moved");
    base.File(3, 0100644, "replaced");
    return base.Finish();
  }();
  return image;
}

TestFront& Front() {
  static TestFront front({FrontKind::kPrivate, 64, 80 * 1024, 8});
  return front;
}
bool DeadActor(void*, Owner owner) { return det::Crashed(static_cast<int>(owner.host)); }
template <typename Names = FnvNames>
Host<Names> At(uint32_t host) {
  return Host<Names>(Front().Parts({host, 1}, {DeadActor, nullptr}));
}

/// Gives every directory entry away but `entries`.
void Fill(unsigned entries) {
  Files files(Front().Parts({7, 1}));
  std::vector<uint64_t> taken;
  while (const auto offset = files.pool().Allocate(EntryType::kDirent)) taken.push_back(*offset);
  for (unsigned i = 0; i < entries; i++) files.pool().Free(EntryType::kDirent, taken[i]);
}

/// The root has slots, "a" has an entry of the overlay as after any earlier rename of it, and `entries` are free.
template <typename Names = FnvNames>
void Setup(unsigned entries) {
  Front().Clear(3);
  Front().SetBase(Base());
  auto overlay = At<Names>(7);
  uint64_t ino;
  DET_CHECK(overlay.Create(1, "x", 0644, 0, 0, ino) == 0 && overlay.Unlink(1, "x") == 0);
  DET_CHECK(overlay.Rename(1, "a", 1, "x", false) == 0 && overlay.Rename(1, "x", 1, "a", false) == 0);
  Fill(entries);
  for (int& result : results) result = -1;
}

/// Exactly one of the two names leads to inode 2, and the other to what was there before, or nowhere.
template <typename Names = FnvNames>
void OneName(const std::string& to, uint64_t before, int result) {
  auto overlay = At<Names>(7);
  overlay.Recover();
  const auto names = ListOf(overlay, 1);
  const auto leads = [&](const std::string& name) { return names.count(name) ? names.at(name) : 0; };
  const bool moved = leads("a") == 0;
  DET_CHECK(leads(to) == (moved ? 2 : before) && (moved || leads("a") == 2));
  DET_CHECK(result != 0 || moved);
  DET_CHECK(result == 0 || result == -1 || !moved);
  for (const char* name : {"a", "b", "c"}) {
    FileStat stat;
    const int found = overlay.Lookup(1, name, stat);
    DET_CHECK(found == (leads(name) ? 0 : ENOENT) && (found != 0 || stat.ino == leads(name)));
  }
  DET_CHECK(ReadAll(overlay, 2) == "moved" && overlay.Recover() == 0 && failures == 0);
}

/// Nobody else: with how much room it begins to work, and what it leaves where there is none.
void Alone(const char* to, uint64_t before) {
  unsigned works = 0;
  for (unsigned entries = 0; entries <= 4; entries++) {
    det::Scenario scenario{"alone", [=] { Setup(entries); }, {[=] { results[0] = At(0).Rename(1, "a", 1, to, true); }}, [=] {
      OneName(to, before, results[0]);
      DET_CHECK(results[0] == 0 || results[0] == ENOSPC);
    }};
    ok &= det::Explore(scenario).ok;
    works += results[0] == 0;
    // One entry to claim the source with, whose old one then names the target: the tombstone takes none.
    Require((results[0] == 0) == (entries >= 1), std::string(to) + " with room for " + std::to_string(entries));
  }
  Require(works == 4, "it works with room");
}

/// A reader never sees neither name; the mover may die anywhere.
void UnderReader(const char* to, uint64_t before, unsigned entries) {
  const auto move = [=] { results[0] = At(0).Rename(1, "a", 1, to, true); };
  const auto look = [=] {
    auto overlay = At(1);
    FileStat stat;
    if (overlay.Lookup(1, "a", stat) == ENOENT) DET_CHECK(overlay.Lookup(1, to, stat) == 0 && stat.ino == 2);
  };
  det::Scenario scenario{"rename on a full front under a reader", [=] { Setup(entries); }, {move, look}, [=] {
    OneName(to, before, results[0]);
  }};
  det::Options options;
  options.preemptions_max = 2;
  options.runs_max = 6000;
  ok &= det::Explore(scenario, options).ok;
  ok &= det::RunSeeded(scenario, 1, 2000).ok;
  options.preemptions_max = 0;
  options.runs_max = 4;
  ok &= det::ExploreCrashes(scenario, 0, options).ok;
  ok &= det::RunSeeded(scenario, 999, 2000, true).ok;
}

/// The name is made anew as soon as it is gone: whoever revives a buried name frees its entry, and nobody else does.
void BesideCreator() {
  static uint64_t made;
  const auto move = [] { results[0] = At(0).Rename(1, "a", 1, "c", true); };
  const auto create = [] { results[1] = At(1).Create(1, "a", 0644, 0, 0, made); };
  det::Scenario scenario{"a buried name is made anew", [] { Setup(2); }, {move, create}, [] {
    auto overlay = At(7);
    overlay.Recover();
    const auto names = ListOf(overlay, 1);
    DET_CHECK(results[1] == 0 || results[1] == EEXIST || results[1] == ENOSPC || results[1] == EBUSY || results[1] == -1);
    if (results[1] == 0) DET_CHECK(names.count("a") && names.at("a") == made && names.count("c"));
    if (results[0] == 0) DET_CHECK(names.count("c") && names.at("c") == 2);
    DET_CHECK(names.count("c") || (names.count("a") && names.at("a") == 2));
    // No entry is free twice, and none is free that a name has.
    Files files(Front().Parts({7, 1}));
    std::vector<uint64_t> offsets;
    while (const auto free = files.pool().Pop(EntryType::kDirent)) offsets.push_back(*free);
    for (const char* name : {"a", "c"}) {
      NameRec rec;
      DET_CHECK(overlay.front().names().Find(1, name, rec) == 0);
      if (rec.state != NameState::kAbsent) offsets.push_back(rec.offset);
    }
    std::sort(offsets.begin(), offsets.end());
    DET_CHECK(std::adjacent_find(offsets.begin(), offsets.end()) == offsets.end());
  }};
  det::Options options;
  options.preemptions_max = 2;
  options.runs_max = 6000;
  ok &= det::Explore(scenario, options).ok;
  ok &= det::RunSeeded(scenario, 5, 3000).ok;
  ok &= det::RunSeeded(scenario, 77, 3000, true).ok;
}

/// A neighbour of an equal key copies the mover's entry to mark it, and must not bring the name back. The worst moment: it
/// has copied it while the source was claimed, holds the last entry but one, and goes on when all is done.
void BesideNeighbour(unsigned entries, uint64_t runs) {
  static uint64_t made;
  const auto move = [] { results[0] = At<OneKey>(0).Rename(1, "a", 1, "c", true); };
  const auto create = [] { results[1] = At<OneKey>(1).Create(1, "n", 0644, 0, 0, made); };
  det::Scenario scenario{"a neighbour of an equal key", [=] { Setup<OneKey>(entries); }, {move, create}, [] {
    OneName<OneKey>("c", 0, results[0]);
    auto overlay = At<OneKey>(7);
    FileStat stat;
    const int found = overlay.Lookup(1, "n", stat);
    DET_CHECK(results[1] != 0 || (found == 0 && stat.ino == made));
    DET_CHECK(results[1] == 0 || results[1] == -1 || found == ENOENT);
  }};
  det::Options options;
  options.preemptions_max = 2;
  options.runs_max = runs;
  ok &= det::Explore(scenario, options).ok;
  ok &= det::RunSeeded(scenario, entries, 2000).ok;
  ok &= det::RunSeeded(scenario, 50 + entries, 2000, true).ok;
}

}  // namespace

int main() {
  for (const auto& [to, before] : {std::pair{"c", 0}, std::pair{"b", 3}}) {
    Alone(to, static_cast<uint64_t>(before));
    for (const unsigned entries : {1, 2}) UnderReader(to, static_cast<uint64_t>(before), entries);
  }
  BesideCreator();
  for (unsigned entries = 1; entries <= 5; entries++) BesideNeighbour(entries, entries == 3 ? 0 : 1000);
  std::printf("overlay_full_rename_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
