// Goal: no chunk is ever given twice and none is lost. Method: det scheduler over two hosts that allocate, publish, free and
// die after every step; a host taken for dead that goes on; ownership counted afterwards.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World world({.contents = 2, .names = 1, .chunks = 5, .spins = 2, .rounds = 1});
World tight({.contents = 2, .names = 1, .chunks = 3, .spins = 2, .rounds = 1});
World* at = &world;
ContentRef refs[2];
std::optional<uint64_t> runs[2];
bool ok = true;

constexpr SourceKey kKeys[] = {{0, 1}, {1, 1}};

/// Both hosts load a content of their own.
void Reset() {
  at->Reset();
  for (uint32_t row = 0; row < 2; row++) {
    refs[row] = at->host(row).Claim(kKeys[row], 1).ref;
    runs[row].reset();
  }
}

std::function<void()> Allocates(uint32_t row, uint64_t count) {
  return [row, count] { runs[row] = at->host(row).AllocateRun(refs[row], count); };
}

/// Every chunk of a run that was handed out carries its owner's claim; nothing else is claimed.
void CheckOwned(const uint64_t (&counts)[2]) {
  uint64_t owned = 0;
  for (uint32_t row = 0; row < 2; row++) {
    if (!runs[row]) continue;
    owned += counts[row];
    for (uint64_t i = 0; i < counts[row]; i++) {
      DET_CHECK(at->Chunk(*runs[row] + i) == words::ClaimedChunk(at->host(row).self(), refs[row].index));
    }
  }
  DET_CHECK(at->ChunksIn(words::ChunkState::kClaimed) == owned);
}

void TestDuel() {
  const det::Scenario roomy{"two runs that fit", Reset, {Allocates(0, 2), Allocates(1, 2)}, [] {
                              CheckOwned({2, 2});
                              DET_CHECK(runs[0] && runs[1]);
                            }};
  ok &= det::Explore(roomy, Runs(150000)).ok;
  ok &= det::Explore({"two runs that fit, preempted", Reset, roomy.actors, roomy.check}, Preempt(4, 50000)).ok;
  const det::Scenario narrow{"room for one run", Reset, {Allocates(0, 2), Allocates(1, 2)}, [] { CheckOwned({2, 2}); }};
  at = &tight;
  ok &= det::Explore(narrow, Runs(150000)).ok;
  const det::Scenario single{"the last chunks one by one", Reset, {Allocates(0, 1), Allocates(1, 1)}, [] {
                               CheckOwned({1, 1});
                               DET_CHECK(runs[0] && runs[1]);
                             }};
  ok &= det::Explore(single).ok;
  at = &world;
  ok &= det::RunSeeded(roomy, 1, 30000).ok;
}

void BuryOne(Proof proof) {
  const uint32_t gone = det::Crashed(1) ? 1 : 0;
  at->Bury(gone, 2, proof);
}

void TestCrash() {
  const det::Scenario one{"allocate, one stops", Reset, {Allocates(0, 2), Allocates(1, 2)}, [] {
                            BuryOne(Proof::kDead);
                            at->CheckNothingOf(0);
                            runs[0].reset();
                            CheckOwned({2, 2});
                            DET_CHECK(at->ChunksIn(words::ChunkState::kFree) == (runs[1] ? 3u : 5u));
                          }};
  ok &= det::ExploreCrashes(one, 0, Preempt(3, 3000)).ok;
  const det::Scenario unproven{"allocate, one may be paused", Reset, {Allocates(0, 2), Allocates(1, 2)}, [] {
                                 const uint32_t claimed = at->ChunksIn(words::ChunkState::kClaimed);
                                 BuryOne(Proof::kLapsed);
                                 const uint32_t own = runs[1] ? 2 : 0;
                                 DET_CHECK(at->ChunksIn(words::ChunkState::kQuarantined) == claimed - own);
                                 DET_CHECK(words::StateOfHost(at->HostRowAt(0)->word) == words::HostState::kLapsed);
                                 at->host(2).Recover(0, Proof::kDead);
                                 DET_CHECK(at->ChunksIn(words::ChunkState::kQuarantined) == 0);
                                 at->CheckNothingOf(0);
                               }};
  ok &= det::ExploreCrashes(unproven, 0, Preempt(2, 2000)).ok;
}

/// Host 0 allocates while host 1 takes it for dead, cleans up and allocates for itself.
void TestTakenForDead() {
  const auto bury = [] {
    at->Bury(0, 1, Proof::kLapsed);
    runs[1] = at->host(1).AllocateRun(refs[1], 2);
  };
  const det::Scenario scenario{"allocate by a host taken for dead", Reset, {Allocates(0, 2), bury}, [] {
                                 if (runs[1]) {
                                   for (uint64_t i = 0; i < 2; i++) {
                                     DET_CHECK(at->Chunk(*runs[1] + i) ==
                                               words::ClaimedChunk(at->host(1).self(), refs[1].index));
                                   }
                                 }
                                 // What the paused host still had is found by the next look, and nothing is lost.
                                 at->host(1).Recover(0, Proof::kDead);
                                 at->CheckNothingOf(0);
                                 DET_CHECK(at->ChunksIn(words::ChunkState::kFree) == (runs[1] ? 3u : 5u));
                               }};
  ok &= det::Explore(scenario, Preempt(3, 100000)).ok;
  ok &= det::RunSeeded(scenario, 1, 50000).ok;
}

/// A whole life, allocate to free, against another host's whole life.
void TestLife() {
  const auto life = [](uint32_t row) {
    return [row] {
      Actor& host = at->host(row);
      const auto first = host.AllocateRun(refs[row], 2);
      if (!first) return host.Abandon(refs[row]);
      DET_CHECK(host.Publish(refs[row], World::Body(*first, 2), true));
      for (uint64_t i = 0; i < 2; i++) DET_CHECK(at->host(row).chunks().Word(*first + i) == words::UsedChunk(refs[row]));
      host.Unpin(refs[row]);
      DET_CHECK(host.contents().Drain(refs[row]));
      DET_CHECK(host.Free(refs[row]));
    };
  };
  const auto all_free = [] { DET_CHECK(at->ChunksIn(words::ChunkState::kFree) == at->geometry().chunk_count); };
  const det::Scenario two{"two lives", Reset, {life(0), life(1)}, all_free};
  ok &= det::Explore(two, Preempt(2, 60000)).ok;
  ok &= det::RunSeeded(two, 1, 30000).ok;
  const det::Scenario one{"a life that stops", Reset, {life(0), life(1)}, [all_free] {
                            at->CheckSound();
                            BuryOne(Proof::kDead);
                            at->CheckNothingOf(0);
                            // What was published stays; it is drained, its pin cleared and freed by the survivor.
                            at->host(2).contents().ClearBit(refs[0], 0);
                            at->host(2).contents().Drain(refs[0]);
                            at->host(2).Free(refs[0]);
                            all_free();
                            at->host(2).Recover(0, Proof::kDead);
                            DET_CHECK(words::StateOfHost(at->HostRowAt(0)->word) == words::HostState::kFree);
                          }};
  ok &= det::ExploreCrashes(one, 0, Preempt(1, 500)).ok;
}

void TestPolicy() {
  World big({.contents = 2, .names = 1, .chunks = 12, .spins = 2, .rounds = 1});
  big.Reset();
  auto* word = reinterpret_cast<uint64_t*>(big.memory() + big.geometry().words);
  for (const int used : {3, 6}) word[used] = 3;  // an unknown state is not free either
  const ContentRef ref = big.host(0).Claim(kKey, 1).ref;
  const auto first = big.host(0).AllocateRun(ref, 2);  // runs of 3, 2 and 5: the one of 2 fits best
  const auto second = big.host(0).AllocateRun(ref, 2);
  const auto third = big.host(0).AllocateRun(ref, 6);
  const auto stats = big.host(0).chunks().Stats();
  const bool good = first == 4 && second == 0 && !third && stats.free == 6 && stats.largest_free_run == 5 &&
                    stats.used == 6 && stats.total == 12 && !big.host(1).AllocateRun(ref, 1) &&
                    !big.host(0).AllocateRun(ref, 0) && !big.host(0).AllocateRun(ref, 13);
  std::printf("registry_chunk_test: best fit, statistics, refusals: %s\n", good ? "ok" : "FAILED");
  ok &= good;
}

}  // namespace

int main() {
  TestPolicy();
  TestDuel();
  TestCrash();
  TestTakenForDead();
  TestLife();
  return ok ? 0 : 1;
}
