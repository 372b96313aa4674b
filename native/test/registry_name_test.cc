// Goal: a name is in one bucket and points where the last set said. Method: det scheduler over two and three hosts that set,
// move and find names, with crashes after every step, hosts taken for dead and planted hash collisions.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World world({.contents = 3, .names = 4, .chunks = 3, .spins = 4, .rounds = 1});
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
    DET_CHECK(world.host(1).Recover(0, Proof::kDead).names == 0);
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
  good &= names.Find(kName) == second && world.BucketsOf(kName) == 1 && world.BucketsOf("other") == 1;
  // A target whose content is gone counts as nothing.
  world.host(2).contents().Drain(refs[1]);
  good &= world.host(2).Free(refs[1]) && !names.Find(kName);
  good &= world.host(0).SetName(kName, first, kNothing).outcome == NameOutcome::kSet;
  // Lengths that no name has: never read past the row.
  row->name_len = 0xffffffff;
  char bytes[200];
  const uint32_t bucket = static_cast<uint32_t>(hash >> 1) & 3;
  good &= !names.TargetAt(bucket) && names.NameAt(bucket, bytes) == 0 && names.Find(kName) == first;
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
  return ok ? 0 : 1;
}
