#include "server/call_queue.h"

#include <gtest/gtest.h>

#include <future>

namespace nabla {
namespace {

TEST(CallQueueTest, RunsAtMostAsManyAtOnceAsItHasThreadsAndRefusesWhatCannotWait) {
  std::promise<void> gate;
  const std::shared_future<void> open = gate.get_future().share();
  std::promise<void> second_ran;
  {
    CallQueue queue({.threads = 1, .max_waiting = 1});
    std::promise<void> started;
    ASSERT_TRUE(queue
                    .Submit([&] {
                      started.set_value();
                      open.wait();
                    })
                    .ok());
    started.get_future().wait();
    EXPECT_EQ(queue.running(), 1);
    ASSERT_TRUE(queue.Submit([&] { second_ran.set_value(); }).ok());
    EXPECT_EQ(queue.waiting(), 1);
    EXPECT_EQ(queue.Submit([] {}),
              absl::ResourceExhaustedError("the reward service is full (1 calls running, 1 waiting); retry later"));
    gate.set_value();
  }
  EXPECT_EQ(second_ran.get_future().wait_for(std::chrono::seconds(0)), std::future_status::ready)
      << "the queue ended without it";
}

TEST(CallQueueTest, CallsRunSideBySide) {
  std::promise<void> first_runs, second_runs;
  CallQueue queue({.threads = 2, .max_waiting = 0});
  ASSERT_TRUE(queue
                  .Submit([&] {
                    first_runs.set_value();
                    second_runs.get_future().wait();
                  })
                  .ok());
  ASSERT_TRUE(queue
                  .Submit([&] {
                    first_runs.get_future().wait();
                    second_runs.set_value();
                  })
                  .ok());
}

}  // namespace
}  // namespace nabla
