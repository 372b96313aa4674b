// Goal: the deterministic scheduler finds what it is for. Method: planted bugs (a lost update, ABA in a stack, a wait
// for a crashed actor) must be found and replayed, and their correct twins must pass every interleaving.
#include "det.h"

#include <set>

using namespace daxserve;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;

namespace {

int failures = 0;

void Expect(bool condition, const char* what) {
  std::printf("det_test: %s: %s\n", what, condition ? "ok" : "FAILED");
  if (!condition) failures++;
}

uint64_t counter;

det::Scenario Counter(const char* name, std::function<void()> add, int actors) {
  const auto total = static_cast<uint64_t>(actors);
  return {name, [] { counter = 0; }, std::vector<std::function<void()>>(static_cast<size_t>(actors), add),
          [total] { DET_CHECK(counter == total); }};
}

void AddLost() { DetAtom::Store(&counter, DetAtom::Load(&counter, memory_order_acquire) + 1, memory_order_relaxed); }

void AddCas() {
  uint64_t seen = DetAtom::Load(&counter, memory_order_acquire);
  while (!DetAtom::Cas(&counter, seen, seen + 1, memory_order_acq_rel)) {
  }
}

void TestLostUpdate() {
  det::Options quiet;
  quiet.quiet = true;
  const auto bad = Counter("lost", AddLost, 2);
  const auto found = det::Explore(bad, quiet);
  Expect(!found.ok, "a planted lost update is found");
  std::printf("det_test: it says: %s, %s\n", found.failure.c_str(), found.replay.c_str());
  std::vector<int> choices;
  for (const char* at = found.replay.c_str() + found.replay.rfind(':') + 1; *at; at++) choices.push_back(*at - '0');
  Expect(!det::Scheduler(bad).Replay(quiet, choices).ok, "its choices replay the failure");
  Expect(!det::RunSeeded(bad, 1, 1000, false, quiet).ok, "random schedules find it too");
  quiet.preemptions_max = 0;
  Expect(det::Explore(bad, quiet).ok, "without preemptions it cannot happen");
  quiet.preemptions_max = 1;
  Expect(!det::Explore(bad, quiet).ok, "with one it does");
  Expect(det::Explore(Counter("counter of 2", AddCas, 2)).ok, "CAS passes with 2 actors");
  Expect(det::Explore(Counter("counter of 3", AddCas, 3)).ok, "CAS passes with 3 actors");
}

/// Two loads and two stores on words of their own: all 6 orders are equivalent, one run must do.
void TestReduction() {
  static uint64_t words[2];
  const det::Scenario apart{"apart",
                            [] { words[0] = words[1] = 0; },
                            {[] { for (uint64_t i = 0; i < 2; i++) DetAtom::Store(&words[0], i, memory_order_relaxed); },
                             [] { for (uint64_t i = 0; i < 2; i++) DetAtom::Store(&words[1], i, memory_order_relaxed); }},
                            [] {}};
  Expect(det::Explore(apart).runs == 1, "actors that share nothing need one run");
  det::Options all;
  all.preemptions_max = 100;
  Expect(det::Explore(apart, all).runs == 6, "without reduction there are 6");
}

// Random little programs of loads, adds and CAS on two words: the reduced exploration must reach exactly the final states
// that all interleavings reach, with and without an actor that stops.
void TestReductionLosesNothing() {
  static uint64_t words[2], seen[3];
  static std::set<std::string>* states;
  static uint64_t program[3][3];
  const auto actor = [](size_t self) {
    return [self] {
      for (const uint64_t step : program[self]) {
        uint64_t* word = &words[step & 1];
        uint64_t expected = seen[self] & 1;
        if (step / 2 == 0) seen[self] = seen[self] * 7 + DetAtom::Load(word, memory_order_acquire);
        if (step / 2 == 1) seen[self] = seen[self] * 7 + DetAtom::FetchAdd(word, self + 1, memory_order_acq_rel);
        if (step / 2 == 2) seen[self] = seen[self] * 7 + DetAtom::Cas(word, expected, self + 5, memory_order_acq_rel);
      }
    };
  };
  const auto setup = [] {
    for (auto& word : words) word = 0;
    for (auto& value : seen) value = 1;
  };
  const det::Scenario random{"random", setup, {actor(0), actor(1), actor(2)}, [] {
                               std::string text;
                               for (const uint64_t value : words) text += std::to_string(value) + ",";
                               for (const uint64_t value : seen) text += std::to_string(value) + ",";
                               states->insert(text);
                             }};
  det::Options reduced, all;
  reduced.quiet = all.quiet = true;
  all.preemptions_max = 100;
  uint64_t random_word = 88172645463325252u, runs[2] = {0, 0};
  bool same = true;
  for (int i = 0; i < 24; i++) {
    for (auto& steps : program) {
      for (auto& step : steps) {
        random_word ^= random_word << 13, random_word ^= random_word >> 7, random_word ^= random_word << 17;
        step = random_word % 6;
      }
    }
    reduced.crash_actor = all.crash_actor = i % 4 - 1;
    reduced.crash_step = all.crash_step = 1;
    std::set<std::string> few, many;
    states = &few;
    runs[0] += det::Explore(random, reduced).runs;
    states = &many;
    runs[1] += det::Explore(random, all).runs;
    same &= few == many;
  }
  std::printf("det_test: %llu runs instead of %llu\n", static_cast<unsigned long long>(runs[0]),
              static_cast<unsigned long long>(runs[1]));
  Expect(same, "the reduced exploration reaches every final state");
}

// A stack of three nodes whose head has no tag: pop that is interrupted by pop, pop, push of the first takes a stale next.
struct Stack {
  uint64_t head;
  uint64_t next[4];
};
Stack stack;
uint64_t taken[2][2];
bool tagged;

uint64_t Node(uint64_t head) { return head & 0xff; }
uint64_t Retag(uint64_t head, uint64_t node) { return tagged ? ((head >> 8) + 1) << 8 | node : node; }

uint64_t Pop() {
  uint64_t head = DetAtom::Load(&stack.head, memory_order_acquire);
  while (Node(head) != 0) {
    const uint64_t next = DetAtom::Load(&stack.next[Node(head)], memory_order_acquire);
    if (DetAtom::Cas(&stack.head, head, Retag(head, next), memory_order_acq_rel)) return Node(head);
  }
  return 0;
}

void Push(uint64_t node) {
  uint64_t head = DetAtom::Load(&stack.head, memory_order_acquire);
  do {
    DetAtom::Store(&stack.next[node], Node(head), memory_order_relaxed);
  } while (!DetAtom::Cas(&stack.head, head, Retag(head, node), memory_order_acq_rel));
}

void CheckStack() {
  bool seen[4] = {};
  uint64_t steps = 0;
  for (uint64_t node = Node(stack.head); node != 0 && steps++ < 8; node = stack.next[node]) {
    DET_CHECK(!seen[node]);
    seen[node] = true;
  }
  for (auto& pair : taken) {
    for (const uint64_t node : pair) {
      if (node == 0) continue;
      DET_CHECK(!seen[node]);
      seen[node] = true;
    }
  }
}

void TestAba() {
  const det::Scenario aba{"stack",
                          [] {
                            stack = {1, {0, 2, 3, 0}};
                            std::memset(taken, 0, sizeof(taken));
                          },
                          {[] { taken[0][0] = Pop(); },
                           [] {
                             const uint64_t first = Pop();
                             taken[1][0] = Pop();
                             if (first != 0) Push(first);
                           }},
                          CheckStack};
  det::Options quiet;
  quiet.quiet = true;
  tagged = false;
  Expect(!det::Explore(aba, quiet).ok, "a planted ABA is found");
  tagged = true;
  Expect(det::Explore(aba).ok, "the tagged stack passes");
}

uint64_t lock_word;

void TestCrash() {
  const auto wait_for_ever = [] {
    uint64_t seen = 0;
    while (!DetAtom::Cas(&lock_word, seen, uint64_t{1}, memory_order_acq_rel)) {
      seen = 0;
      DetAtom::Pause();
    }
    DetAtom::Store(&lock_word, uint64_t{0}, std::memory_order_release);
  };
  const det::Scenario spin{"lock", [] { lock_word = 0; }, {wait_for_ever, wait_for_ever}, [] {}};
  det::Options quiet;
  quiet.quiet = true;
  quiet.steps_max = 200;
  quiet.preemptions_max = 2;
  const auto found = det::ExploreCrashes(spin, 0, quiet);
  Expect(!found.ok, "a wait for an actor that stopped is found");
  Expect(det::ExploreCrashes(Counter("ignored", AddCas, 1), 0, quiet).ok == false, "a crash loses the only update");
}

/// Plain bytes handed over by release and acquire: the TSan build would report a missing order here.
void TestPlainBytes() {
  static uint64_t ready, payload, got;
  const det::Scenario handover{"handover",
                               [] { ready = payload = got = 0; },
                               {[] {
                                  payload = 42;
                                  DetAtom::Store(&ready, uint64_t{1}, std::memory_order_release);
                                },
                                [] {
                                  if (DetAtom::Load(&ready, memory_order_acquire)) got = payload;
                                }},
                               [] { DET_CHECK(got == 0 || got == 42); }};
  Expect(det::Explore(handover).ok, "plain bytes behind a release store");
}

}  // namespace

int main() {
  TestLostUpdate();
  TestReduction();
  TestReductionLosesNothing();
  TestAba();
  TestCrash();
  TestPlainBytes();
  return failures == 0 ? 0 : 1;
}
