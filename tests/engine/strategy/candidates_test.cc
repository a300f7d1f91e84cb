#include <algorithm>

#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

constexpr SamplingOptions kSampling = {.temperature = 1.0};
constexpr uint64_t kSeedStep = 0x9e3779b97f4a7c15;

class CandidatesTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> BestOf(int candidates, std::optional<int64_t> budget = std::nullopt) {
    const Parts parts = NewRequest(/*seed=*/5);
    return RunBestOfN({.candidates = candidates, .sampling = kSampling}, budget, *parts.session, *parts.scorer);
  }
};

TEST_F(CandidatesTest, TheBestOfIndependentSamplesIsTheAnswer) {
  std::vector<std::vector<int32_t>> samples;
  std::vector<double> rewards;
  for (int i = 0; i < 4; ++i) {
    const Parts parts = NewRequest(5 + i * kSeedStep);
    samples.push_back(RunSample({.sampling = kSampling}, *parts.session)->token_ids);
    rewards.push_back(parts.scorer->Score(samples.back()).value());
  }
  const auto result = BestOf(4);
  ASSERT_TRUE(result.ok()) << result.status();
  const size_t best = std::max_element(rewards.begin(), rewards.end()) - rewards.begin();
  ASSERT_NE(best, 0u) << "else this would not show that another than the first can be chosen";
  EXPECT_EQ(result->token_ids, samples[best]) << "token for token, decoded as one batch or alone";
  EXPECT_EQ(*result->reward, rewards[best]);
  EXPECT_EQ(*result->initial_reward, rewards[0]);
  EXPECT_EQ(sink_.ids, samples[best]);
  ASSERT_EQ(sink_.candidates.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(sink_.candidates[i].token_ids, samples[i]);
    EXPECT_EQ(sink_.candidates[i].reward, rewards[i]);
    EXPECT_EQ(sink_.candidates[i].chosen, i == best);
  }
}

TEST_F(CandidatesTest, ThePromptIsRunOnceAndCallsAddUp) {
  ASSERT_TRUE(BestOf(4).ok());
  EXPECT_EQ(usage_.rollouts, 4);
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens + 4);
  constexpr int64_t kPromptAheadOfLastToken = 6;
  EXPECT_LE(usage_.language_model.forward_tokens, kPromptAheadOfLastToken + usage_.decoded_tokens);
}

TEST_F(CandidatesTest, ABudgetEndsAllOfThem) {
  const auto result = BestOf(4, /*budget=*/30);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->finish_reason, FinishReason::kModelCallBudget);
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_GE(usage_.decoded_tokens, 30);
  EXPECT_LT(usage_.decoded_tokens, 30 + 4);
}

TEST_F(CandidatesTest, CancellingEndsIt) {
  sink_.on_event = [&](const Event&) { stop_.Stop(StopToken::Reason::kCancelled); };
  EXPECT_EQ(BestOf(4).status(), absl::CancelledError("the request was cancelled by its caller"));
}

TEST_F(CandidatesTest, SelfConsistencyNeedsNoRewardModel) {
  const Parts parts = NewRequest(5);
  const auto result = RunStrategy({.strategy = SelfConsistencyOptions{.candidates = 3, .sampling = kSampling}},
                                  *parts.session, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->reward.has_value());
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens);
  EXPECT_EQ(RunStrategy({.strategy = BestOfNOptions{}}, *parts.session, nullptr).status(),
            absl::FailedPreconditionError("strategy best_of_n needs a reward model"));
}

}  // namespace
}  // namespace nabla
