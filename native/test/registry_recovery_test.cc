// Goal: what a dead host left is undone by exactly one survivor, wherever either stops. Method: det scheduler over attach,
// recovery and detach on host rows, with a host that died in the middle of everything.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World world({.contents = 3, .names = 2, .chunks = 4, .spins = 2, .rounds = 1});
Recovered done[3];
bool ok = true;

words::HostState StateOfHost(uint32_t row) { return words::StateOfHost(world.HostRowAt(row)->word); }

/// Host 0 died holding a loading content with two chunks, one reserved row, and a claimed name.
void Reset() {
  world.Reset();
  const auto claim = world.host(0).Claim(kKey, 1);
  world.host(0).AllocateRun(claim.ref, 2);
  const uint32_t reserved = claim.ref.index == 0 ? 1 : 0;
  world.Row(reserved)->word = words::Content(words::ContentState::kReserved, 0, world.host(0).self());
  world.Bucket(1)->hash = NameTable<DetAtom>::HashOf("x");
  world.Bucket(1)->word = words::ClaimedName(world.host(0).self());
  world.host(1).hosts().Lapse(world.host(0).self());
  for (auto& one : done) one = {};
}

std::function<void()> Recovers(uint32_t row, Proof proof = Proof::kDead) {
  return [row, proof] { done[row] = world.host(row).Recover(0, proof); };
}

void CheckUndone() {
  world.CheckNothingOf(0);
  DET_CHECK(world.ChunksIn(words::ChunkState::kFree) == 4);
  for (uint32_t i = 0; i < 3; i++) DET_CHECK(world.StateOf(i) == words::ContentState::kFree);
  DET_CHECK(words::StateOfName(world.Bucket(1)->word) == words::NameState::kUsed);
  DET_CHECK(StateOfHost(0) == words::HostState::kFree);
}

void TestTwoSurvivors() {
  const det::Scenario two{"two survivors", Reset, {Recovers(1), Recovers(2)}, [] {
                            CheckUndone();
                            // FinishFree takes the chunks of nobody else; the sweep counts them once.
                            DET_CHECK(done[1].contents + done[2].contents == 2);
                            DET_CHECK(done[1].chunks + done[2].chunks == 2);
                            DET_CHECK(done[1].names + done[2].names == 1);
                          }};
  ok &= det::Explore(two, Runs(50000)).ok;
  ok &= det::Explore({"two survivors, preempted", Reset, two.actors, two.check}, Preempt(2, 30000)).ok;
  ok &= det::RunSeeded(two, 1, 20000).ok;
}

void TestSurvivorStops() {
  const det::Scenario one{"a survivor stops, the next one goes on", Reset, {Recovers(1)}, [] {
                            world.host(2).hosts().Lapse(world.host(1).self());
                            world.host(2).Recover(1, Proof::kDead);
                            world.host(2).Recover(0, Proof::kDead);
                            CheckUndone();
                            world.CheckNothingOf(1);
                          }};
  ok &= det::ExploreCrashes(one, 0).ok;
  const det::Scenario paused{"a survivor is taken for dead and goes on", Reset, {Recovers(1), [] {
                               world.host(2).hosts().Lapse(world.host(1).self());
                               world.host(2).Recover(0, Proof::kDead);
                               world.host(2).Recover(1, Proof::kDead);
                             }}, [] {
                               world.host(2).Recover(0, Proof::kDead);
                               world.host(2).Recover(1, Proof::kDead);
                               CheckUndone();
                             }};
  ok &= det::Explore(paused, Preempt(2, 30000)).ok;
  ok &= det::RunSeeded(paused, 1, 20000).ok;
}

void TestUnproven() {
  const det::Scenario lapsed{"a host that may be paused", Reset, {Recovers(1, Proof::kLapsed), Recovers(2, Proof::kLapsed)}, [] {
                               DET_CHECK(world.ChunksIn(words::ChunkState::kQuarantined) == 2);
                               DET_CHECK(StateOfHost(0) == words::HostState::kLapsed);
                               DET_CHECK(world.RowsOf(kKey) == 0);
                               DET_CHECK(world.host(1).Recover(0, Proof::kLapsed).chunks == 0);
                               world.host(1).Recover(0, Proof::kDead);
                               CheckUndone();
                             }};
  ok &= det::Explore(lapsed, Preempt(2, 30000)).ok;
}

/// The successor of host 0 attaches and cleans up its own row while a survivor does the same. While the survivor is at
/// it, the row can't be had: the successor comes again.
void TestSuccessor() {
  static bool attached;
  const auto succeed = [] {
    attached = world.host(0).Attach(0, World::Identity(0), 2000);
    if (attached) done[0] = world.host(0).Recover(0, Proof::kDead);
  };
  const auto check = [succeed] {
    if (!attached) succeed();
    world.host(1).Recover(0, Proof::kDead);
    DET_CHECK(attached && world.host(0).Attached());
    DET_CHECK(StateOfHost(0) == words::HostState::kLive);
    DET_CHECK(world.HostRowAt(0)->name[0] == 'a' && world.HostRowAt(0)->attached_at_ms == 2000);
    DET_CHECK(world.ChunksIn(words::ChunkState::kFree) == 4);
    const auto claim = world.host(0).Claim(kKey, 3);
    DET_CHECK(claim.outcome == ClaimOutcome::kClaimed);
    DET_CHECK(world.host(0).AllocateRun(claim.ref, 4) == 0u);
  };
  const det::Scenario scenario{"a successor and a survivor", Reset, {succeed, Recovers(1)}, check};
  ok &= det::Explore(scenario, Preempt(2, 30000)).ok;
  ok &= det::RunSeeded(scenario, 1, 20000).ok;
}

/// An operator says that host 0 and its workers are gone, at the moment at which it comes back and pins again: what the
/// dead one had pinned is cleared, the successor's pin is not.
void TestGone() {
  static bool pinned;
  static ContentRef content;
  const auto setup = [] {
    world.Reset();
    content = world.Publish(0, kKey, 1, true);
    world.host(0).hosts().Lapse(world.host(0).self());
    pinned = false;
  };
  const auto succeed = [] { pinned = world.host(0).Attach(0, World::Identity(0), 2000) && world.host(0).Pin(content); };
  const auto fence = [] { done[1] = world.host(1).Recover(0, Proof::kGone); };
  const auto mask = [] { return words::MaskOfContent(world.Row(content.index)->word); };
  const det::Scenario comes_back{"an operator fences a host that comes back", setup, {succeed, fence}, [mask] {
                                   DET_CHECK(done[1].pins <= 1);
                                   DET_CHECK(pinned ? mask() == 1 : done[1].pins == 1 && mask() == 0);
                                 }};
  ok &= det::Explore(comes_back, Preempt(3, 30000)).ok;
  const det::Scenario cut{"an operator's survivor dies", setup, {fence}, [mask] {
                            world.host(2).hosts().Lapse(world.host(1).self());
                            world.host(2).Recover(0, Proof::kGone);
                            DET_CHECK(mask() == 0 && StateOfHost(0) == words::HostState::kFree);
                          }};
  ok &= det::ExploreCrashes(cut, 0).ok;
}

void TestAttach() {
  static bool taken[3];
  const auto setup = [] {
    world.Reset();
    world.HostRowAt(0)->word = 0;
    taken[1] = taken[2] = false;
  };
  // Two newcomers of different kernels meet on one free row.
  const auto attach = [](uint32_t row) {
    return [row] { taken[row] = world.host(row).Attach(0, World::Identity(row), 3000); };
  };
  const det::Scenario two{"two hosts want one free row", setup, {attach(1), attach(2)}, [] {
                            const bool one = taken[1] && world.host(1).Attached();
                            const bool other = taken[2] && world.host(2).Attached();
                            DET_CHECK(!(one && other));
                            DET_CHECK(one || other);
                            DET_CHECK(world.HostRowAt(0)->name[0] == (one ? 'b' : 'c'));
                          }};
  ok &= det::Explore(two, Runs(50000)).ok;
  const det::Scenario stopped{"an attach stops half-way", setup, {attach(1)}, [] {
                                Actor& other = world.host(2);
                                other.Attach(2, World::Identity(2), 1);
                                if (StateOfHost(0) == words::HostState::kLive) {
                                  other.hosts().Lapse({0, words::GenerationOfHost(world.HostRowAt(0)->word)});
                                }
                                other.Recover(0, Proof::kDead);
                                DET_CHECK(StateOfHost(0) == words::HostState::kFree);
                              }};
  ok &= det::ExploreCrashes(stopped, 0).ok;
}

void TestDetach() {
  world.Reset();
  const ContentRef content = world.Publish(0, kKey, 1, true);
  bool good = world.host(0).hosts().Beat(world.host(0).self());
  const HostRef before = world.host(0).self();
  world.host(0).Detach();
  good &= StateOfHost(0) == words::HostState::kLapsed && !world.host(0).Attached() && !world.host(0).hosts().Beat(before);
  good &= !world.host(0).Pin(content) && world.host(0).Claim(kOtherKey, 1).outcome == ClaimOutcome::kLost;
  // Another name of another kernel may not have the row; the same name may, and finds its pin.
  HostIdentity stranger = World::Identity(2);
  good &= !world.host(2).Attach(0, stranger, 1) && world.host(0).Attach(0, World::Identity(0), 1);
  good &= words::MaskOfContent(world.Row(content.index)->word) == 1;
  world.host(0).Unpin(content);
  world.host(0).Detach();
  good &= StateOfHost(0) == words::HostState::kFree && world.host(2).Attach(0, stranger, 1);
  std::printf("registry_recovery_test: detach and successors: %s\n", good ? "ok" : "FAILED");
  ok &= good;
}

}  // namespace

int main() {
  TestDetach();
  TestGone();
  TestAttach();
  TestTwoSurvivors();
  TestSurvivorStops();
  TestUnproven();
  TestSuccessor();
  return ok ? 0 : 1;
}
