// Registry work beside the files: contents that are copies of one template are loaded, named, read, drained and freed.
#pragma once
#include <optional>
#include <string>

#include "attach.h"
#include "journal.h"

namespace daxserve::stress {

class Contents {
 public:
  Contents(Host& host, Journal& journal, uint32_t owner)
      : host_(host), registry_(host.registry()), journal_(journal), part_(journal.owners[owner]), owner_(owner) {}

  bool Draw(Operation& op) {
    op.a = static_cast<uint32_t>(Below(part_.random, kContents));
    op.b = static_cast<uint32_t>(Below(part_.random, kOwners));
    op.salt = Next(part_.random);
    return true;
  }

  int Do(const Operation& op) {
    if (op.verb == Verb::kLoad) return part_.content[op.a] != 0 ? Read(op.b, op.a) : Load(op);
    return part_.content[op.a] != 0 ? Drop(op.a) : Read(op.b, op.a);
  }

  void Apply(const Operation& op) { part_.content[op.a] = op.verb == Verb::kLoad ? 1 : 0; }

  /// What recovery left of our source: a ready content gets its name (load) or goes (drop).
  bool Resolve(const Operation& op) {
    if (part_.content[op.a] == (op.verb == Verb::kLoad ? 1u : 0u)) return false;
    FreeDrained();
    const auto claim = registry_.Claim(KeyOf(op.a), 1);
    const bool ready = claim.outcome == ClaimOutcome::kExists;
    if (claim.outcome == ClaimOutcome::kClaimed) registry_.Abandon(claim.ref);
    if (ready && op.verb == Verb::kLoad) SetName(op.a, claim.ref);
    if (op.verb == Verb::kDrop) SetName(op.a, std::nullopt);
    if (ready && op.verb == Verb::kDrop) Free(claim.ref);
    part_.content[op.a] = ready && op.verb == Verb::kLoad ? 1 : 0;
    return ready == (op.verb == Verb::kLoad);
  }

  void CheckAll() {
    for (uint32_t k = 0; k < kOwners; k++) {
      for (uint32_t i = 0; i < kContents; i++) {
        const bool wanted = journal_.owners[k].content[i] != 0;
        const auto ref = registry_.names().Find(NameOf(k, i));
        if (wanted != ref.has_value()) Broken("content %s is %s", NameOf(k, i).c_str(), wanted ? "gone" : "there though it was dropped");
        if (wanted) Look(*ref);
      }
    }
  }

  /// After dead hosts were recovered: nobody maps bytes here, so their pins go too; what drains is freed.
  void Settle() {
    for (uint32_t i = 0; i < registry_.contents().count(); i++) {
      const uint64_t word = registry_.contents().Word(i);
      const auto state = words::StateOfContent(word);
      if (state != words::ContentState::kReady && state != words::ContentState::kDraining) continue;
      for (uint32_t row = 0; row < host_.geometry().host_count; row++) {
        if ((words::MaskOfContent(word) >> row & 1) != 0 && (row == host_.self().host || host_.Dead(row))) {
          registry_.contents().ClearBit({i, words::GenerationOfContent(word)}, row);
        }
      }
    }
    FreeDrained();
  }

 private:
  static std::string NameOf(uint32_t owner, uint32_t index) {
    return "stress/o" + std::to_string(owner) + "c" + std::to_string(index) + ":latest";
  }
  SourceKey KeyOf(uint32_t index) const { return {owner_ + 1, index + 100}; }

  layout::ContentRow Template() {
    layout::ContentRow row;
    if (!registry_.contents().Copy(journal_.template_content, row)) Broken("the template content is gone");
    return row;
  }

  void SetName(uint32_t index, std::optional<ContentRef> target) {
    const auto set = registry_.SetName(NameOf(owner_, index), target, {});
    if (set.outcome != NameOutcome::kSet) Broken("name %s cannot be set: outcome %d", NameOf(owner_, index).c_str(), static_cast<int>(set.outcome));
  }

  int Load(const Operation& op) {
    const auto claim = registry_.Claim(KeyOf(op.a), 1);
    if (claim.outcome == ClaimOutcome::kFull) return -ENOSPC;
    if (claim.outcome != ClaimOutcome::kClaimed) Broken("a source of ours is claimed: outcome %d", static_cast<int>(claim.outcome));
    layout::ContentRow row = Template();
    const layout::ImageExtent from = row.images[0];
    const auto first = registry_.AllocateRun(claim.ref, from.chunk_count);
    if (!first || op.salt % 8 == 0) {
      registry_.Abandon(claim.ref);
      return -ENOSPC;
    }
    std::memcpy(host_.Chunk(*first), host_.Chunk(from.first_chunk), from.chunk_count * layout::kChunkBytes);
    row.images[0].first_chunk = static_cast<uint32_t>(*first);
    const bool pin = op.salt % 8 < 4;
    if (!registry_.Publish(claim.ref, row, pin)) Broken("a live host lost its claim");
    SetName(op.a, claim.ref);
    if (pin) registry_.Unpin(claim.ref);
    return 0;
  }

  int Drop(uint32_t index) {
    const auto ref = registry_.names().Find(NameOf(owner_, index));
    if (!ref) Broken("content %s is gone", NameOf(owner_, index).c_str());
    SetName(index, std::nullopt);
    Free(*ref);
    return 0;
  }

  /// A reader of another host may hold it still: then whoever settles frees it.
  void Free(ContentRef ref) {
    registry_.contents().Drain(ref);
    registry_.Free(ref);
  }

  void FreeDrained() {
    for (uint32_t i = 0; i < registry_.contents().count(); i++) {
      const uint64_t word = registry_.contents().Word(i);
      if (words::StateOfContent(word) == words::ContentState::kDraining) registry_.Free({i, words::GenerationOfContent(word)});
    }
  }

  int Read(uint32_t owner, uint32_t index) {
    const auto ref = registry_.names().Find(NameOf(owner, index));
    if (!ref || !registry_.Pin(*ref)) return -ENOENT;
    Look(*ref);
    registry_.Unpin(*ref);
    return -EEXIST;
  }

  /// Row and bytes of a content that cannot go now are those of the template.
  void Look(ContentRef ref) {
    layout::ContentRow row;
    if (!registry_.contents().Copy(ref.index, row) || row.checksum != ContentChecksum(row)) Broken("a content row is torn");
    const layout::ImageExtent from = Template().images[0], at = row.images[0];
    const bool same = at.chunk_count == from.chunk_count && std::memcmp(host_.Chunk(at.first_chunk), host_.Chunk(from.first_chunk), from.bytes) == 0;
    if (!same) Broken("content row %u has other bytes than were loaded", ref.index);
  }

  Host& host_;
  Registry<RealAtom>& registry_;
  Journal& journal_;
  OwnerPart& part_;
  uint32_t owner_;
};

}  // namespace daxserve::stress
