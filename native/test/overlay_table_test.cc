// Goal: a key is in the table at most once and is found while it is in, whatever two or three inserters, removers, readers
// and dead hosts do; probing is v8's in a kernel-mountable front, and what a process remembers of that changes no answer.
// Method: every interleaving of small cases, random schedules beyond, threads under TSan.
#include <memory>
#include <thread>

#include "det.h"
#include "fnv.h"
#include "private_table.h"

using namespace daxserve;

namespace {

/// Kernel-mountable table, and two bins of a private one.
constexpr uint64_t kCount = 8;
constexpr uint64_t kCells = 2 * kBinCells;
alignas(64) Pair buckets[kCount];
alignas(64) Pair cells[kCells];
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("overlay_table_test: FAILED: %s\n", what);
  failures++;
}

PrivateTable<DetAtom> Private() { return PrivateTable<DetAtom>({cells, kCells}); }
KernelTable<DetAtom> Kernel() { return KernelTable<DetAtom>({buckets, kCount}); }

void Clear() {
  for (auto& bucket : buckets) bucket = {0, 0};
  for (auto& cell : cells) cell = {0, 0};
}

/// Keys whose home is bin 0 and its first line: three that the actors use, and as many as fill a bin.
struct Rivals {
  uint64_t key[3 + kBinBuckets];
  Rivals() {
    uint64_t found = 0;
    for (uint64_t ino = 1; found < 3 + kBinBuckets; ino++) {
      if (HomeBucket(FrontKind::kPrivate, PageKey(ino, 0), kCells - 1) == 0) key[found++] = PageKey(ino, 0);
    }
  }
} const rivals;

int LiveBuckets(uint64_t key) {
  int live = 0;
  for (const auto& cell : cells) {
    live += cell.lo == StateKey(key) && private_value::kState.get(cell.hi) == private_value::kLive;
  }
  return live;
}

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

/// The home bin with so many free buckets, of which the first was used before.
void Crowd(unsigned free) {
  Clear();
  BucketRef ref, first;
  PrivateTable<DetAtom> table = Private();
  for (unsigned i = 0; i < kBinBuckets - free + 1; i++) {
    table.Insert(rivals.key[3 + i], 4096, ref);
    if (i == 0) first = ref;
  }
  table.Remove(first);
}

/// One LIVE bucket of the key, and everybody was told about that one. A dead inserter's key is in or not, for good.
void CheckOne(uint64_t key, int actors) {
  BucketRef ref, again;
  const bool found = Private().Find(key, ref) == FindResult::kFound;
  DET_CHECK(LiveBuckets(key) == (found ? 1 : 0));
  int inserted = 0, crashed = 0;
  for (int i = 0; i < actors; i++) {
    crashed += det::Crashed(i);
    if (det::Crashed(i)) continue;
    inserted += outcomes[i].result == InsertResult::kInserted;
    DET_CHECK(outcomes[i].result == InsertResult::kInserted || outcomes[i].result == InsertResult::kExists);
    DET_CHECK(found && private_value::Offset(ref.value) == outcomes[i].offset);
  }
  DET_CHECK(inserted + crashed >= 1 && inserted <= 1);
  const InsertResult late = Private().Insert(key, 8192, again);
  DET_CHECK(late == (found ? InsertResult::kExists : InsertResult::kInserted) && LiveBuckets(key) == 1);
}

/// Lock-free: within these accesses somebody always comes to an end, whatever the schedule.
det::Options Bounded(int preemptions) {
  det::Options options;
  options.preemptions_max = preemptions;
  options.steps_max = 1000;
  return options;
}

void SameKey(bool& ok) {
  const uint64_t key = rivals.key[0];
  const struct {
    const char* name;
    void (*setup)();
  } places[] = {{"insert one key twice, empty table", Clear},
                {"insert one key twice, two buckets left at home", [] { Crowd(2); }},
                {"insert one key twice, one bucket left at home", [] { Crowd(1); }}};
  for (const auto& place : places) {
    det::Scenario two{place.name, place.setup, {Inserter(0, key, 48), Inserter(1, key, 64)}, [=] { CheckOne(key, 2); }};
    ok &= det::Explore(two, Bounded(-1)).ok;
    ok &= det::ExploreCrashes(two, 0, Bounded(-1)).ok;
  }
  det::Scenario three{"insert one key thrice", [] { Crowd(2); },
                      {Inserter(0, key, 48), Inserter(1, key, 64), Inserter(2, key, 80)}, [=] { CheckOne(key, 3); }};
  ok &= det::Explore(three, Bounded(2)).ok;
  ok &= det::ExploreCrashes(three, 0, Bounded(1)).ok;
  ok &= det::RunSeeded(three, 1, 20000).ok;
  ok &= det::RunSeeded(three, 77, 20000, true).ok;
}

/// Different keys of one home: each is in, each with its own value, also when one has to go to another bin.
void DifferentKeys(bool& ok) {
  auto check = [] {
    for (int i = 0; i < 2; i++) {
      BucketRef ref;
      const bool found = Private().Find(rivals.key[i], ref) == FindResult::kFound;
      DET_CHECK(LiveBuckets(rivals.key[i]) == (found ? 1 : 0));
      DET_CHECK(det::Crashed(i) || (found && outcomes[i].result == InsertResult::kInserted));
      DET_CHECK(!found || private_value::Offset(ref.value) == uint64_t{16} * static_cast<uint64_t>(i + 3));
    }
  };
  for (const unsigned free : {2u, 1u}) {
    det::Scenario both{free == 1 ? "insert two keys, one bucket left at home" : "insert two keys of one home",
                       [=] { Crowd(free); }, {Inserter(0, rivals.key[0], 48), Inserter(1, rivals.key[1], 64)}, check};
    ok &= det::Explore(both, Bounded(-1)).ok;
    ok &= det::ExploreCrashes(both, 0, Bounded(-1)).ok;
  }
}

/// A remover opens a nearer vacancy while two insert.
void SameKeyWhileRemoving(bool& ok) {
  static BucketRef victim;
  static bool removed;
  const uint64_t key = rivals.key[0];
  auto setup = [] {
    Crowd(1);
    removed = false;
    Private().Find(rivals.key[5], victim);
  };
  auto remove = [] { removed = Private().Remove(victim); };
  det::Scenario mix{"insert twice beside a remove", setup, {Inserter(0, key, 48), Inserter(1, key, 64), remove}, [=] {
                      CheckOne(key, 2);
                      DET_CHECK(det::Crashed(2) || removed);
                    }};
  ok &= det::Explore(mix, Bounded(2)).ok;
  ok &= det::RunSeeded(mix, 5, 20000, true).ok;
}

/// A key in another bin stays found while an insertion measures how far keys of its home lie, and another fills it in.
void FindFarAway(bool& ok) {
  static FindResult result;
  static BucketRef far;
  auto setup = [] {
    Crowd(1);
    BucketRef ref;
    Private().Insert(rivals.key[2], 16, ref);
    Private().Insert(rivals.key[0], 32, far);
    Private().Remove(ref);
    // Due for measuring: the version in the home's word is a multiple of 8.
    cells[kBinBuckets].lo = layout::bin_word::kVersion.set(cells[kBinBuckets].lo, 8);
  };
  auto find = [] {
    BucketRef ref;
    result = Private().Find(rivals.key[0], ref);
  };
  det::Scenario there{"find beside a measuring insertion", setup, {find, Inserter(1, rivals.key[1], 64)},
                      [] { DET_CHECK(det::Crashed(0) || result == FindResult::kFound); }};
  setup();
  Require(far.bucket >= kBinCells, "the key lies in the other bin");
  ok &= det::Explore(there, Bounded(-1)).ok;
  det::Scenario gone{"two insertions, one of them measuring, beside a remove", setup,
                     {Inserter(0, rivals.key[1], 48), Inserter(1, rivals.key[2], 64), [] { Private().Remove(far); }}, [] {
                       BucketRef ref;
                       for (int i = 0; i < 2; i++) {
                         const bool found = Private().Find(rivals.key[i + 1], ref) == FindResult::kFound;
                         DET_CHECK(det::Crashed(i) || found);
                       }
                     }};
  ok &= det::Explore(gone, Bounded(2)).ok;
  // Nothing lies far away any more: the next measuring insertion says so, and searches end at home.
  setup();
  BucketRef ref;
  Private().Remove(far);
  Private().Insert(rivals.key[1], 64, ref);
  Require(layout::bin_word::kReach.get(cells[kBinBuckets].lo) == 0, "the reach shrinks");
}

/// An inserter stops between the word and its bucket: whoever looks for the key finishes it, and it stays.
void FindSettles(bool& ok) {
  static FindResult first, second;
  auto find = [] {
    BucketRef ref;
    first = Private().Find(rivals.key[0], ref);
    second = Private().Find(rivals.key[0], ref);
  };
  det::Scenario dead{"find beside an inserter that dies", Clear, {Inserter(0, rivals.key[0], 48), find}, [] {
                       if (!det::Crashed(1)) DET_CHECK(first == FindResult::kAbsent || second == FindResult::kFound);
                       BucketRef ref;
                       const FindResult last = Private().Find(rivals.key[0], ref);
                       DET_CHECK(det::Crashed(1) || second == FindResult::kAbsent || last == FindResult::kFound);
                       DET_CHECK(det::Crashed(0) || last == FindResult::kFound);
                       // What the dead did not get in never gets in.
                       Private().Insert(rivals.key[1], 64, ref);
                       DET_CHECK(Private().Find(rivals.key[0], ref) == last);
                     }};
  ok &= det::Explore(dead, Bounded(-1)).ok;
  ok &= det::ExploreCrashes(dead, 0, Bounded(-1)).ok;
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

/// With an index, without one, and by a process that learns of everything late: the same answers, the same buckets.
void KernelIndexed() {
  constexpr uint64_t kBig = 4096;
  static Pair plain[kBig], shared[kBig];
  KernelIndex first, second;
  Require(first.Open(kBig) && second.Open(kBig), "an index opens");
  KernelTable<RealAtom> walking({plain, kBig}), early({shared, kBig}, &first), late({shared, kBig}, &second);
  uint64_t random = 7;
  bool same = true;
  for (int i = 0; i < 20000; i++) {
    random = random * 6364136223846793005 + 1442695040888963407;
    // Inode keys and first pages crowd, names are spread.
    const uint64_t ino = 1 + (random >> 33) % 1200;
    const uint64_t key = random >> 62 == 0 ? InodeKey(ino) : random >> 62 == 1 ? PageKey(ino, 0) : MixGroup(ino) >> 1;
    KernelTable<RealAtom>& other = i % 7 == 0 ? late : early;
    BucketRef a, b;
    if (random >> 61 & 1) {
      same &= walking.Insert(key, ino * 32, a) == other.Insert(key, ino * 32, b) && a.bucket == b.bucket && a.value == b.value;
    } else {
      same &= walking.Find(key, a) == other.Find(key, b) && a.bucket == b.bucket && a.value == b.value;
    }
  }
  Require(same, "an index changes no answer");
  BucketRef ref;
  for (uint64_t ino = 1; ino < 5000; ino++) early.Insert(InodeKey(ino), 1, ref);
  Require(early.Insert(InodeKey(5000), 1, ref) == InsertResult::kFull, "full, with an index");
  Require(late.Find(InodeKey(5000), ref) == FindResult::kAbsent, "absent in a full table, with an index");
}

/// Two threads share an index over a crowded home: a key that is there is found, one key gets one bucket.
void KernelIndexRaces(bool& ok) {
  constexpr uint64_t kBig = 4096, kCrowd = 36;
  static Pair table[kBig];
  static std::unique_ptr<KernelIndex> index;
  static FindResult found[2];
  static InsertResult inserted[2];
  static uint64_t at[2];
  auto indexed = [] { return KernelTable<DetAtom>({table, kBig}, index.get()); };
  auto setup = [] {
    std::memset(table, 0, sizeof(table));
    index = std::make_unique<KernelIndex>();
    index->Open(kBig);
    KernelTable<DetAtom> others({table, kBig});
    BucketRef ref;
    for (uint64_t ino = 1; ino <= kCrowd; ino++) others.Insert(InodeKey(ino), 32, ref);
  };
  auto find = [=](int actor, uint64_t ino) {
    return [=] {
      BucketRef ref;
      found[actor] = indexed().Find(InodeKey(ino), ref);
    };
  };
  auto insert = [=](int actor) {
    return [=] {
      BucketRef ref;
      inserted[actor] = indexed().Insert(InodeKey(99), 64, ref);
      at[actor] = ref.bucket;
    };
  };
  det::Scenario finds{"two finds learn the same buckets", setup, {find(0, kCrowd), find(1, kCrowd - 1)}, [] {
                        DET_CHECK(det::Crashed(0) || found[0] == FindResult::kFound);
                        DET_CHECK(det::Crashed(1) || found[1] == FindResult::kFound);
                      }};
  ok &= det::Explore(finds, Bounded(2)).ok;
  ok &= det::ExploreCrashes(finds, 0, Bounded(1)).ok;
  det::Scenario inserts{"two inserts of one key share an index", setup, {insert(0), insert(1)}, [=] {
                          for (int i = 0; i < 2; i++) {
                            DET_CHECK(det::Crashed(i) || at[i] == (kBig - 1 + kCrowd) % kBig);
                          }
                          if (!det::Crashed(0) && !det::Crashed(1)) DET_CHECK(inserted[0] != inserted[1]);
                        }};
  ok &= det::Explore(inserts, Bounded(2)).ok;
  ok &= det::ExploreCrashes(inserts, 0, Bounded(1)).ok;
}

void PrivateRecycling() {
  Clear();
  PrivateTable<DetAtom> table = Private();
  BucketRef ref;
  for (uint64_t round = 0; round < 10000; round++) {
    const uint64_t key = PageKey(round + 2, round & 7);
    Require(table.Insert(key, 16, ref) == InsertResult::kInserted, "two bins serve any number of keys in turn");
    Require(table.Find(key, ref) == FindResult::kFound, "found");
    Require(table.Remove(ref) && !table.Remove(ref), "removed once");
    Require(table.Find(key, ref) == FindResult::kAbsent, "gone");
  }
  for (uint64_t ino = 1; ino <= 2 * kBinBuckets; ino++) {
    Require(table.Insert(PageKey(ino, 0), 16, ref) == InsertResult::kInserted, "every bucket is used");
  }
  Require(table.Insert(PageKey(99, 0), 16, ref) == InsertResult::kFull, "full");
  for (uint64_t ino = 1; ino <= 2 * kBinBuckets; ino++) {
    Require(table.Find(PageKey(ino, 0), ref) == FindResult::kFound, "found in a full table");
  }
}

void Neighbours() {
  constexpr uint64_t mask = 0xffff;
  for (uint64_t ino = 1; ino < 200; ino++) {
    for (uint64_t page = 0; page < 64; page++) {
      const uint64_t here = HomeBucket(FrontKind::kPrivate, PageKey(ino, page), mask);
      const uint64_t next = HomeBucket(FrontKind::kPrivate, PageKey(ino, page + 1), mask);
      if ((page & 3) != 3) Require(next >> kBinBits == here >> kBinBits && next != here, "neighbours: one bin, a line each");
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
  std::thread threads[4];
  for (uint64_t t = 0; t < 4; t++) {
    threads[t] = std::thread([t] {
      PrivateTable<RealAtom> table({big, kBig});
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
  KernelIndexed();
  KernelIndexRaces(ok);
  SameKey(ok);
  DifferentKeys(ok);
  SameKeyWhileRemoving(ok);
  FindFarAway(ok);
  FindSettles(ok);
  FindWhileReused(ok);
  ReplaceAndRemove(ok);
  Threads();
  std::printf("overlay_table_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
