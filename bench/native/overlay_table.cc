// The overlay's table: finds and inserts beside an uncontended CAS, nearly empty and at 70 % load, by one thread and by two;
// a pinned page; 100,000 small files. Prints "row <tab> side <tab> nanoseconds" per sample; bench/overlay-table.ts compiles it
// and sums up. Times are of the thread's own CPU time, those of several threads and of files by the clock on the wall.
#include <time.h>

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernel_front.h"
#include "overlay.h"
#include "page_cache.h"
#include "private_front.h"

using namespace daxserve;

namespace {

constexpr int kRounds = 201;
constexpr uint64_t kBatch = 1000;
constexpr uint64_t kLoadPercent = 70;
/// Keys in the table that is called empty; the same keys are looked up in both.
constexpr uint64_t kHotKeys = 1000;
volatile uint64_t sink;

double Now(clockid_t clock) {
  timespec at;
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) * 1e9 + static_cast<double>(at.tv_nsec);
}

template <typename Work>
double NsPer(uint64_t count, Work work) {
  const double start = Now(CLOCK_THREAD_CPUTIME_ID);
  work(count);
  return (Now(CLOCK_THREAD_CPUTIME_ID) - start) / static_cast<double>(count);
}

void Sample(const std::string& row, const char* side, double ns) { std::printf("%s\t%s\t%.3f\n", row.c_str(), side, ns); }

double CasNs() {
  alignas(64) static uint64_t word = 0;
  return NsPer(100 * kBatch, [](uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
      uint64_t seen = i;
      word = i;
      RealAtom::Cas(&word, seen, i + 1, std::memory_order_acq_rel);
    }
  });
}

struct Random {
  uint64_t state = 1;
  uint64_t operator()(uint64_t below) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % below;
  }
};

/// Keys as files of four pages make them: the pages, then the inode.
uint64_t KeyAt(uint64_t i) { return i % 5 == 4 ? InodeKey(2 + i / 5) : PageKey(2 + i / 5, i % 5); }
/// First key of files that are in no table of this program before the rows begin.
constexpr uint64_t kNewKeys = uint64_t{1} << 40;

class Table {
 public:
  Table(uint64_t cells, uint64_t keys) : keys_(keys), cells_(cells) {
    memory_ = static_cast<Pair*>(std::aligned_alloc(4096, cells * sizeof(Pair)));
    std::memset(memory_, 0, cells * sizeof(Pair));
    BucketRef ref;
    auto table = View();
    for (uint64_t i = 0; i < keys; i++) table.Insert(KeyAt(i), 16, ref);
  }
  ~Table() { std::free(memory_); }
  Table(const Table&) = delete;

  PrivateTable<RealAtom> View() { return PrivateTable<RealAtom>({memory_, cells_}); }
  uint64_t keys() const { return keys_; }

 private:
  uint64_t keys_;
  uint64_t cells_;
  Pair* memory_;
};

uint64_t KeysAt(uint64_t cells, uint64_t percent) { return cells / kBinCells * kBinBuckets * percent / 100; }

void FindHot(Table& table, uint64_t first, uint64_t step, uint64_t count) {
  auto view = table.View();
  Random random{first + 1};
  BucketRef ref;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; i++) {
    sum += static_cast<uint64_t>(view.Find(KeyAt(first + random(kHotKeys) * step), ref)) + ref.value;
  }
  sink = sum;
}

double FindAbsent(Table& table, uint64_t seed) {
  auto view = table.View();
  return NsPer(kBatch, [&](uint64_t count) {
    Random random{seed};
    BucketRef ref;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) sum += static_cast<uint64_t>(view.Find(KeyAt(kNewKeys + random(1 << 30)), ref));
    sink = sum;
  });
}

void InsertNew(PrivateTable<RealAtom>& view, uint64_t first, std::vector<BucketRef>& refs) {
  for (uint64_t i = 0; i < refs.size(); i++) {
    if (view.Insert(KeyAt(first + i), 16, refs[i]) != InsertResult::kInserted) std::abort();
  }
}

/// New files' keys, one file after another; taken out again, so that the load stays.
double Insert(Table& table, uint64_t round) {
  auto view = table.View();
  std::vector<BucketRef> refs(kBatch / 4);
  const double ns = NsPer(refs.size(), [&](uint64_t) { InsertNew(view, kNewKeys * 2 + round * kBatch, refs); });
  for (const auto& ref : refs) view.Remove(ref);
  return ns;
}

void LoadRows(uint64_t cells, const char* size) {
  Table empty(cells, kHotKeys), loaded(cells, KeysAt(cells, kLoadPercent));
  struct {
    Table& table;
    const char* side;
  } const sides[] = {{empty, "1,000 keys"}, {loaded, "70 % full"}};
  const std::string suffix = std::string(", ") + size;
  for (uint64_t round = 0; round < kRounds; round++) {
    const double cas = CasNs();
    for (const char* row : {"find, 1,000 hot keys", "find, absent keys", "insert"}) Sample(row + suffix, "CAS", cas);
    for (const auto& [table, side] : sides) {
      const uint64_t step = table.keys() / kHotKeys;
      Sample("find, 1,000 hot keys" + suffix, side, NsPer(kBatch * 4, [&](uint64_t n) { FindHot(table, 0, step, n); }));
      Sample("find, absent keys" + suffix, side, FindAbsent(table, round));
      Sample("insert" + suffix, side, Insert(table, round));
    }
  }
}

/// At 70 % again, but every key has been replaced ten times over: no bucket is unused.
void ChurnedRows(uint64_t cells) {
  Table loaded(cells, KeysAt(cells, kLoadPercent));
  auto view = loaded.View();
  Random random;
  std::vector<uint64_t> keys(loaded.keys());
  for (uint64_t i = 0; i < keys.size(); i++) keys[i] = KeyAt(i);
  for (uint64_t i = 0; i < keys.size() * 10; i++) {
    uint64_t& key = keys[random(keys.size())];
    BucketRef ref;
    if (view.Find(key, ref) != FindResult::kFound || !view.Remove(ref)) std::abort();
    key = KeyAt(loaded.keys() + i);
    if (view.Insert(key, 16, ref) != InsertResult::kInserted) std::abort();
  }
  Table empty(cells, kHotKeys);
  for (uint64_t round = 0; round < kRounds; round++) {
    Sample("find, absent keys, ten times replaced", "1,000 keys", FindAbsent(empty, round));
    Sample("find, absent keys, ten times replaced", "70 % full", FindAbsent(loaded, round));
    Sample("insert, ten times replaced", "1,000 keys", Insert(empty, round));
    Sample("insert, ten times replaced", "70 % full", Insert(loaded, round));
  }
}

/// Nanoseconds per operation of all threads together: the time from the start of all to the end of the last.
template <typename Work>
double Together(unsigned threads, uint64_t count, Work work) {
  std::barrier start(static_cast<std::ptrdiff_t>(threads)), end(static_cast<std::ptrdiff_t>(threads));
  double began = 0, ended = 0;
  auto run = [&](unsigned thread) {
    start.arrive_and_wait();
    if (thread == 0) began = Now(CLOCK_MONOTONIC);
    work(thread);
    end.arrive_and_wait();
    if (thread == 0) ended = Now(CLOCK_MONOTONIC);
  };
  std::vector<std::thread> others;
  for (unsigned thread = 1; thread < threads; thread++) others.emplace_back(run, thread);
  run(0);
  for (auto& other : others) other.join();
  return (ended - began) / static_cast<double>(count * threads);
}

void ThreadRows(uint64_t cells) {
  constexpr uint64_t kFinds = 100000, kInserts = 20000;
  Table loaded(cells, KeysAt(cells, kLoadPercent));
  const uint64_t step = loaded.keys() / kHotKeys;
  for (uint64_t round = 0; round < 41; round++) {
    for (const unsigned threads : {1u, 2u}) {
      const char* side = threads == 1 ? "1 thread" : "2 threads";
      Sample("find, keys of each thread's own", side,
             Together(threads, kFinds, [&](unsigned thread) { FindHot(loaded, thread, step, kFinds); }));
      std::vector<BucketRef> refs[2];
      for (auto& mine : refs) mine.resize(kInserts);
      Sample("insert, keys of each thread's own", side, Together(threads, kInserts, [&](unsigned thread) {
               auto view = loaded.View();
               InsertNew(view, kNewKeys * 3 + (round * 2 + thread) * kInserts, refs[thread]);
             }));
      auto view = loaded.View();
      for (unsigned thread = 0; thread < threads; thread++) {
        for (const auto& ref : refs[thread]) view.Remove(ref);
      }
    }
  }
}

/// @param full every other slot has a page of another file, and the hot ones lie anywhere among them
void PinRow(const char* name, FrontKind homes, bool full) {
  constexpr uint64_t kSlots = 4096;
  const uint64_t bytes = 8192 + kSlots * 16 + (kSlots + 1) * 4096;
  auto* base = static_cast<uint8_t*>(std::aligned_alloc(4096, bytes));
  std::memset(base, 0, bytes);
  auto* header = reinterpret_cast<layout::PageCacheHeader*>(base);
  header->magic = layout::kPageCacheMagic;
  header->version = layout::kPageCacheVersion;
  header->slot_meta_offset = 4096;
  header->slot_data_offset = 4096 + kSlots * 16;
  PageCacheView view;
  if (PageCacheView::Open(base, bytes, kSlots, 4096, view) != 0) std::abort();
  std::vector<uint32_t> counts(kSlots), hints(kSlots);
  PageCacheOptions options;
  options.self = {0, 1};
  options.homes = homes;
  options.hints = hints.data();
  PageCache<RealAtom> cache(view, options, counts.data(), nullptr);
  auto fill = [](uint8_t* block) {
    block[0] = 1;
    return 0;
  };
  for (uint64_t page = 0; full && page < 2 * kSlots; page++) {
    PagePin pin;
    if (cache.Pin(PageTag(2, page), fill, pin) != 0) std::abort();
    cache.Unpin(pin);
  }
  for (int round = 0; round < kRounds; round++) {
    Sample(name, "CAS", CasNs());
    Sample(name, "pin + unpin", NsPer(kBatch * 4, [&](uint64_t count) {
             for (uint64_t i = 0; i < count; i++) {
               PagePin pin;
               if (cache.Pin(PageTag(1, i & 63), fill, pin) != 0) std::abort();
               cache.Unpin(pin);
             }
           }));
  }
  std::free(base);
}

/// An empty overlay in memory of its own.
class Front {
 public:
  Front(FrontKind kind, uint64_t buckets, uint64_t pool_bytes) {
    const uint64_t bytes = 4096 + buckets * 16 + pool_bytes;
    memory_ = static_cast<uint8_t*>(std::aligned_alloc(4096, bytes));
    std::memset(memory_, 0, bytes);
    auto* header = reinterpret_cast<layout::OverlayHeader*>(memory_);
    header->magic = layout::kOverlayMagic;
    header->version = layout::kOverlayVersion;
    header->bucket_offset = 4096;
    header->pool_offset = 4096 + buckets * 16;
    header->pool_size = pool_bytes;
    header->pool_alloc = 32;
    header->free_inode = header->free_data = header->free_dirent = kNone;
    header->next_ino = 2;
    if (OverlayView::Open(memory_, bytes, buckets, 4096, parts_.view) != 0) std::abort();
    const layout::OverlayInode root{1, 0040755, 0, 0, 0, kind == FrontKind::kKernel ? 2u : 0u, 0};
    std::memcpy(parts_.view.pool, &root, sizeof(root));
    const uint64_t value = kind == FrontKind::kKernel ? 0 : private_value::First(0);
    parts_.view.table.buckets[HomeBucket(kind, InodeKey(1), buckets - 1)] = {StateKey(InodeKey(1)), value};
    parts_.self = {0, 1};
  }
  ~Front() { std::free(memory_); }
  Front(const Front&) = delete;

  OverlayParts& parts() { return parts_; }

 private:
  uint8_t* memory_;
  OverlayParts parts_;
};

/// Calls step(i) for each file; a sample is the mean of a hundred.
template <typename Step>
void EachFile(const char* row, const char* side, uint64_t files, Step step) {
  for (uint64_t first = 0; first < files; first += 100) {
    const double start = Now(CLOCK_MONOTONIC);
    for (uint64_t i = first; i < first + 100; i++) {
      if (!step(i)) std::abort();
    }
    Sample(row, side, (Now(CLOCK_MONOTONIC) - start) / 100);
  }
}

/// Small files in one directory: at least five buckets a file, and 8 KiB of pool (a page begins on a block).
template <typename F>
void FileRows(const char* side, FrontKind kind, uint64_t files, bool remember) {
  const uint64_t buckets = uint64_t{1} << (64 - __builtin_clzll(files * 5 - 1));
  Front front(kind, buckets, (files + 1) * 8192);
  KernelIndex index;
  if (remember && index.Open(buckets)) front.parts().index = &index;
  Overlay<RealAtom, F> overlay(front.parts());
  auto name = [](uint64_t i) { return "file-" + std::to_string(i * 7919 % 1000003); };
  const uint8_t text[64] = {'t'};
  uint64_t ino = 0, done = 0, listed = 0;
  FileStat stat;
  uint8_t bytes[64];
  EachFile("files: create and write 64 bytes", side, files, [&](uint64_t i) {
    return overlay.Create(1, name(i), 0644, 0, 0, ino) == 0 && overlay.Write(ino, 0, text, sizeof(text)) == 0;
  });
  EachFile("files: look up", side, files, [&](uint64_t i) { return overlay.Lookup(1, name(i), stat) == 0; });
  EachFile("files: look up and read", side, files, [&](uint64_t i) {
    return overlay.Lookup(1, name(i), stat) == 0 && overlay.Read(stat.ino, 0, bytes, 64, done) == 0 && bytes[0] == 't';
  });
  const double start = Now(CLOCK_MONOTONIC);
  overlay.Readdir(1, [&](std::string_view, uint64_t, uint32_t) { return ++listed != 0; });
  if (listed != files) std::abort();
  Sample("files: list, per name", side, (Now(CLOCK_MONOTONIC) - start) / static_cast<double>(files));
  EachFile("files: unlink", side, files, [&](uint64_t i) { return overlay.Unlink(1, name(i)) == 0; });
}

}  // namespace

int main() {
  LoadRows(1 << 14, "table of 256 KiB");
  LoadRows(1 << 20, "table of 16 MiB");
  ChurnedRows(1 << 16);
  ThreadRows(1 << 20);
  PinRow("pin + unpin, 64 hot pages of 4,096", FrontKind::kKernel, false);
  PinRow("pin + unpin, 64 hot pages of 4,096, mixed places, all in use", FrontKind::kPrivate, true);
  FileRows<KernelFront<RealAtom>>("kernel-mountable, 10,000", FrontKind::kKernel, 10000, true);
  FileRows<KernelFront<RealAtom>>("kernel-mountable, 100,000", FrontKind::kKernel, 100000, true);
  FileRows<PrivateFront<RealAtom>>("private, 100,000", FrontKind::kPrivate, 100000, false);
  FileRows<KernelFront<RealAtom>>("kernel-mountable, 10,000, walking", FrontKind::kKernel, 10000, false);
}
