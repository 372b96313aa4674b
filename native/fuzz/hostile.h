// The memory of a fuzzed reader: a sound state that is copied back before every run, and the changes that an input asks
// for, before the run or between two accesses of the reader.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <vector>

#include "input.h"

namespace daxserve::fuzz {

/// Thrown out of an access: the run has taken enough time, or the input lets its actor die here.
struct Stopped {};

/// A block of its own: AddressSanitizer sees the first byte in front of it and behind it.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(bytes), data_(new (std::align_val_t{4096}) uint8_t[bytes]) {
    std::memset(data_, 0, bytes);
  }
  ~Memory() { ::operator delete[](data_, std::align_val_t{4096}); }
  Memory(const Memory&) = delete;
  uint8_t* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  const size_t bytes_;
  uint8_t* const data_;
};

/// A structure in the memory: places that an input can name.
struct Area {
  uint8_t* data;
  size_t bytes;
};

/// One write that an input describes.
struct Change {
  uint8_t* at = nullptr;
  uint8_t bytes[16] = {};
  uint32_t length = 0;
};

class Hostile {
 public:
  static Hostile& Get() {
    static Hostile hostile;
    return hostile;
  }

  /// Drops everything that was tracked and named.
  void Forget() {
    states_.clear();
    areas_.clear();
    words_.clear();
    links_.clear();
    targets_.clear();
  }
  /// Memory that the runs work on, and its state now as the one to start from.
  void Track(const Memory& memory) { states_.push_back({memory.data(), {memory.data(), memory.data() + memory.size()}}); }
  void Name(void* data, size_t bytes) { areas_.push_back({static_cast<uint8_t*>(data), bytes}); }
  /// A word worth writing anywhere: offsets of entries, keys, inode numbers.
  void Word(uint64_t word) { words_.push_back(word); }
  /// A word that leads to an entry, and what leads to one: lists that come back, and shared tails.
  void Link(void* word) { links_.push_back(static_cast<uint8_t*>(word)); }
  void Target(uint64_t word) { targets_.push_back(word); }

  /// Back to the sound state; then the changes of the input's start.
  void Begin(Input& input) {
    for (const auto& [data, bytes] : states_) std::memcpy(data, bytes.data(), bytes.size());
    steps_ = 0;
    limit_ = kStepsMax;
    die_at_ = ~uint64_t{0};
    timed_.clear();
    const uint32_t changes = input.Below(16), timed = input.Below(8);
    for (uint32_t i = 0; i < changes; i++) Apply(Read(input));
    for (uint32_t i = 0; i < timed; i++) ReadTimed(input);
    running_ = true;
  }
  void End() { running_ = false; }
  /// What the run has opened is closed by its destructor: the memory changes as before, but nothing may be thrown.
  template <typename Open>
  void Close(Open& open) {
    closing_ = true;
    open.reset();
    closing_ = false;
  }

  /// The next access but `steps` is the actor's last.
  void DieAfter(uint32_t steps) { die_at_ = steps_ + steps; }
  void Live() { die_at_ = ~uint64_t{0}; }

  uint64_t steps() const { return steps_; }
  /// Something else changes the memory during this run.
  bool changing() const { return !timed_.empty(); }
  const std::vector<Area>& areas() const { return areas_; }

  /// Before every access of the reader.
  void Step(uint64_t count = 1) {
    if (!running_) return;
    steps_ += count;
    for (Timed& change : timed_) {
      if (steps_ < change.at) continue;
      Apply(change.change);
      change.at = change.again == 0 ? ~uint64_t{0} : steps_ + change.again;
      if (change.again != 0) std::swap(change.change, change.other);
    }
    const bool may_stop = !closing_ && std::uncaught_exceptions() == 0;
    if (steps_ > die_at_ && may_stop) {
      Live();
      throw Stopped{};
    }
    if (steps_ > limit_) TooLong(may_stop);
  }

  [[noreturn]] static void Fail(const char* what) {
    std::fprintf(stderr, "fuzz: %s\n", what);
    std::abort();
  }

 private:
  struct Timed {
    uint64_t at;
    uint64_t again;
    Change change, other;
  };
  struct State {
    uint8_t* data;
    std::vector<uint8_t> bytes;
  };

  /// Enough for every sound operation on memory of this size, so that campaigns stay fast ...
  static constexpr uint64_t kStepsMax = 12'000;
  /// ... and what even hostile bytes may cost one run. A file of the largest size has 2^20 pages, each is searched for in
  /// a table of up to 128 buckets.
  static constexpr uint64_t kStepsHard = 1'500'000'000;

  /// One in so many runs that took too long goes on to the hard bound, or every one.
  void TooLong(bool may_stop) {
    static const bool always = std::getenv("DAXSERVE_FUZZ_PATIENT") != nullptr;
    static uint64_t slow = 0;
    if (steps_ > kStepsHard) Fail("a loop without an end: more steps than any hostile region may cost");
    if (!may_stop) return;
    if (!always && ++slow % 1024 != 0) throw Stopped{};
    limit_ = kStepsHard;
  }

  static void Apply(const Change& change) { std::memcpy(change.at, change.bytes, change.length); }

  uint8_t* Place(Input& input, uint32_t align, uint32_t length) {
    const Area& area = areas_[input.Below(static_cast<uint32_t>(areas_.size()))];
    if (area.bytes <= length) return area.data;
    const size_t at = input.U16() * align % area.bytes;
    return area.data + (at + length <= area.bytes ? at : area.bytes - length);
  }

  Change Read(Input& input) {
    static constexpr uint64_t kEdges[] = {0,           1,           2,           7,           8,          16,
                                          0x7fffffff,  0x80000000,  0xffffffff,  0x100000000, 0xfffff000, ~uint64_t{0},
                                          ~uint64_t{7}, ~uint64_t{15}, ~uint64_t{4095}, uint64_t{1} << 63, uint64_t{1} << 48,
                                          (uint64_t{1} << 48) - 1, uint64_t{1} << 20, (uint64_t{1} << 20) - 1, 4096, 65536};
    Change change;
    const uint32_t kind = input.Below(12);
    if (kind >= 10 && !links_.empty() && !targets_.empty()) return ReadLink(input);
    change.length = kind == 0 ? 1 : kind == 1 ? 2 : kind <= 3 ? 4 : kind == 8 ? 16 : 8;
    change.at = Place(input, kind <= 1 ? 1 : kind <= 3 ? 4 : 8, change.length);
    uint64_t word = 0;
    std::memcpy(&word, change.at, change.length < 8 ? change.length : 8);
    switch (kind) {
      case 0: word ^= input.U8(); break;
      case 1: word = input.U16(); break;
      case 2: word = input.U32(); break;
      case 3: word = input.U8(); break;
      case 4: word = input.U64(); break;
      case 5: word = kEdges[input.Below(sizeof(kEdges) / sizeof(kEdges[0]))]; break;
      case 6: word = words_.empty() ? input.U8() : words_[input.Below(static_cast<uint32_t>(words_.size()))]; break;
      case 7: word += static_cast<uint64_t>(static_cast<int8_t>(input.U8())); break;
      default: std::memcpy(change.bytes, Place(input, 8, change.length), change.length); return change;
    }
    std::memcpy(change.bytes, &word, change.length);
    return change;
  }

  Change ReadLink(Input& input) {
    Change change;
    change.length = 8;
    change.at = links_[input.Below(static_cast<uint32_t>(links_.size()))];
    std::memcpy(change.bytes, &targets_[input.Below(static_cast<uint32_t>(targets_.size()))], 8);
    return change;
  }

  /// Within the first 32 to 4,096 accesses: short runs change, too.
  void ReadTimed(Input& input) {
    const uint32_t at = input.U16();
    Timed timed{at % 4096u >> (at >> 13), input.U8(), Read(input), {}};
    timed.other = timed.change;
    std::memcpy(timed.other.bytes, timed.change.at, timed.change.length);
    timed_.push_back(timed);
  }

  std::vector<State> states_;
  std::vector<Area> areas_;
  std::vector<uint64_t> words_;
  std::vector<uint8_t*> links_;
  std::vector<uint64_t> targets_;
  std::vector<Timed> timed_;
  uint64_t steps_ = 0;
  uint64_t limit_ = kStepsMax;
  uint64_t die_at_ = ~uint64_t{0};
  bool running_ = false;
  bool closing_ = false;
};

}  // namespace daxserve::fuzz
