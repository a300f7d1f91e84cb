#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "engine/pool/engine_pool.h"
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
  return {.model = {.path = LanguageModelFolder(), .dtype = "float32"},
          .reward_model = RewardModelOptions{.path = ClassifierFolder()},
          .devices = {TestDevice()},
          .max_running_requests = 1,
          .threads = 1};
}

ReasonRequest Greedy(int tokens = 16) {
  return {
      .messages = {{"user", "How many apples does Tom have?"}}, .strategy = GreedyOptions{}, .max_new_tokens = tokens};
}

std::unique_ptr<EnginePool> Create(const EnginePoolOptions& options = Options()) {
  return EnginePool::Create(options).value();
}

TEST(ModelEngineTest, RunsARequestAndReportsItsUsage) {
  const auto pool = Create();
  GateSink sink;
  Outcome outcome;
  ASSERT_TRUE(pool->Submit(Greedy(), {}, &sink, outcome.Callback()).ok());
  ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
  EXPECT_EQ(outcome.result->usage.completion_tokens, 16);
  EXPECT_EQ(outcome.result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(sink.committed, 16);
  EXPECT_GT(outcome.result->usage.total_time, absl::ZeroDuration());
  EXPECT_EQ(pool->load().running, 0);
}

// Every bit of the answer, rewards included, alone and while sixteen others of other lengths and strategies run.
TEST(ModelEngineTest, TheSameSeedGivesTheSameBytesAloneAndAmongSixteenOthers) {
  EnginePoolOptions options = Options();
  options.max_running_requests = 17;
  options.threads = 2;
  const auto pool = Create(options);
  ReasonRequest ours = Greedy(24);
  ours.strategy = NablaOptions{.rollout = {.temperature = 1.0}, .refinement = {.learning_rate = 0.3}};
  ours.seed = 11;
  GateSink alone_sink;
  Outcome alone;
  ASSERT_TRUE(pool->Submit(ours, {}, &alone_sink, alone.Callback()).ok());
  ASSERT_TRUE(alone.Status().ok()) << alone.Status();
  ASSERT_GT(alone.result->usage.rollouts, 2);

  std::vector<GateSink> sinks(17);
  std::vector<Outcome> outcomes(17);
  for (int i = 0; i < 17; ++i) {
    ReasonRequest request = ours;
    if (i != 8) {
      request.messages = {{"user", absl::StrCat("Tom has ", i, " apples. ", std::string(7 * i, 'x'))}};
      request.seed = 100 + i;
      request.max_new_tokens = 10 + 3 * i;
      if (i % 3 == 0) request.strategy = SampleOptions{.sampling = {.temperature = 1.0}};
      if (i % 3 == 1) request.strategy = GreedyOptions{};
    }
    ASSERT_TRUE(pool->Submit(request, {}, &sinks[i], outcomes[i].Callback()).ok());
  }
  for (Outcome& outcome : outcomes) ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
  const ReasonResult &expected = *alone.result, &actual = *outcomes[8].result;
  EXPECT_EQ(actual.token_ids, expected.token_ids);
  EXPECT_EQ(actual.text, expected.text);
  EXPECT_EQ(*actual.reward, *expected.reward) << "bit for bit";
  EXPECT_EQ(*actual.initial_reward, *expected.initial_reward) << "bit for bit";
  EXPECT_EQ(actual.usage.model_calls, expected.usage.model_calls);
  EXPECT_EQ(actual.usage.revisions_accepted, expected.usage.revisions_accepted);
}

// What rollouts and their scoring leave to gradients saves both models' passes, and changes no bit.
ReasonResult ExpectRecordedRolloutsToSaveForwardPasses(const std::string& rollout_weights) {
  ReasonRequest request = Greedy(24);
  request.strategy = NablaOptions{.refinement = {.learning_rate = 0.3}};
  ReasonResult results[2];
  for (const bool recorded : {false, true}) {
    EnginePoolOptions options = Options();
    options.rollout_weights = rollout_weights;
    if (!recorded) options.activation_bytes = 0;
    const auto pool = Create(options);
    GateSink sink;
    Outcome outcome;
    EXPECT_TRUE(pool->Submit(request, {}, &sink, outcome.Callback()).ok());
    EXPECT_TRUE(outcome.Status().ok()) << outcome.Status();
    results[recorded] = outcome.result.value();
  }
  EXPECT_EQ(results[1].token_ids, results[0].token_ids);
  EXPECT_EQ(*results[1].reward, *results[0].reward) << "bit for bit";
  EXPECT_EQ(results[1].usage.gradient_steps, results[0].usage.gradient_steps);
  if (TestDevice() == "cpu") {
    EXPECT_LT(results[1].usage.language_model.forward_tokens, results[0].usage.language_model.forward_tokens);
    EXPECT_LT(results[1].usage.reward_model.forward_tokens, results[0].usage.reward_model.forward_tokens);
  }
  return results[1];
}

TEST(ModelEngineTest, RecordedRolloutsSaveTheForwardPassesOfTheirGradients) {
  ExpectRecordedRolloutsToSaveForwardPasses("model");
}

TEST(ModelEngineTest, RolloutsByInt8WeightsAreRecordedAlike) {
  if (TestDevice() == "cpu") {
    const ReasonResult result = ExpectRecordedRolloutsToSaveForwardPasses("int8");
    const ReasonResult by_model = ExpectRecordedRolloutsToSaveForwardPasses("model");
    ASSERT_FALSE(result.revisions.empty());
    ASSERT_FALSE(by_model.revisions.empty());
    EXPECT_NE(result.revisions[0].gradient_norm, by_model.revisions[0].gradient_norm);
    return;
  }
  EnginePoolOptions options = Options();
  options.rollout_weights = "int8";
  EXPECT_EQ(EnginePool::Create(options).status(),
            absl::InvalidArgumentError(absl::StrCat("rollout_weights: int8 needs an engine on the CPU, not on ",
                                                    TestDevice(), "; leave it out")));
}

// Two requests at once, one an engine.
TEST(ModelEngineTest, EveryEngineOfACpuGivesTheSameBytes) {
  EnginePoolOptions options = Options();
  options.devices = {TestDevice(), TestDevice()};
  const auto pool = Create(options);
  GateSink sinks[2];
  Outcome outcomes[2];
  for (int i = 0; i < 2; ++i) {
    sinks[i].gated = true;
    ASSERT_TRUE(pool->Submit(Greedy(), {}, &sinks[i], outcomes[i].Callback()).ok());
    sinks[i].started.WaitForNotification();
  }
  for (const EngineLoad& engine : pool->load().engines) EXPECT_EQ(engine.running, 1);
  for (GateSink& sink : sinks) sink.gate.Notify();
  for (Outcome& outcome : outcomes) ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
  EXPECT_EQ(outcomes[0].result->token_ids, outcomes[1].result->token_ids);
  EXPECT_EQ(outcomes[0].result->text, outcomes[1].result->text);
}

TEST(ModelEngineTest, RequestsThatBeginAlikeShareTheirPrompt) {
  const auto pool = Create();
  ReasonRequest request = Greedy(4);
  request.messages = {{"user", std::string(60, 'a')}};
  ReasonResult results[2];
  for (ReasonResult& result : results) {
    GateSink sink;
    Outcome outcome;
    ASSERT_TRUE(pool->Submit(request, {}, &sink, outcome.Callback()).ok());
    ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
    result = *outcome.result;
  }
  EXPECT_EQ(results[0].token_ids, results[1].token_ids);
  const int64_t saved = results[0].usage.language_model.forward_tokens - results[1].usage.language_model.forward_tokens;
  EXPECT_GT(saved, 0);
  EXPECT_EQ(pool->load().engines[0].prefix_cache_hit_tokens, saved);
}

TEST(ModelEngineTest, ARequestThatCouldNeverHaveItsMemoryIsRefused) {
  EnginePoolOptions options = Options();
  options.kv_cache_bytes = 200'000;
  const auto pool = Create(options);
  GateSink sink;
  const absl::Status status = pool->Submit(Greedy(400), {}, &sink, [](absl::StatusOr<ReasonResult>) {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("raise its --kv_cache_bytes"));
}

TEST(ModelEngineTest, ARunningRequestHoldsKeyValueMemory) {
  const auto pool = Create();
  GateSink sink;
  sink.gated = true;
  Outcome outcome;
  ASSERT_TRUE(pool->Submit(Greedy(), {}, &sink, outcome.Callback()).ok());
  sink.started.WaitForNotification();
  EXPECT_EQ(pool->load().running, 1);
  EXPECT_EQ(pool->load().engines[0].running, 1);
  EXPECT_GT(pool->load().engines[0].kv_cache_usage_ratio, 0);
  sink.gate.Notify();
  EXPECT_TRUE(outcome.Status().ok());
}

TEST(ModelEngineTest, WhatARequestHasCostIsToldHoweverItEnds) {
  std::vector<Usage> told;
  EnginePoolOptions options = Options();
  options.on_usage = [&told](const Usage& usage) { told.push_back(usage); };
  const auto pool = Create(options);
  GateSink sink;
  Outcome well;
  ASSERT_TRUE(pool->Submit(Greedy(), {}, &sink, well.Callback()).ok());
  ASSERT_TRUE(well.Status().ok()) << well.Status();
  ASSERT_EQ(told.size(), 1);
  EXPECT_EQ(told[0].completion_tokens, 16);
  EXPECT_EQ(told[0].language_model.forward_passes, well.result->usage.language_model.forward_passes);

  // Cancelled on its first token.
  class CancellingSink : public EventSink {
   public:
    void OnEvent(Event event) override {
      if (!std::holds_alternative<CommittedEvent>(event)) return;
      submitted.WaitForNotification();
      ticket->Cancel();
    }
    absl::Notification submitted;
    std::shared_ptr<RequestTicket> ticket;
  } cancelling;
  Outcome ill;
  cancelling.ticket = pool->Submit(Greedy(400), {}, &cancelling, ill.Callback()).value();
  cancelling.submitted.Notify();
  EXPECT_EQ(ill.Status().code(), absl::StatusCode::kCancelled);
  ASSERT_EQ(told.size(), 2);
  EXPECT_GE(told[1].completion_tokens, 1);
  EXPECT_LT(told[1].completion_tokens, 400);
  EXPECT_GT(told[1].language_model.forward_passes, 0);
}

TEST(ModelEngineTest, CancellingEndsARequestWithinOneStep) {
  const auto pool = Create();
  GateSink first, second;
  first.gated = true;
  Outcome outcomes[2];
  const auto running = pool->Submit(Greedy(400), {}, &first, outcomes[0].Callback()).value();
  first.started.WaitForNotification();
  const auto queued = pool->Submit(Greedy(), {}, &second, outcomes[1].Callback()).value();
  queued->Cancel();
  running->Cancel();
  first.gate.Notify();
  EXPECT_EQ(outcomes[0].Status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(outcomes[1].Status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(second.started.HasBeenNotified());
  EXPECT_LT(first.committed, 3);
}

TEST(ModelEngineTest, ShutdownStopsWhatDoesNotFinishInTime) {
  const auto pool = Create();
  GateSink sink, late;
  Outcome outcome;
  sink.gated = true;
  ASSERT_TRUE(pool->Submit(Greedy(400), {}, &sink, outcome.Callback()).ok());
  sink.started.WaitForNotification();
  std::thread opener([&] { sink.gate.Notify(); });
  pool->Shutdown(absl::InfinitePast());
  opener.join();
  EXPECT_EQ(outcome.Status(), absl::UnavailableError("the server is shutting down; retry on another server"));
  EXPECT_EQ(pool->Submit(Greedy(), {}, &late, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(ModelEngineTest, BadRequestsAreRefusedAtOnce) {
  const auto pool = Create();
  GateSink sink;
  const auto refusal = [&](const ReasonRequest& request) {
    return pool->Submit(request, {}, &sink, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status();
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
}

TEST(ModelEngineTest, WithoutARewardModelNablaIsRefusedWithTheFix) {
  EnginePoolOptions options = Options();
  options.reward_model.reset();
  const auto pool = Create(options);
  EXPECT_FALSE(pool->models().reward_model.has_value());
  GateSink sink;
  ReasonRequest request = Greedy();
  request.strategy = NablaOptions{};
  EXPECT_EQ(pool->Submit(request, {}, &sink, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status(),
            absl::FailedPreconditionError("strategy nabla needs a reward model and this server has none; start it with "
                                          "--reward_model or --reward_address, or ask for greedy"));
}

TEST(ModelEngineTest, ADraftModelServesTheStrategyThatNeedsOne) {
  ReasonRequest request = Greedy();
  request.strategy = SpeculativeCandidatesOptions{.candidates = 2, .separator = "e"};
  GateSink refused;
  EXPECT_EQ(Create()->Submit(request, {}, &refused, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status(),
            absl::FailedPreconditionError("strategy speculative_candidates needs a draft model and this server has "
                                          "none; start it with --draft_model, or ask for best_of_n"));
  EnginePoolOptions options = Options();
  options.draft_model = ModelOptions{.path = LanguageModelFolder(), .dtype = "float32"};
  const auto pool = Create(options);
  EXPECT_EQ(pool->models().draft_model->name, "lm");
  GateSink sink;
  Outcome outcome;
  ASSERT_TRUE(pool->Submit(request, {}, &sink, outcome.Callback()).ok());
  ASSERT_TRUE(outcome.Status().ok()) << outcome.Status();
  EXPECT_GT(outcome.result->usage.draft_model.forward_tokens, 0);
}

TEST(ModelEngineTest, GuardModelsAreAskedWhereTheRequestWantsThem) {
  ReasonRequest request = Greedy();
  NablaOptions nabla = {.refinement = {.learning_rate = 0.5}};
  nabla.unanimous = NablaOptions::Unanimity::kYes;
  request.strategy = nabla;
  GateSink refused;
  EXPECT_EQ(Create()->Submit(request, {}, &refused, [](absl::StatusOr<ReasonResult>) { FAIL(); }).status(),
            absl::FailedPreconditionError("nabla.unanimous: this server has no guard models; start it with "
                                          "--guard_models, or leave it out"));
  EnginePoolOptions options = Options();
  options.guard_models = {{.path = LanguageModelFolder(), .dtype = "float32"}};
  const auto pool = Create(options);
  ASSERT_EQ(pool->models().guard_models.size(), 1u);
  EXPECT_EQ(pool->models().guard_models[0].reward_kind, "likelihood");
  const auto guard_gains = [&](NablaOptions::Unanimity unanimous) {
    nabla.unanimous = unanimous;
    request.strategy = nabla;
    GateSink sink;
    Outcome outcome;
    EXPECT_TRUE(pool->Submit(request, {}, &sink, outcome.Callback()).ok());
    EXPECT_TRUE(outcome.Status().ok()) << outcome.Status();
    size_t gains = 0;
    for (const RevisionEvent& revision : outcome.result->revisions) gains += revision.guard_gains.size();
    return gains;
  };
  EXPECT_EQ(guard_gains(NablaOptions::Unanimity::kNo), 0u);
  EXPECT_GT(guard_gains(NablaOptions::Unanimity::kYes), 0u);
  EXPECT_GT(guard_gains(NablaOptions::Unanimity::kIfAny), 0u);
}

TEST(ModelEngineTest, BadOptionsAreNamed) {
  const auto error = [](const EnginePoolOptions& options) {
    return std::string(EnginePool::Create(options).status().message());
  };
  EnginePoolOptions options = Options();
  options.max_running_requests = 0;
  EXPECT_EQ(error(options), "max_running_requests is 0; expected 1 or more");
  options = Options();
  options.model.path = ClassifierFolder();
  EXPECT_EQ(error(options), ClassifierFolder() +
                                "/config.json: Qwen3ForSequenceClassification cannot write answers; give it as the "
                                "reward model and a …ForCausalLM as the model");
  options = Options();
  options.draft_model = ModelOptions{.path = ClassifierFolder()};
  EXPECT_EQ(error(options), ClassifierFolder() +
                                "/config.json: Qwen3ForSequenceClassification cannot write drafts; give a …ForCausalLM "
                                "as the draft model");
  options = Options();
  options.reward_model->kind = "oracle";
  EXPECT_EQ(error(options), "reward kind is \"oracle\"; expected classifier, likelihood, verdict or auto");
}

}  // namespace
}  // namespace nabla
