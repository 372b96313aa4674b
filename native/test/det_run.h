// How test programs run scenarios of det.h: one printed line each, replay from the environment.
#pragma once
#include <algorithm>
#include <cinttypes>
#include <cstring>

namespace daxserve::det {

#if defined(__SANITIZE_THREAD__)
/// The TSan build runs a share of the schedules: it looks at memory orders, the other build at interleavings.
inline constexpr uint64_t kSlow = 10;
#else
inline constexpr uint64_t kSlow = 1;
#endif

inline void Print(const Scenario& scenario, const char* how, const Report& report) {
  std::printf("det: %s: %s, %" PRIu64 " runs, %" PRIu64 " skipped as equivalent: %s\n", scenario.name.c_str(), how,
              report.runs, report.pruned, report.ok ? "ok" : "FAILED");
  if (!report.ok) std::printf("det: %s\n  replay with %s\n", report.failure.c_str(), report.replay.c_str());
  std::fflush(stdout);
}

/// The part of DAXSERVE_CHOICES ("name:actor.step:0110...") for this scenario. @returns 0 unset, 1 ours, -1 another's
inline int ChoicesFor(const Scenario& scenario, Options& options, std::vector<int>& choices) {
  const char* text = std::getenv("DAXSERVE_CHOICES");
  if (text == nullptr || *text == 0) return 0;
  const size_t length = scenario.name.size();
  if (std::strncmp(text, scenario.name.c_str(), length) != 0 || text[length] != ':') return -1;
  char* at = nullptr;
  options.crash_actor = static_cast<int>(std::strtol(text + length + 1, &at, 10));
  options.crash_step = *at == '.' ? std::strtoull(at + 1, &at, 10) : 0;
  for (at += *at == ':'; *at >= '0' && *at < '0' + kActorsMax; at++) choices.push_back(*at - '0');
  return 1;
}

/// Replays when the environment asks for it. @returns true when `report` is the answer
inline bool FromEnvironment(const Scenario& scenario, Options options, Report& report) {
  std::vector<int> choices;
  const int whose = ChoicesFor(scenario, options, choices);
  if (whose == 0) return false;
  if (whose < 0) return true;
  report = Scheduler(scenario).Replay(options, choices);
  Print(scenario, "replayed", report);
  return true;
}

inline std::string Describe(const Options& options, bool exhausted) {
  std::string how = exhausted ? "every interleaving" : "the first interleavings";
  if (options.preemptions_max >= 0) how += " of at most " + std::to_string(options.preemptions_max) + " preemptions";
  return how;
}

/// Every interleaving, or as many as `options` allows.
inline Report Explore(const Scenario& scenario, Options options = {}) {
  Report report;
  if (!options.quiet && FromEnvironment(scenario, options, report)) return report;
  if (kSlow > 1) options.runs_max = std::min<uint64_t>(options.runs_max == 0 ? 20000 : options.runs_max, 20000);
  report = Scheduler(scenario).Explore(options);
  if (!options.quiet) Print(scenario, Describe(options, report.exhausted).c_str(), report);
  return report;
}

/// Explore with `actor` stopped for ever after 0, 1, 2... accesses, until it has none left. `runs_max` counts per step.
inline Report ExploreCrashes(const Scenario& scenario, int actor, Options options = {}) {
  Report total;
  if (!options.quiet && FromEnvironment(scenario, options, total)) return total;
  if (kSlow > 1) options.runs_max = std::min<uint64_t>(options.runs_max == 0 ? 500 : options.runs_max, 500);
  bool stopped = true;
  Scenario watched = scenario;
  watched.check = [&] {
    stopped |= Crashed(actor);
    scenario.check();
  };
  total.exhausted = true;
  options.crash_actor = actor;
  for (options.crash_step = 0; stopped && total.ok; options.crash_step++) {
    stopped = false;
    const Report one = Scheduler(watched).Explore(options);
    total = {one.ok, total.runs + one.runs, total.pruned + one.pruned, total.exhausted && one.exhausted, one.failure,
             one.replay};
  }
  const std::string how = "actor " + std::to_string(actor) + " stopped after each of " +
                          std::to_string(options.crash_step - 1) + " steps, " + Describe(options, total.exhausted);
  if (!options.quiet) Print(scenario, how.c_str(), total);
  return total;
}

/// `runs` random schedules from `seed` on; with `crashes` each stops a random actor at a random step.
inline Report RunSeeded(const Scenario& scenario, uint64_t seed, uint64_t runs, bool crashes = false,
                        Options options = {}) {
  Report report;
  if (!options.quiet && FromEnvironment(scenario, options, report)) return report;
  const char* text = options.quiet ? nullptr : std::getenv("DAXSERVE_SEED");
  if (text != nullptr && *text != 0) {
    seed = std::strtoull(text, nullptr, 0);
    runs = 1;
  } else {
    runs = std::max<uint64_t>(1, runs / kSlow);
  }
  report = Scheduler(scenario).Seeded(options, seed, runs, crashes);
  const std::string how = std::string(crashes ? "random crashes" : "random schedules") + " from seed " + std::to_string(seed);
  if (!options.quiet) Print(scenario, how.c_str(), report);
  return report;
}

}  // namespace daxserve::det
