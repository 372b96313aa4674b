// A fuzzing engine for machines without libFuzzer: replays files, then runs inputs made from a seed.
//   fuzz_x [--seed N] [--runs N] [--seconds S] [--save FILE] [FILE | DIRECTORY]...
// Run i of seed n is run 0 of seed n + i, so a failure is replayed by the seed that is printed. Without --seed:
// DAXSERVE_SEED, else any.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" void __sanitizer_set_death_callback(void (*callback)());
/// UndefinedBehaviorSanitizer knows no callback; a signal says where, too.
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace {

using Bytes = std::vector<uint8_t>;
char now[512];
const char* program = "fuzz";

void SayWhere() {
  char line[1024];
  const int length = std::snprintf(line, sizeof(line), "%s: FAILED in %s\n", program, now);
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) _exit(1);
}
void OnSignal(int signal) {
  SayWhere();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

uint64_t Mix(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/// Mostly small numbers, as the choices of an input are; and pieces of known inputs.
Bytes Make(uint64_t seed, const std::vector<Bytes>& known) {
  uint64_t random = seed;
  Bytes input;
  if (!known.empty() && Mix(random) % 4 == 0) input = known[Mix(random) % known.size()];
  const size_t length = 16 + Mix(random) % 240;
  while (input.size() < length) {
    const uint64_t word = Mix(random);
    input.push_back(static_cast<uint8_t>(word & 1 ? word >> 8 : word >> 8 & 15));
  }
  for (uint64_t changes = Mix(random) % 4; changes > 0; changes--) {
    input[Mix(random) % input.size()] = static_cast<uint8_t>(Mix(random));
  }
  return input;
}

/// Of processor time: a busy machine is no endless loop.
void Limit(time_t seconds) {
  const itimerval limit{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_VIRTUAL, &limit, nullptr);
}

void Run(const Bytes& input) {
  Limit(120);
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

void Load(const std::string& path, std::vector<std::string>& files) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) {
    std::fprintf(stderr, "%s: there is no %s\n", program, path.c_str());
    std::exit(2);
  }
  if (!S_ISDIR(found.st_mode)) {
    files.push_back(path);
    return;
  }
  DIR* directory = opendir(path.c_str());
  while (const dirent* entry = directory == nullptr ? nullptr : readdir(directory)) {
    if (entry->d_name[0] != '.') files.push_back(path + "/" + entry->d_name);
  }
  if (directory != nullptr) closedir(directory);
}

struct Options {
  uint64_t seed = 0, runs = 0;
  double seconds = 0;
  std::vector<std::string> files;
  /// Where the input of `seed` is written, instead of running it.
  std::string save;
};

Options Parse(int argc, char** argv) {
  Options options;
  const char* seed = std::getenv("DAXSERVE_SEED");
  options.seed = seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device()();
  for (int i = 1; i < argc; i++) {
    const std::string arg = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "0";
    if (arg == "--seed") options.seed = std::strtoull(value, nullptr, 10), i++;
    else if (arg == "--runs") options.runs = std::strtoull(value, nullptr, 10), i++;
    else if (arg == "--seconds") options.seconds = std::strtod(value, nullptr), i++;
    else if (arg == "--save") options.save = value, i++;
    else Load(arg, options.files);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  const Options options = Parse(argc, argv);
  __sanitizer_set_death_callback(SayWhere);
  std::signal(SIGABRT, OnSignal);
  std::signal(SIGVTALRM, OnSignal);
  std::vector<Bytes> known;
  for (const std::string& path : options.files) {
    std::ifstream file(path, std::ios::binary);
    known.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    std::snprintf(now, sizeof(now), "file %s", path.c_str());
    Run(known.back());
  }
  if (!options.save.empty()) {
    const Bytes input = Make(options.seed, known);
    return std::ofstream(options.save, std::ios::binary).write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size())) ? 0 : 2;
  }
  const auto start = std::chrono::steady_clock::now();
  auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  uint64_t done = 0;
  for (; options.seconds > 0 ? elapsed() < options.seconds : done < options.runs; done++) {
    const auto seed = static_cast<unsigned long long>(options.seed + done);
    std::snprintf(now, sizeof(now), "a made input, replay with: --seed %llu --runs 1 and the same files", seed);
    Run(Make(seed, known));
  }
  std::printf("%s: %zu files, %llu runs from seed %llu, %.1f s, ok\n", program, known.size(),
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(options.seed), elapsed());
  return 0;
}
