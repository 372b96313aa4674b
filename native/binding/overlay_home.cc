#include "overlay_home.h"

namespace daxserve::binding {
namespace {

// Bytes of files outside of the image are the page cache's business.
int NoSource(void*, uint64_t, uint64_t, uint8_t*) { return ENOTSUP; }
int ReadCached(void* cached, uint64_t ino, uint64_t page, uint8_t* block) {
  return static_cast<CachedFiles*>(cached)->Read(ino, page, block);
}

}  // namespace

int OverlayHome::Open(const MappingView& mapping, const HostTables& tables, Owner self, std::shared_ptr<OverlayHome>& out,
                      std::shared_ptr<CachedFiles> cached) {
  std::shared_ptr<OverlayHome> home(new OverlayHome(mapping, tables, std::move(cached)));
  const int error = home->OpenFront(self);
  if (error == 0) out = std::move(home);
  return error;
}

int OverlayHome::OpenFront(Owner self) {
  layout::Superblock head;
  if (mapping_.size < sizeof(head)) return EINVAL;
  RealAtom::CopyOut(&head, mapping_.base, sizeof(head));
  kind_ = (head.version & layout::kPrivateFrontBit) != 0 ? FrontKind::kPrivate : FrontKind::kKernel;
  const bool known = (head.version & ~layout::kPrivateFrontBit) == layout::kSuperblockVersion;
  if (head.magic != layout::kSuperblockMagic || !known || head.overlay_offset == 0) return EINVAL;
  if (head.overlay_offset % layout::kBlockBytes != 0 || !InBounds(head.overlay_offset, head.overlay_size, mapping_.size)) return EINVAL;
  if (!InBounds(tables_.hosts, uint64_t{tables_.host_count} * sizeof(layout::HostRow), mapping_.size)) return EINVAL;
  if (!InBounds(tables_.intents, uint64_t{tables_.intent_count} * sizeof(layout::IntentRow), mapping_.size)) return EINVAL;
  OpenBase(head);
  parts_.base = base_ ? &*base_ : nullptr;
  if (head.pcache_offset != 0) parts_.lower.read = NoSource;
  if (cached_) parts_.lower = {ReadCached, cached_.get()};
  if (tables_.intent_count > 0) {
    parts_.intents = {reinterpret_cast<layout::IntentRow*>(mapping_.base + tables_.intents), tables_.intent_count};
  }
  parts_.self = self;
  parts_.owners = {IsDead, this};
  parts_.root_ino = head.root_inode;
  parts_.read_only = !mapping_.writable;
  if (kind_ == FrontKind::kPrivate && head.overlay_bucket_count < kBinCells) return EINVAL;
  const int error = OverlayView::Open(mapping_.base + head.overlay_offset, head.overlay_size, head.overlay_bucket_count, head.block_size,
                                      parts_.view);
  if (error == 0 && kind_ == FrontKind::kKernel && index_.Open(parts_.view.table.count)) parts_.index = &index_;
  return error;
}

void OverlayHome::OpenBase(const layout::Superblock& head) {
  if (head.base_offset == 0 || head.base_offset > mapping_.size) return;
  base_.emplace(mapping_.base + head.base_offset, mapping_.size - head.base_offset, head.inode_offset, head.inode_count);
}

// A host whose row has passed on leaves its pages to the next check: somebody may have found them already.
void OverlayHome::ReturnPages() {
  hands_.ForEach([this](PageHand& hand) {
    if (hand.page == kNone || !HoldsRow()) return;
    OverlayParts parts = parts_;
    parts.hand = &hand;
    PrivateFiles<RealAtom>(parts).EmptyHand();
  });
}

bool OverlayHome::HoldsRow() const {
  const Owner self = parts_.self;
  if (self.host >= tables_.host_count) return tables_.host_count == 0;
  const auto* row = reinterpret_cast<const layout::HostRow*>(mapping_.base + tables_.hosts) + self.host;
  // @atomic host_row.word  acquire: see host_table.h
  const uint64_t word = RealAtom::Load(&row->word, std::memory_order_acquire);
  return words::GenerationOfHost(word) == self.generation && words::StateOfHost(word) == words::HostState::kLive;
}

// Proved, not guessed: the row has passed on from that attach, or its process was of this kernel and its lock is gone.
// Silence proves nothing. A row of another kernel passes on when its host comes again or an operator says that it is gone.
bool OverlayHome::IsDead(void* context, Owner owner) {
  const auto* home = static_cast<const OverlayHome*>(context);
  const HostTables& tables = home->tables_;
  if (owner.host >= tables.host_count || owner == home->parts_.self) return false;
  const auto* row = reinterpret_cast<const layout::HostRow*>(home->mapping_.base + tables.hosts) + owner.host;
  // @atomic host_row.word  acquire: see host_table.h
  const uint64_t word = RealAtom::Load(&row->word, std::memory_order_acquire);
  const auto state = words::StateOfHost(word);
  if (words::GenerationOfHost(word) != owner.generation || state == words::HostState::kFree) return true;
  uint8_t boot_id[sizeof(row->boot_id)];
  RealAtom::CopyOut(boot_id, row->boot_id, sizeof(boot_id));
  if (std::memcmp(boot_id, tables.boot_id, sizeof(boot_id)) != 0 || tables.fd < 0) return false;
  bool held = true;
  const uint64_t at = static_cast<uint64_t>(reinterpret_cast<const uint8_t*>(row) - home->mapping_.base);
  return TestOfdLock(tables.fd, at, 1, held).ok() && !held && RealAtom::Load(&row->word, std::memory_order_acquire) == word;
}

}  // namespace daxserve::binding
