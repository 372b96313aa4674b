// Turns a memory error (SIGBUS) inside a copy into a value: a source file that was truncated, a region whose file
// system is full, poisoned memory. Without a guard on the thread the signal goes to whoever handled it before.
#pragma once
#include <csetjmp>
#include <optional>

namespace daxserve {

/// Where and why an access failed.
struct MemoryFault {
  const void* address;
  /// The kernel's si_code: BUS_ADRERR no page behind the address, BUS_MCEERR_AR damaged memory.
  int code;
};

namespace internal {
struct GuardFrame {
  sigjmp_buf jump;
  MemoryFault fault;
};
/// The calling thread's guard; read by the signal handler on the same thread only.
extern thread_local GuardFrame* guard_frame __attribute__((tls_model("initial-exec")));
}  // namespace internal

/// Installs the process-wide handler once, in front of the one that is there. Call before RunGuarded. Thread safe.
void InstallFaultHandler();

/// Runs `body`; nothing when it came to its end, else the fault that stopped it. REQUIRES: `body` holds no lock and
/// owns nothing (its destructors do not run), and no other guard is active on the thread.
template <typename Body>
std::optional<MemoryFault> RunGuarded(const Body& body) {
  internal::GuardFrame frame;
  if (sigsetjmp(frame.jump, 1) != 0) {  // 1: the jump out of the handler unblocks the signal
    internal::guard_frame = nullptr;
    return frame.fault;
  }
  internal::guard_frame = &frame;
  body();
  internal::guard_frame = nullptr;
  return std::nullopt;
}

}  // namespace daxserve
