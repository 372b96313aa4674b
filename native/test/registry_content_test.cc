// Goal: a content that is pinned is never freed, one that is freed is freed once, and a copied row is whole. Method: det
// scheduler over publish, pin, drain, free, quarantine and copy, with freers that die or are taken for dead.
#include "registry_fixture.h"

using namespace daxserve;
using namespace daxserve::fixture;

namespace {

World world({.contents = 2, .names = 1, .chunks = 3, .spins = 2, .rounds = 1});
ContentRef content;
std::optional<ContentRef> next;
bool pinned, freed[2];
bool ok = true;

void Reset() {
  world.Reset();
  content = world.Publish(0, kKey, 2);
  next.reset();
  pinned = freed[0] = freed[1] = false;
}

bool ChunksUsed() {
  uint32_t used = 0;
  for (uint64_t i = 0; i < 3; i++) used += world.host(2).chunks().Word(i) == words::UsedChunk(content);
  return used == 2;
}

/// Pins, looks at the bytes' chunks while pinned, unpins.
void PinAndLook() {
  pinned = world.host(1).Pin(content);
  if (!pinned) return;
  DET_CHECK(ChunksUsed());
  world.host(1).Unpin(content);
}

std::function<void()> DrainsAndFrees(uint32_t row) {
  return [row] {
    world.host(row).contents().Drain(content);
    freed[row] = world.host(row).Free(content);
  };
}

void CheckGone() {
  DET_CHECK(world.ChunksIn(words::ChunkState::kFree) == 3);
  DET_CHECK(world.Row(content.index)->word == words::FreeContent(words::NextGeneration(content.generation)));
}

void FreeTheRest(uint32_t row) {
  world.host(row).contents().Drain(content);
  world.host(row).Free(content);
  CheckGone();
}

void TestPinAgainstFree() {
  const det::Scenario pin{"pin against drain and free", Reset, {DrainsAndFrees(0), PinAndLook}, [] {
                            world.CheckSound();
                            DET_CHECK(freed[0] || pinned);
                            FreeTheRest(2);
                          }};
  ok &= det::Explore(pin).ok;
  const det::Scenario two{"two freers", Reset, {DrainsAndFrees(0), DrainsAndFrees(1)}, [] {
                            DET_CHECK(!(freed[0] && freed[1]));
                            DET_CHECK(freed[0] || freed[1]);
                            CheckGone();
                          }};
  ok &= det::Explore(two).ok;
  const auto stopped_pin = [] { pinned = world.host(1).Pin(content); };
  const det::Scenario dead{"a pin whose host stops stays", Reset, {DrainsAndFrees(0), stopped_pin}, [] {
                             world.Bury(1, 2, Proof::kDead);
                             const bool bit = (words::MaskOfContent(world.Row(content.index)->word) & 2) != 0;
                             if (bit) DET_CHECK(ChunksUsed() && !freed[0]);
                             DET_CHECK(words::StateOfHost(world.HostRowAt(1)->word) ==
                                       (bit ? words::HostState::kLapsed : words::HostState::kFree));
                             world.host(2).contents().ClearBit(content, 1);
                             FreeTheRest(2);
                             world.host(2).Recover(1, Proof::kDead);
                             DET_CHECK(words::StateOfHost(world.HostRowAt(1)->word) == words::HostState::kFree);
                           }};
  ok &= det::ExploreCrashes(dead, 1).ok;
}

void TestFreerStops() {
  const auto check = [] {
    world.host(1).hosts().Lapse(world.host(0).self());
    FreeTheRest(1);
    DET_CHECK(!world.host(1).Free(content));
  };
  const det::Scenario one{"a freer stops, the next one goes on", Reset, {DrainsAndFrees(0)}, check};
  ok &= det::ExploreCrashes(one, 0).ok;
}

/// Host 0 frees and is taken for dead; host 1 frees the same content and loads another into the same row and chunks.
void TestPausedFreer() {
  const auto reuse = [] {
    world.host(1).hosts().Lapse(world.host(0).self());
    world.host(1).contents().Drain(content);
    freed[1] = world.host(1).Free(content);
    if (!freed[1]) return;
    const auto claim = world.host(1).Claim(kKey, 9);
    DET_CHECK(claim.outcome == ClaimOutcome::kClaimed);
    const auto first = world.host(1).AllocateRun(claim.ref, 3);
    if (!first) return;
    DET_CHECK(world.host(1).Publish(claim.ref, World::Body(*first, 3), false));
    next = claim.ref;
  };
  const det::Scenario paused{"a paused freer frees nothing of the next content", Reset, {DrainsAndFrees(0), reuse}, [] {
                               if (!next) return;
                               DET_CHECK(world.StateOf(next->index) == words::ContentState::kReady);
                               DET_CHECK(next->index == content.index && next->generation == content.generation + 1);
                               DET_CHECK(world.ChunksIn(words::ChunkState::kUsed) == 3);
                               world.CheckSound();
                             }};
  ok &= det::Explore(paused, Preempt(3, 60000)).ok;
  ok &= det::RunSeeded(paused, 1, 40000).ok;
}

layout::ContentRow copied;
bool copied_any;

void TestCopy() {
  const auto setup = [] {
    world.Reset();
    content = world.host(0).Claim(kKey, 1).ref;
    world.host(0).AllocateRun(content, 1);
    copied_any = false;
  };
  const auto publish = [] { DET_CHECK(world.host(0).Publish(content, World::Body(0, 1), false)); };
  const auto copy = [] { copied_any = world.host(1).contents().Copy(content.index, copied); };
  const auto check = [] {
    DET_CHECK(copied_any);
    if (words::StateOfContent(copied.word) != words::ContentState::kReady) return;
    DET_CHECK(copied.sequence % 2 == 0 && copied.checksum == ContentChecksum(copied));
    DET_CHECK(copied.image_count == 1 && copied.bytes == 42);
  };
  const det::Scenario scenario{"copy of a row while it is published", setup, {publish, copy}, check};
  ok &= det::Explore(scenario, Runs(60000 / det::kSlow)).ok;
  ok &= det::ExploreCrashes(scenario, 0, Runs(5000 / det::kSlow)).ok;
}

void TestEdges() {
  Reset();
  Actor& host = world.host(0);
  bool good = !host.Pin({content.index, content.generation + 1}) && !host.Pin({99, 0}) && !host.Free(content);
  good &= host.Pin(content) && host.Pin(content) && host.contents().Drain(content) && !host.Free(content);
  good &= !host.contents().Drain(content) && !world.host(1).Pin(content);
  host.Unpin(content);
  good &= host.Free(content) && !host.Free(content) && !host.contents().Exists(content);
  // Publishing chunks that are not ours is refused and leaves nothing behind.
  const auto claim = host.Claim(kKey, 2);
  const auto other = world.host(1).Claim(kOtherKey, 2);
  const auto theirs = world.host(1).AllocateRun(other.ref, 1);
  const auto ours = host.AllocateRun(claim.ref, 1);
  good &= !host.Publish(claim.ref, World::Body(*theirs, 1), false);
  good &= !host.Publish(claim.ref, World::Body(*ours, 2), false);
  good &= !host.Publish(claim.ref, World::Body(0xffffffff, 0xffffffff), false);
  good &= !host.Publish(other.ref, World::Body(*theirs, 1), false);
  host.Abandon(claim.ref);
  world.host(1).Abandon(other.ref);
  good &= world.ChunksIn(words::ChunkState::kFree) == 3;
  // What was allocated but is in no image goes back.
  const auto tidy = host.Claim(kKey, 2);
  host.AllocateRun(tidy.ref, 1);
  good &= host.Publish(tidy.ref, World::Body(*host.AllocateRun(tidy.ref, 1), 1), false);
  good &= world.ChunksIn(words::ChunkState::kUsed) == 1 && world.ChunksIn(words::ChunkState::kFree) == 2;
  // Damage: quarantined with its pins, freed when nobody is left.
  Reset();
  good &= host.Pin(content) && world.host(1).contents().Quarantine(content) && !host.Free(content);
  host.Unpin(content);
  good &= host.Free(content);
  good &= host.Claim(kKey, 3).outcome == ClaimOutcome::kClaimed;
  std::printf("registry_content_test: refusals, quarantine: %s\n", good ? "ok" : "FAILED");
  ok &= good;
}

}  // namespace

int main() {
  TestEdges();
  TestPinAgainstFree();
  TestFreerStops();
  TestPausedFreer();
  TestCopy();
  return ok ? 0 : 1;
}
