// Blocks of files whose bytes are not in the image: read through the v8 page cache, filled from the source behind it.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "backing_files.h"
#include "page_cache.h"
#include "page_cache_users.h"

namespace daxserve {

/// Where the cache of an image lies, and what it belongs to. All of it outlives CachedFiles.
struct CachedImage {
  PageCacheView view;
  const BaseImage* base = nullptr;
  FrontKind homes = FrontKind::kKernel;
  /// Where the cache's header lies in the file of the image.
  uint64_t header_offset = 0;
};

/// Thread safety: Read and Warm from any number of threads; Open, Recover one at a time and not beside each other.
class CachedFiles {
 public:
  /// @param files null: what the cache does not have gives ENOTSUP
  CachedFiles(const CachedImage& image, std::unique_ptr<BackingFiles> files);
  ~CachedFiles();
  CachedFiles(const CachedFiles&) = delete;
  CachedFiles& operator=(const CachedFiles&) = delete;

  /// Takes a row among the users of the cache; without one (all taken, or never called) it is read, never filled.
  /// Where the source is not what the cached pages are of, they are given up first.
  /// @param fd a writable description of the image of its own, taken over. @param boot names who sees our locks
  /// @returns 0; EBUSY: the source has changed and somebody still uses pages of the old one; ETIMEDOUT
  int Attach(int fd, uint32_t boot);

  /// While one exists, reads of this thread give EAGAIN where they would have to read the source or wait for another.
  class OnlyCached {
   public:
    OnlyCached() { only_cached_ = true; }
    ~OnlyCached() { only_cached_ = false; }
    OnlyCached(const OnlyCached&) = delete;
    OnlyCached& operator=(const OnlyCached&) = delete;
  };

  /// While one exists, the page that this thread reads last through a cache stays pinned: it is what the bytes came from.
  class Pinning {
   public:
    explicit Pinning(CachedFiles& files) : files_(files) { pinning_ = this; }
    ~Pinning() {
      pinning_ = nullptr;
      Drop();
    }
    Pinning(const Pinning&) = delete;
    Pinning& operator=(const Pinning&) = delete;
    bool held() const { return held_; }
    /// The caller unpins it. REQUIRES: held()
    PagePin Take() {
      held_ = false;
      return pin_;
    }

   private:
    friend class CachedFiles;
    void Hold(const PagePin& pin) {
      Drop();
      pin_ = pin;
      held_ = true;
    }
    void Drop() {
      if (held_) files_.Unpin(pin_);
      held_ = false;
    }
    CachedFiles& files_;
    PagePin pin_;
    bool held_ = false;
  };

  /// One block of a regular file of the base, whole: its bytes, then zeros. EFBIG, ESTALE, ENOTSUP, ...
  int Read(uint64_t ino, uint64_t page, uint8_t* block);
  /// Puts a block into a free slot, if there is one. @returns 0; EAGAIN: there is none; as Read
  int Warm(const layout::Inode& inode, uint64_t page);
  /// First blocks of every file, until the cache is full. `wanted`: blocks of all files. Stops at the first error.
  int WarmAll(uint64_t& done, uint64_t& wanted);

  /// For a pin that Pinning gave.
  void Unpin(const PagePin& pin) { cache_->Unpin(pin); }

  /// Undoes what dead processes left: claims, pins, rows. @returns rows
  uint32_t Recover();

  const uint8_t* Block(uint64_t slot) const { return cache_->Block(slot); }
  bool attached() const { return self_.host < layout::kHostsMax; }
  bool has_source() const { return files_ != nullptr; }
  /// What page_cache_header.source_stamp is for our source; 0 without.
  uint64_t source_stamp() const { return files_ ? files_->stamp() : 0; }
  uint64_t slot_count() const { return image_.view.slot_count; }
  uint64_t block_bytes() const { return image_.view.block_bytes; }
  /// Bytes of a slot in the mapping, from the cache's header on.
  const layout::PageCacheHeader* header() const { return image_.view.header; }
  /// What this process saw.
  PageCacheCounters counters() const;

 private:
  int Adopt();
  int PinOrFill(const layout::Inode& inode, uint64_t source_page, bool evict, PagePin& out);
  int Find(uint64_t ino, uint64_t page, layout::Inode& inode, uint64_t& source_page) const;
  int FromSource(const layout::Inode& inode, uint64_t source_page, uint8_t* block);
  /// False where the cached pages are not of our source.
  bool Trusted() const;
  static bool IsDead(void* users, Owner owner) { return static_cast<const PageCacheUsers*>(users)->Dead(owner); }

  static inline thread_local bool only_cached_ = false;
  static inline thread_local Pinning* pinning_ = nullptr;
  const CachedImage image_;
  const std::unique_ptr<BackingFiles> files_;
  std::unique_ptr<PageCacheUsers> users_;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> hints_;
  Owner self_;
  PageCacheCounters own_{};
  PageCacheCounters* counters_ = &own_;
  std::unique_ptr<PageCache<RealAtom>> cache_;
};

}  // namespace daxserve
