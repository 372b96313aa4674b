// Goal: a name is in one bucket and points where the last set said, also in buckets that had other names before. Method: det
// scheduler over two and three hosts that set, move and find names, with crashes after every step, hosts taken for dead and
// planted hash collisions.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World world({.contents = 3, .names = 4, .chunks = 3, .spins = 12, .rounds = 1});
ContentRef refs[2];
NameResult results[3];
bool ok = true;
constexpr const char* kName = "org/m:latest";

/// Two contents to point at, of host 2, so that the death of 0 or 1 does not take them.
void Reset() {
  world.Reset();
  for (uint32_t i = 0; i < 2; i++) refs[i] = world.Publish(2, {i, 9}, 1);
  for (auto& result : results) result = {NameOutcome::kFull, {}};
}

std::function<void()> Sets(uint32_t row, std::optional<ContentRef>* to, NameExpectation expected) {
  return [row, to, expected] { results[row] = world.host(row).SetName(kName, *to, expected); };
}

std::optional<ContentRef> first, second;
const NameExpectation kNothing{false, {}};

void Prepare() {
  Reset();
  first = refs[0];
  second = refs[1];
}

uint32_t CountOf(NameOutcome outcome) {
  uint32_t count = 0;
  for (const auto& result : results) count += result.outcome == outcome;
  return count;
}

void TestFirstSet() {
  const det::Scenario two{"name set by 2", Prepare, {Sets(0, &first, kNothing), Sets(1, &second, kNothing)}, [] {
                            DET_CHECK(world.BucketsOf(kName) == 1);
                            DET_CHECK(CountOf(NameOutcome::kSet) == 1);
                            const auto target = world.host(2).names().Find(kName);
                            DET_CHECK(target == (results[0].outcome == NameOutcome::kSet ? first : second));
                            for (const auto& result : results) {
                              if (result.outcome == NameOutcome::kConflict) DET_CHECK(result.ref == target);
                            }
                          }};
  ok &= det::Explore(two, Runs(200000)).ok;
  ok &= det::Explore({"name set by 2, preempted", Prepare, two.actors, two.check}, Preempt(4, 50000)).ok;
  const auto third = Sets(2, &second, kNothing);
  const det::Scenario three{"name set by 3", Prepare, {two.actors[0], two.actors[1], third}, [] {
                              DET_CHECK(world.BucketsOf(kName) == 1);
                              DET_CHECK(CountOf(NameOutcome::kSet) == 1);
                            }};
  ok &= det::Explore(three, Preempt(2, 50000)).ok;
  ok &= det::RunSeeded(three, 1, 50000).ok;
}

void TestMove() {
  const auto prepare = [] {
    Prepare();
    world.host(2).SetName(kName, first, kNothing);
  };
  static std::optional<ContentRef> nothing;
  static std::optional<ContentRef> seen;
  const auto expect_first = [](uint32_t row, std::optional<ContentRef>* to) {
    return [row, to] { results[row] = world.host(row).SetName(kName, *to, {false, first}); };
  };
  const auto find = [] { seen = world.host(2).names().Find(kName); };
  const det::Scenario moves{"name moved by 2", prepare, {expect_first(0, &second), expect_first(1, &nothing), find}, [] {
                              DET_CHECK(CountOf(NameOutcome::kSet) == 1);
                              DET_CHECK(CountOf(NameOutcome::kConflict) == 1);
                              const bool moved = results[0].outcome == NameOutcome::kSet;
                              DET_CHECK(world.host(2).names().Find(kName) == (moved ? second : std::nullopt));
                              DET_CHECK(seen == first || seen == (moved ? second : std::nullopt));
                            }};
  ok &= det::Explore(moves, Runs(100000)).ok;
}

void TestCrash() {
  const auto check = [] {
    DET_CHECK(results[1].outcome != NameOutcome::kLost);
    world.host(1).hosts().Lapse(world.host(0).self());
    // The survivor sets the name without any recovery: it takes over what the dead one left.
    const auto now = world.host(1).SetName(kName, second, {});
    DET_CHECK(now.outcome == NameOutcome::kSet);
    DET_CHECK(world.host(2).names().Find(kName) == second);
    DET_CHECK(world.BucketsOf(kName) == 1);
    world.host(1).Recover(0, Proof::kDead);
    DET_CHECK(world.BucketsIn(words::NameState::kClaimed) + world.BucketsIn(words::NameState::kQuarantined) == 0);
  };
  const det::Scenario two{"name set, one stops", Prepare, {Sets(0, &first, {}), Sets(1, &second, {})}, check};
  ok &= det::ExploreCrashes(two, 0, Runs(20000)).ok;
  const det::Scenario swept{"name set, one stops and is swept", Prepare, two.actors, [check] {
                              world.Bury(0, 1, Proof::kDead);
                              check();
                            }};
  ok &= det::ExploreCrashes(swept, 0, Runs(20000)).ok;
}

/// Host 0 sets while host 1 takes it for dead, sweeps and sets; host 0 goes on.
void TestTakenForDead() {
  const auto bury = [] {
    world.Bury(0, 1, Proof::kLapsed);
    results[1] = world.host(1).SetName(kName, second, {});
  };
  const det::Scenario scenario{"name set by a host taken for dead", Prepare, {Sets(0, &first, kNothing), bury}, [] {
                                 DET_CHECK(world.BucketsOf(kName) <= 1);
                                 DET_CHECK(results[1].outcome == NameOutcome::kSet);
                                 // Host 0 sets only a name that points nowhere, so host 1 has the last word.
                                 DET_CHECK(world.host(2).names().Find(kName) == second);
                                 DET_CHECK(world.host(2).SetName(kName, first, {}).outcome == NameOutcome::kSet);
                                 DET_CHECK(world.BucketsOf(kName) == 1);
                               }};
  ok &= det::Explore(scenario, Preempt(3, 100000)).ok;
  ok &= det::RunSeeded(scenario, 1, 30000).ok;
}

/// Different names that begin in the same bucket; then the table is full.
void TestNeighbours() {
  static std::optional<ContentRef> target;
  const auto prepare = [] {
    Prepare();
    target = first;
  };
  const auto set_two = [](uint32_t row, const char* a, const char* b) {
    return [row, a, b] {
      for (const char* name : {a, b}) {
        DET_CHECK(world.host(row).SetName(name, target, {}).outcome == NameOutcome::kSet);
      }
    };
  };
  const det::Scenario four{"four names in four buckets", prepare, {set_two(0, "a", "b"), set_two(1, "c", "d")}, [] {
                             for (const char* name : {"a", "b", "c", "d"}) {
                               DET_CHECK(world.BucketsOf(name) == 1);
                               DET_CHECK(world.host(2).names().Find(name) == first);
                             }
                             DET_CHECK(world.host(2).SetName("e", first, {}).outcome == NameOutcome::kFull);
                             DET_CHECK(!world.host(2).names().Find("e"));
                           }};
  ok &= det::Explore(four, Preempt(3, 50000)).ok;
  ok &= det::RunSeeded(four, 1, 30000).ok;
}

/// Buckets from `home` on that had names and point at nothing.
void Retire(uint32_t home, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    layout::NameRow* row = world.Bucket((home + i) & 3);
    row->hash = 2 * i + 1;
    row->word = words::UsedName({});
    row->name_len = 3;
    std::memcpy(row->name, "old", 3);
  }
}
uint32_t HomeOf(const char* name) { return static_cast<uint32_t>(NameTable<DetAtom>::HashOf(name) >> 1) & 3; }

/// Two hosts set one name while a third takes away a name that lies before the place they have chosen: they may choose
/// different buckets, and yet the name gets one.
void TestReuse() {
  static bool full;
  const auto prepare = [] {
    Prepare();
    Retire(0, full ? 4 : 2);
    layout::NameRow* row = world.Bucket(HomeOf(kName));
    row->hash = NameTable<DetAtom>::HashOf("x");
    row->word = words::UsedName(first);
    row->name_len = 1;
    std::memset(row->name, 0, sizeof(row->name));
    row->name[0] = 'x';
  };
  // "x" stands where the name would begin; who looks early passes it, who looks late takes its bucket.
  const auto release = [] {
    DetAtom::Store(&world.Bucket(HomeOf(kName))->word, words::UsedName({}), std::memory_order_release);
  };
  const auto check = [] {
    DET_CHECK(world.BucketsOf(kName) == 1);
    DET_CHECK(CountOf(NameOutcome::kSet) == 1);
    const auto target = world.host(2).names().Find(kName);
    DET_CHECK(target == (results[0].outcome == NameOutcome::kSet ? first : second));
    DET_CHECK(world.BucketsIn(words::NameState::kClaimed) == 0);
  };
  for (const bool all : {false, true}) {
    full = all;
    const det::Scenario scenario{all ? "name set by 2, every bucket had a name" : "name set by 2, some buckets had a name",
                                 prepare, {Sets(0, &first, kNothing), Sets(1, &second, kNothing), release}, check};
    ok &= det::Explore(scenario, Preempt(3, 200000)).ok;
    ok &= det::RunSeeded(scenario, 1, 50000).ok;
    ok &= det::ExploreCrashes({"name set in a bucket that had one, one stops", prepare, {scenario.actors[0], scenario.actors[1]},
                               [] {
                                 DET_CHECK(world.BucketsOf(kName) <= 1);
                                 world.host(1).hosts().Lapse(world.host(0).self());
                                 DET_CHECK(world.host(1).SetName(kName, second, {}).outcome == NameOutcome::kSet);
                                 DET_CHECK(world.BucketsOf(kName) == 1);
                               }},
                              0, Runs(20000)).ok;
  }
}

/// A mover, and a reader, of a name that is taken away under them while its bucket gets another name with the same target.
void TestMovedUnder() {
  static std::optional<ContentRef> seen;
  const auto prepare = [] {
    Prepare();
    Retire(0, 4);
    DET_CHECK(world.host(2).SetName(kName, first, {}).outcome == NameOutcome::kSet);
    seen.reset();
  };
  const auto replace = [] {
    DET_CHECK(world.host(1).SetName(kName, {}, {}).outcome == NameOutcome::kSet);
    for (const char* name : {"a", "b", "c", "d"}) {
      const auto outcome = world.host(1).SetName(name, first, kNothing).outcome;
      DET_CHECK(outcome == NameOutcome::kSet || outcome == NameOutcome::kFull);
    }
  };
  const auto move = [] { results[0] = world.host(0).SetName(kName, second, {false, first}); };
  const auto find = [] { seen = world.host(2).names().Find(kName); };
  const det::Scenario scenario{"name moved while its bucket gets another", prepare, {move, replace, find}, [] {
                                 for (const char* name : {"a", "b", "c", "d"}) {
                                   const auto target = world.host(2).names().Find(name);
                                   DET_CHECK(!target || target == first);
                                   DET_CHECK(world.BucketsOf(name) <= 1);
                                 }
                                 DET_CHECK(!seen || seen == first || seen == second);
                               }};
  ok &= det::Explore(scenario, Preempt(3, 100000)).ok;
  ok &= det::RunSeeded(scenario, 1, 20000).ok;
}

/// A reader of a name whose bucket has another name for a while.
void TestReadUnder() {
  static std::optional<ContentRef> seen;
  static ContentRef third;
  const auto prepare = [] {
    Prepare();
    third = world.Publish(2, {2, 9}, 1);
    Retire(0, 4);
    DET_CHECK(world.host(2).SetName(kName, first, {}).outcome == NameOutcome::kSet);
  };
  const auto lend = [] {
    char other[] = "a";
    while (HomeOf(other) != HomeOf(kName)) other[0]++;
    world.host(1).SetName(kName, {}, {});
    world.host(1).SetName(other, third, {});
    world.host(1).SetName(other, {}, {});
    world.host(1).SetName(kName, second, {});
  };
  const auto find = [] { seen = world.host(2).names().Find(kName); };
  const det::Scenario scenario{"name read while its bucket has another", prepare, {lend, find}, [] {
                                 DET_CHECK(!seen || seen == first || seen == second);
                                 DET_CHECK(world.host(2).names().Find(kName) == second);
                               }};
  ok &= det::Explore(scenario, Preempt(3, 100000)).ok;
}

/// A host that is taken for dead while it writes a name goes on writing: into a bucket that nobody else has got.
void TestPausedWriter() {
  const auto prepare = [] {
    Prepare();
    Retire(0, 4);
  };
  const auto others = [] {
    world.Bury(0, 1, Proof::kLapsed);
    for (const char* name : {"a", "b", "c", "d"}) {
      const auto outcome = world.host(1).SetName(name, first, kNothing).outcome;
      DET_CHECK(outcome == NameOutcome::kSet || outcome == NameOutcome::kFull);
    }
  };
  const det::Scenario scenario{"name written by a host taken for dead", prepare, {Sets(0, &second, kNothing), others}, [] {
                                 uint32_t found = 0;
                                 for (const char* name : {"a", "b", "c", "d"}) {
                                   DET_CHECK(world.BucketsOf(name) <= 1);
                                   found += world.host(2).names().Find(name) == first;
                                 }
                                 const uint32_t aside = world.BucketsIn(words::NameState::kQuarantined);
                                 DET_CHECK(found + aside + world.BucketsOf(kName) >= 4);
                                 DET_CHECK(world.host(1).hosts().Alive(world.host(0).self()) == false);
                                 world.host(1).Recover(0, Proof::kGone);
                                 DET_CHECK(world.BucketsIn(words::NameState::kQuarantined) == 0);
                               }};
  ok &= det::Explore(scenario, Preempt(3, 100000)).ok;
  ok &= det::RunSeeded(scenario, 1, 30000).ok;
}

/// Names come and go without end; the table is as large as what is named at one time.
void TestChurn() {
  Prepare();
  bool good = true;
  for (int i = 0; i < 1000; i++) {
    const std::string name = "n" + std::to_string(i);
    good &= world.host(i % 3).SetName(name, first, kNothing).outcome == NameOutcome::kSet;
    good &= world.BucketsOf(name) == 1;
    if (i < 3) continue;
    const std::string old = "n" + std::to_string(i - 3);
    good &= world.host((i + 1) % 3).SetName(old, {}, {false, first}).outcome == NameOutcome::kSet;
    good &= !world.host(2).names().Find(old);
  }
  std::printf("registry_name_test: 1,000 names in 4 buckets: %s\n", good ? "ok" : "FAILED");
  ok &= good;
}

void TestCollision() {
  Prepare();
  // A bucket with our hash but another name, where our probe begins.
  const uint64_t hash = NameTable<DetAtom>::HashOf(kName);
  layout::NameRow* row = world.Bucket(static_cast<uint32_t>(hash >> 1) & 3);
  row->hash = hash;
  row->word = words::UsedName(first);
  row->name_len = 5;
  std::memcpy(row->name, "other", 5);
  auto& names = world.host(0).names();
  bool good = !names.Find(kName);
  good &= world.host(0).SetName(kName, second, kNothing).outcome == NameOutcome::kSet;
  good &= names.Find(kName) == second && world.BucketsOf(kName) == 1 && row->word == words::UsedName(first);
  // A target whose content is gone counts as nothing.
  world.host(2).contents().Drain(refs[1]);
  good &= world.host(2).Free(refs[1]) && !names.Find(kName);
  good &= world.host(0).SetName(kName, first, kNothing).outcome == NameOutcome::kSet;
  // Lengths that no name has: never read past the row.
  row->name_len = 0xffffffff;
  char bytes[200];
  good &= names.NameAt(static_cast<uint32_t>(hash >> 1) & 3, hash, bytes) == 0 && names.Find(kName) == first;
  std::printf("registry_name_test: collisions, stale targets, hostile lengths: %s\n", good ? "ok" : "FAILED");
  ok &= good;
}

}  // namespace

int main() {
  TestCollision();
  TestFirstSet();
  TestMove();
  TestCrash();
  TestTakenForDead();
  TestNeighbours();
  TestReuse();
  TestMovedUnder();
  TestReadUnder();
  TestPausedWriter();
  TestChurn();
  return ok ? 0 : 1;
}
