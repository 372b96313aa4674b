// Target: the registry's tables: host, content and name rows and chunk words are hostile, also between two loads, while
// three hosts claim, publish, pin, name, drain, free and recover. A host may die after any access.
#include <memory>

#include "fuzz_atom.h"
#include "registry.h"

using namespace daxserve;
using namespace daxserve::fuzz;

namespace {

constexpr uint32_t kHosts = 3, kContents = 5, kNames = 8, kChunks = 16;
constexpr WaitLimits kWaits{3, 3};

HostIdentity Identity(uint32_t row) {
  HostIdentity identity;
  identity.boot_id[0] = static_cast<uint8_t>(row + 1);
  identity.name_len = 1;
  identity.name[0] = static_cast<uint8_t>('a' + row);
  return identity;
}

class World {
 public:
  World() : memory_(Place(geometry_)) {
    for (uint32_t row = 0; row < kHosts; row++) {
      hosts_[row] = std::make_unique<Registry<FuzzAtom>>(memory_.data(), geometry_, kWaits);
      hosts_[row]->Attach(row, Identity(row), 1000);
    }
    MakeContents();
    Hostile& hostile = Hostile::Get();
    hostile.Track(memory_);
    Rows<layout::HostRow>(hostile, geometry_.hosts, kHosts, 160);
    Rows<layout::ContentRow>(hostile, geometry_.contents, kContents, sizeof(layout::ContentRow));
    Rows<layout::NameRow>(hostile, geometry_.names, kNames, 32);
    hostile.Name(memory_.data() + geometry_.words, kChunks * 8);
    for (uint32_t i = 0; i < kChunks; i++) hostile.Word(hosts_[0]->chunks().Word(i));
  }

  void Run(Input& input) {
    const uint8_t flags = input.U8();
    Hostile::Get().Begin(input);
    try {
      for (int i = 0; i < 40 && !input.Empty(); i++) Op(input, (flags & 1) != 0);
    } catch (const Stopped&) {
    }
    Hostile::Get().End();
    // Attachments are this process's memory, not the region's.
    for (uint32_t row = 0; row < kHosts; row++) Reattach(row);
  }

 private:
  static size_t Place(Geometry& geometry) {
    geometry.contents = kHosts * sizeof(layout::HostRow);
    geometry.names = geometry.contents + kContents * sizeof(layout::ContentRow);
    geometry.words = geometry.names + kNames * sizeof(layout::NameRow);
    geometry.host_count = kHosts;
    geometry.content_count = kContents;
    geometry.name_count = kNames;
    geometry.chunk_count = kChunks;
    return geometry.words + kChunks * 8;
  }

  /// A published content with a name, one that is being loaded, one that drains, and a quarantined chunk.
  void MakeContents() {
    for (uint64_t i = 0; i < 3; i++) {
      const auto claim = hosts_[i]->Claim({i + 6, 7}, 1);
      const auto first = hosts_[i]->AllocateRun(claim.ref, i + 1);
      if (!first) Hostile::Fail("the sound registry cannot be made");
      refs_.push_back(claim.ref);
      if (i == 1) continue;
      layout::ContentRow body{};
      body.image_count = 1;
      body.images[0] = {static_cast<uint32_t>(*first), static_cast<uint32_t>(i + 1), 4096};
      hosts_[i]->Publish(claim.ref, body, true);
      hosts_[i]->SetName(i == 0 ? "a:latest" : "org/b:latest", claim.ref, {});
    }
    hosts_[2]->contents().Drain(refs_[2]);
  }

  template <typename Row>
  void Rows(Hostile& hostile, uint64_t at, uint32_t count, size_t bytes) {
    for (uint32_t i = 0; i < count; i++) {
      uint8_t* row = memory_.data() + at + i * sizeof(Row);
      uint64_t words[2];
      std::memcpy(words, row, sizeof(words));
      hostile.Name(row, 16);
      hostile.Name(row, bytes);
      hostile.Word(words[0]);
      hostile.Word(words[1]);
    }
  }

  void Reattach(uint32_t row) {
    hosts_[row] = std::make_unique<Registry<FuzzAtom>>(memory_.data(), geometry_, kWaits);
    auto* rows = reinterpret_cast<layout::HostRow*>(memory_.data() + geometry_.hosts);
    rows[row] = {};
    hosts_[row]->Attach(row, Identity(row), 1000);
  }

  ContentRef Ref(Input& input) {
    const uint8_t choice = input.U8();
    if (choice < 200) return refs_[choice % refs_.size()];
    return {input.U32() % (choice < 250 ? kContents : ~0u), input.U32()};
  }
  static std::string_view Name(Input& input) {
    static const std::string kLong(layout::kModelNameBytesMax, 'x');
    static const std::string_view kNamesOf[] = {"a:latest", "org/b:latest", "new:1", "other:2", kLong, "c", "d"};
    return kNamesOf[input.U8() % 7];
  }

  void Op(Input& input, bool mortal) {
    const uint8_t op = input.U8();
    auto& host = *hosts_[(op >> 5) % kHosts];
    if (mortal) Hostile::Get().DieAfter(input.U8() * 2u);
    try {
      if ((op & 1) == 0) Change(input, host, op >> 1 & 15);
      else Look(input, host, op >> 1 & 15);
    } catch (const Stopped&) {
      if (!mortal) throw;
    }
    Hostile::Get().Live();
  }

  void Change(Input& input, Registry<FuzzAtom>& host, uint32_t op) {
    switch (op) {
      case 0:
      case 1: {
        const auto claim = host.Claim({input.U8() % 10u, 7}, 5);
        if (claim.outcome == ClaimOutcome::kClaimed) host.AllocateRun(claim.ref, 1 + input.U8() % kChunks);
        return;
      }
      case 2: {
        layout::ContentRow body{};
        body.image_count = input.U8() % 8;
        for (uint32_t i = 0; i < body.image_count && i < 4; i++) body.images[i] = {input.U8(), input.U8(), 4096};
        if (body.image_count <= layout::kImagesPerContentMax) host.Publish(Ref(input), body, (input.U8() & 1) != 0);
        return;
      }
      case 3: host.Abandon(Ref(input)); return;
      case 4: host.Free(Ref(input)); return;
      case 5: host.Pin(Ref(input)); return;
      case 6: host.Unpin(Ref(input)); return;
      case 7:
      case 8: {
        const auto name = Name(input);
        const auto target = input.U8() & 1 ? std::optional(Ref(input)) : std::nullopt;
        host.SetName(name, target, {(input.U8() & 1) != 0, Ref(input)});
        return;
      }
      case 9: host.contents().Drain(Ref(input), input.U64()); return;
      case 10: host.contents().Quarantine(Ref(input)); return;
      case 11: host.Detach(); return;
      case 12: {
        const uint32_t row = input.U8() % (kHosts + 1);
        host.Attach(row, Identity(row), 9);
        return;
      }
      case 13: {
        const uint32_t row = input.U8() % kHosts;
        host.hosts().Lapse(hosts_[row]->self());
        return;
      }
      default: {
        const uint32_t row = input.U8() % (kHosts + 2);
        host.Recover(row, static_cast<Proof>(input.U8() % 3));
      }
    }
  }

  void Look(Input& input, Registry<FuzzAtom>& host, uint32_t op) {
    layout::ContentRow content;
    layout::HostRow row;
    char name[200];
    uint64_t runs = 0;
    const uint32_t index = op == 9 ? input.U8() % kNames : 0;
    switch (op) {
      case 0: host.contents().Copy(input.U8() % kContents, content); return;
      case 1: host.contents().StampOf(input.U8() % kContents); return;
      case 2: (void)host.contents().Exists(Ref(input)); return;
      case 3: host.contents().SetKeep(Ref(input), (input.U8() & 1) != 0); return;
      case 4: host.hosts().Copy(input.U8() % kHosts, row); return;
      case 5: host.hosts().Beat(host.self()); return;
      case 6:
      case 7: host.names().Find(Name(input)); return;
      case 8: (void)host.names().At(input.U8() % kNames); return;
      case 9:
        if (const auto named = host.names().At(index)) {
          if (host.names().NameAt(index, named->hash, name) > layout::kModelNameBytesMax) Hostile::Fail("a name is too long");
        }
        return;
      case 10: host.chunks().Stats(); return;
      case 11:
        host.chunks().RunsOf(Ref(input), [&](uint64_t first, uint64_t count) {
          if (first + count > kChunks || ++runs > kChunks) Hostile::Fail("a run outside of the chunks");
        });
        return;
      case 12: host.contents().SetBytesDone(host.self(), Ref(input), input.U64()); return;
      default: (void)host.Referenced(input.U8() % 16);
    }
  }

  Geometry geometry_;
  Memory memory_;
  std::unique_ptr<Registry<FuzzAtom>> hosts_[kHosts];
  std::vector<ContentRef> refs_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World& world = *new World;
  Input input(data, size);
  world.Run(input);
  return 0;
}
