// Goal: one source, one row: however claims, crashes and recoveries interleave. Method: det scheduler, exhaustive for two
// hosts, preemption-bounded and seeded for three, a crash after every step; invariants on the rows afterwards.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World usual;
/// Small enough for every interleaving of two claims.
World small({.contents = 2, .names = 1, .chunks = 1, .spins = 2, .rounds = 2});
World smallest({.contents = 2, .names = 1, .chunks = 1, .spins = 1, .rounds = 1});
World* world = &usual;
ClaimResult results[kHosts];
bool ok = true;

void Reset() {
  world->Reset();
  for (auto& result : results) result = {ClaimOutcome::kFull, {}};
}

std::function<void()> Claims(uint32_t row, SourceKey key = kKey) {
  return [row, key] { results[row] = world->host(row).Claim(key, 5); };
}

uint32_t Claimed() {
  uint32_t count = 0;
  for (const auto& result : results) count += result.outcome == ClaimOutcome::kClaimed;
  return count;
}

/// A row that somebody was pointed to and that is really there.
bool SomebodyIsRight() {
  for (const auto& result : results) {
    if (result.outcome == ClaimOutcome::kExists && !world->host(0).contents().Exists(result.ref)) return false;
  }
  return true;
}

void CheckDuel() {
  world->CheckSound();
  DET_CHECK(Claimed() == world->RowsOf(kKey));
  // Whoever was told "exists" about a row that lives on must not be alone with it.
  if (SomebodyIsRight()) DET_CHECK(Claimed() == 1);
  for (const auto& result : results) DET_CHECK(result.outcome != ClaimOutcome::kLost);
}

void TestDuel() {
  const det::Scenario two{"claim by 2", Reset, {Claims(0), Claims(1)}, CheckDuel};
  world = &small;
  ok &= det::Explore(two).ok;
  world = &usual;
  ok &= det::Explore({"claim by 2, more rows", two.setup, two.actors, two.check}, Preempt(3)).ok;
  const det::Scenario three{"claim by 3", Reset, {Claims(0), Claims(1), Claims(2)}, CheckDuel};
  ok &= det::Explore(three, Preempt(2, 100000)).ok;
  ok &= det::RunSeeded(three, 1, 50000).ok;
  const det::Scenario apart{"claim of two sources", Reset, {Claims(0), Claims(1, kOtherKey)}, [] {
                              world->CheckSound();
                              DET_CHECK(Claimed() == 2);
                            }};
  ok &= det::Explore(apart, Preempt(3)).ok;
}

bool Stopped(uint32_t row) { return det::Crashed(static_cast<int>(row)); }

void CheckAfterCrash() {
  world->CheckSound();
  DET_CHECK(world->RowsOf(kKey) <= 1);
  uint32_t gone = 0;
  while (gone + 1 < kHosts && !Stopped(gone)) gone++;
  const uint32_t survivor = (gone + 1) % kHosts;
  world->Bury(gone, survivor, Proof::kDead);
  world->CheckNothingOf(gone);
  world->CheckSound();
  const bool there = world->RowsOf(kKey) == 1;
  const auto again = world->host(survivor).Claim(kKey, 6);
  DET_CHECK(again.outcome == (there ? ClaimOutcome::kExists : ClaimOutcome::kClaimed));
  DET_CHECK(words::StateOfHost(world->HostRowAt(gone)->word) == words::HostState::kFree);
}

void TestCrash() {
  const det::Scenario two{"claim, one stops", Reset, {Claims(0), Claims(1)}, CheckAfterCrash};
  world = &smallest;
  ok &= det::ExploreCrashes(two, 0).ok;
  ok &= det::ExploreCrashes(two, 1).ok;
  world = &usual;
  ok &= det::ExploreCrashes({"claim, one stops, more rows", Reset, two.actors, two.check}, 0, Preempt(2, 1000)).ok;
  const det::Scenario three{"claim by 3, one stops", Reset, {Claims(0), Claims(1), Claims(2)}, CheckAfterCrash};
  ok &= det::ExploreCrashes(three, 0, Preempt(1, 2000)).ok;
  ok &= det::RunSeeded(three, 1, 30000, true, {}).ok;
}

/// A host that is taken for dead while it claims, and goes on.
void TestPausedClaimant() {
  const auto bury_and_claim = [] {
    world->host(1).hosts().Lapse(world->host(0).self());
    world->host(1).Recover(0, Proof::kLapsed);
    results[1] = world->host(1).Claim(kKey, 5);
  };
  const auto check = [] {
    world->CheckSound();
    DET_CHECK(results[1].outcome != ClaimOutcome::kLost);
    // The paused one may believe that it claimed, but then its row is no longer its own.
    const bool own = world->host(0).contents().IsLoading(world->host(0).self(), results[0].ref);
    DET_CHECK(!(own && results[1].outcome == ClaimOutcome::kClaimed));
    // What it may still write into is not used by anybody else.
    if (results[1].outcome == ClaimOutcome::kClaimed) DET_CHECK(world->Row(results[1].ref.index)->source_key_lo == kKey.lo);
    world->Bury(0, 1, Proof::kDead);
    world->CheckNothingOf(0);
    world->CheckSound();
  };
  const det::Scenario paused{"claim by a host taken for dead", Reset, {Claims(0), bury_and_claim}, check};
  ok &= det::Explore(paused, Preempt(3, 300000)).ok;
  ok &= det::ExploreCrashes(paused, 1, Preempt(1, 2000)).ok;
  // Of another source, in the row where the other's search begins: it still writes its key, but not into a row in use.
  const SourceKey other{9, 1};
  const det::Scenario apart{"claim by a host taken for dead, another source", Reset, {Claims(0, other), bury_and_claim}, [] {
                              DET_CHECK(results[1].outcome == ClaimOutcome::kClaimed);
                              DET_CHECK(world->RowsOf(kKey) == 1);
                            }};
  ok &= det::Explore(apart, Preempt(3, 100000)).ok;
  ok &= det::RunSeeded(paused, 1, 50000).ok;
}

void TestFull() {
  Reset();
  for (uint64_t i = 0; i < 3; i++) ok &= world->host(0).Claim({i, 100}, 1).outcome == ClaimOutcome::kClaimed;
  ok &= world->host(1).Claim({9, 9}, 1).outcome == ClaimOutcome::kFull;
  ok &= world->host(1).Claim({2, 100}, 1).outcome == ClaimOutcome::kExists;
  world->host(0).hosts().Lapse(world->host(0).self());
  ok &= world->host(0).Claim({9, 9}, 1).outcome == ClaimOutcome::kLost;
  std::printf("registry_claim_test: a full table: %s\n", ok ? "ok" : "FAILED");
}

}  // namespace

int main() {
  TestFull();
  TestDuel();
  TestCrash();
  TestPausedClaimant();
  return ok ? 0 : 1;
}
