#include "cache_home.h"

#include "fence.h"

namespace daxserve::binding {

int CacheHome::OpenImage(const layout::Superblock& head, CachedImage& image) {
  const bool known = (head.version & ~layout::kPrivateFrontBit) == layout::kSuperblockVersion;
  if (head.magic != layout::kSuperblockMagic || !known || head.pcache_offset == 0 || head.base_offset == 0) return EINVAL;
  if (head.pcache_offset % layout::kBlockBytes != 0 || head.base_offset > mapping_.size) return EINVAL;
  if (!InBounds(head.pcache_offset, head.pcache_size, mapping_.size)) return EINVAL;
  const uint64_t base_bytes = mapping_.size - head.base_offset;
  if (!InBounds(head.inode_offset, uint64_t{head.inode_count} * sizeof(layout::Inode), base_bytes)) return EINVAL;
  base_.emplace(mapping_.base + head.base_offset, base_bytes, head.inode_offset, head.inode_count);
  image.base = &*base_;
  image.homes = (head.version & layout::kPrivateFrontBit) != 0 ? FrontKind::kPrivate : FrontKind::kKernel;
  image.header_offset = head.pcache_offset;
  return PageCacheView::Open(mapping_.base + head.pcache_offset, head.pcache_size, head.pcache_slot_count, head.block_size,
                             image.view);
}

int CacheHome::Open(const CacheOpening& opening) {
  layout::Superblock head;
  if (mapping_.size < sizeof(head)) return EINVAL;
  RealAtom::CopyOut(&head, mapping_.base, sizeof(head));
  CachedImage image;
  if (const int error = OpenImage(head, image)) return error;
  std::unique_ptr<BackingFiles> files;
  if (opening.source >= 0) {
    const int error = opening.tree ? BackingFiles::OpenExport(opening.source, *image.base, head.root_inode, files)
                                   : BackingFiles::OpenSplit(opening.source, *image.base, image.view.block_bytes, files);
    if (error != 0) return error;
  }
  files_ = std::make_unique<CachedFiles>(image, std::move(files));
  if (opening.fd < 0 || !mapping_.writable) return 0;
  int own = -1;
  const Status status = Reopen(opening.fd, true, own);
  return status.ok() ? files_->Attach(own, opening.boot) : status.error();
}

}  // namespace daxserve::binding
