#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/pool/pool_of_engines.h"
#include "tests/engine/pool/fake_engine.h"

namespace nabla {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class NullSink : public EventSink {
 public:
  void OnEvent(Event) override {}
};

const absl::Status kCancelled = absl::CancelledError("the request was cancelled by its caller");
const absl::Status kExpired = absl::DeadlineExceededError("the request's deadline has passed while it was queued");
const absl::Status kShutdown = absl::UnavailableError("the server is shutting down; retry on another server");
const absl::Status kNoEngine = absl::UnavailableError("no engine is left: every device has failed; restart the server");

// How a request ended.
class Outcome {
 public:
  DoneCallback Callback() {
    return [this](absl::StatusOr<ReasonResult> value) {
      const std::lock_guard<std::mutex> lock(mutex_);
      result_ = std::move(value);
      ++calls_;
      changed_.notify_all();
    };
  }
  absl::Status Await() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kPatience, [this] { return calls_ > 0; });
    return result_.status();
  }
  absl::Duration AwaitQueueTime() { return Await().ok() ? result_->usage.queue_time : absl::InfiniteDuration(); }
  int calls() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  absl::StatusOr<ReasonResult> result_ = absl::UnknownError("not done");
  int calls_ = 0;
};

// A pool over fakes, with what was submitted to it. At its end everything is let go and every request must be done.
class Pool {
 public:
  explicit Pool(EnginePoolOptions options, std::vector<FakeEngineOptions> engine_options = {{}}) {
    std::vector<std::unique_ptr<Engine>> made;
    for (FakeEngineOptions& engine : engine_options) {
      auto fake = std::make_unique<FakeEngine>(std::move(engine));
      engines.push_back(fake.get());
      made.push_back(std::move(fake));
    }
    pool = MakeEnginePool(options, std::move(made));
  }
  ~Pool() {
    for (FakeEngine* engine : engines) engine->FinishAll();
    pool->Shutdown(absl::InfiniteFuture());
    EXPECT_EQ(pool->load().running, 0);
    EXPECT_EQ(pool->load().waiting, 0);
    for (FakeEngine* engine : engines) EXPECT_EQ(engine->reserved(), 0);
    pool.reset();
    for (Submitted& submitted : submitted_) EXPECT_EQ(submitted.outcome.calls(), submitted.ticket ? 1 : 0);
  }

  struct Submitted {
    absl::Status status;
    std::shared_ptr<RequestTicket> ticket;
    Outcome outcome;
  };

  // Lives as long as this pool.
  Submitted& Submit(const std::string& name, SubmitOptions options = {}, int tokens = 16,
                    Priority priority = Priority::kNormal) {
    Submitted& submitted = submitted_.emplace_back();
    auto ticket =
        pool->Submit({.prompt = name, .strategy = GreedyOptions{}, .max_new_tokens = tokens, .priority = priority},
                     std::move(options), &sink_, submitted.outcome.Callback());
    submitted.status = ticket.status();
    if (ticket.ok()) submitted.ticket = *std::move(ticket);
    return submitted;
  }
  // One that runs alone on a pool with one place, so that what follows waits.
  Submitted& Occupy() {
    Submitted& first = Submit("first");
    EXPECT_TRUE(engine().AwaitStarted({"first"}));
    return first;
  }

  FakeEngine& engine(int i = 0) { return *engines[i]; }

  std::unique_ptr<EnginePool> pool;
  std::vector<FakeEngine*> engines;

 private:
  NullSink sink_;
  std::deque<Submitted> submitted_;
};

EnginePoolOptions OnePlace() { return {.max_running_requests = 1}; }

TEST(EnginePoolTest, RunsARequestAndGivesItsPlaceBack) {
  Pool pool(OnePlace());
  auto& first = pool.Occupy();
  const PoolLoad load = pool.pool->load();
  EXPECT_EQ(load.running, 1);
  EXPECT_EQ(load.waiting, 0);
  EXPECT_EQ(load.waiting_tokens, 0);
  EXPECT_EQ(load.capacity, 1);
  ASSERT_THAT(load.engines, SizeIs(1));
  EXPECT_EQ(load.engines[0].device, "cpu");
  EXPECT_EQ(load.engines[0].running, 1);
  EXPECT_EQ(pool.engine().reserved(), 5 + 16);
  pool.engine().Finish("first");
  EXPECT_EQ(first.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(pool.pool->load().running, 0);
  EXPECT_EQ(pool.engine().reserved(), 0);
  EXPECT_EQ(pool.pool->models().model.name, "writer");
  EXPECT_EQ(pool.pool->models().reward_model->name, "judge");
}

TEST(EnginePoolTest, RunsAsManyAtOnceAsThereArePlaces) {
  Pool pool({.max_running_requests = 3});
  std::vector<Pool::Submitted*> requests;
  for (int i = 0; i < 10; ++i) requests.push_back(&pool.Submit(absl::StrCat(i)));
  EXPECT_EQ(pool.pool->load().running, 3);
  EXPECT_EQ(pool.pool->load().waiting, 7);
  EXPECT_EQ(pool.pool->load().waiting_tokens, 7 * 17);
  pool.engine().FinishAll();
  for (auto* request : requests) EXPECT_EQ(request->outcome.Await(), absl::OkStatus());
  EXPECT_LE(pool.engine().most_running(), 3);
}

TEST(EnginePoolTest, TheTimeInTheQueueIsTold) {
  Pool pool(OnePlace());
  pool.Occupy();
  const absl::Time before = absl::Now();
  auto& queued = pool.Submit("queued");
  const absl::Time submitted = absl::Now();
  EXPECT_EQ(pool.pool->load().waiting, 1);
  const absl::Time seen_waiting = absl::Now();
  pool.engine().FinishAll();
  const absl::Duration queue_time = queued.outcome.AwaitQueueTime();
  EXPECT_GE(queue_time, seen_waiting - submitted);
  EXPECT_LE(queue_time, absl::Now() - before);
}

TEST(EnginePoolTest, ARequestGoesToTheEngineWithTheFewestRunning) {
  Pool pool({.max_running_requests = 2}, {{.device = "a"}, {.device = "b"}});
  for (const char* name : {"1", "2", "3", "4"}) pool.Submit(name);
  EXPECT_EQ(pool.pool->load().engines[0].running, 2);
  EXPECT_EQ(pool.pool->load().engines[1].running, 2);
  EXPECT_EQ(pool.pool->load().capacity, 4);
  auto& waiting = pool.Submit("5");
  EXPECT_EQ(pool.pool->load().waiting, 1);
  pool.engine(1).FinishAll();
  EXPECT_EQ(waiting.outcome.Await(), absl::OkStatus());
  EXPECT_THAT(pool.engine(1).started(), testing::Contains("5"));
}

TEST(EnginePoolTest, AmongEquallyBusyEnginesTheOneWithMoreMemoryLeftIsTaken) {
  Pool pool({.max_running_requests = 2}, {{.kv_tokens = 100}, {.kv_tokens = 1000}});
  pool.Submit("a");  // 17 of 100 tokens
  pool.Submit("b");  // 17 of 1000
  pool.Submit("c");
  EXPECT_EQ(pool.engine(0).reserved(), 17);
  EXPECT_EQ(pool.engine(1).reserved(), 34);
}

TEST(EnginePoolTest, AStuckEngineIsTheLastChoice) {
  Pool pool({.max_running_requests = 1}, {{.device = "stuck"}, {.device = "well"}});
  pool.engine(0).BecomeStuck();
  pool.Submit("a");
  EXPECT_EQ(pool.pool->load().engines[0].running, 0);
  EXPECT_EQ(pool.pool->load().engines[1].running, 1);
  pool.Submit("b");
  EXPECT_EQ(pool.pool->load().engines[0].running, 1);
}

TEST(EnginePoolTest, AFailedEngineIsTakenOutAndTheOthersGoOn) {
  Pool pool({.max_running_requests = 1}, {{.device = "a"}, {.device = "b"}});
  auto& lost = pool.Submit("lost");
  auto& kept = pool.Submit("kept");
  auto& queued = pool.Submit("queued");
  ASSERT_TRUE(pool.engine(0).AwaitStarted({"lost"}));
  pool.engine(0).Fail();
  EXPECT_EQ(lost.outcome.Await(), absl::UnavailableError("engine a has failed"));
  EXPECT_EQ(pool.pool->load().capacity, 1);
  EXPECT_FALSE(pool.pool->load().engines[0].healthy);
  EXPECT_EQ(pool.pool->load().waiting, 1);
  pool.engine(1).FinishAll();
  EXPECT_EQ(kept.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(queued.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(pool.Submit("later").outcome.Await(), absl::OkStatus());
  EXPECT_THAT(pool.engine(0).started(), ElementsAre("lost"));
}

TEST(EnginePoolTest, WithoutAnEngineLeftNobodyWaitsAndNobodyIsTaken) {
  Pool pool(OnePlace());
  auto& running = pool.Occupy();
  auto& queued = pool.Submit("queued");
  pool.engine().Fail();
  EXPECT_EQ(running.outcome.Await(), absl::UnavailableError("engine cpu has failed"));
  EXPECT_EQ(queued.outcome.Await(), kNoEngine);
  EXPECT_EQ(pool.Submit("later").status, kNoEngine);
  EXPECT_EQ(pool.pool->load().capacity, 0);
  EXPECT_THAT(pool.engine().started(), ElementsAre("first"));
}

TEST(EnginePoolTest, AnEngineThatFailsWhileIdleIsSeen) {
  Pool pool(OnePlace());
  pool.engine().Fail();
  EXPECT_EQ(pool.Submit("refused").status, kNoEngine);
}

TEST(EnginePoolTest, ARequestThatEndsUnavailableOnAHealthyEngineTakesNothingOut) {
  Pool pool(OnePlace());
  auto& first = pool.Occupy();
  pool.engine().Finish("first", absl::UnavailableError("the reward model is away"));
  EXPECT_EQ(first.outcome.Await(), absl::UnavailableError("the reward model is away"));
  pool.engine().FinishAll();
  EXPECT_EQ(pool.Submit("later").outcome.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, ARequestWaitsForKeyValueMemoryAndNobodyOvertakesIt) {
  Pool pool({.max_running_requests = 8}, {{.kv_tokens = 100}});
  auto& first = pool.Submit("first", {}, 60);
  auto& big = pool.Submit("big", {}, 90);
  auto& small = pool.Submit("small", {}, 10);
  auto& newcomer = pool.Submit("newcomer", {.client = "another"}, 10);
  ASSERT_TRUE(pool.engine().AwaitStarted({"first"}));
  EXPECT_EQ(pool.pool->load().waiting, 3);
  EXPECT_EQ(pool.pool->load().engines[0].kv_cache_usage_ratio, 0.65);
  pool.engine().Finish("first");
  EXPECT_EQ(first.outcome.Await(), absl::OkStatus());
  ASSERT_TRUE(pool.engine().AwaitStarted({"first", "big"}));
  EXPECT_EQ(pool.pool->load().waiting, 2);
  pool.engine().Finish("big");
  EXPECT_EQ(big.outcome.Await(), absl::OkStatus());
  pool.engine().FinishAll();
  EXPECT_EQ(small.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(newcomer.outcome.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, ARequestGoesWhereItsMemoryFits) {
  Pool pool({.max_running_requests = 8}, {{.kv_tokens = 50}, {.kv_tokens = 200}});
  pool.Submit("a", {}, 150);
  EXPECT_EQ(pool.engine(1).reserved(), 151);
}

TEST(EnginePoolTest, WhatFitsNowhereEndsInsteadOfBlockingTheQueue) {
  Pool pool({.max_running_requests = 8}, {{.kv_tokens = 100}});
  auto& first = pool.Submit("first", {}, 10);
  auto& huge = pool.Submit("huge", {}, 1000);
  auto& small = pool.Submit("small", {}, 10);
  pool.engine().FinishAll();
  EXPECT_EQ(first.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(huge.outcome.Await(),
            absl::OutOfRangeError(
                "max_new_tokens: the request may come to hold 1004 positions of key/value memory, more than any "
                "engine of this server has; ask for fewer max_new_tokens or raise the server's "
                "kv_cache_bytes"));
  EXPECT_EQ(small.outcome.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, ARequestCancelledInTheQueueNeverStartsAndItsPlaceIsFreeAtOnce) {
  Pool pool({.max_running_requests = 1, .max_queued_requests = 1});
  pool.Occupy();
  auto& queued = pool.Submit("queued");
  EXPECT_EQ(pool.Submit("refused").status, absl::ResourceExhaustedError("the queue is full (1 requests); retry later"));
  queued.ticket->Cancel();
  EXPECT_EQ(pool.pool->load().waiting, 0);
  EXPECT_EQ(pool.pool->load().waiting_tokens, 0);
  auto& next = pool.Submit("next");
  EXPECT_EQ(next.status, absl::OkStatus());
  EXPECT_EQ(queued.outcome.Await(), kCancelled);
  queued.ticket->Cancel();
  pool.engine().FinishAll();
  EXPECT_EQ(next.outcome.Await(), absl::OkStatus());
  EXPECT_THAT(pool.engine().started(), ElementsAre("first", "next"));
}

TEST(EnginePoolTest, CancellingTheHeadLetsTheNextOneFit) {
  Pool pool({.max_running_requests = 8}, {{.kv_tokens = 100}});
  pool.Submit("first", {}, 60);
  auto& big = pool.Submit("big", {}, 90);
  pool.Submit("small", {}, 10);
  EXPECT_EQ(pool.pool->load().waiting, 2);
  big.ticket->Cancel();
  EXPECT_EQ(pool.pool->load().waiting, 0);
  EXPECT_EQ(big.outcome.Await(), kCancelled);
}

TEST(EnginePoolTest, CancellingStopsARunningRequest) {
  Pool pool(OnePlace());
  auto& running = pool.Occupy();
  auto& queued = pool.Submit("queued");
  running.ticket->Cancel();
  EXPECT_EQ(running.outcome.Await(), kCancelled);
  ASSERT_TRUE(pool.engine().AwaitStarted({"first", "queued"}));
  pool.engine().Finish("queued");
  EXPECT_EQ(queued.outcome.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, CancelNeverCallsDoneItself) {
  Pool pool(OnePlace());
  pool.Occupy();
  NullSink sink;
  std::mutex held_while_cancelling;
  Outcome outcome;
  auto ticket = pool.pool->Submit({.prompt = "queued"}, {}, &sink, [&](absl::StatusOr<ReasonResult> result) {
    { const std::lock_guard<std::mutex> lock(held_while_cancelling); }
    outcome.Callback()(std::move(result));
  });
  ASSERT_TRUE(ticket.ok());
  {
    const std::lock_guard<std::mutex> lock(held_while_cancelling);
    (*ticket)->Cancel();
    EXPECT_EQ(outcome.calls(), 0);
  }
  EXPECT_EQ(outcome.Await(), kCancelled);
}

TEST(EnginePoolTest, DoneMayUseThePool) {
  Pool pool(OnePlace());
  auto& first = pool.Occupy();
  NullSink sink;
  Outcome inner;
  Outcome outer;
  auto ticket = pool.pool->Submit({.prompt = "queued"}, {}, &sink, [&](absl::StatusOr<ReasonResult> result) {
    first.ticket->Cancel();
    EXPECT_TRUE(pool.pool->Submit({.prompt = "inner"}, {}, &sink, inner.Callback()).ok());
    EXPECT_GE(pool.pool->load().running, 0);
    outer.Callback()(std::move(result));
  });
  ASSERT_TRUE(ticket.ok());
  (*ticket)->Cancel();
  EXPECT_EQ(outer.Await(), kCancelled);
  pool.engine().Finish("inner");
  EXPECT_EQ(inner.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, DoneIsDestroyedAfterItsCall) {
  Pool pool(OnePlace());
  pool.Occupy();
  NullSink sink;
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> seen = held;
  auto ticket = pool.pool->Submit({.prompt = "queued"}, {}, &sink,
                                  [held = std::move(held)](const absl::StatusOr<ReasonResult>&) {});
  ASSERT_TRUE(ticket.ok());
  (*ticket)->Cancel();
  pool.engine().FinishAll();
  pool.pool->Shutdown(absl::InfiniteFuture());
  EXPECT_TRUE(seen.expired());
}

TEST(EnginePoolTest, ARequestThatExpiresInTheQueueLeavesItThen) {
  Pool pool(OnePlace());
  pool.Occupy();
  auto& later = pool.Submit("later", {.deadline = absl::Now() + absl::Milliseconds(30)});
  auto& sooner = pool.Submit("sooner", {.deadline = absl::Now() + absl::Milliseconds(10)});
  EXPECT_EQ(sooner.outcome.Await(), kExpired);
  EXPECT_EQ(later.outcome.Await(), kExpired);
  EXPECT_EQ(pool.pool->load().waiting, 0);
  EXPECT_EQ(pool.pool->load().running, 1);
  EXPECT_THAT(pool.engine().started(), ElementsAre("first"));
}

TEST(EnginePoolTest, ARequestThatHasExpiredBeforeNeverStarts) {
  Pool pool(OnePlace());
  EXPECT_EQ(pool.Submit("late", {.deadline = absl::Now() - absl::Seconds(1)}).outcome.Await(), kExpired);
  EXPECT_EQ(pool.Submit("never", {.deadline = absl::InfinitePast()}).outcome.Await(), kExpired);
  EXPECT_THAT(pool.engine().started(), IsEmpty());
}

TEST(EnginePoolTest, TheDeadlineOfARunningRequestIsItsEnginesToSee) {
  Pool pool(OnePlace());
  auto& running = pool.Submit("running", {.deadline = absl::Now() + absl::Milliseconds(50)});
  EXPECT_EQ(running.outcome.Await().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(EnginePoolTest, PrioritiesDecideWhoIsNext) {
  Pool pool(OnePlace());
  pool.Occupy();
  pool.Submit("low", {}, 16, Priority::kLow);
  pool.Submit("normal", {}, 16, Priority::kNormal);
  pool.Submit("high", {}, 16, Priority::kHigh);
  pool.engine().FinishAll();
  EXPECT_TRUE(pool.engine().AwaitStarted({"first", "high", "normal", "low"}));
}

TEST(EnginePoolTest, ClientsOfOnePriorityTakeTurns) {
  Pool pool(OnePlace());
  pool.Occupy();
  for (const char* name : {"alice 1", "alice 2", "alice 3"}) pool.Submit(name, {.client = "alice"});
  for (const char* name : {"bobby 1", "bobby 2"}) pool.Submit(name, {.client = "bob"});
  pool.engine().FinishAll();
  EXPECT_TRUE(pool.engine().AwaitStarted({"first", "alice 1", "bobby 1", "alice 2", "bobby 2", "alice 3"}));
}

TEST(EnginePoolTest, TheQueueIsBoundedByTokens) {
  Pool pool({.max_running_requests = 1, .max_queued_tokens = 1000});
  pool.Occupy();
  EXPECT_EQ(pool.Submit("a", {}, 600).status, absl::OkStatus());
  EXPECT_EQ(pool.Submit("b", {}, 600).status,
            absl::ResourceExhaustedError("the queue is full (1000 estimated tokens); retry later"));
  EXPECT_EQ(pool.Submit("c", {}, 398).status, absl::OkStatus());
  EXPECT_EQ(pool.pool->load().waiting_tokens, 1000);
}

TEST(EnginePoolTest, BadRequestsAreRefusedAtOnce) {
  Pool pool(OnePlace());
  EXPECT_EQ(pool.Submit("").status, absl::InvalidArgumentError("prompt: must not be empty"));
  EXPECT_EQ(pool.Submit("a", {}, 5000).status,
            absl::InvalidArgumentError("max_new_tokens: must be at most 4096 on this server, got 5000"));
}

TEST(EnginePoolTest, ShutdownLetsRunningAndQueuedRequestsFinish) {
  Pool pool(OnePlace());
  auto& running = pool.Occupy();
  auto& queued = pool.Submit("queued");
  std::thread shutdown([&] { pool.pool->Shutdown(absl::InfiniteFuture()); });
  while (pool.Submit("probe", {.deadline = absl::InfinitePast()}).status.ok()) std::this_thread::yield();
  EXPECT_EQ(pool.Submit("refused").status, kShutdown);
  EXPECT_EQ(running.outcome.calls(), 0);
  pool.engine().FinishAll();
  shutdown.join();
  EXPECT_EQ(running.outcome.calls(), 1);
  EXPECT_EQ(queued.outcome.calls(), 1);
  EXPECT_EQ(running.outcome.Await(), absl::OkStatus());
  EXPECT_EQ(queued.outcome.Await(), absl::OkStatus());
}

TEST(EnginePoolTest, ShutdownStopsWhatIsLeftAtItsDeadline) {
  Pool pool(OnePlace());
  auto& running = pool.Occupy();
  auto& queued = pool.Submit("queued");
  pool.pool->Shutdown(absl::Now() + absl::Milliseconds(20));
  EXPECT_EQ(running.outcome.calls(), 1);
  EXPECT_EQ(queued.outcome.calls(), 1);
  EXPECT_EQ(running.outcome.Await(), kShutdown);
  EXPECT_EQ(queued.outcome.Await(), kShutdown);
  EXPECT_THAT(pool.engine().started(), ElementsAre("first"));
  EXPECT_EQ(pool.Submit("refused").status, kShutdown);
}

TEST(EnginePoolTest, ShutdownIsIdempotentAndALaterOneMayBeStricter) {
  Pool pool(OnePlace());
  auto& running = pool.Occupy();
  std::thread patient([&] { pool.pool->Shutdown(absl::InfiniteFuture()); });
  std::thread strict([&] { pool.pool->Shutdown(absl::InfinitePast()); });
  patient.join();
  strict.join();
  EXPECT_EQ(running.outcome.Await(), kShutdown);
  pool.pool->Shutdown(absl::InfinitePast());
}

TEST(EnginePoolTest, AnIdlePoolShutsDown) {
  Pool pool({.max_running_requests = 4});
  pool.pool->Shutdown(absl::InfiniteFuture());
  EXPECT_EQ(pool.Submit("refused").status, kShutdown);
}

TEST(EnginePoolTest, ShutdownWithoutAnEngineLeftEnds) {
  Pool pool(OnePlace());
  pool.Occupy();
  pool.Submit("queued");
  pool.engine().Fail();
  pool.pool->Shutdown(absl::InfiniteFuture());
}

TEST(EnginePoolTest, ATicketMayOutliveThePool) {
  std::shared_ptr<RequestTicket> ticket;
  {
    Pool pool(OnePlace());
    ticket = pool.Occupy().ticket;
  }
  ticket->Cancel();
}

// Many threads submit with all kinds of ends while others cancel, an engine fails and the pool shuts down: every
// request that was taken is done exactly once, and Pool's destructor finds nothing left.
TEST(EnginePoolTest, EveryRequestEndsOnceUnderStress) {
  constexpr int kThreads = 8;
  constexpr int kRequests = 400;
  Pool pool({.max_running_requests = 4, .max_queued_requests = 32, .max_queued_tokens = 4000},
            {{.device = "a", .kv_tokens = 300, .gated = false},
             {.device = "b", .kv_tokens = 300, .gated = false},
             {.device = "c", .kv_tokens = 500, .gated = false}});
  std::atomic<int> taken{0}, done{0}, refused{0};
  NullSink sink;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::minstd_rand random(thread + 1);
      std::deque<std::shared_ptr<RequestTicket>> tickets;
      for (int i = 0; i < kRequests; ++i) {
        SubmitOptions options = {.client = absl::StrCat("client ", random() % 5)};
        if (random() % 4 == 0) options.deadline = absl::Now() + absl::Microseconds(random() % 2000);
        auto ticket =
            pool.pool->Submit({.prompt = "prompt",
                               .strategy = GreedyOptions{},
                               .max_new_tokens = static_cast<int>(random() % 250 + 1),
                               .priority = static_cast<Priority>(random() % 3)},
                              std::move(options), &sink, [&](const absl::StatusOr<ReasonResult>&) { ++done; });
        if (!ticket.ok()) {
          ++refused;
          continue;
        }
        ++taken;
        tickets.push_back(*std::move(ticket));
        if (tickets.size() > 3) {
          if (random() % 3 == 0) tickets.front()->Cancel();
          tickets.pop_front();
        }
        if (random() % 16 == 0) {
          EXPECT_LE(pool.pool->load().running, 12);
        }
        if (thread == 0 && i == kRequests / 2) pool.engine(0).Fail();
      }
      for (const auto& ticket : tickets) ticket->Cancel();
    });
  }
  for (std::thread& thread : threads) thread.join();
  pool.pool->Shutdown(absl::Now() + absl::Milliseconds(5));
  EXPECT_EQ(done, taken);
  EXPECT_EQ(taken + refused, kThreads * kRequests);
  for (FakeEngine* engine : pool.engines) EXPECT_LE(engine->most_running(), 4);
}

TEST(EnginePoolTest, ShutdownRacesWithSubmittingAndCancelling) {
  for (int round = 0; round < 20; ++round) {
    Pool pool({.max_running_requests = 2}, {{}, {}});
    std::atomic<int> taken{0}, done{0};
    NullSink sink;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        while (true) {
          auto ticket =
              pool.pool->Submit({.prompt = "prompt"}, {}, &sink, [&](const absl::StatusOr<ReasonResult>&) { ++done; });
          if (absl::IsUnavailable(ticket.status())) return;
          if (!ticket.ok()) continue;
          ++taken;
          if (thread % 2 == 0) (*ticket)->Cancel();
        }
      });
    }
    while (taken < 20) std::this_thread::yield();
    pool.pool->Shutdown(absl::InfinitePast());
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(done, taken);
  }
}

}  // namespace
}  // namespace nabla
