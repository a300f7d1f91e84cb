#include "engine/base/thread_priority.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <thread>

namespace nabla {
namespace {

int Nice() { return getpriority(PRIO_PROCESS, 0); }

TEST(ThreadPriority, IsLoweredForTheCallersThreadAlone) {
  const int before = Nice();
  ASSERT_LE(before, 10) << "run this test at a lower niceness";
  int lowered = 0;
  std::thread([&] {
    LowerThreadPriority();
    lowered = Nice();
  }).join();
  EXPECT_EQ(lowered, 10);
  EXPECT_EQ(Nice(), before);
}

TEST(ThreadPriority, IsNeverRaised) {
  int kept = 0;
  std::thread([&] {
    setpriority(PRIO_PROCESS, 0, 15);
    LowerThreadPriority();
    kept = Nice();
  }).join();
  EXPECT_EQ(kept, 15);
}

}  // namespace
}  // namespace nabla
