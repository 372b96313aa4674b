// One of the processes of the many-process stress test (test/stress). Its parent kills it at random moments; a successor goes
// on as the same owner where the journal says, after it has found the operation that was cut short as before or as after.
//   stress_worker run JOURNAL REGION TABLES.. OWNER HOST-NAME     works until journal.stop, or for ever
//   stress_worker check JOURNAL REGION TABLES.. 0 HOST-NAME       everybody is dead: recovers, settles every owner, looks at all
//   stress_worker prepare JOURNAL REGION TABLES.. 0 HOST-NAME SEED CONTENT   makes what is shared; all owners begin anew
// TABLES: registry offset, intents offset, intents, chunks offset, boot id in hex. Exit code 3 and a line "BROKEN ..." when
// something is there that must not be.
#include <sys/prctl.h>

#include <csignal>
#include <memory>
#include <string>

#include "contents.h"
#include "names.h"
#include "pages.h"
#include "shared.h"

using namespace daxserve;
using namespace daxserve::stress;

namespace {

struct Weight {
  Verb verb;
  uint32_t weight;
};

/// A private front recycles everything; a kernel-mountable one keeps inodes and pages for ever, so there files are made less often.
constexpr Weight kPrivateMix[] = {
    {Verb::kCreate, 60}, {Verb::kOpenNew, 20}, {Verb::kWrite, 150}, {Verb::kAppend, 60}, {Verb::kTruncate, 60}, {Verb::kRead, 60},
    {Verb::kUnlink, 50}, {Verb::kRename, 60}, {Verb::kMkdir, 20}, {Verb::kRmdir, 20}, {Verb::kSymlink, 15}, {Verb::kStat, 30},
    {Verb::kChmod, 20}, {Verb::kChild, 20}, {Verb::kUnchild, 15}, {Verb::kReaddir, 10}, {Verb::kRaceCreate, 50}, {Verb::kRaceUnlink, 40},
    {Verb::kLog, 30}, {Verb::kCell, 60}, {Verb::kMove, 30}, {Verb::kHot, 80}, {Verb::kPage, 40}, {Verb::kLoad, 2}, {Verb::kDrop, 2}};
constexpr Weight kKernelMix[] = {
    {Verb::kCreate, 4}, {Verb::kOpenNew, 40}, {Verb::kWrite, 200}, {Verb::kAppend, 100}, {Verb::kTruncate, 100}, {Verb::kRead, 60},
    {Verb::kUnlink, 3}, {Verb::kRename, 60}, {Verb::kMkdir, 3}, {Verb::kRmdir, 3}, {Verb::kSymlink, 3}, {Verb::kStat, 40},
    {Verb::kChmod, 40}, {Verb::kChild, 4}, {Verb::kUnchild, 4}, {Verb::kReaddir, 10}, {Verb::kRaceCreate, 10}, {Verb::kRaceUnlink, 8},
    {Verb::kLog, 30}, {Verb::kCell, 100}, {Verb::kMove, 40}, {Verb::kHot, 20}, {Verb::kPage, 60}, {Verb::kLoad, 2}, {Verb::kDrop, 2}};
constexpr int kBusyTriesMax = 4;
constexpr uint64_t kNeighboursEvery = 20000;

struct Setup {
  Host* host;
  Journal* journal;
  uint8_t* cache;
};

/// One owner at work on an overlay of either kind.
template <typename O>
class Actor {
 public:
  Actor(O& overlay, const Setup& setup, uint32_t owner)
      : overlay_(overlay),
        setup_(setup),
        part_(setup.journal->owners[owner]),
        names_(overlay, part_, owner),
        shared_(overlay, *setup.journal, owner),
        contents_(*setup.host, *setup.journal, owner),
        pages_(setup.cache, *setup.host, part_.random),
        kernel_(setup.host->home().kind() == FrontKind::kKernel) {}

  void Work() {
    while (std::atomic_ref<uint32_t>(setup_.journal->stop).load(std::memory_order_relaxed) == 0) {
      Step();
      if (part_.operations % kNeighboursEvery == 0) Tend();
    }
  }

  /// Brings the operation that a predecessor left to an end.
  void Settle() {
    if (part_.phase == Phase::kReturned) {
      Apply(part_.operation, part_.result);
    } else if (part_.phase == Phase::kBegun) {
      (Resolve(part_.operation) ? part_.resolved_done : part_.resolved_undone)++;
    }
    Idle();
  }

  void CheckOwn() {
    names_.CheckAll();
    for (uint32_t i = 0; i < kDirectories; i++) names_.CheckListing(i);
  }
  void CheckShared() {
    contents_.Settle();
    shared_.CheckAll();
    contents_.CheckAll();
    pages_.CheckAll();
  }

  void Tend() {
    overlay_.Recover();
    setup_.host->RecoverNeighbours();
    contents_.Settle();
  }

 private:
  static bool IsShared(Verb verb) { return verb >= Verb::kRaceCreate && verb <= Verb::kHot; }

  Verb Choose() {
    uint32_t total = 0;
    const auto& mix = kernel_ ? kKernelMix : kPrivateMix;
    for (const Weight& weight : mix) total += weight.weight;
    uint64_t at = Below(part_.random, total);
    for (const Weight& weight : mix) {
      if (at < weight.weight) return weight.verb;
      at -= weight.weight;
    }
    return Verb::kStat;
  }

  bool Draw(Operation& op) {
    op.verb = Choose();
    if (IsShared(op.verb)) return shared_.Draw(op);
    if (op.verb == Verb::kLoad || op.verb == Verb::kDrop) return contents_.Draw(op);
    return op.verb == Verb::kPage || names_.Draw(op, kernel_);
  }

  void Step() {
    Operation op{};
    if (!Draw(op)) return;
    part_.operation = op;
    SetPhase(Phase::kBegun);
    const int result = Do(op);
    if (result > 0) {
      NotDone(op, result);
    } else {
      part_.result = result;
      SetPhase(Phase::kReturned);
      Apply(op, result);
    }
    part_.verbs[static_cast<size_t>(op.verb)]++;
    Idle();
  }

  /// @returns 0, the negative of an error that was to be expected, or an error after which nobody knows
  int Do(const Operation& op) {
    int error = Once(op);
    for (int tries = 1; tries < kBusyTriesMax && (error == EBUSY || error == EAGAIN); tries++) {
      overlay_.Recover();
      error = Once(op);
    }
    return error;
  }

  int Once(const Operation& op) {
    if (IsShared(op.verb)) return shared_.Do(op);
    if (op.verb == Verb::kLoad || op.verb == Verb::kDrop) return contents_.Do(op);
    if (op.verb == Verb::kPage) return pages_.Use();
    const int error = names_.Do(op), expected = names_.Expected(op);
    if (error == expected) return -error;
    if (error != EBUSY && error != EAGAIN && error != ENOSPC) {
      Broken("%s %u %u (%s): errno %d, not %d", kVerbs[static_cast<int>(op.verb)], op.a, op.b, names_.Path(op.a).c_str(), error, expected);
    }
    return error;
  }

  /// Busy, or no space left: as before or as after, as if it had been killed.
  void NotDone(const Operation& op, int error) {
    const bool full = error == ENOSPC;
    (full ? part_.full : part_.busy)++;
    if (!full && error != EBUSY && error != EAGAIN) Broken("%s: errno %d", kVerbs[static_cast<int>(op.verb)], error);
    if (full) std::atomic_ref<uint32_t>(setup_.journal->full).store(1);
    Resolve(op);
  }

  void Apply(const Operation& op, int result) {
    if (IsShared(op.verb)) return shared_.Apply(op, result);
    if (result != 0 || op.verb == Verb::kPage) return;
    if (op.verb == Verb::kLoad || op.verb == Verb::kDrop) contents_.Apply(op);
    else names_.Apply(op);
  }

  bool Resolve(const Operation& op) {
    if (op.verb == Verb::kMove || op.verb == Verb::kHot || op.verb == Verb::kPage) return false;
    if (IsShared(op.verb)) return shared_.Resolve(op);
    if (op.verb == Verb::kLoad || op.verb == Verb::kDrop) return contents_.Resolve(op);
    return names_.Resolve(op);
  }

  void SetPhase(Phase phase) {
    Barrier();
    part_.phase = phase;
    Barrier();
  }
  void Idle() {
    SetPhase(Phase::kIdle);
    part_.operations++;
  }

  O& overlay_;
  Setup setup_;
  OwnerPart& part_;
  Names<O> names_;
  Shared<O> shared_;
  Contents contents_;
  Pages pages_;
  bool kernel_;
};

template <typename O>
void Prepare(O& overlay, Journal& journal, uint64_t seed, uint32_t content) {
  OverlayPaths<O> paths(overlay);
  FileStat stat;
  const auto must = [](int error) {
    if (error != 0) Broken("preparing: errno %d", error);
  };
  for (uint32_t i = 0; i < kDirectories; i++) must(paths.Mkdir(Names<O>::Directory(i), {0755, 0, 0}));
  for (const char* name : {"race", "hot", "m0", "m1", "m2"}) must(paths.Mkdir(name, {0755, 0, 0}));
  for (const char* name : {"cells", "log0", "log1", "m0/mark-m0", "m1/mark-m1", "m2/mark-m2"})
    must(paths.Open(name, O_CREAT | O_EXCL | O_RDWR, {0644, 0, 0}, stat));
  for (uint32_t i = 0; i < kOwners; i++) journal.owners[i].random = seed * kOwners + i;
  journal.template_content = content;
  journal.magic = kMagic;
}

void Check(const Setup& setup) {
  Host& host = *setup.host;
  host.home().With([&](auto& overlay) {
    using O = std::remove_reference_t<decltype(overlay)>;
    const uint32_t finished = overlay.Recover();
    host.RecoverNeighbours();
    for (uint32_t k = 0; k < kOwners; k++) Actor<O>(overlay, setup, k).Settle();
    for (uint32_t k = 0; k < kOwners; k++) Actor<O>(overlay, setup, k).CheckOwn();
    Actor<O>(overlay, setup, 0).CheckShared();
    std::printf("CHECKED finished=%u\n", finished);
    return 0;
  });
}

void Report(const Journal& journal) {
  uint64_t verbs[static_cast<size_t>(Verb::kCount)] = {}, operations = 0, done = 0, undone = 0, busy = 0, full = 0, starts = 0;
  for (const OwnerPart& part : journal.owners) {
    for (size_t i = 0; i < static_cast<size_t>(Verb::kCount); i++) operations += part.verbs[i], verbs[i] += part.verbs[i];
    done += part.resolved_done, undone += part.resolved_undone, busy += part.busy, full += part.full, starts += part.starts;
  }
  std::printf("COUNTS operations=%lu starts=%lu cutDone=%lu cutUndone=%lu busy=%lu noSpace=%lu full=%u", operations, starts, done, undone, busy, full, journal.full);
  for (size_t i = 0; i < static_cast<size_t>(Verb::kCount); i++) std::printf(" %s=%lu", kVerbs[i], verbs[i]);
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 11) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string task = argv[1];
  uint64_t size = 0;
  int fd = -1;
  uint8_t* memory = MapFile(argv[2], size, fd);
  const uint64_t cache_at = (sizeof(Journal) + 4095) / 4096 * 4096;
  if (size < cache_at + kCacheBytes) return 2;
  auto& journal = *reinterpret_cast<Journal*>(memory);
  Place place{argv[3], std::strtoull(argv[4], nullptr, 10), std::strtoull(argv[5], nullptr, 10),
              static_cast<uint32_t>(std::strtoul(argv[6], nullptr, 10)), std::strtoull(argv[7], nullptr, 10), {}};
  for (int i = 0; i < 16; i++) place.boot_id[i] = static_cast<uint8_t>(std::stoul(std::string(argv[8] + 2 * i, 2), nullptr, 16));
  const uint32_t owner = static_cast<uint32_t>(std::strtoul(argv[9], nullptr, 10)) % kOwners;
  Host host(place, argv[10]);
  const Setup setup{&host, &journal, memory + cache_at};
  if (task == "prepare" && argc == 13) {
    host.home().With([&](auto& overlay) { return Prepare(overlay, journal, std::strtoull(argv[11], nullptr, 10), static_cast<uint32_t>(std::atoi(argv[12]))), 0; });
  }
  if (task == "check") Check(setup);
  if (task == "run") {
    host.home().With([&](auto& overlay) {
      Actor actor(overlay, setup, owner);
      journal.owners[owner].starts++;
      actor.Tend();
      actor.Settle();
      actor.Work();
      return 0;
    });
  }
  if (task != "run") Report(journal);
  host.Detach();
  return 0;
}
