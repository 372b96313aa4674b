// Target: a private front whose every byte is hostile, also while it is read and written; hosts die and are recovered.
#include "front_world.h"

using namespace daxserve::fuzz;
using World = FrontWorld<daxserve::PrivateFront, daxserve::FrontKind::kPrivate>;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World& world = *new World;
  Input input(data, size);
  FrontRun<World>(world, input).Go();
  return 0;
}
