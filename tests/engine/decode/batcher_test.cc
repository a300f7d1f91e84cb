#include "engine/decode/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace nabla {
namespace {

using testing::ElementsAre;

// Wants `prompt` rows, then one row a pass, `tokens` times.
class FakeJob : public BatchJob {
 public:
  FakeJob(int64_t prompt, int64_t tokens) : prompt(prompt), tokens(tokens) {}
  int64_t RowsWanted() const override { return prompt > 0 ? prompt : 1; }
  absl::Status Check() const override { return stopped ? absl::CancelledError("stopped") : absl::OkStatus(); }

  int64_t prompt, tokens;
  int passes = 0;
  std::atomic<bool> stopped{false};
};

// Records what it is given; a test can look in on every pass, on the execution thread.
class FakeModel : public BatchModel {
 public:
  absl::StatusOr<int64_t> RunPass(absl::Span<const BatchShare> shares) override {
    std::vector<int64_t> rows;
    int64_t sum = 0;
    for (const BatchShare& share : shares) {
      rows.push_back(share.rows);
      sum += share.rows;
    }
    passes.push_back(rows);
    const absl::Status status = on_pass ? on_pass() : absl::OkStatus();
    if (!status.ok()) return status;
    for (const BatchShare& share : shares) {
      auto* job = static_cast<FakeJob*>(share.job);
      ++job->passes;
      if (job->prompt > 0) {
        job->prompt -= share.rows;
      } else {
        --job->tokens;
      }
      job->done = job->prompt == 0 && job->tokens == 0;
    }
    return sum;
  }

  std::function<absl::Status()> on_pass;
  std::vector<std::vector<int64_t>> passes;  // rows of every share
};

// Starts `calls` on threads of their own while the execution thread is held, so that all are there for its next step.
void StartTogether(Batcher& batcher, std::vector<std::thread>& threads, const std::vector<std::function<void()>>& calls,
                   const std::function<bool()>& all_there) {
  std::atomic<bool> held{false};
  std::thread holder([&] {
    batcher
        .RunAlone([&] {
          held = true;
          held.notify_all();
          while (!all_there()) std::this_thread::yield();
          return absl::OkStatus();
        })
        .IgnoreError();
  });
  held.wait(false);
  for (const auto& call : calls) threads.emplace_back(call);
  holder.join();
}

TEST(BatcherTest, JobsShareAPassAndDecodingGoesFirst) {
  Batcher batcher({.max_batch_tokens = 8});
  FakeModel model;
  FakeJob prompt(20, 1), first(0, 3), second(0, 2);
  std::vector<std::thread> threads;
  StartTogether(
      batcher, threads,
      {[&] { EXPECT_TRUE(batcher.Run(model, prompt).ok()); }, [&] { EXPECT_TRUE(batcher.Run(model, first).ok()); },
       [&] { EXPECT_TRUE(batcher.Run(model, second).ok()); }},
      [&] { return batcher.calls_in_progress() == 4; });
  for (std::thread& thread : threads) thread.join();
  // Two decode and six rows of the prompt; then one; then the prompt has the pass to itself.
  EXPECT_THAT(model.passes, ElementsAre(ElementsAre(1, 1, 6), ElementsAre(1, 1, 6), ElementsAre(1, 7), ElementsAre(1),
                                        ElementsAre(1)));
}

TEST(BatcherTest, AJobJoinsBetweenStepsAndLeavesWithItsLast) {
  Batcher batcher({});
  FakeModel model;
  FakeJob longer(0, 6), shorter(0, 2);
  std::thread late;
  model.on_pass = [&] {
    if (model.passes.size() == 2) {
      late = std::thread([&] { EXPECT_TRUE(batcher.Run(model, shorter).ok()); });
      while (batcher.calls_in_progress() < 2) std::this_thread::yield();
    }
    return absl::OkStatus();
  };
  EXPECT_TRUE(batcher.Run(model, longer).ok());
  late.join();
  EXPECT_THAT(model.passes, ElementsAre(ElementsAre(1), ElementsAre(1), ElementsAre(1, 1), ElementsAre(1, 1),
                                        ElementsAre(1), ElementsAre(1)));
}

TEST(BatcherTest, ComputesBehindThreadsThatCarryTokens) {
  Batcher batcher({});
  int priority = 0;
  ASSERT_TRUE(batcher
                  .RunAlone([&] {
                    priority = getpriority(PRIO_PROCESS, 0);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_GE(priority, 10);
}

TEST(BatcherTest, TwoModelsTakeTurns) {
  Batcher batcher({});
  FakeModel one, other;
  FakeJob first(0, 2), second(0, 2);
  std::vector<int> order;
  one.on_pass = [&] { return order.push_back(1), absl::OkStatus(); };
  other.on_pass = [&] { return order.push_back(2), absl::OkStatus(); };
  std::vector<std::thread> threads;
  StartTogether(
      batcher, threads,
      {[&] { EXPECT_TRUE(batcher.Run(one, first).ok()); }, [&] { EXPECT_TRUE(batcher.Run(other, second).ok()); }},
      [&] { return batcher.calls_in_progress() == 3; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(order[0], order[1]);
  EXPECT_NE(order[2], order[3]);
}

// The bound on how long a stream is held up: a step's time and one pass of another request's gradient.
TEST(BatcherTest, BetweenTwoLongPassesThatRunAloneDecodingGetsAStep) {
  const absl::Duration kLong = absl::Milliseconds(20);  // longer than a step, even one that the system interrupts
  Batcher batcher({});
  FakeModel model;
  FakeJob stream(0, 1'000'000'000);   // until all have run
  std::vector<size_t> passes_before;  // every lone pass
  std::vector<std::function<void()>> calls = {
      [&] { EXPECT_EQ(batcher.Run(model, stream), absl::CancelledError("stopped")); }};
  for (int i = 0; i < 5; ++i) {
    calls.push_back([&] {
      EXPECT_TRUE(batcher
                      .RunAlone([&] {
                        const absl::Time begin = absl::Now();
                        while (absl::Now() - begin < kLong) std::this_thread::yield();
                        passes_before.push_back(model.passes.size());
                        stream.stopped = passes_before.size() == 5;
                        return absl::OkStatus();
                      })
                      .ok());
    });
  }
  std::vector<std::thread> threads;
  StartTogether(batcher, threads, calls, [&] { return batcher.calls_in_progress() == 7; });
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(passes_before.size(), 5u);
  for (size_t i = 1; i < passes_before.size(); ++i) EXPECT_GT(passes_before[i], passes_before[i - 1]);
}

// Nobody waited for what ran before the stream came, so nothing of it is owed to the stream.
TEST(BatcherTest, DecodingIsNotOwedTheTimeBeforeItCame) {
  const absl::Duration kPass = absl::Milliseconds(10);
  constexpr int kBefore = 50, kBeside = 3;
  Batcher batcher({});
  FakeModel model;
  FakeJob stream(0, 1'000'000'000);  // until all have run
  std::atomic<int> ran = 0;
  absl::Time last_alone;  // the last that ran beside the stream
  std::thread streaming;
  const auto refine = [&] {
    while (ran < kBefore + kBeside) {
      EXPECT_TRUE(batcher
                      .RunAlone([&] {
                        if (++ran == kBefore) {
                          streaming = std::thread(
                              [&] { EXPECT_EQ(batcher.Run(model, stream), absl::CancelledError("stopped")); });
                          while (batcher.calls_in_progress() < 3) std::this_thread::yield();
                        }
                        absl::SleepFor(kPass);
                        last_alone = absl::Now();
                        return absl::OkStatus();
                      })
                      .ok());
    }
  };
  absl::Time came;
  model.on_pass = [&] {
    if (came == absl::Time()) came = absl::Now();
    return absl::OkStatus();
  };
  std::thread one(refine), other(refine);  // so that one always waits
  one.join();
  other.join();
  stream.stopped = true;
  streaming.join();
  // Three passes and as much decoding; with everything before owed as well, half a second more.
  EXPECT_LT(last_alone - came, kPass * kBefore / 2);
}

TEST(BatcherTest, APromptGetsOnEvenWhereDecodingFillsEveryPass) {
  Batcher batcher({.max_batch_tokens = 2});
  FakeModel model;
  FakeJob prompt(6, 1), first(0, 1'000'000'000), second(0, 1'000'000'000);
  std::vector<std::thread> threads;
  StartTogether(
      batcher, threads,
      {[&] { EXPECT_FALSE(batcher.Run(model, first).ok()); }, [&] { EXPECT_FALSE(batcher.Run(model, second).ok()); },
       [&] {
         EXPECT_TRUE(batcher.Run(model, prompt).ok());
         first.stopped = second.stopped = true;
       }},
      [&] { return batcher.calls_in_progress() == 4; });
  for (std::thread& thread : threads) thread.join();
}

TEST(BatcherTest, AloneOnTheExecutionThreadRunsAtOnce) {
  Batcher batcher({});
  bool ran = false;
  EXPECT_TRUE(batcher.RunAlone([&] { return batcher.RunAlone([&] { return ran = true, absl::OkStatus(); }); }).ok());
  EXPECT_TRUE(ran);
  EXPECT_EQ(batcher.RunAlone([] { return absl::OutOfRangeError("its own error"); }),
            absl::OutOfRangeError("its own error"));
  EXPECT_TRUE(batcher.healthy());
}

TEST(BatcherTest, WhoComesWhileItIsIdleWaitsForOnePiece) {
  std::vector<std::string> done;
  std::atomic<bool> began = false, came = false, last = false;
  Batcher batcher({});
  for (const char* const piece : {"first", "second"}) {
    batcher.RunWhenIdle([&, piece] {
      began = true;
      while (!came) std::this_thread::yield();
      done.emplace_back(piece);
    });
  }
  while (!began) std::this_thread::yield();
  EXPECT_EQ(batcher.time_without_progress(), absl::ZeroDuration()) << "nobody waits";
  std::thread caller(
      [&] { EXPECT_TRUE(batcher.RunAlone([&] { return done.emplace_back("call"), absl::OkStatus(); }).ok()); });
  while (batcher.calls_in_progress() == 0) std::this_thread::yield();
  came = true;
  caller.join();
  batcher.RunWhenIdle([&] { last = true; });
  while (!last) std::this_thread::yield();
  EXPECT_THAT(done, ElementsAre("first", "call", "second"));
}

TEST(BatcherTest, AStoppedJobEndsBeforeItsNextPass) {
  Batcher batcher({});
  FakeModel model;
  FakeJob job(0, 100);
  model.on_pass = [&] {
    if (model.passes.size() == 3) job.stopped = true;
    return absl::OkStatus();
  };
  EXPECT_EQ(batcher.Run(model, job), absl::CancelledError("stopped"));
  EXPECT_EQ(job.passes, 3);
}

TEST(BatcherTest, APassWithoutMemoryEndsItsJobsOnly) {
  Batcher batcher({});
  FakeModel model;
  model.on_pass = [] { return absl::ResourceExhaustedError("no memory"); };
  FakeJob job(0, 1), next(0, 1);
  EXPECT_EQ(batcher.Run(model, job), absl::ResourceExhaustedError("no memory"));
  model.on_pass = nullptr;
  EXPECT_TRUE(batcher.Run(model, next).ok());
  EXPECT_TRUE(batcher.healthy());
}

TEST(BatcherTest, AFailedDeviceEndsEverythingWithUnavailable) {
  Batcher batcher({});
  FakeModel model, other;
  FakeJob job(0, 5), waiting(0, 5);
  std::thread second;
  model.on_pass = [&] {
    second = std::thread([&] {
      EXPECT_EQ(batcher.Run(other, waiting), absl::UnavailableError("the engine has failed: a wire is loose"));
    });
    while (batcher.calls_in_progress() < 2) std::this_thread::yield();
    return absl::InternalError("a wire is loose");
  };
  EXPECT_EQ(batcher.Run(model, job), absl::UnavailableError("the engine has failed: a wire is loose"));
  second.join();
  EXPECT_FALSE(batcher.healthy());
  EXPECT_EQ(batcher.RunAlone([] { return absl::OkStatus(); }),
            absl::UnavailableError("the engine has failed: a wire is loose"));
}

TEST(BatcherTest, NoJobsAreNoWork) {
  Batcher batcher({});
  FakeModel model;
  EXPECT_TRUE(batcher.Run(model, {}).ok());
  absl::SleepFor(absl::Milliseconds(2));  // in which a clock that had been started would go on
  EXPECT_EQ(batcher.time_without_progress(), absl::ZeroDuration());
}

TEST(BatcherTest, WorkThatGetsNowhereShows) {
  Batcher batcher({});
  EXPECT_EQ(batcher.time_without_progress(), absl::ZeroDuration());
  absl::Duration seen;
  EXPECT_TRUE(batcher
                  .RunAlone([&] {
                    while (batcher.time_without_progress() == absl::ZeroDuration()) std::this_thread::yield();
                    seen = batcher.time_without_progress();
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_GT(seen, absl::ZeroDuration());
}

TEST(BatcherTest, ManyThreadsAtOnce) {
  std::atomic<int64_t> rows{0};
  Batcher batcher({.max_batch_tokens = 16, .on_pass = [&](int64_t count) { rows += count; }});
  FakeModel model;
  std::atomic<int> alone{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 24; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        FakeJob job(i % 5, 1 + round % 7);
        EXPECT_TRUE(batcher.Run(model, job).ok());
        EXPECT_TRUE(batcher.RunAlone([&] { return ++alone, absl::OkStatus(); }).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(alone, 24 * 20);
  int64_t wanted = 0;
  for (int i = 0; i < 24; ++i) {
    for (int round = 0; round < 20; ++round) wanted += i % 5 + 1 + round % 7;
  }
  EXPECT_EQ(rows, wanted);
}

}  // namespace
}  // namespace nabla
