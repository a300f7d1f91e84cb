// The asynchronous client and the load generator on top of it, against a server in the same process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "client/async_reasoner_client.h"
#include "client/cli/load_generator.h"
#include "tests/server/server_fixture.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;

// The end of one call, to wait for.
class Outcome {
 public:
  AsyncReasonerClient::DoneCallback Callback() {
    return [this](absl::StatusOr<v1::Finished> finished) {
      const std::lock_guard<std::mutex> lock(mu_);
      finished_ = std::move(finished);
      changed_.notify_all();
    };
  }
  absl::StatusOr<v1::Finished> Await() {
    std::unique_lock<std::mutex> lock(mu_);
    if (!changed_.wait_for(lock, kTestPatience, [this] { return finished_.has_value(); })) {
      return absl::InternalError("the call has not ended");
    }
    return *finished_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::optional<absl::StatusOr<v1::Finished>> finished_;
};

class AsyncClientTest : public ServerTest {
 protected:
  void Start(FakeEnginePool::Script script = nullptr) {
    StartServer({}, std::make_unique<FakeEnginePool>(true, std::move(script)));
    absl::StatusOr<std::unique_ptr<AsyncReasonerClient>> client = AsyncReasonerClient::Create(address());
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  std::unique_ptr<AsyncReasonerClient> client_;
};

void Answer(FakeRequest* request) {
  request->Emit(StartedEvent{.strategy = "nabla"});
  request->Emit(CommittedEvent{{1, 2, 3}, "xyz"});
  ReasonResult result{.text = "xyz"};
  result.usage.queue_time = absl::Milliseconds(250);
  result.usage.time_to_first_token = absl::Milliseconds(500);
  request->Finish(result);
}

TEST_F(AsyncClientTest, GivesEveryEventThenTheEnd) {
  Start(Answer);
  Outcome outcome;
  std::vector<int> kinds;
  client_->Reason(
      Question(), {}, [&](const v1::ReasonEvent& event) { kinds.push_back(event.event_case()); }, outcome.Callback());
  const absl::StatusOr<v1::Finished> finished = outcome.Await();
  ASSERT_TRUE(finished.ok()) << finished.status();
  EXPECT_EQ(finished->text(), "xyz");
  EXPECT_THAT(kinds, ElementsAre(v1::ReasonEvent::kStarted, v1::ReasonEvent::kCommitted, v1::ReasonEvent::kFinished));
}

TEST_F(AsyncClientTest, ManyCallsAreOpenAtOnce) {
  Start();
  std::vector<Outcome> outcomes(200);
  for (Outcome& outcome : outcomes) client_->Reason(Question(), {}, nullptr, outcome.Callback());
  std::vector<std::shared_ptr<FakeRequest>> requests;
  for (size_t i = 0; i < outcomes.size(); ++i) requests.push_back(pool()->Next());
  for (const auto& request : requests) {
    ASSERT_NE(request, nullptr);
    request->Finish(ReasonResult{.text = "x"});
  }
  for (Outcome& outcome : outcomes) EXPECT_TRUE(outcome.Await().ok());
}

TEST_F(AsyncClientTest, RefusalsAndMissingServersAreTheCallsStatus) {
  Start();
  pool()->RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  Outcome refused;
  client_->Reason(Question(), {}, nullptr, refused.Callback());
  EXPECT_EQ(refused.Await().status().message(), "the queue is full");
  const auto nobody = AsyncReasonerClient::Create("127.0.0.1:1");
  ASSERT_TRUE(nobody.ok());
  Outcome unreachable;
  (*nobody)->Reason(Question(), {}, nullptr, unreachable.Callback());
  EXPECT_TRUE(IsUnreachable(unreachable.Await().status()));
  EXPECT_EQ(AsyncReasonerClient::Create("").status(),
            absl::InvalidArgumentError("the server's address is empty; expected host:port"));
}

// To a client, what gRPC does to calls that meet a closing port looks like this.
TEST_F(AsyncClientTest, ACallThatTheServerCancelsBeforeItBeginsMayBeTriedElsewhere) {
  Start([](FakeRequest* request) { request->Finish(absl::CancelledError("")); });
  Outcome outcome;
  client_->Reason(Question(), {}, nullptr, outcome.Callback());
  EXPECT_EQ(outcome.Await().status(),
            absl::UnavailableError("the server reset the call before it began: it is shutting down; try again"));
}

TEST_F(AsyncClientTest, DestructionCancelsWhatIsOpenAndWaitsForItsEnd) {
  Start([](FakeRequest* request) {
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  Outcome outcome;
  client_->Reason(Question(), {}, nullptr, outcome.Callback());
  EXPECT_NE(pool()->Next(), nullptr);
  client_.reset();
  EXPECT_EQ(outcome.Await().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(AsyncClientTest, ACallMayBeCancelledFromItsOwnCallback) {
  Start([](FakeRequest* request) {
    request->Emit(CommittedEvent{{1}, "x"});
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  CancelHandle cancel;
  Outcome outcome;
  client_->Reason(
      Question(), {.cancel = &cancel}, [&](const v1::ReasonEvent&) { cancel.Cancel(); }, outcome.Callback());
  EXPECT_EQ(outcome.Await().status().code(), absl::StatusCode::kCancelled);
  client_.reset();  // behind which no callback runs
}

TEST_F(AsyncClientTest, AClosedLoopKeepsSoManyOpenAndMeasuresSoManyRequests) {
  std::atomic<int> open = 0;
  std::atomic<int> most = 0;
  Start([&](FakeRequest* request) {
    const int now = ++open;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    --open;  // before the end is seen, behind which the next may come
    Answer(request);
  });
  uint64_t asked = 0;
  const LoadResult result = RunLoad(
      {.concurrency = 3, .requests = 20},
      [&](uint64_t index) {
        EXPECT_EQ(index, asked++);
        return Question();
      },
      client_.get(), {}, nullptr);
  EXPECT_EQ(asked, 20u);
  EXPECT_LE(most, 3);
  ASSERT_EQ(result.samples.size(), 20u);
  for (const RequestSample& sample : result.samples) {
    EXPECT_TRUE(sample.status.ok()) << sample.status;
    EXPECT_GE(sample.sent, sample.scheduled);
    ASSERT_TRUE(sample.first_event.has_value() && sample.first_token.has_value());
    EXPECT_GE(*sample.first_token, *sample.first_event);
    EXPECT_GE(sample.ended, *sample.first_token);
    EXPECT_EQ(sample.queue_seconds, 0.25);
    EXPECT_EQ(sample.queue_to_first_token_seconds, 0.5);
    ASSERT_EQ(sample.arrivals.size(), 1u);
    EXPECT_EQ(sample.arrivals[0].tokens, 3u);
    EXPECT_LT(sample.ended, result.window.end);
  }
}

TEST_F(AsyncClientTest, AnOpenLoopSendsWhetherOrNotTheServerAnswers) {
  Start();
  std::atomic<bool> ended = false;
  LoadResult result;
  std::thread load([&] {
    result = RunLoad(
        {.rate = 1000.0, .requests = 10}, [](uint64_t) { return Question(); }, client_.get(), {}, nullptr);
    ended = true;
  });
  std::vector<std::shared_ptr<FakeRequest>> requests;
  for (int i = 0; i < 10; ++i) requests.push_back(pool()->Next());
  EXPECT_FALSE(ended);
  for (const auto& request : requests) request->Finish(ReasonResult{.text = "x"});
  load.join();
  ASSERT_EQ(result.samples.size(), 10u);
  for (const RequestSample& sample : result.samples) EXPECT_GT(sample.scheduled, 0);
}

TEST_F(AsyncClientTest, ArrivalsAreTheSameForTheSameSeed) {
  Start(Answer);
  const auto due = [&](uint64_t seed) {
    const LoadResult result = RunLoad(
        {.rate = 5000.0, .requests = 20, .seed = seed}, [](uint64_t) { return Question(); }, client_.get(), {},
        nullptr);
    std::vector<double> times;
    for (const RequestSample& sample : result.samples) times.push_back(sample.scheduled);
    std::sort(times.begin(), times.end());
    return times;
  };
  const std::vector<double> first = due(7);
  EXPECT_EQ(first, due(7));
  EXPECT_NE(first, due(8));
}

TEST_F(AsyncClientTest, ACancelledLoadEndsItsRequestsAndReturns) {
  CancelHandle cancel;
  std::promise<void> cancelled;
  Start([&](FakeRequest* request) {
    cancel.Cancel();
    cancelled.set_value();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  const LoadResult result = RunLoad(
      {.concurrency = 1, .duration = absl::Hours(1)}, [](uint64_t) { return Question(); }, client_.get(),
      {.cancel = &cancel}, nullptr);
  cancelled.get_future().wait();
  ASSERT_EQ(result.samples.size(), 1u);
  EXPECT_EQ(result.samples[0].status.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace nabla
