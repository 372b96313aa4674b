// Stackful coroutines for det.h: a switch is a few instructions, known to AddressSanitizer and ThreadSanitizer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

// Saves the callee-saved registers on this stack, its pointer in *save, and goes on with the stack `load`.
extern "C" void daxserve_det_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.weak daxserve_det_switch
.type daxserve_det_switch,@function
daxserve_det_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size daxserve_det_switch,.-daxserve_det_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.weak daxserve_det_switch
.type daxserve_det_switch,%function
daxserve_det_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size daxserve_det_switch,.-daxserve_det_switch
)");
#endif

// For functions that change the fiber under TSan's feet.
#if defined(__SANITIZE_THREAD__)
#define DET_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define DET_NO_TSAN
#endif

namespace daxserve::det {

/// While alive, TSan looks away: the scheduler's own state is shared between fibers on purpose.
class IgnoreRaces {
 public:
#if defined(__SANITIZE_THREAD__)
  IgnoreRaces() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~IgnoreRaces() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  IgnoreRaces() {}
  ~IgnoreRaces() {}
#endif
};

/// The context that runs the fibers.
struct MainContext {
  void* pointer = nullptr;
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  size_t stack_size = 0;
  void* tsan = nullptr;
};

/// One coroutine, run again and again: `Enter` from the main context starts `body` or resumes it. All on one thread.
class Fiber {
 public:
  explicit Fiber(std::function<void()> body) : body_(std::move(body)), stack_(new char[kStackBytes]), bottom_(stack_.get()) {
    const auto top = reinterpret_cast<uintptr_t>(stack_.get() + kStackBytes) & ~uintptr_t{15};
    auto* frame = reinterpret_cast<uint64_t*>(top);
#if defined(__x86_64__)
    *--frame = 0;  // where the entry would return to; also leaves the stack aligned as after a call
    *--frame = reinterpret_cast<uint64_t>(&Fiber::Start);
    for (int i = 0; i < 6; i++) *--frame = 0;
#else
    frame -= 20;
    std::memset(frame, 0, 160);
    frame[11] = reinterpret_cast<uint64_t>(&Fiber::Start);
#endif
    pointer_ = frame;
#if defined(__SANITIZE_THREAD__)
    tsan_ = __tsan_create_fiber(0);
#endif
  }
  ~Fiber() {
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(tsan_);
#endif
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// From the main context; returns when some fiber yields or leaves to the main context.
  DET_NO_TSAN void Enter() {
    MainContext& main = main_context_;
    entered_ = this;
#if defined(__SANITIZE_THREAD__)
    main.tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, 0);
#endif
    Switch(&main.pointer, &main.fake_stack, pointer_, bottom_, kStackBytes);
  }

  /// From `self`: goes on in `next`, or in the main context when null; returns when somebody comes back to `self`.
  DET_NO_TSAN static void Yield(Fiber& self, Fiber* next) {
    MainContext& main = main_context_;
    if (next != nullptr) entered_ = next;
#if defined(__SANITIZE_THREAD__)
    if (next == nullptr) __tsan_release(&main);
    __tsan_switch_to_fiber(next != nullptr ? next->tsan_ : main.tsan, __tsan_switch_to_fiber_no_sync);
#endif
    if (next != nullptr) {
      Switch(&self.pointer_, &self.fake_stack_, next->pointer_, next->bottom_, kStackBytes);
    } else {
      Switch(&self.pointer_, &self.fake_stack_, main.pointer, main.stack_bottom, main.stack_size);
    }
  }

  /// As Yield, at the end of the body: the fiber starts anew when it is entered again.
  DET_NO_TSAN static void Leave(Fiber& self, Fiber* next) {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&main_context_);
#endif
    Yield(self, next);
  }

  /// In the main context after a run: everything the fibers did is seen by what comes next.
  static void JoinAll() {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&main_context_);
#endif
  }

 private:
  static constexpr size_t kStackBytes = 256 * 1024;

  DET_NO_TSAN static void Switch(void** save, void** fake_stack, void* load, const void* bottom, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, bottom, size);
#else
    (void)fake_stack, (void)bottom, (void)size;
#endif
    daxserve_det_switch(save, load);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(*fake_stack, nullptr, nullptr);
#endif
  }

  static void Start() {
#if defined(__SANITIZE_ADDRESS__)
    // The first fiber ever entered comes from the main context and learns its stack; later ones may come from fibers.
    MainContext& main = main_context_;
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (main.stack_bottom == nullptr) {
      main.stack_bottom = bottom;
      main.stack_size = size;
    }
#endif
    std::function<void()>* body = &entered_->body_;
    for (;;) (*body)();
  }

  static inline thread_local Fiber* entered_ = nullptr;
  static inline thread_local MainContext main_context_;
  std::function<void()> body_;
  std::unique_ptr<char[]> stack_;
  char* bottom_;
  void* pointer_ = nullptr;
  void* fake_stack_ = nullptr;
#if defined(__SANITIZE_THREAD__)
  void* tsan_ = nullptr;
#endif
};

}  // namespace daxserve::det
