#include "engine/pool/limits.h"

#include <gtest/gtest.h>

#include "engine/pool/engine.h"

namespace nabla {
namespace {

TEST(LimitsTest, OptionsAreNamedWithWhatWasExpected) {
  const auto error = [](const auto& change) {
    EnginePoolOptions options;
    change(options);
    return ValidateEnginePoolOptions(options);
  };
  EXPECT_TRUE(error([](EnginePoolOptions&) {}).ok());
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.devices.clear(); }),
            absl::InvalidArgumentError("devices is empty; expected one or more of cpu, cuda:N and auto"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.kv_cache_bytes = 0; }),
            absl::InvalidArgumentError("kv_cache_bytes is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_running_requests = 0; }),
            absl::InvalidArgumentError("max_running_requests is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.threads = -1; }),
            absl::InvalidArgumentError("threads is -1; expected 0 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_batch_tokens = 0; }),
            absl::InvalidArgumentError("max_batch_tokens is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.draft_weights = "int4"; }),
            absl::InvalidArgumentError("draft_weights is \"int4\"; expected auto, int8 or none"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.rollout_weights = "int4"; }),
            absl::InvalidArgumentError("rollout_weights is \"int4\"; expected model or int8"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.gradient_weights = "int8"; }),
            absl::InvalidArgumentError("gradient_weights is \"int8\"; expected packed or model"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.rollout_weights = o.draft_weights = "int8"; }),
            absl::InvalidArgumentError(
                "draft_weights: int8 would guess what rollout_weights: int8 says by itself; leave one of them out"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_queued_requests = 0; }),
            absl::InvalidArgumentError("max_queued_requests is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_queued_tokens = 0; }),
            absl::InvalidArgumentError("max_queued_tokens is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_new_tokens_limit = 0; }),
            absl::InvalidArgumentError("max_new_tokens_limit is 0; expected 1 or more"));
  EXPECT_EQ(error([](EnginePoolOptions& o) { o.max_rollouts_limit = 0; }),
            absl::InvalidArgumentError("max_rollouts_limit is 0; expected 1 or more"));
}

TEST(LimitsTest, RequestsAreCapped) {
  const EnginePoolOptions options;
  EXPECT_TRUE(CheckLimits(options, {.strategy = NablaOptions{.max_rollouts = 1024}, .max_new_tokens = 4096}).ok());
  EXPECT_EQ(CheckLimits(options, {.max_new_tokens = 5000}),
            absl::InvalidArgumentError("max_new_tokens: must be at most 4096 on this server, got 5000"));
  EXPECT_EQ(CheckLimits(options, {.strategy = NablaOptions{.max_rollouts = 5000}}),
            absl::InvalidArgumentError("nabla.max_rollouts: must be at most 1024 on this server, got 5000"));
  EXPECT_EQ(CheckLimits(options, {.strategy = BestOfNOptions{.candidates = 5000}}),
            absl::InvalidArgumentError("best_of_n.candidates: must be at most 1024 on this server, got 5000"));
  EXPECT_EQ(CheckLimits(options, {.strategy = BeamOptions{.width = 100, .expansions = 50}}),
            absl::InvalidArgumentError("beam.width × beam.expansions: must be at most 1024 on this server, got 5000"));
  EXPECT_EQ(CheckLimits(options, {.strategy = TailGuidedOptions{.candidates = 5000}}),
            absl::InvalidArgumentError("tail_guided.candidates: must be at most 1024 on this server, got 5000"));
}

TEST(LimitsTest, TokensAreThePromptsAndThoseOfEveryRollout) {
  Engine::Prepared prepared = {.request = {.strategy = GreedyOptions{}, .max_new_tokens = 100},
                               .prompt_ids = {1, 2, 3}};
  EXPECT_EQ(EstimateTokens(prepared), 103);
  prepared.request.strategy = SampleOptions{};
  EXPECT_EQ(EstimateTokens(prepared), 103);
  prepared.request.strategy = NablaOptions{.max_rollouts = 8};
  EXPECT_EQ(EstimateTokens(prepared), 803);
  prepared.request.strategy = SelfConsistencyOptions{.candidates = 4};
  EXPECT_EQ(EstimateTokens(prepared), 403);
  prepared.request.strategy = BeamOptions{.width = 2, .expansions = 3};
  EXPECT_EQ(EstimateTokens(prepared), 603);
  prepared.request.strategy = TailGuidedOptions{.candidates = 16};
  EXPECT_EQ(EstimateTokens(prepared), 1603);
  prepared.request.strategy = NablaOptions{.max_rollouts = 8};
  prepared.request.max_new_tokens = 2'000'000'000;
  EXPECT_EQ(EstimateTokens(prepared), 16'000'000'003);
}

}  // namespace
}  // namespace nabla
