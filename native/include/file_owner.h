// What chown(2) changes.
#pragma once
#include <sys/stat.h>

#include <cstdint>

namespace daxserve {

/// Of an owner or group: it stays.
inline constexpr uint32_t kKeepOwner = UINT32_MAX;

inline uint32_t OwnerAfter(uint32_t now, uint32_t wanted) { return wanted == kKeepOwner ? now : wanted; }

/// A program does not run as its new owner because it ran as its old one.
inline uint32_t ModeAfterChown(uint32_t mode) {
  if ((mode & S_IFMT) != S_IFREG) return mode;
  return mode & ~(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0u));
}

}  // namespace daxserve
