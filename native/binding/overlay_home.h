// What the class Overlay works on: the overlay of one mapping with everything beside it, kept alive for running jobs.
#pragma once
#include <unistd.h>

#include <memory>
#include <optional>

#include "cached_files.h"
#include "fence.h"
#include "kernel_front.h"
#include "mapping_view.h"
#include "overlay_paths.h"
#include "page_hands.h"
#include "private_front.h"
#include "registry_words.h"

namespace daxserve::binding {

/// Tables of the registry that the overlay needs, in bytes from the start of the mapping; all zero in a plain image.
struct HostTables {
  uint64_t hosts = 0;
  uint32_t host_count = 0;
  uint64_t intents = 0;
  uint32_t intent_count = 0;
  /// Who sees our locks (host_row.boot_id).
  uint8_t boot_id[16] = {};
  /// A description of the region that holds no lock on a host row; closed with the home.
  int fd = -1;
};

/// Thread safety: `With` may run on any number of threads at once.
class OverlayHome {
 public:
  /// Reads the superblock at the mapping's start. @returns errno; EINVAL: a rule is broken
  /// @param cached reads what is not in the image (split and export mode); null: that gives ENOTSUP
  static int Open(const MappingView& mapping, const HostTables& tables, Owner self, std::shared_ptr<OverlayHome>& out,
                  std::shared_ptr<CachedFiles> cached = nullptr);
  ~OverlayHome() {
    ReturnPages();
    if (tables_.fd >= 0) close(tables_.fd);
  }
  OverlayHome(const OverlayHome&) = delete;
  OverlayHome& operator=(const OverlayHome&) = delete;

  FrontKind kind() const { return kind_; }
  const OverlayParts& parts() const { return parts_; }
  bool writable() const { return mapping_.writable; }
  /// null: all bytes are in the image
  CachedFiles* cached() const { return cached_.get(); }

  /// Runs `work(overlay)` on an overlay of this thread's own.
  template <typename Work>
  auto With(Work work) {
    if (kind_ == FrontKind::kPrivate) {
      const PageHands::Loan loan(hands_);
      OverlayParts parts = parts_;
      parts.hand = loan.hand();
      Overlay<RealAtom, PrivateFront<RealAtom>> overlay(parts);
      return work(overlay);
    }
    Overlay<RealAtom, KernelFront<RealAtom>> overlay(parts_);
    return work(overlay);
  }

 private:
  OverlayHome(const MappingView& mapping, const HostTables& tables, std::shared_ptr<CachedFiles> cached)
      : mapping_(mapping), tables_(tables), cached_(std::move(cached)) {}

  int OpenFront(Owner self);
  void OpenBase(const layout::Superblock& head);
  void ReturnPages();
  bool HoldsRow() const;
  static bool IsDead(void* home, Owner owner);

  MappingView mapping_;
  HostTables tables_;
  std::shared_ptr<CachedFiles> cached_;
  FrontKind kind_ = FrontKind::kKernel;
  std::optional<BaseImage> base_;
  OverlayParts parts_;
  KernelIndex index_;
  PageHands hands_;
};

}  // namespace daxserve::binding
