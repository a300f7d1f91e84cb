#include "engine/pool/engine_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

// Holds the worker inside an event until told to go on.
class GateSink : public EventSink {
 public:
  void OnEvent(Event event) override {
    if (std::holds_alternative<CommittedEvent>(event)) ++committed;
    if (started.HasBeenNotified()) return;
    started.Notify();
    if (gated) gate.WaitForNotification();
  }
  bool gated = false;
  absl::Notification started, gate;
  int committed = 0;
};

struct Outcome {
  DoneCallback Callback() {
    return [this](absl::StatusOr<ReasonResult> value) {
      result = std::move(value);
      done.Notify();
    };
  }
  absl::Status Status() {
    done.WaitForNotification();
    return result.status();
  }
  absl::StatusOr<ReasonResult> result = absl::UnknownError("not done");
  absl::Notification done;
};

EnginePoolOptions Options() {
  return {.model = {.path = LanguageModelFolder(), .dtype = "float32", .device = "cpu"},
          .reward_model = RewardModelOptions{.path = ClassifierFolder(), .device = "cpu"},
          .workers = 1,
          .threads_per_worker = 1};
}

ReasonRequest Greedy(int tokens = 16) {
  return {
      .messages = {{"user", "How many apples does Tom have?"}}, .strategy = GreedyOptions{}, .max_new_tokens = tokens};
}

std::unique_ptr<EnginePool> Create(const EnginePoolOptions& options = Options()) {
  return EnginePool::Create(options).value();
}

TEST(EnginePoolTest, RunsARequestAndReportsItsUsage) {
  const auto pool = Create();
  GateSink sink;
  Outcome outcome;
  ASSERT_TRUE(pool->Submit(Greedy(), absl::InfiniteFuture(), &sink, outcome.Callback()).ok());
  ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
  EXPECT_EQ(outcome.result->usage.completion_tokens, 16);
  EXPECT_EQ(outcome.result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(sink.committed, 16);
  EXPECT_GT(outcome.result->usage.total_time, absl::ZeroDuration());
  EXPECT_EQ(pool->load().running, 0);
}

TEST(EnginePoolTest, WorkersGiveTheSameBytesForTheSameSeed) {
  EnginePoolOptions options = Options();
  options.workers = 3;
  const auto pool = Create(options);
  ReasonRequest request = Greedy(24);
  request.strategy = NablaOptions{.rollout = {.temperature = 1.0}, .refinement = {.learning_rate = 0.3}};
  request.seed = 11;
  std::vector<GateSink> sinks(6);
  std::vector<Outcome> outcomes(6);
  for (int i = 0; i < 6; ++i)
    ASSERT_TRUE(pool->Submit(request, absl::InfiniteFuture(), &sinks[i], outcomes[i].Callback()).ok());
  for (Outcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
    EXPECT_EQ(outcome.result->token_ids, outcomes[0].result->token_ids);
    EXPECT_EQ(outcome.result->usage.model_calls, outcomes[0].result->usage.model_calls);
  }
}

TEST(EnginePoolTest, AFullQueueRefusesAndTheWaitingOnesAreSeen) {
  EnginePoolOptions options = Options();
  options.max_queued_requests = 1;
  const auto pool = Create(options);
  GateSink first, second, third;
  first.gated = true;
  Outcome outcomes[2];
  ASSERT_TRUE(pool->Submit(Greedy(), absl::InfiniteFuture(), &first, outcomes[0].Callback()).ok());
  first.started.WaitForNotification();
  ASSERT_TRUE(pool->Submit(Greedy(), absl::InfiniteFuture(), &second, outcomes[1].Callback()).ok());
  const auto refused =
      pool->Submit(Greedy(), absl::InfiniteFuture(), &third, [](absl::StatusOr<ReasonResult>) { FAIL(); });
  EXPECT_EQ(refused.status(), absl::ResourceExhaustedError("the queue is full (1 requests); retry later"));
  EXPECT_EQ(pool->load().running, 1);
  EXPECT_EQ(pool->load().waiting, 1);
  EXPECT_GT(pool->load().kv_cache_usage_ratio, 0);
  first.gate.Notify();
  EXPECT_TRUE(outcomes[0].Status().ok());
  EXPECT_TRUE(outcomes[1].Status().ok());
  EXPECT_EQ(pool->load().kv_cache_usage_ratio, 0);
}

TEST(EnginePoolTest, CancellingFreesTheWorkerAndAQueuedRequestNeverStarts) {
  const auto pool = Create();
  GateSink first, second;
  first.gated = true;
  Outcome outcomes[2];
  const auto running = pool->Submit(Greedy(400), absl::InfiniteFuture(), &first, outcomes[0].Callback()).value();
  first.started.WaitForNotification();
  const auto queued = pool->Submit(Greedy(), absl::InfiniteFuture(), &second, outcomes[1].Callback()).value();
  queued->Cancel();
  running->Cancel();
  first.gate.Notify();
  EXPECT_EQ(outcomes[0].Status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(outcomes[1].Status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(second.started.HasBeenNotified());
  EXPECT_LT(first.committed, 3);
}

TEST(EnginePoolTest, AnExpiredRequestNeverStarts) {
  const auto pool = Create();
  GateSink sink;
  Outcome outcome;
  ASSERT_TRUE(pool->Submit(Greedy(), absl::Now() - absl::Seconds(1), &sink, outcome.Callback()).ok());
  EXPECT_EQ(outcome.Status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(sink.started.HasBeenNotified());
}

TEST(EnginePoolTest, ShutdownStopsWhatDoesNotFinishInTime) {
  const auto pool = Create();
  GateSink sink, late;
  Outcome outcome;
  sink.gated = true;
  ASSERT_TRUE(pool->Submit(Greedy(400), absl::InfiniteFuture(), &sink, outcome.Callback()).ok());
  sink.started.WaitForNotification();
  std::thread opener([&] { sink.gate.Notify(); });
  pool->Shutdown(absl::InfinitePast());
  opener.join();
  EXPECT_EQ(outcome.Status(), absl::UnavailableError("the server is shutting down; retry on another server"));
  EXPECT_EQ(pool->Submit(Greedy(), absl::InfiniteFuture(), &late, [](absl::StatusOr<ReasonResult>) { FAIL(); })
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
}

TEST(EnginePoolTest, ShutdownLetsWorkFinish) {
  const auto pool = Create();
  GateSink sinks[3];
  Outcome outcomes[3];
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(pool->Submit(Greedy(), absl::InfiniteFuture(), &sinks[i], outcomes[i].Callback()).ok());
  pool->Shutdown(absl::InfiniteFuture());
  for (Outcome& outcome : outcomes) EXPECT_TRUE(outcome.Status().ok()) << outcome.Status();
}

TEST(EnginePoolTest, BadRequestsAreRefusedAtOnce) {
  const auto pool = Create();
  GateSink sink;
  const auto refusal = [&](const ReasonRequest& request) {
    return pool->Submit(request, absl::InfiniteFuture(), &sink, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status();
  };
  ReasonRequest bytes = Greedy();
  bytes.messages[0].content = "caf\xe9";
  EXPECT_EQ(refusal(bytes), absl::InvalidArgumentError("messages[0].content: is not valid UTF-8"));
  ReasonRequest longer = Greedy();
  longer.messages[0].content = std::string(2000, '7');
  EXPECT_THAT(std::string(refusal(longer).message()),
              testing::MatchesRegex(
                  "messages: has 20.. tokens; model lm takes 512 with the answer, so shorten it to at most 511"));
  EXPECT_EQ(refusal(longer).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(refusal(Greedy(5000)),
            absl::InvalidArgumentError("max_new_tokens: must be at most 4096 on this server, got 5000"));
  ReasonRequest many = Greedy();
  many.strategy = NablaOptions{.max_rollouts = 5000};
  EXPECT_EQ(refusal(many),
            absl::InvalidArgumentError("nabla.max_rollouts: must be at most 1024 on this server, got 5000"));
}

TEST(EnginePoolTest, WithoutARewardModelNablaIsRefusedWithTheFix) {
  EnginePoolOptions options = Options();
  options.reward_model.reset();
  const auto pool = Create(options);
  EXPECT_FALSE(pool->reward_model_info().has_value());
  GateSink sink;
  ReasonRequest request = Greedy();
  request.strategy = NablaOptions{};
  EXPECT_EQ(pool->Submit(request, absl::InfiniteFuture(), &sink, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status(),
            absl::FailedPreconditionError("strategy nabla needs a reward model and this server has none; start it with "
                                          "--reward_model or ask for greedy"));
}

TEST(EnginePoolTest, BadOptionsAreNamed) {
  const auto error = [](const EnginePoolOptions& options) {
    return std::string(EnginePool::Create(options).status().message());
  };
  EnginePoolOptions options = Options();
  options.workers = -1;
  EXPECT_EQ(error(options), "workers is -1; expected 1 or more");
  options = Options();
  options.model.path = ClassifierFolder();
  EXPECT_EQ(error(options), ClassifierFolder() +
                                "/config.json: Qwen3ForSequenceClassification cannot write answers; give it as the "
                                "reward model and a …ForCausalLM as the model");
  options = Options();
  options.reward_model->kind = "oracle";
  EXPECT_EQ(error(options), "reward kind is \"oracle\"; expected classifier, likelihood, verdict or auto");
}

}  // namespace
}  // namespace nabla
