// Goal: the registry holds with real atomics. Method: threads (ThreadSanitizer sees them) and forked processes killed at
// random moments run whole lives of contents in one memory; owners are checked by what they wrote into their chunks, the
// invariants are counted afterwards. DAXSERVE_SEED replays the order of operations (not the scheduling).
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "registry.h"

using namespace daxserve;

namespace {

using Host = Registry<RealAtom>;

constexpr uint32_t kHosts = 4;
constexpr uint32_t kChunks = 24;
constexpr uint32_t kKeys = 6;
uint64_t seed = 0;
bool ok = true;

struct Memory {
  Geometry geometry;
  uint8_t* base;
  /// One word of content per chunk: who owns it.
  uint64_t* bytes;
};

Memory Map() {
  Memory memory;
  Geometry& geometry = memory.geometry;
  geometry.host_count = kHosts;
  geometry.content_count = 8;
  geometry.name_count = 16;
  geometry.chunk_count = kChunks;
  geometry.contents = kHosts * sizeof(layout::HostRow);
  geometry.names = geometry.contents + geometry.content_count * sizeof(layout::ContentRow);
  geometry.words = geometry.names + geometry.name_count * sizeof(layout::NameRow);
  void* at = mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  memory.base = static_cast<uint8_t*>(at);
  memory.bytes = reinterpret_cast<uint64_t*>(memory.base + 32768);
  return memory;
}

struct Random {
  uint64_t state;
  uint64_t Below(uint64_t n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state >> 8) % n;
  }
};

HostIdentity Identity(uint32_t row) {
  HostIdentity identity;
  identity.name_len = 1;
  identity.name[0] = static_cast<uint8_t>('a' + row);
  identity.boot_id[0] = 1;
  return identity;
}

[[noreturn]] void Broken(const char* what) {
  std::printf("registry_stress_test: %s (DAXSERVE_SEED=%llu)\n", what, static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  _exit(1);
}

uint64_t StampOf(ContentRef ref) { return uint64_t{ref.generation} << 32 | ref.index << 8 | 1; }

/// Plain bytes: what the protocol's orders must carry from owner to owner and from owner to reader.
void CheckBytes(const Memory& memory, uint64_t first, uint64_t count, uint64_t stamp, const char* what) {
  for (uint64_t i = first; i < first + count; i++) {
    if (memory.bytes[i] != stamp) Broken(what);
  }
}

void Load(const Memory& memory, Host& host, Random& random) {
  const auto claim = host.Claim({random.Below(kKeys), 1}, 1);
  if (claim.outcome != ClaimOutcome::kClaimed) return;
  const uint64_t count = 1 + random.Below(5);
  const auto first = host.AllocateRun(claim.ref, count);
  if (!first) return host.Abandon(claim.ref);
  for (uint64_t i = *first; i < *first + count; i++) memory.bytes[i] = StampOf(claim.ref);
  CheckBytes(memory, *first, count, StampOf(claim.ref), "a chunk was given twice");
  if (random.Below(8) == 0) return host.Abandon(claim.ref);
  layout::ContentRow body{};
  body.image_count = 1;
  body.images[0] = {static_cast<uint32_t>(*first), static_cast<uint32_t>(count), 4096};
  if (!host.Publish(claim.ref, body, false)) Broken("a live host lost its claim");
  const std::string name = "m" + std::to_string(random.Below(4));
  host.SetName(name, claim.ref, {});
}

void Read(const Memory& memory, Host& host, Random& random) {
  const auto ref = host.names().Find("m" + std::to_string(random.Below(4)));
  if (!ref || !host.Pin(*ref)) return;
  layout::ContentRow row;
  if (!host.contents().Copy(ref->index, row) || row.checksum != ContentChecksum(row)) Broken("a pinned row is torn");
  CheckBytes(memory, row.images[0].first_chunk, row.images[0].chunk_count, StampOf(*ref), "a pinned chunk was reused");
  host.Unpin(*ref);
}

void Delete(Host& host, Random& random) {
  const auto ref = host.names().Find("m" + std::to_string(random.Below(4)));
  if (!ref) return;
  host.contents().Drain(*ref);
  host.Free(*ref);
}

void FreeDrained(Host& host) {
  for (uint32_t i = 0; i < host.contents().count(); i++) {
    const uint64_t word = host.contents().Word(i);
    if (words::StateOfContent(word) == words::ContentState::kDraining) {
      host.Free({i, words::GenerationOfContent(word)});
    }
  }
}

void Hammer(const Memory& memory, Host& host, Random random, uint64_t operations) {
  for (uint64_t i = 0; i < operations; i++) {
    const uint64_t choice = random.Below(10);
    if (choice < 4) {
      Load(memory, host, random);
    } else if (choice < 7) {
      Read(memory, host, random);
    } else if (choice < 9) {
      Delete(host, random);
    } else {
      FreeDrained(host);
    }
  }
}

/// Nobody else is at work: each chunk is free or USED by the one content whose image holds it.
void CheckSound(const Memory& memory, Host& host) {
  std::vector<int> owners(kChunks, 0);
  for (uint32_t i = 0; i < host.contents().count(); i++) {
    layout::ContentRow row;
    if (!host.contents().Copy(i, row)) continue;
    const auto state = words::StateOfContent(row.word);
    if (state != words::ContentState::kReady && state != words::ContentState::kDraining) Broken("a row is half done");
    if (words::MaskOfContent(row.word) != 0) Broken("a pin is left");
    const ContentRef ref{i, words::GenerationOfContent(row.word)};
    for (uint64_t c = row.images[0].first_chunk; c < row.images[0].first_chunk + row.images[0].chunk_count; c++) {
      if (host.chunks().Word(c) != words::UsedChunk(ref)) Broken("a content lost a chunk");
      owners[c]++;
    }
    CheckBytes(memory, row.images[0].first_chunk, row.images[0].chunk_count, StampOf(ref), "bytes of another content");
  }
  for (uint64_t c = 0; c < kChunks; c++) {
    if (owners[c] > 1) Broken("two contents own one chunk");
    if (owners[c] == 0 && host.chunks().Word(c) != words::kFreeChunk) Broken("a chunk leaked");
  }
}

void TestThreads(uint64_t operations) {
  const Memory memory = Map();
  std::vector<std::unique_ptr<Host>> hosts;
  std::vector<std::thread> threads;
  for (uint32_t row = 0; row < kHosts; row++) {
    hosts.push_back(std::make_unique<Host>(memory.base, memory.geometry));
    ok &= hosts.back()->Attach(row, Identity(row), 1);
  }
  for (uint32_t row = 0; row < kHosts; row++) {
    threads.emplace_back([&, row] { Hammer(memory, *hosts[row], {seed * 31 + row * 977 + 1}, operations); });
  }
  for (auto& thread : threads) thread.join();
  CheckSound(memory, *hosts[0]);
  std::printf("registry_stress_test: %u threads, %llu operations each: ok\n", kHosts,
              static_cast<unsigned long long>(operations));
  munmap(memory.base, 65536);
}

pid_t Spawn(const Memory& memory, uint32_t row, uint64_t run) {
  const pid_t child = fork();
  if (child != 0) return child;
  Host host(memory.base, memory.geometry);
  if (!host.Attach(row, Identity(row), 1)) Broken("a successor can't attach");
  host.Recover(row, Proof::kDead);
  // The bits of a predecessor: its readers died with it.
  for (uint32_t i = 0; i < host.contents().count(); i++) {
    host.contents().ClearBit({i, words::GenerationOfContent(host.contents().Word(i))}, row);
  }
  Hammer(memory, host, {seed * 131 + run * 7919 + 1}, UINT64_MAX);
  _exit(0);
}

void Bury(Host& survivor, uint32_t row) {
  const uint64_t word = survivor.hosts().Word(row);
  survivor.hosts().Lapse({row, words::GenerationOfHost(word)});
  survivor.Recover(row, Proof::kDead);
  for (uint32_t i = 0; i < survivor.contents().count(); i++) {
    survivor.contents().ClearBit({i, words::GenerationOfContent(survivor.contents().Word(i))}, row);
  }
  survivor.Recover(row, Proof::kDead);
}

void Kill(pid_t child) {
  int status = 0;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) Broken("a host ended by itself");
}

/// Row 0 is the survivor; the others die, at once succeeded or first buried.
[[maybe_unused]] void TestKills(uint64_t kills) {
  const Memory memory = Map();
  Host survivor(memory.base, memory.geometry);
  ok &= survivor.Attach(0, Identity(0), 1);
  pid_t children[kHosts] = {};
  for (uint32_t row = 1; row < kHosts; row++) children[row] = Spawn(memory, row, row);
  Random random{seed * 17 + 3};
  for (uint64_t run = 0; run < kills; run++) {
    usleep(static_cast<useconds_t>(200 + random.Below(3000)));
    const auto row = static_cast<uint32_t>(1 + random.Below(kHosts - 1));
    Kill(children[row]);
    if (random.Below(2) == 0) Bury(survivor, row);
    Hammer(memory, survivor, {random.state | 1}, 20);
    children[row] = Spawn(memory, row, 100 + run);
  }
  for (uint32_t row = 1; row < kHosts; row++) Kill(children[row]);
  for (uint32_t row = 1; row < kHosts; row++) {
    Bury(survivor, row);
    if (words::StateOfHost(survivor.hosts().Word(row)) != words::HostState::kFree) Broken("a dead host's row is not free");
  }
  CheckSound(memory, survivor);
  std::printf("registry_stress_test: %llu kills: ok\n", static_cast<unsigned long long>(kills));
  munmap(memory.base, 65536);
}

}  // namespace

int main() {
  const char* text = std::getenv("DAXSERVE_SEED");
  seed = text ? std::strtoull(text, nullptr, 0) : static_cast<uint64_t>(getpid());
  std::printf("registry_stress_test: seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
#if defined(__SANITIZE_THREAD__)
  TestThreads(40000);
#else
  TestThreads(20000);
  TestKills(200);
#endif
  return ok ? 0 : 1;
}
