// What the class PageCache works on: the page cache of one mapping with its source, kept alive for running jobs.
#pragma once
#include <memory>
#include <optional>

#include "cached_files.h"
#include "mapping_view.h"

namespace daxserve::binding {

/// What a cache is opened with.
struct CacheOpening {
  /// Of the image; -1: only to read what the cache has.
  int fd = -1;
  int source = -1;
  bool tree = false;
  uint32_t boot = 0;
};

class CacheHome {
 public:
  explicit CacheHome(const MappingView& mapping) : mapping_(mapping) {}
  CacheHome(const CacheHome&) = delete;
  CacheHome& operator=(const CacheHome&) = delete;

  /// Reads the superblock at the mapping's start; on a native thread. @returns errno; EINVAL: there is no page cache or
  /// base, or a rule is broken
  int Open(const CacheOpening& opening);
  /// REQUIRES: Open gave 0.
  CachedFiles& files() const { return *files_; }

 private:
  int OpenImage(const layout::Superblock& head, CachedImage& image);

  MappingView mapping_;
  std::optional<BaseImage> base_;
  std::unique_ptr<CachedFiles> files_;
};

}  // namespace daxserve::binding
