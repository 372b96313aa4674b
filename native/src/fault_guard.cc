#include "fault_guard.h"

#include <csignal>
#include <mutex>

namespace daxserve {

thread_local internal::GuardFrame* internal::guard_frame __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

struct sigaction previous;

void PassOn(int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  // The default: the access repeats and ends the process, as without us. A signal sent by kill() has to be sent again.
  std::signal(SIGBUS, SIG_DFL);
  if (info->si_code <= 0) raise(SIGBUS);
}

void OnMemoryError(int signal, siginfo_t* info, void* context) {
  internal::GuardFrame* frame = internal::guard_frame;
  if (!frame || info->si_code <= 0) return PassOn(signal, info, context);
  frame->fault = {info->si_addr, info->si_code};
  siglongjmp(frame->jump, 1);
}

}  // namespace

void InstallFaultHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = OnMemoryError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
  });
}

}  // namespace daxserve
