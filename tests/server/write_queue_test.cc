#include "server/write_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <thread>

namespace nabla {
namespace {

class Job : public WriteJob {
 public:
  explicit Job(std::function<void()> run) : run_(std::move(run)) {}
  void Write() override { run_(); }

 private:
  const std::function<void()> run_;
};

TEST(WriteQueueTest, RunsJobsElsewhere) {
  WriteQueue queue(1);
  std::promise<std::thread::id> ran;
  queue.Schedule(std::make_shared<Job>([&] { ran.set_value(std::this_thread::get_id()); }));
  EXPECT_NE(ran.get_future().get(), std::this_thread::get_id());
}

TEST(WriteQueueTest, DestructionRunsWhatIsScheduled) {
  std::atomic<int> runs = 0;
  constexpr int kJobs = 100;
  {
    WriteQueue queue(1);
    for (int i = 0; i < kJobs; ++i) queue.Schedule(std::make_shared<Job>([&] { ++runs; }));
  }
  EXPECT_EQ(runs, kJobs);
}

TEST(WriteQueueTest, AJobLivesAsLongAsItIsScheduledAndNoLonger) {
  WriteQueue queue(1);
  std::promise<void> go;
  std::promise<void> ran;
  auto job = std::make_shared<Job>([&] {
    go.get_future().wait();
    ran.set_value();
  });
  const std::weak_ptr<Job> watched = job;
  queue.Schedule(std::move(job));
  EXPECT_FALSE(watched.expired());
  go.set_value();
  ran.get_future().wait();
  std::promise<void> next;
  queue.Schedule(std::make_shared<Job>([&] { next.set_value(); }));
  next.get_future().wait();
  EXPECT_TRUE(watched.expired());
}

TEST(WriteQueueTest, ManyThreadsMaySchedule) {
  std::atomic<int> runs = 0;
  constexpr int kThreads = 4;
  constexpr int kJobs = 1000;
  {
    WriteQueue queue(2);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kJobs; ++i) queue.Schedule(std::make_shared<Job>([&] { ++runs; }));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(runs, kThreads * kJobs);
}

}  // namespace
}  // namespace nabla
