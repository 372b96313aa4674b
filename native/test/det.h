// Deterministic scheduler for lock-free code: every interleaving of a few actors, or seeded random ones, replayable.
//
// A structure under test takes its atomics as a template parameter `A`. With `DetAtom` every access first hands control
// to the scheduler, which decides who goes on. What is explored is sequentially consistent; memory orders are checked by
// the ThreadSanitizer build (fiber switches are no synchronisation there, so the named orders must carry every plain byte).
//
//   det::Scenario s{"name", setup, {actor0, actor1}, check};
//   ok &= det::Explore(s).ok;                          every interleaving (one of each class of equivalent ones)
//   ok &= det::ExploreCrashes(s, 0).ok;                the same with actor 0 stopped for ever after its step k, every k
//   ok &= det::RunSeeded(s, seed, runs).ok;            random schedules beyond
//
// Replay: the failure prints DAXSERVE_CHOICES=... or DAXSERVE_SEED=...; set it and run the program again.
// Limits: at most 8 actors; shared mutable bytes must go through `A` (plain ones are seen by TSan only); a wait must be
// bounded, and short in exhaustive tests; `check` sees final states, not every state in between.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "det_fiber.h"

namespace daxserve::det {

inline constexpr int kActorsMax = 8;

struct Scenario {
  std::string name;
  /// Before every run, unscheduled.
  std::function<void()> setup;
  std::vector<std::function<void()>> actors;
  /// After every run, unscheduled; calls Fail (DET_CHECK) when something is wrong.
  std::function<void()> check;
};

struct Options {
  /// Stop after so many runs; 0 = until the space is exhausted.
  uint64_t runs_max = 0;
  /// At most so many preemptions of a running actor; -1 = no bound (and equivalent interleavings are skipped).
  int preemptions_max = -1;
  /// This actor stops for ever after `crash_step` accesses; -1 = none.
  int crash_actor = -1;
  uint64_t crash_step = 0;
  /// More accesses than this in one run is a failure: something is unbounded.
  uint64_t steps_max = 20000;
  bool quiet = false;
};

struct Report {
  bool ok = true;
  /// Complete runs; `pruned` ones ended early because an equivalent run was made before.
  uint64_t runs = 0;
  uint64_t pruned = 0;
  /// True when no interleaving (within the preemption bound) is left.
  bool exhausted = false;
  std::string failure;
  /// What to set in the environment to see it again.
  std::string replay;
};

/// What an actor is about to do; two accesses commute unless they overlap and one writes.
struct Access {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool writes = false;
  bool Commutes(const Access& other) const {
    return end <= other.begin || other.end <= begin || (!writes && !other.writes);
  }
};

class Scheduler {
 public:
  explicit Scheduler(const Scenario& scenario) : scenario_(scenario), count_(static_cast<int>(scenario.actors.size())) {
    if (count_ > kActorsMax) std::abort();
    for (int i = 0; i < count_; i++) actors_.push_back({});
    for (int i = 0; i < count_; i++) actors_[Index(i)].fiber = std::make_unique<Fiber>([this, i] { ActorMain(i); });
  }

  static Scheduler*& Current() {
    static thread_local Scheduler* current = nullptr;
    return current;
  }

  Report Explore(const Options& options);
  Report Replay(const Options& options, const std::vector<int>& choices);
  Report Seeded(const Options& options, uint64_t seed, uint64_t runs, bool crashes);

  /// Called by DetAtom before every access of the running actor.
  void BeforeAccess(const Access& access) {
    const IgnoreRaces quiet;
    if (running_ < 0) return;
    Actor& actor = actors_[Index(running_)];
    actor.pending = access;
    SwitchTo(starting_ ? -1 : Decide());
    if (unwinding_) throw Stop{};
    actor.steps++;
    actor.paused = false;
  }

  void Pause() {
    const IgnoreRaces quiet;
    if (running_ >= 0) actors_[Index(running_)].paused = true;
  }

  void Fail(std::string message) {
    const IgnoreRaces quiet;
    if (failure_.empty()) failure_ = std::move(message);
  }

  bool crashed(int actor) const { return actors_[Index(actor)].stopped; }
  uint64_t clock() const { return clock_; }

 private:
  struct Stop {};
  struct Actor {
    std::unique_ptr<Fiber> fiber;
    Access pending;
    uint64_t steps = 0;
    bool done = false;
    bool stopped = false;
    bool paused = false;
  };
  /// One decision: who was chosen, and who need not be chosen any more here (`asleep`).
  struct Node {
    uint32_t candidates = 0;
    uint32_t asleep = 0;
    int chosen = 0;
    int preemptions = 0;
    Access pending[kActorsMax];
  };
  enum class Mode { kDepthFirst, kReplay, kRandom };

  static size_t Index(int i) { return static_cast<size_t>(i); }
  static uint32_t Bit(int i) { return 1u << i; }

  void ActorMain(int i) {
    try {
      scenario_.actors[Index(i)]();
    } catch (const Stop&) {
    }
    Fiber* self = nullptr;
    Fiber* next = nullptr;
    {
      const IgnoreRaces quiet;
      actors_[Index(i)].done = true;
      running_ = starting_ || unwinding_ ? -1 : Decide();
      self = actors_[Index(i)].fiber.get();
      if (running_ >= 0) next = actors_[Index(running_)].fiber.get();
    }
    Fiber::Leave(*self, next);
  }

  void SwitchTo(int next) {
    const int self = running_;
    if (next == self) return;
    running_ = next;
    Fiber::Yield(*actors_[Index(self)].fiber, next < 0 ? nullptr : actors_[Index(next)].fiber.get());
  }

  uint32_t Enabled() {
    uint32_t enabled = 0;
    for (int i = 0; i < count_; i++) {
      Actor& actor = actors_[Index(i)];
      if (actor.done) continue;
      actor.stopped = i == options_.crash_actor && actor.steps >= options_.crash_step;
      if (!actor.stopped) enabled |= Bit(i);
    }
    return enabled;
  }

  /// Who makes the next access; -1 ends the run.
  int Decide() {
    const uint32_t enabled = Enabled();
    if (enabled == 0) return -1;
    if (++clock_ > options_.steps_max) {
      Fail("no end after " + std::to_string(options_.steps_max) + " accesses: an unbounded loop or wait");
      return -1;
    }
    const int next = mode_ == Mode::kRandom ? PickRandom(enabled) : PickPath(enabled);
    if (next >= 0) choices_.push_back(next);
    return next;
  }

  int PickRandom(uint32_t enabled) {
    const bool keep = running_ >= 0 && (enabled & Bit(running_)) && !actors_[Index(running_)].paused;
    if (keep && Random() % switch_every_ != 0) return running_;
    uint64_t skip = Random() % static_cast<uint64_t>(__builtin_popcount(enabled));
    for (int i = 0;; i++) {
      if ((enabled & Bit(i)) && skip-- == 0) return i;
    }
  }

  int PickPath(uint32_t enabled) {
    const size_t depth = choices_.size();
    if (mode_ == Mode::kReplay) {
      const bool usable = depth < replay_.size() && (enabled & Bit(replay_[depth]));
      return usable ? replay_[depth] : __builtin_ctz(enabled);
    }
    if (depth < path_.size()) return path_[depth].chosen;
    Node node = NewNode(enabled);
    const uint32_t open = node.candidates & ~node.asleep;
    if (open == 0) {
      pruned_ = true;
      return -1;
    }
    node.chosen = running_ >= 0 && (open & Bit(running_)) ? running_ : __builtin_ctz(open);
    path_.push_back(node);
    return node.chosen;
  }

  Node NewNode(uint32_t enabled) {
    Node node;
    node.candidates = enabled;
    for (int i = 0; i < count_; i++) node.pending[i] = actors_[Index(i)].pending;
    if (path_.empty()) return node;
    const Node& parent = path_.back();
    if (options_.preemptions_max < 0) {
      // Sleep sets: whoever was already explored at the parent and commutes with the step made leads to nothing new.
      for (int i = 0; i < count_; i++) {
        const bool slept = (parent.asleep & Bit(i)) && i != parent.chosen;
        if (slept && parent.pending[i].Commutes(parent.pending[parent.chosen])) node.asleep |= Bit(i);
      }
      return node;
    }
    const int last = parent.chosen;
    const bool preempted = choices_.size() >= 2 && Preempts(path_.size() - 1);
    node.preemptions = parent.preemptions + (preempted ? 1 : 0);
    const bool free_switch = !(enabled & Bit(last)) || actors_[Index(last)].paused;
    if (!free_switch && node.preemptions >= options_.preemptions_max) node.candidates = Bit(last);
    return node;
  }

  /// True when the choice at `depth` took the turn from an actor that could have gone on.
  bool Preempts(size_t depth) const {
    const Node& node = path_[depth];
    const int before = path_[depth - 1].chosen;
    return node.chosen != before && (node.candidates & Bit(before));
  }

  bool NextPath() {
    while (!path_.empty()) {
      Node& node = path_.back();
      node.asleep |= Bit(node.chosen);
      const uint32_t open = node.candidates & ~node.asleep;
      if (open != 0) {
        node.chosen = __builtin_ctz(open);
        return true;
      }
      path_.pop_back();
    }
    return false;
  }

  void RunOnce() {
    const IgnoreRaces quiet;
    choices_.clear();
    clock_ = 0;
    pruned_ = false;
    scenario_.setup();
    for (int i = 0; i < count_; i++) {
      Actor& actor = actors_[Index(i)];
      actor.steps = 0;
      actor.done = actor.stopped = actor.paused = false;
      actor.pending = {};
    }
    Current() = this;
    starting_ = true;
    for (int i = 0; i < count_; i++) Enter(i);
    starting_ = false;
    running_ = -1;
    const int first = Decide();
    if (first >= 0) Enter(first);
    running_ = -1;
    Fiber::JoinAll();
    if (!pruned_ && failure_.empty()) scenario_.check();
    unwinding_ = true;
    for (int i = 0; i < count_; i++) {
      if (!actors_[Index(i)].done) Enter(i);
    }
    unwinding_ = false;
    running_ = -1;
    Fiber::JoinAll();
    Current() = nullptr;
  }

  void Enter(int i) {
    running_ = i;
    actors_[Index(i)].fiber->Enter();
  }

  uint64_t Random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
  }

  std::string ChoicesText() const {
    std::string text = scenario_.name + ":" + std::to_string(options_.crash_actor) + "." +
                       std::to_string(options_.crash_step) + ":";
    for (const int choice : choices_) text += static_cast<char>('0' + choice);
    return "DAXSERVE_CHOICES=" + text;
  }

  const Scenario& scenario_;
  const int count_;
  std::vector<Actor> actors_;
  Options options_;
  Mode mode_ = Mode::kDepthFirst;
  std::vector<Node> path_;
  std::vector<int> choices_;
  std::vector<int> replay_;
  std::string failure_;
  uint64_t clock_ = 0;
  uint64_t random_ = 1;
  uint64_t switch_every_ = 2;
  int running_ = -1;
  bool starting_ = false;
  bool unwinding_ = false;
  bool pruned_ = false;
};

inline Report Scheduler::Explore(const Options& options) {
  options_ = options;
  mode_ = Mode::kDepthFirst;
  path_.clear();
  failure_.clear();
  Report report;
  do {
    RunOnce();
    (pruned_ ? report.pruned : report.runs)++;
    if (!failure_.empty()) {
      report.ok = false;
      report.failure = failure_;
      report.replay = ChoicesText();
      return report;
    }
    report.exhausted = !NextPath();
  } while (!report.exhausted && (options.runs_max == 0 || report.runs < options.runs_max));
  return report;
}

inline Report Scheduler::Replay(const Options& options, const std::vector<int>& choices) {
  options_ = options;
  mode_ = Mode::kReplay;
  replay_ = choices;
  failure_.clear();
  RunOnce();
  return {failure_.empty(), 1, 0, false, failure_, ChoicesText()};
}

inline Report Scheduler::Seeded(const Options& options, uint64_t seed, uint64_t runs, bool crashes) {
  options_ = options;
  mode_ = Mode::kRandom;
  failure_.clear();
  Report report;
  for (; report.runs < runs; report.runs++) {
    random_ = (seed + report.runs) * 0x9e3779b97f4a7c15u | 1;
    for (int warm = 0; warm < 4; warm++) Random();
    static constexpr uint64_t kSwitchEvery[] = {2, 4, 12, 40};
    switch_every_ = kSwitchEvery[Random() % 4];
    if (crashes) {
      options_.crash_actor = static_cast<int>(Random() % static_cast<uint64_t>(count_));
      options_.crash_step = Random() % 64;
    }
    RunOnce();
    if (failure_.empty()) continue;
    report.ok = false;
    report.failure = failure_;
    report.replay = "DAXSERVE_SEED=" + std::to_string(seed + report.runs) + " (or " + ChoicesText() + ")";
    return report;
  }
  return report;
}

/// Marks the running run as failed; the first message is kept. Outside a run: prints and exits.
inline void Fail(const std::string& message) {
  if (Scheduler* scheduler = Scheduler::Current()) return scheduler->Fail(message);
  std::fprintf(stderr, "det: %s\n", message.c_str());
  std::exit(1);
}

#define DET_TEXT_(x) #x
#define DET_LINE_(x) DET_TEXT_(x)
#define DET_CHECK(condition) \
  do {                       \
    if (!(condition)) ::daxserve::det::Fail(__FILE__ ":" DET_LINE_(__LINE__) ": " #condition); \
  } while (0)

/// In `check`: whether this actor was stopped before it had finished.
inline bool Crashed(int actor) { return Scheduler::Current() != nullptr && Scheduler::Current()->crashed(actor); }
/// Logical time of the run, for histories: grows with every access of any actor.
inline uint64_t Now() { return Scheduler::Current() != nullptr ? Scheduler::Current()->clock() : 0; }

}  // namespace daxserve::det

#include "det_atom.h"
#include "det_run.h"
