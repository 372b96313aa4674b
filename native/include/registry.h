// The registry: host rows, contents, names and chunk words of a region as one object, with recovery over all of them.
#pragma once
#include <vector>

#include "atom.h"
#include "chunk_table.h"
#include "content_table.h"
#include "host_table.h"
#include "name_table.h"

namespace daxserve {

struct Recovered {
  uint64_t contents = 0;
  uint64_t chunks = 0;
  uint64_t names = 0;
  uint64_t pins = 0;
};

/// What is known of a host whose leavings are undone.
enum class Proof {
  /// Silent: what it may still be writing into is quarantined.
  kLapsed,
  /// It cannot be running any more; its workers may.
  kDead,
  /// Neither it nor its workers can (an operator's word): its pins go too.
  kGone,
};

/// Checksum of a content row: XXH3-64 of digest..images, with the fields that change later taken as 0.
inline uint64_t ContentChecksum(layout::ContentRow body) {
  body.bytes_done = 0;
  body.last_access_ms = 0;
  body.flags = 0;
  constexpr size_t kFrom = offsetof(layout::ContentRow, digest);
  constexpr size_t kTo = offsetof(layout::ContentRow, sequence);
  return Xxh3_64(reinterpret_cast<const uint8_t*>(&body) + kFrom, kTo - kFrom);
}

/// One attached (or only looking) user of a registry. Calls that change rows REQUIRE an attached host and fail softly
/// when its generation is gone. Thread safety: one thread per object, besides Beat; any number of objects and processes.
/// Every loop is bounded by a table's size or a named number of tries; nothing read from the region is used as an
/// index without a check.
template <typename A>
class Registry {
 public:
  /// REQUIRES: `geometry` from ReadGeometry of this mapping, which outlives the object.
  Registry(uint8_t* base, const Geometry& geometry, WaitLimits limits = {})
      : hosts_(base, geometry),
        contents_(base, geometry, hosts_, limits),
        names_(base, geometry, hosts_, contents_, limits),
        chunks_(base, geometry) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  HostTable<A>& hosts() { return hosts_; }
  ContentTable<A>& contents() { return contents_; }
  NameTable<A>& names() { return names_; }
  ChunkTable<A>& chunks() { return chunks_; }
  HostRef self() const { return self_; }

  bool Attach(uint32_t row, const HostIdentity& identity, uint64_t now_ms) {
    if (row >= hosts_.count()) return false;
    const auto self = hosts_.Attach(row, identity, now_ms);
    if (self) self_ = *self;
    return self.has_value();
  }
  bool Attached() const { return hosts_.Alive(self_); }
  /// The row becomes FREE, or LAPSED while pins or claims of ours are left.
  void Detach() {
    if (Attached()) hosts_.Detach(self_, Referenced(self_.row));
    self_ = {};
  }

  // ------------------------------------------------------------------------------------------------------- contents

  ClaimResult Claim(SourceKey key, uint64_t now_ms) { return contents_.Claim(self_, key, now_ms); }

  /// First of `count` chunks for a content that we load. The claim is looked at again afterwards: a host taken for dead
  /// meanwhile gives back what it took, because nobody else may look for it any more.
  std::optional<uint64_t> AllocateRun(ContentRef ref, uint64_t count) {
    if (!contents_.IsLoading(self_, ref)) return std::nullopt;
    const auto first = chunks_.AllocateRun(self_, count, ref.index);
    if (!first || (contents_.IsLoading(self_, ref) && Attached())) return first;
    chunks_.Release(*first, count, words::ClaimedChunk(self_, ref.index));
    return std::nullopt;
  }

  /// Makes the images' chunks USED, gives back what else the content claimed, writes the row and publishes it.
  /// False: not ours, or an image lies in chunks that are not; the content is then to be abandoned.
  bool Publish(ContentRef ref, layout::ContentRow body, bool pin) {
    if (!contents_.IsLoading(self_, ref) || body.image_count > layout::kImagesPerContentMax) return false;
    for (uint32_t i = 0; i < body.image_count; i++) {
      const layout::ImageExtent& image = body.images[i];
      if (!chunks_.Promote(self_, image.first_chunk, image.chunk_count, ref)) return false;
    }
    chunks_.ReleaseClaims(self_, ref.index);
    body.flags |= contents_.Flags(ref.index);
    return contents_.Publish(self_, ref, body, ContentChecksum(body), pin);
  }

  /// Undoes a claim of ours: chunks first, then the row. Nothing happens when it is not ours (any more).
  void Abandon(ContentRef ref) {
    if (contents_.BeginAbandon(self_, ref)) FinishFree(ref);
  }

  /// Frees a drained content. The caller has proved that nobody maps it on this kernel.
  bool Free(ContentRef ref) { return contents_.BeginFree(self_, ref) && FinishFree(ref); }

  bool Pin(ContentRef ref) { return Attached() && contents_.Pin(self_, ref); }
  void Unpin(ContentRef ref) {
    if (Attached()) contents_.ClearBit(ref, self_.row);
  }

  NameResult SetName(std::string_view name, std::optional<ContentRef> target, NameExpectation expected) {
    return names_.Set(self_, name, target, expected);
  }

  // ------------------------------------------------------------------------------------------------------- recovery

  /// Undoes what dead generations of `row` left: contents, then chunks, then names; then the row is FREE, or LAPSED
  /// while a pin or something quarantined still names it. Every step is a CAS from exactly what was seen, so a recovery
  /// cut short is finished by the next one, and two at once do no harm.
  Recovered Recover(uint32_t row, Proof proof) {
    Recovered done;
    const bool proven = proof != Proof::kLapsed;
    if (row >= hosts_.count() || !Attached()) return done;
    const auto turn = hosts_.BeginRecovery(row, self_);
    if (turn == HostTable<A>::Turn::kAnother) return done;
    for (uint32_t i = 0; i < contents_.count(); i++) {
      const auto undone = contents_.UndoDeadClaim(self_, i, row, proven);
      done.contents += undone.freeing || undone.quarantined;
      if (undone.freeing) FinishFree(*undone.freeing);
    }
    done.chunks = chunks_.SweepDead(hosts_, row, proven);
    for (uint32_t i = 0; i < names_.count(); i++) done.names += names_.UndoDeadClaim(i, row, proven);
    // Only while the row is RECOVERING(self), when no successor can attach to it: its pins are under the same bit.
    if (proof == Proof::kGone && turn == HostTable<A>::Turn::kMine) done.pins = contents_.ClearPins(row);
    if (turn == HostTable<A>::Turn::kMine) hosts_.EndRecovery(row, self_, Referenced(row));
    return done;
  }

  /// True while a claim, a pin or something quarantined names the row.
  bool Referenced(uint32_t row) const {
    for (uint32_t i = 0; i < contents_.count(); i++) {
      if (contents_.NamesHost(i, row)) return true;
    }
    for (uint32_t i = 0; i < names_.count(); i++) {
      if (names_.NamesHost(i, row)) return true;
    }
    return chunks_.Names(row);
  }

 private:
  bool FinishFree(ContentRef ref) {
    chunks_.FreeOf(self_, ref);
    return contents_.EndFree(self_, ref);
  }

  HostTable<A> hosts_;
  ContentTable<A> contents_;
  NameTable<A> names_;
  ChunkTable<A> chunks_;
  HostRef self_;
};

}  // namespace daxserve
