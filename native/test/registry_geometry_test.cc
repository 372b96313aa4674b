// Goal: a registry header is taken only when every rule of FORMAT.md holds. Method: a sound header with one field changed at
// a time and its checksum made right again; then both copies, damaged in turn.
#include <cstdio>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "registry_geometry.h"
#include "xxh3.h"

using namespace daxserve;
using layout::RegistryHeader;

namespace {

constexpr uint64_t kAt = 8192;
constexpr uint64_t kSize = 1 << 20;
alignas(4096) uint8_t memory[kSize];
bool ok = true;

RegistryHeader Sound() {
  RegistryHeader header{};
  header.magic = layout::kRegistryMagic;
  header.format_version = layout::kRegistryFormatVersion;
  header.fingerprint = layout::kFingerprint;
  header.region_size = 64 << 20;
  header.registry_offset = kAt;
  header.registry_size = kSize - kAt;
  header.chunks_offset = 2 << 20;
  header.chunk_count = 31;
  header.host_count = 15;
  header.hosts_offset = 12288;
  header.contents_offset = 16384;
  header.content_count = 16;
  header.names_offset = 32768;
  header.name_count = 64;
  header.intents_offset = 49152;
  header.intent_count = 16;
  header.words_offset = 53248;
  return header;
}

void Write(RegistryHeader header, uint64_t copy, bool sum = true) {
  if (sum) header.checksum = Xxh3_64(reinterpret_cast<uint8_t*>(&header), offsetof(RegistryHeader, checksum));
  std::memcpy(memory + kAt + copy * sizeof(header), &header, sizeof(header));
}

void Expect(bool condition, const char* what) {
  if (!condition) std::printf("registry_geometry_test: %s: FAILED\n", what);
  ok &= condition;
}

bool Accepts(const std::function<void(RegistryHeader&)>& change) {
  RegistryHeader header = Sound();
  change(header);
  Write(header, 0);
  Write(header, 1);
  return ReadGeometry(memory, kSize, kAt).has_value();
}

struct Case {
  const char* what;
  std::function<void(RegistryHeader&)> change;
};

const std::vector<Case> kRefused = {
    {"magic", [](auto& h) { h.magic ^= 1; }},
    {"version", [](auto& h) { h.format_version++; }},
    {"fingerprint", [](auto& h) { h.fingerprint ^= 1; }},
    {"no hosts", [](auto& h) { h.host_count = 0; }},
    {"16 hosts", [](auto& h) { h.host_count = 16; }},
    {"no contents", [](auto& h) { h.content_count = 0; }},
    {"contents beyond the bit field", [](auto& h) { h.content_count = 0xfffff; }},
    {"contents over the names", [](auto& h) { h.content_count = 17; }},
    {"names no power of two", [](auto& h) { h.name_count = 63; }},
    {"no names", [](auto& h) { h.name_count = 0; }},
    {"names over the intents", [](auto& h) { h.name_count = 128; }},
    {"intents over the words", [](auto& h) { h.intent_count = 33; }},
    {"hosts over the state page", [](auto& h) { h.hosts_offset = 12224; }},
    {"a table out of line", [](auto& h) { h.contents_offset += 8; }},
    {"tables in another order", [](auto& h) { std::swap(h.contents_offset, h.names_offset); }},
    {"words behind the registry", [](auto& h) { h.words_offset = h.registry_size; }},
    {"words that wrap", [](auto& h) { h.words_offset = ~uint64_t{63}; }},
    {"chunks beyond 2^32", [](auto& h) { h.chunk_count = uint64_t{1} << 32; }},
    {"chunks that wrap", [](auto& h) { h.chunks_offset = ~uint64_t{0} << 21; }},
    {"chunks behind the region", [](auto& h) { h.chunk_count = 32; }},
    {"chunks out of line", [](auto& h) { h.chunks_offset += 4096; }},
    {"another registry", [](auto& h) { h.registry_offset += 4096; }},
    {"a registry behind the mapping", [](auto& h) { h.registry_size++; }},
    {"a registry that wraps", [](auto& h) { h.registry_size = ~uint64_t{0}; }},
};

void TestCopies() {
  RegistryHeader other = Sound();
  other.chunk_count = 30;
  Write(Sound(), 0);
  Write(other, 1);
  Expect(ReadGeometry(memory, kSize, kAt)->chunk_count == 31, "copy 0 first");
  RegistryHeader damaged = Sound();
  damaged.checksum = 1;
  Write(damaged, 0, false);
  Expect(ReadGeometry(memory, kSize, kAt)->chunk_count == 30, "copy 1 when 0 is damaged");
  Write(damaged, 1, false);
  Expect(!ReadGeometry(memory, kSize, kAt), "nothing when both are");
  Write(Sound(), 0);
  for (const uint64_t offset : {kAt + 1, kSize, kSize - 4096, ~uint64_t{4095}}) {
    Expect(!ReadGeometry(memory, kSize, offset), "an offset without a header");
  }
}

}  // namespace

int main() {
  Expect(Accepts([](auto&) {}), "a sound header is taken");
  Expect(Accepts([](auto& h) { h.content_count = 1; }), "fewer rows than room");
  for (const auto& [what, change] : kRefused) Expect(!Accepts(change), what);
  TestCopies();
  std::printf("registry_geometry_test: %zu broken headers refused: %s\n", kRefused.size(), ok ? "ok" : "FAILED");
  return ok ? 0 : 1;
}
