// Goal: every live name of a private front keeps its slot in its directory's list, and a removed one's slot is free, whoever
// dies removing it. Method: a name is removed or moved and another made that takes the slot as soon as it is free; the
// remover, or the survivor that finishes its work, stopped for ever after each step, then recovery; seeded schedules beyond.
// Beside names of an equal key, too, which give each other new entries.
#include "det.h"
#include "overlay_fixture.h"

using namespace daxserve;
using namespace daxserve::test;

namespace {

bool ok = true;
int results[3];

using Atomic = DetAtom;
/// "a" and "k" have one key, as two of 2^63 names may.
struct OneKey {
  static uint64_t Key(uint64_t dir, const uint8_t* name, size_t bytes, uint32_t salt = 0) {
    return *name == 'a' || *name == 'k' ? 0x5555 + salt : FnvNames::Key(dir, name, bytes, salt);
  }
};
template <typename Names>
using Host = Overlay<Atomic, PrivateFront<Atomic, Names>>;
constexpr uint32_t kDead = 6;
constexpr uint32_t kSurvivor = 7;
constexpr uint64_t kSlots = 8;

TestFront& Region() {
  static TestFront front({FrontKind::kPrivate, 64, 80 * 1024, 8});
  return front;
}
bool DeadActor(void*, Owner owner) { return owner.host == kDead || det::Crashed(static_cast<int>(owner.host)); }
template <typename Names = FnvNames>
Host<Names> At(uint32_t host) {
  return Host<Names>(Region().Parts({host, 1}, {DeadActor, nullptr}));
}

uint64_t FirstSlot(const std::string& name) { return FnvName(1, Bytes(name), name.size()) % kSlots; }

/// A name that takes the slot of "a" when it is free, and another when it is not.
const std::string& Neighbour() {
  static const std::string name = [] {
    for (int i = 0;; i++) {
      std::string next = "n" + std::to_string(i);
      if (FirstSlot(next) == FirstSlot("a")) return next;
    }
  }();
  return name;
}

template <typename Names>
NameRec Look(Host<Names>& overlay, const std::string& name) {
  NameRec rec;
  DET_CHECK(overlay.front().names().Find(1, name, rec) == 0);
  return rec;
}

/// What a host leaves that dies giving "a" another entry: the slot has the old one.
template <typename Names>
void Unsettle(Host<Names>& overlay) {
  auto& files = overlay.front().files();
  NameRec rec = Look(overlay, "a");
  const auto entry = files.pool().Allocate(EntryType::kDirent);
  std::memcpy(Region().pool() + *entry, Region().pool() + rec.offset, sizeof(layout::OverlayDirent));
  DET_CHECK(files.table().Replace(rec.ref, *entry));
}

enum class Kind { kFile, kDirectory, kUnsettled };

template <typename Names = FnvNames>
void Setup(Kind kind) {
  Region().Clear();
  for (int& result : results) result = -1;
  auto overlay = At<Names>(kSurvivor);
  uint64_t a, b;
  DET_CHECK((kind == Kind::kDirectory ? overlay.Mkdir(1, "a", 0755, 0, 0, a) : overlay.Create(1, "a", 0644, 0, 0, a)) == 0);
  DET_CHECK(overlay.Create(1, "b", 0644, 0, 0, b) == 0);
  DET_CHECK(Look(overlay, "a").slot == FirstSlot("a"));
  if (kind == Kind::kUnsettled) Unsettle(overlay);
}

/// A dead host may have taken a name out and not said so yet, or was moving: its slot stays until the next check.
uint64_t SlotsLost() {
  const IntentRows intents = Region().Parts().intents;
  uint64_t lost = 0;
  for (uint32_t row = 0; row < intents.count; row++) {
    const auto kind = static_cast<IntentKind>(layout::intent_word::kKind.get(intents.rows[row].word));
    lost += kind == IntentKind::kRename || (kind == IntentKind::kUnlink && intents.rows[row].arg3 != 1);
  }
  return lost;
}

/// After recovery: of each slot the name that has it, each name in its slot, and no entry of theirs is free.
template <typename Names>
void Listed() {
  const uint64_t lost_max = SlotsLost();
  auto overlay = At<Names>(kSurvivor);
  overlay.Recover();
  const auto listed = ListOf(overlay, 1);
  std::vector<uint64_t> entries, slots;
  for (const std::string& name : {std::string("a"), std::string("b"), std::string("c"), std::string("k"), Neighbour()}) {
    const NameRec rec = Look(overlay, name);
    const bool live = rec.state == NameState::kLive;
    DET_CHECK(live == (listed.count(name) != 0) && !rec.claimed);
    if (rec.state != NameState::kAbsent) entries.push_back(rec.offset);
    if (live) slots.push_back(rec.slot);
  }
  auto& files = overlay.front().files();
  uint64_t lost = 0;
  for (uint64_t slot = 0; slot < kSlots; slot++) {
    BucketRef ref;
    const bool used = files.table().Find(PageKey(1, slot), ref) == FindResult::kFound;
    const bool held = std::find(slots.begin(), slots.end(), slot) != slots.end();
    DET_CHECK(used || !held);
    lost += used && !held;
    if (used && !held) entries.push_back(private_value::Offset(ref.value));
  }
  DET_CHECK(lost <= lost_max);
  while (const auto free = files.pool().Pop(EntryType::kDirent)) entries.push_back(*free);
  std::sort(entries.begin(), entries.end());
  DET_CHECK(std::adjacent_find(entries.begin(), entries.end()) == entries.end() && failures == 0);
}

std::function<void()> Create(int actor, const std::string& name) {
  return [=] {
    uint64_t ino;
    results[actor] = At(static_cast<uint32_t>(actor)).Create(1, name, 0644, 0, 0, ino);
  };
}
std::function<void()> Rename(int actor, const char* from, const char* to) {
  return [=] { results[actor] = At(static_cast<uint32_t>(actor)).Rename(1, from, 1, to, true); };
}

/// Actor 0 dead after each of its steps, then the others; schedules of at most two preemptions, and random ones.
void Run(const std::string& what, std::function<void()> setup, std::vector<std::function<void()>> actors) {
  const det::Scenario scenario{what, std::move(setup), std::move(actors), Listed<FnvNames>};
  det::Options options;
  options.preemptions_max = 0;
  options.runs_max = 4;
  ok &= det::ExploreCrashes(scenario, 0, options).ok;
  options.preemptions_max = 2;
  options.runs_max = 3000;
  ok &= det::Explore(scenario, options).ok;
  ok &= det::RunSeeded(scenario, 1, 2000).ok;
  ok &= det::RunSeeded(scenario, 999, 4000, true).ok;
}

/// The slot goes to another name, or to the next file of the same one.
void Taken(const std::string& taker) {
  const std::string beside = " beside a creator of " + taker;
  const auto unlink = [] { results[0] = At(0).Unlink(1, "a"); };
  const auto rmdir = [] { results[0] = At(0).Rmdir(1, "a"); };
  const auto create = Create(1, taker);
  for (const Kind kind : {Kind::kFile, Kind::kUnsettled}) {
    const std::string who = kind == Kind::kFile ? "" : ", its slot unsettled,";
    Run("unlink" + who + beside, [=] { Setup(kind); }, {unlink, create});
    Run("rename" + who + beside, [=] { Setup(kind); }, {Rename(0, "a", "c"), create});
    Run("rename over a name" + who + beside, [=] { Setup(kind); }, {Rename(0, "a", "b"), create});
  }
  Run("rmdir" + beside, [] { Setup(Kind::kDirectory); }, {rmdir, create});
  Run("unlink beside a rename over the name" + beside, [] { Setup(Kind::kFile); }, {unlink, create, Rename(2, "b", "a")});
}

/// A host died after it had taken the name out; who finishes that dies as well, after each step.
void SurvivorDies(const std::string& taker) {
  const auto setup = [] {
    Setup(Kind::kFile);
    auto overlay = At(kDead);
    const NameRec rec = Look(overlay, "a");
    bool full;
    overlay.front().intents().Begin(IntentKind::kUnlink, {1, rec.offset, rec.ino, 1, 0}, full);
    DET_CHECK(overlay.front().names().Unlink(1, "a", rec, false) == 0);
  };
  Run("the survivor of an unlink beside a creator of " + taker, setup, {[] { At(0).Recover(); }, Create(1, taker)});
}

/// While the name is held, a name of an equal key gives it another entry, and the old one must be no other name's: by it the
/// dead's intent knows what it held.
void BesideEqualKey(const std::string& what, std::function<void()> remove) {
  const auto create = [] {
    auto overlay = At<OneKey>(1);
    uint64_t ino;
    for (const std::string& name : {std::string("k"), Neighbour()}) DET_CHECK(overlay.Create(1, name, 0644, 0, 0, ino) == 0);
  };
  const det::Scenario scenario{what + " beside a creator of an equal key", [] { Setup<OneKey>(Kind::kDirectory); },
                               {std::move(remove), create}, Listed<OneKey>};
  det::Options options;
  options.preemptions_max = 1;
  options.runs_max = 100;
  ok &= det::ExploreCrashes(scenario, 0, options).ok;
}

}  // namespace

int main() {
  for (const std::string& taker : {Neighbour(), std::string("a")}) {
    Taken(taker);
    SurvivorDies(taker);
  }
  BesideEqualKey("rmdir", [] { results[0] = At<OneKey>(0).Rmdir(1, "a"); });
  BesideEqualKey("rename", [] { results[0] = At<OneKey>(0).Rename(1, "a", 1, "c", true); });
  std::printf("overlay_slot_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
