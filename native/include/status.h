// The only error inside the core: a kind of failure and, for the system's own, its errno. No exceptions.
#pragma once
#include <cerrno>
#include <string>
#include <utility>

namespace daxserve {

/// Result of an operation that can fail. `ok()` or an errno with the call that gave it.
class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(0, ""); }
  /// REQUIRES: error != 0. `call` names the system call or the broken rule.
  static Status Errno(int error, std::string call) { return Status(error, std::move(call)); }
  static Status Last(std::string call) { return Status(errno, std::move(call)); }

  bool ok() const { return error_ == 0; }
  int error() const { return error_; }
  const std::string& call() const { return call_; }

 private:
  Status(int error, std::string call) : error_(error), call_(std::move(call)) {}
  int error_;
  std::string call_;
};

}  // namespace daxserve
