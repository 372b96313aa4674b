// Goal: the pool hands every byte to one owner, survives dead hosts and refuses damaged list words.
// Method: every interleaving of pops and pushes, a dead actor after each step, v8's exact list words, planted damage.
#include <thread>
#include <vector>

#include "det.h"
#include "pool.h"

using namespace daxserve;

namespace {

constexpr uint64_t kPoolBytes = 64 * 1024;
alignas(4096) layout::OverlayHeader header;
alignas(4096) uint8_t bytes[kPoolBytes];
int failures = 0;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::printf("pool_test: FAILED: %s\n", what);
  failures++;
}

template <typename A = DetAtom>
Pool<A> Make() {
  return Pool<A>(&header, bytes, kPoolBytes, 4096, 8);
}

void Clear() {
  header = {};
  header.pool_size = kPoolBytes;
  header.free_inode = header.free_data = header.free_dirent = kNone;
}

void Words() {
  Clear();
  auto pool = Make();
  Require(*pool.Allocate(EntryType::kInode) == 0 && *pool.Allocate(EntryType::kPage) == 4096, "aligned bump");
  Require(*pool.Allocate(EntryType::kInode) == 8192 && *pool.Allocate(EntryType::kDirent) == 8224, "8-byte alignment");
  pool.Free(EntryType::kInode, 0);
  Require(header.free_inode == 0, "push: generation 0xffff + 1 = 0, offset 0");
  Require(*reinterpret_cast<uint64_t*>(bytes) == kNone, "the last link is all ones");
  pool.Free(EntryType::kInode, 8192);
  Require(header.free_inode == (uint64_t{1} << 48 | 8192), "second push");
  Require(*reinterpret_cast<uint64_t*>(bytes + 8192) == 0, "a link is a plain offset");
  Require(*pool.Pop(EntryType::kInode) == 8192 && header.free_inode == uint64_t{2} << 48, "pop");
  Require(*pool.Pop(EntryType::kInode) == 0, "pop of the last");
  Require(header.free_inode == (uint64_t{3} << 48 | free_list_word::kEmpty), "empty keeps its generation");
  Require(!pool.Pop(EntryType::kInode), "empty");
  Require(!pool.AllocatePages(~uint64_t{0} / 4096) && !pool.AllocatePages(1 << 20), "too many pages");
  Require(*pool.AllocatePages(3) == 12288, "a batch");
  while (pool.Allocate(EntryType::kPage)) {
  }
  Require(header.pool_alloc <= kPoolBytes, "never beyond the end");
  header.pool_alloc = ~uint64_t{0} - 5;
  Require(!pool.Allocate(EntryType::kPage), "a damaged bump pointer counts as full");
}

/// Section 15 item 22: list words of a damaged or malicious region.
void Damage() {
  for (const uint64_t offset : {kPoolBytes, kPoolBytes - 8, uint64_t{4097}, uint64_t{1} << 47}) {
    Clear();
    header.free_data = offset;
    Require(!Make().Pop(EntryType::kPage), "a head that leads out is empty");
    Clear();
    auto pool = Make();
    pool.AllocatePages(2);
    pool.Free(EntryType::kPage, 4096);
    *reinterpret_cast<uint64_t*>(bytes + 4096) = offset;
    Require(*pool.Pop(EntryType::kPage) == 4096 && !pool.Pop(EntryType::kPage), "a link that leads out ends the list");
  }
  Clear();
  auto pool = Make();
  pool.AllocatePages(1);
  pool.Free(EntryType::kPage, 0);
  *reinterpret_cast<uint64_t*>(bytes) = 0;
  for (int i = 0; i < 5; i++) Require(pool.Pop(EntryType::kPage).has_value(), "a link to itself is no endless loop");
}

/// A pool that pages have filled holds names again when pages are free; each byte of a page has one owner.
void Carves() {
  for (const EntryType type : {EntryType::kInode, EntryType::kDirent}) {
    Clear();
    Pool<RealAtom> pool(&header, bytes, kPoolBytes, 4096, 16, true), plain = Make<RealAtom>();
    while (pool.Allocate(EntryType::kPage)) {
    }
    Require(!pool.Allocate(type), "no free page to cut");
    pool.Free(EntryType::kPage, 8192);
    Require(!plain.Allocate(type), "a plain v8 pool cuts no page");
    std::vector<bool> owned(4096);
    uint64_t all = 0;
    for (const EntryType next : {type, EntryType::kInode}) {
      while (const auto entry = pool.Allocate(next)) {
        for (uint64_t i = 0; i < pool.SizeOf(next); i++, all++) {
          const uint64_t at = *entry + i - 8192;
          Require(at < 4096 && !owned[at], "entries of the page, one owner each");
          owned[at] = true;
        }
      }
    }
    Require(all == 4096, "nothing of the page is lost");
  }
}

std::optional<uint64_t> got[3];

/// Two pop and push back in ABA order against a third that pops: nobody gets what another holds.
void Aba(bool& ok) {
  static bool held[16];
  auto setup = [] {
    Clear();
    auto pool = Make();
    pool.AllocatePages(3);
    for (uint64_t page = 0; page < 3; page++) pool.Free(EntryType::kPage, page * 4096);
    for (auto& h : held) h = false;
    for (auto& g : got) g.reset();
  };
  auto take = [](int actor) { got[actor] = Make().Pop(EntryType::kPage); };
  auto churn = [](int actor) {
    auto pool = Make();
    const auto a = pool.Pop(EntryType::kPage);
    const auto b = pool.Pop(EntryType::kPage);
    if (a) pool.Free(EntryType::kPage, *a);
    got[actor] = b;
  };
  auto check = [] {
    for (int a = 0; a < 2; a++) {
      for (int b = a + 1; b < 3; b++) DET_CHECK(!got[a] || !got[b] || *got[a] != *got[b]);
    }
    auto pool = Make();
    std::vector<uint64_t> rest;
    while (const auto page = pool.Pop(EntryType::kPage)) {
      rest.push_back(*page);
      DET_CHECK(rest.size() <= 3);
      for (const auto& g : got) DET_CHECK(!g || *g != *page);
      if (rest.size() > 3) break;
    }
  };
  det::Scenario two{"pop beside pop, pop, push", setup, {[=] { take(0); }, [=] { churn(1); }}, check};
  ok &= det::Explore(two).ok;
  ok &= det::ExploreCrashes(two, 1).ok;
  det::Scenario three{"three on one free list", setup, {[=] { take(0); }, [=] { churn(1); }, [=] { take(2); }}, check};
  ok &= det::Explore(three).ok;
  ok &= det::RunSeeded(three, 3, 20000, true).ok;
}

/// Two want a name when one page is left: each gets at most its own, also when one dies at any step.
void CarveRace(bool& ok) {
  auto make = [] { return Pool<DetAtom>(&header, bytes, kPoolBytes, 4096, 16, true); };
  auto setup = [=] {
    Clear();
    header.pool_alloc = kPoolBytes;
    make().Free(EntryType::kPage, 8192);
    for (auto& g : got) g.reset();
  };
  auto take = [=](int actor) { return [=] { got[actor] = make().Allocate(EntryType::kDirent); }; };
  det::Scenario race{"cut one page by two", setup, {take(0), take(1)}, [=] {
                       std::vector<uint64_t> names;
                       for (const int a : {0, 1}) {
                         if (got[a]) names.push_back(*got[a]);
                       }
                       auto pool = make();
                       while (const auto name = pool.Pop(EntryType::kDirent)) names.push_back(*name);
                       std::sort(names.begin(), names.end());
                       for (size_t i = 1; i < names.size(); i++) DET_CHECK(names[i - 1] + 304 <= names[i]);
                       DET_CHECK(names.size() <= 12);
                     }};
  ok &= det::Explore(race).ok;
  ok &= det::ExploreCrashes(race, 1).ok;
}

void BumpRace(bool& ok) {
  auto bump = [](int actor) { return [=] { got[actor] = Make().Allocate(actor == 1 ? EntryType::kPage : EntryType::kInode); }; };
  auto setup = [] {
    Clear();
    for (auto& g : got) g.reset();
  };
  det::Scenario race{"bump by three", setup, {bump(0), bump(1), bump(2)}, [] {
                       for (int a = 0; a < 3; a++) DET_CHECK(det::Crashed(a) || got[a]);
                       if (got[0] && got[2]) DET_CHECK(*got[0] / 32 != *got[2] / 32);
                       for (const int a : {0, 2}) {
                         if (got[a] && got[1]) DET_CHECK(*got[a] + 32 <= *got[1] || *got[a] >= *got[1] + 4096);
                       }
                     }};
  ok &= det::Explore(race).ok;
  ok &= det::ExploreCrashes(race, 1).ok;
}

void Threads() {
  Clear();
  std::thread threads[4];
  static std::vector<uint64_t> mine[4];
  for (size_t t = 0; t < 4; t++) {
    threads[t] = std::thread([t] {
      auto pool = Make<RealAtom>();
      for (int i = 0; i < 20000; i++) {
        if (mine[t].size() < 8) {
          if (const auto entry = pool.Allocate(EntryType::kDirent)) mine[t].push_back(*entry);
        } else {
          for (const uint64_t entry : mine[t]) pool.Free(EntryType::kDirent, entry);
          mine[t].clear();
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<uint64_t> all;
  for (const auto& part : mine) all.insert(all.end(), part.begin(), part.end());
  auto pool = Make<RealAtom>();
  while (const auto entry = pool.Pop(EntryType::kDirent)) all.push_back(*entry);
  std::sort(all.begin(), all.end());
  Require(std::adjacent_find(all.begin(), all.end()) == all.end(), "no entry has two owners after the threads");
  Require(!all.empty() && all.back() + 304 <= header.pool_alloc, "all inside what was handed out");
}

}  // namespace

int main() {
  bool ok = true;
  Words();
  Damage();
  Carves();
  Aba(ok);
  BumpRace(ok);
  CarveRace(ok);
  Threads();
  std::printf("pool_test: %s\n", ok && failures == 0 ? "ok" : "FAILED");
  return ok && failures == 0 ? 0 : 1;
}
