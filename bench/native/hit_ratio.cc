// Hit ratio of the v8 page cache beside an ideal CLOCK, LRU and the optimum (Belady) of the same number of slots. Drives
// PageCache itself, not a model of it. Built and run by `npm run bench -- hit-ratio` (bench/hit-ratio.ts), or from native/:
//   g++ -std=c++20 -O3 -pthread -Iinclude ../bench/native/hit_ratio.cc -o build/hit_ratio && build/hit_ratio SEED
// One line per trace on standard output, separated by tabs: name, accesses, then hit ratios in percent: mixed places, plain
// v8 places, ideal CLOCK (a page comes in with its bit set, as in the format), the same with the bit clear, LRU, optimum.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "page_cache.h"

using namespace daxserve;

namespace {

constexpr uint64_t kSlots = 4096;
constexpr uint64_t kBlock = 4096;
/// Pages of one file: what is near in a trace is near in a file.
constexpr uint64_t kFilePages = 256;

struct Random {
  uint64_t state;
  uint64_t Next() {
    state += 0x9e3779b97f4a7c15;
    uint64_t x = state;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  }
  double Unit() { return static_cast<double>(Next() >> 11) / 9007199254740992.0; }
  uint64_t Below(uint64_t n) { return Next() % n; }
};

/// A trace of page numbers; page p is page p % kFilePages of file p / kFilePages.
using Trace = std::vector<uint32_t>;

uint64_t TagOf(uint32_t page) { return PageTag(2 + page / kFilePages, page % kFilePages); }

/// Ranks by Zipf's law, laid out in random order over the files.
class Zipf {
 public:
  Zipf(uint64_t pages, double s, Random& random) : cumulative_(pages), place_(pages), random_(random) {
    double sum = 0;
    for (uint64_t i = 0; i < pages; i++) cumulative_[i] = sum += 1 / std::pow(static_cast<double>(i + 1), s);
    for (double& value : cumulative_) value /= sum;
    for (uint64_t i = 0; i < pages; i++) place_[i] = static_cast<uint32_t>(i);
    for (uint64_t i = pages - 1; i > 0; i--) std::swap(place_[i], place_[random.Below(i + 1)]);
  }
  uint32_t Next() {
    const auto at = std::lower_bound(cumulative_.begin(), cumulative_.end(), random_.Unit());
    return place_[std::min<size_t>(static_cast<size_t>(at - cumulative_.begin()), place_.size() - 1)];
  }

 private:
  std::vector<double> cumulative_;
  std::vector<uint32_t> place_;
  Random& random_;
};

Trace ZipfTrace(double s, uint64_t length, Random random) {
  Zipf zipf(16 * kSlots, s, random);
  Trace trace(length);
  for (uint32_t& page : trace) page = zipf.Next();
  return trace;
}

/// Zipf(1.0), and after every 20,000 accesses a scan of twice the cache over pages that are read once.
Trace ScanTrace(uint64_t length, Random random) {
  Zipf zipf(16 * kSlots, 1.0, random);
  Trace trace;
  auto fresh = static_cast<uint32_t>(16 * kSlots);
  while (trace.size() < length) {
    for (int i = 0; i < 20000; i++) trace.push_back(zipf.Next());
    for (uint64_t i = 0; i < 2 * kSlots; i++) trace.push_back(fresh++);
  }
  return trace;
}

/// Zipf(1.0) over other pages after every 100,000 accesses: what was hot has to go.
Trace ShiftTrace(uint64_t length, Random random) {
  Trace trace;
  while (trace.size() < length) {
    Zipf zipf(16 * kSlots, 1.0, random);
    for (int i = 0; i < 100000; i++) trace.push_back(zipf.Next());
  }
  return trace;
}

/// The same pages again and again. @param share of the number of slots; files of the loop lie apart
Trace LoopTrace(double share, uint64_t length, Random random) {
  const auto pages = static_cast<uint64_t>(share * kSlots);
  std::vector<uint32_t> files;
  for (uint64_t i = 0; i * kFilePages < pages; i++) files.push_back(static_cast<uint32_t>(i * 7 + random.Below(7)));
  Trace trace(length);
  for (uint64_t i = 0; i < length; i++) {
    const uint64_t at = i % pages;
    trace[i] = static_cast<uint32_t>(files[at / kFilePages] * kFilePages + at % kFilePages);
  }
  return trace;
}

double Percent(uint64_t hits, const Trace& trace) { return 100.0 * static_cast<double>(hits) / static_cast<double>(trace.size()); }

/// Fully associative, one hand, a page comes in with its bit as `fresh` says.
double IdealClock(const Trace& trace, bool fresh) {
  std::vector<uint32_t> pages(kSlots, UINT32_MAX);
  std::vector<bool> ref(kSlots, false);
  std::unordered_map<uint32_t, uint64_t> where;
  uint64_t hand = 0, hits = 0;
  for (const uint32_t page : trace) {
    const auto found = where.find(page);
    if (found != where.end()) {
      hits++;
      ref[found->second] = true;
      continue;
    }
    while (ref[hand]) {
      ref[hand] = false;
      hand = (hand + 1) % kSlots;
    }
    if (pages[hand] != UINT32_MAX) where.erase(pages[hand]);
    pages[hand] = page;
    ref[hand] = fresh;
    where[page] = hand;
    hand = (hand + 1) % kSlots;
  }
  return Percent(hits, trace);
}

double Lru(const Trace& trace) {
  std::list<uint32_t> order;
  std::unordered_map<uint32_t, std::list<uint32_t>::iterator> where;
  uint64_t hits = 0;
  for (const uint32_t page : trace) {
    const auto found = where.find(page);
    if (found != where.end()) {
      hits++;
      order.splice(order.begin(), order, found->second);
      continue;
    }
    if (order.size() == kSlots) {
      where.erase(order.back());
      order.pop_back();
    }
    order.push_front(page);
    where[page] = order.begin();
  }
  return Percent(hits, trace);
}

/// Belady: the page whose next use is farthest goes.
double Optimum(const Trace& trace) {
  std::vector<size_t> next(trace.size());
  std::unordered_map<uint32_t, size_t> later, cached;
  for (size_t i = trace.size(); i-- > 0;) {
    const auto found = later.find(trace[i]);
    next[i] = found == later.end() ? SIZE_MAX : found->second;
    later[trace[i]] = i;
  }
  std::priority_queue<std::pair<size_t, uint32_t>> farthest;
  uint64_t hits = 0;
  for (size_t i = 0; i < trace.size(); i++) {
    const auto found = cached.find(trace[i]);
    if (found != cached.end()) {
      hits++;
    } else if (cached.size() == kSlots) {
      // Entries of uses that are over lie about; the true one of a page is what `cached` says.
      for (;; farthest.pop()) {
        const auto still = cached.find(farthest.top().second);
        if (still != cached.end() && still->second == farthest.top().first) break;
      }
      cached.erase(farthest.top().second);
      farthest.pop();
    }
    cached[trace[i]] = next[i];
    farthest.push({next[i], trace[i]});
  }
  return Percent(hits, trace);
}

/// The real thing, in memory of its own.
class Cache {
 public:
  explicit Cache(FrontKind homes) : memory_(kBlock + kSlots * sizeof(layout::Slot) + kSlots * kBlock + kBlock), counts_(kSlots), hints_(kSlots) {
    auto* base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory_.data()) + kBlock - 1) & ~uintptr_t{kBlock - 1});
    auto* header = reinterpret_cast<layout::PageCacheHeader*>(base);
    header->slot_meta_offset = kBlock;
    header->slot_data_offset = kBlock + kSlots * sizeof(layout::Slot);
    PageCacheView view;
    if (PageCacheView::Open(base, memory_.size() - kBlock, kSlots, kBlock, view) != 0) std::abort();
    PageCacheOptions options;
    options.self = {0, 1};
    options.homes = homes;
    options.hints = hints_.data();
    cache_.emplace(view, options, counts_.data(), &counters_);
  }

  double Run(const Trace& trace) {
    for (const uint32_t page : trace) Access(page);
    return Percent(counters_.hits, trace);
  }

 private:
  void Access(uint32_t page) {
    PagePin pin;
    const auto fill = [page](uint8_t* block) {
      *reinterpret_cast<uint64_t*>(block) = page;
      return 0;
    };
    const int error = cache_->Pin(TagOf(page), fill, pin);
    if (error != 0) return;
    if (*reinterpret_cast<const uint64_t*>(pin.data) != page) std::abort();
    cache_->Unpin(pin);
  }

  std::vector<uint8_t> memory_;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> hints_;
  PageCacheCounters counters_{};
  std::optional<PageCache<RealAtom>> cache_;
};

void Report(const char* name, const Trace& trace) {
  Cache mixed(FrontKind::kPrivate), plain(FrontKind::kKernel);
  const double ours = mixed.Run(trace), v8 = plain.Run(trace);
  std::printf("%s\t%zu\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\n", name, trace.size(), ours, v8, IdealClock(trace, true),
              IdealClock(trace, false), Lru(trace), Optimum(trace));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 1;
  const uint64_t length = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 1000000;
  const Random random{seed};
  Report("Zipf 0.8", ZipfTrace(0.8, length, random));
  Report("Zipf 1.0", ZipfTrace(1.0, length, random));
  Report("Zipf 1.2", ZipfTrace(1.2, length, random));
  Report("Zipf 1.0 + scans", ScanTrace(length, random));
  Report("Zipf 1.0, shifting", ShiftTrace(length, random));
  Report("loop, half of the slots", LoopTrace(0.5, length, random));
  Report("loop, 3/4 of the slots", LoopTrace(0.75, length, random));
  Report("loop, 9/10 of the slots", LoopTrace(0.9, length, random));
  Report("loop, all slots", LoopTrace(1.0, length, random));
  Report("loop, 11/10 of the slots", LoopTrace(1.1, length, random));
  Report("loop, twice the slots", LoopTrace(2.0, length, random));
}
