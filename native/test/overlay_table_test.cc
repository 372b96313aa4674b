// Goal: a key is in the table at most once, whatever two or three inserters, removers and dead hosts do; probing is v8's
// in a kernel-mountable front. Method: every interleaving of small cases, random schedules beyond, threads under TSan.
#include <thread>

#include "bucket_table.h"
#include "det.h"
#include "fnv.h"

using namespace daxserve;

namespace {

constexpr uint64_t kCount = 8;
alignas(64) Pair buckets[kCount];
uint64_t bound;
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("overlay_table_test: FAILED: %s\n", what);
  failures++;
}

PrivateTable<DetAtom> Private() { return PrivateTable<DetAtom>({buckets, kCount}, &bound); }
KernelTable<DetAtom> Kernel() { return KernelTable<DetAtom>({buckets, kCount}); }

void Clear() {
  for (auto& bucket : buckets) bucket = {0, 0};
  bound = 0;
}

int LiveBuckets(uint64_t key) {
  int live = 0;
  for (const auto& bucket : buckets) {
    live += bucket.lo == StateKey(key) && private_value::kState.get(bucket.hi) == private_value::kLive;
  }
  return live;
}

/// Three keys with the same home in a table of 8 buckets.
struct Rivals {
  uint64_t key[3];
  Rivals() {
    int found = 0;
    for (uint64_t ino = 1; found < 3; ino++) {
      if (HomeBucket(FrontKind::kPrivate, PageKey(ino, 0), kCount - 1) == 0) key[found++] = PageKey(ino, 0);
    }
  }
} const rivals;

struct Outcome {
  InsertResult result;
  uint64_t offset;
};
Outcome outcomes[4];

std::function<void()> Inserter(int actor, uint64_t key, uint64_t offset) {
  return [=] {
    BucketRef ref;
    outcomes[actor].result = Private().Insert(key, offset, ref);
    outcomes[actor].offset = private_value::Offset(ref.value);
  };
}

/// A removed bucket before the first free one: the two candidates that a naive insert would both take.
void HoleAtHome() {
  Clear();
  BucketRef first, second;
  PrivateTable<DetAtom> table = Private();
  table.Insert(rivals.key[1], 16, first);
  table.Insert(rivals.key[2], 32, second);
  table.Remove(first);
}

void CheckOne(uint64_t key, int actors) {
  DET_CHECK(LiveBuckets(key) <= 1);
  BucketRef ref;
  const bool found = Private().Find(key, ref) == FindResult::kFound;
  int inserted = 0, crashed = 0;
  for (int i = 0; i < actors; i++) {
    if (det::Crashed(i)) {
      crashed++;
      continue;
    }
    if (outcomes[i].result == InsertResult::kInserted) {
      inserted++;
      DET_CHECK(found && private_value::Offset(ref.value) == outcomes[i].offset);
    } else {
      DET_CHECK(outcomes[i].result == InsertResult::kExists);
      DET_CHECK(found && private_value::Offset(ref.value) == outcomes[i].offset);
    }
  }
  DET_CHECK(inserted + crashed >= 1 && inserted <= 1);
}

void SameKey(bool& ok) {
  const uint64_t key = rivals.key[0];
  det::Scenario two{"insert one key twice", HoleAtHome, {Inserter(0, key, 48), Inserter(1, key, 64)},
                    [=] { CheckOne(key, 2); }};
  // Two inserts of one key can stand back for each other for ever if a scheduler wants it: bounded preemptions.
  det::Options bounded;
  bounded.preemptions_max = 3;
  ok &= det::Explore(two, bounded).ok;
  bounded.preemptions_max = 2;
  ok &= det::ExploreCrashes(two, 0, bounded).ok;
  det::Scenario three{"insert one key thrice", HoleAtHome,
                      {Inserter(0, key, 48), Inserter(1, key, 64), Inserter(2, key, 80)}, [=] { CheckOne(key, 3); }};
  bounded.runs_max = 30000;
  ok &= det::Explore(three, bounded).ok;
  ok &= det::RunSeeded(three, 1, 20000).ok;
  ok &= det::RunSeeded(three, 77, 20000, true).ok;
}

/// A remover opens a nearer vacancy while two insert.
void SameKeyWhileRemoving(bool& ok) {
  static BucketRef victim;
  static bool removed;
  const uint64_t key = rivals.key[0];
  auto setup = [] {
    Clear();
    removed = false;
    Private().Insert(rivals.key[1], 16, victim);
  };
  auto remove = [] { removed = Private().Remove(victim); };
  det::Scenario mix{"insert twice beside a remove", setup, {Inserter(0, key, 48), Inserter(1, key, 64), remove}, [=] {
                      CheckOne(key, 2);
                      DET_CHECK(det::Crashed(2) || removed);
                    }};
  det::Options bounded;
  bounded.preemptions_max = 2;
  bounded.runs_max = 30000;
  ok &= det::Explore(mix, bounded).ok;
  ok &= det::RunSeeded(mix, 5, 20000, true).ok;
}

/// A bucket passes from one key to another and back under a reader: it never pairs a key with another key's value.
void FindWhileReused(bool& ok) {
  static uint64_t seen;
  static FindResult result;
  static BucketRef first;
  auto setup = [] {
    Clear();
    Private().Insert(rivals.key[0], 16, first);
  };
  auto churn = [] {
    BucketRef ref = first;
    PrivateTable<DetAtom> table = Private();
    table.Remove(ref);
    table.Insert(rivals.key[1], 32, ref);
    table.Remove(ref);
    table.Insert(rivals.key[0], 48, ref);
  };
  auto find = [] {
    BucketRef ref;
    result = Private().Find(rivals.key[0], ref);
    seen = private_value::Offset(ref.value);
  };
  det::Scenario churned{"find in a bucket that changes keys", setup, {find, churn}, [] {
                          DET_CHECK(det::Crashed(0) || result == FindResult::kAbsent || seen == 16 || seen == 48);
                        }};
  ok &= det::Explore(churned).ok;
}

void ReplaceAndRemove(bool& ok) {
  static BucketRef start;
  static bool did[2];
  auto setup = [] {
    Clear();
    Private().Insert(rivals.key[0], 16, start);
    did[0] = did[1] = false;
  };
  auto replace = [] {
    BucketRef ref = start;
    did[0] = Private().Replace(ref, 32);
  };
  auto remove = [] { did[1] = Private().Remove(start); };
  det::Scenario both{"replace beside remove", setup, {replace, remove}, [] {
                       DET_CHECK(det::Crashed(0) || det::Crashed(1) || did[0] != did[1]);
                       DET_CHECK(LiveBuckets(rivals.key[0]) == (did[1] ? 0 : 1));
                     }};
  ok &= det::Explore(both).ok;
  ok &= det::ExploreCrashes(both, 1).ok;
}

/// Section 15 item 1: two writers, one free bucket. Each key keeps its own value.
void KernelBucketRace(bool& ok) {
  static InsertResult result[3];
  auto insert = [](int actor, uint64_t key, uint64_t offset) {
    return [=] {
      BucketRef ref;
      result[actor] = Kernel().Insert(key, offset, ref);
    };
  };
  auto check = [] {
    BucketRef ref;
    for (uint64_t i = 0; i < 3; i++) {
      const bool found = Kernel().Find(InodeKey(i + 1), ref) == FindResult::kFound;
      DET_CHECK(det::Crashed(static_cast<int>(i)) || (found && result[i] == InsertResult::kInserted));
      DET_CHECK(!found || ref.value == 32 * (i + 1));
    }
  };
  det::Scenario race{"bucket race of inode keys", Clear,
                     {insert(0, InodeKey(1), 32), insert(1, InodeKey(2), 64), insert(2, InodeKey(3), 96)}, check};
  ok &= det::Explore(race).ok;
  ok &= det::ExploreCrashes(race, 1).ok;
  // A v8 kernel that lost the bucket left its value there: replaced together with the key.
  Clear();
  buckets[kCount - 1].hi = 4096;
  BucketRef ref;
  Require(Kernel().Insert(InodeKey(1), 32, ref) == InsertResult::kInserted && ref.bucket == kCount - 1 && ref.value == 32,
          "a free bucket with a value left in it is claimed with ours");
}

void KernelProbing() {
  Clear();
  BucketRef ref;
  for (uint64_t ino = 1; ino <= kCount; ino++) {
    Require(Kernel().Insert(InodeKey(ino), ino * 32, ref) == InsertResult::kInserted, "fills the table");
    Require(ref.bucket == (kCount - 1 + ino - 1) % kCount, "inode keys follow each other from the last bucket on");
  }
  Require(Kernel().Insert(InodeKey(99), 1, ref) == InsertResult::kFull, "a full table says so");
  Require(Kernel().Find(InodeKey(99), ref) == FindResult::kAbsent, "an absent key in a full table ends");
  Require(Kernel().Insert(InodeKey(3), 1, ref) == InsertResult::kExists && ref.value == 96, "EEXIST with the winner");
}

void PrivateRecycling() {
  Clear();
  PrivateTable<DetAtom> table = Private();
  BucketRef ref;
  for (uint64_t round = 0; round < 10000; round++) {
    const uint64_t key = PageKey(round + 2, round & 7);
    Require(table.Insert(key, 16, ref) == InsertResult::kInserted, "8 buckets serve any number of keys in turn");
    Require(table.Find(key, ref) == FindResult::kFound, "found");
    Require(table.Remove(ref) && !table.Remove(ref), "removed once");
    Require(table.Find(key, ref) == FindResult::kAbsent, "gone");
  }
  for (uint64_t ino = 1; ino <= kCount; ino++) Require(table.Insert(PageKey(ino, 0), 16, ref) == InsertResult::kInserted, "fill");
  Require(table.Insert(PageKey(99, 0), 16, ref) == InsertResult::kFull, "full");
}

void Neighbours() {
  constexpr uint64_t mask = 0xffff;
  for (uint64_t ino = 1; ino < 200; ino++) {
    for (uint64_t page = 0; page < 64; page++) {
      const uint64_t here = HomeBucket(FrontKind::kPrivate, PageKey(ino, page), mask);
      const uint64_t next = HomeBucket(FrontKind::kPrivate, PageKey(ino, page + 1), mask);
      if ((page & 7) != 7) Require(next == here + 1, "neighbouring pages, neighbouring buckets");
    }
  }
}

void Vectors() {
  const struct {
    uint64_t parent;
    const char* name;
    uint64_t key;
  } vectors[] = {{1, "a", 0x294d26ee47fab5df},
                 {1, "hello.txt", 0x0ee66a096fb53621},
                 {1, "modify.txt", 0x4a4043e7ee903d2a},
                 {2, "f0", 0x4e279ae9944d95dc}};
  for (const auto& v : vectors) {
    const auto* name = reinterpret_cast<const uint8_t*>(v.name);
    Require(FnvNames::Key(v.parent, name, std::strlen(v.name)) == v.key, v.name);
  }
  uint8_t long_name[255];
  std::memset(long_name, 'x', sizeof(long_name));
  Require(FnvNames::Key(7, long_name, 255) == 0x436402ed85caa937, "255 times x");
  Require(StateKey(0x436402ed85caa937) == 0x86c805db0b95526f, "its state_key");
}

/// Four real threads insert, replace and remove the same few keys; afterwards each key is LIVE at most once.
void Threads() {
  constexpr uint64_t kBig = 64;
  alignas(64) static Pair big[kBig];
  static uint64_t big_bound = 0;
  std::thread threads[4];
  for (uint64_t t = 0; t < 4; t++) {
    threads[t] = std::thread([t] {
      PrivateTable<RealAtom> table({big, kBig}, &big_bound);
      uint64_t random = t + 1;
      for (int i = 0; i < 40000; i++) {
        random = random * 6364136223846793005 + 1442695040888963407;
        const uint64_t key = PageKey(1 + (random >> 40) % 12, 0);
        BucketRef ref;
        const bool there = table.Find(key, ref) == FindResult::kFound;
        if (!there) table.Insert(key, 16 * (t + 1), ref);
        else if (random >> 63) table.Remove(ref);
        else table.Replace(ref, 16 * (t + 5));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (uint64_t ino = 1; ino <= 12; ino++) {
    int live = 0;
    for (const auto& bucket : big) {
      live += bucket.lo == StateKey(PageKey(ino, 0)) && private_value::kState.get(bucket.hi) == private_value::kLive;
    }
    Require(live <= 1, "a key is live once after the threads");
  }
}

}  // namespace

int main() {
  bool ok = true;
  Vectors();
  Neighbours();
  KernelProbing();
  PrivateRecycling();
  KernelBucketRace(ok);
  SameKey(ok);
  SameKeyWhileRemoving(ok);
  FindWhileReused(ok);
  ReplaceAndRemove(ok);
  Threads();
  std::printf("overlay_table_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
