#include <algorithm>
#include <cmath>

#include "engine/strategy/tail.h"
#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

constexpr SamplingOptions kSampling = {.temperature = 1.0};
constexpr char kSeparator[] = "e";  // what the tiny model meets within a few tokens

TEST(TailTest, NormalScoresAreThoseOfOrderStatistics) {
  // Means of order statistics of a standard normal distribution (Harter 1961), which Blom's formula gives to 0.03.
  EXPECT_NEAR(NormalScore(1, 1), 0, 1e-9);
  EXPECT_NEAR(NormalScore(2, 2), 0.5642, 0.03);
  EXPECT_NEAR(NormalScore(5, 5), 1.1630, 0.02);
  EXPECT_NEAR(NormalScore(4, 5), 0.4950, 0.02);
  EXPECT_NEAR(NormalScore(10, 10), 1.5388, 0.02);
  EXPECT_NEAR(NormalScore(1, 10), -1.5388, 0.02);
}

TEST(TailTest, ALineThroughTheUpperHalfIsExtended) {
  std::vector<double> rewards;
  for (int i = 1; i <= 8; ++i) rewards.push_back(3 + 2 * NormalScore(i, 8));
  EXPECT_NEAR(ExpectedBest(rewards, 8), 3 + 2 * NormalScore(8, 8), 1e-9);
  EXPECT_NEAR(ExpectedBest(rewards, 100), 3 + 2 * NormalScore(100, 100), 1e-9);
  for (int i = 0; i < 4; ++i) rewards[i] -= 50;  // what is bad tells nothing about what is best
  EXPECT_NEAR(ExpectedBest(rewards, 100), 3 + 2 * NormalScore(100, 100), 1e-9);
  std::reverse(rewards.begin(), rewards.end());
  EXPECT_NEAR(ExpectedBest(rewards, 100), 3 + 2 * NormalScore(100, 100), 1e-9) << "in any order";
}

TEST(TailTest, EqualRewardsPromiseNoMore) {
  EXPECT_DOUBLE_EQ(ExpectedBest({2, 2}, 50), 2);
  EXPECT_DOUBLE_EQ(ExpectedBest({-1, 2, 2, 2}, 50), 2);
}

TEST(TailTest, AWideTailIsPreferredToAHighMean) {
  EXPECT_GT(ExpectedBest({-4, -2, 0, 2}, 32), ExpectedBest({1.4, 1.5, 1.6, 1.7}, 32));
  EXPECT_LT(ExpectedBest({-4, -2, 0, 1.5}, 1), ExpectedBest({1.4, 1.5, 1.6, 1.7}, 1));
}

class TailGuidedTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> Run(const TailGuidedOptions& options, std::optional<int64_t> budget = std::nullopt) {
    const Parts parts = NewRequest(/*seed=*/5);
    return RunTailGuided(options, budget, *parts.session, *parts.scorer);
  }
};

TEST_F(TailGuidedTest, TheRestGoesBehindTheStepThatPromisesMost) {
  const auto result = Run({.states = 3, .probes = 4, .candidates = 20, .separator = kSeparator, .sampling = kSampling});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(sink_.candidates.size(), 20u);
  const auto& all = sink_.candidates;
  // The responses behind a step begin alike. What is expected of each step says which the last eight go behind.
  std::vector<double> values;
  for (int state = 0; state < 3; ++state) {
    std::vector<double> rewards;
    for (int i = 0; i < 4; ++i) rewards.push_back(*all[4 * state + i].reward);
    values.push_back(ExpectedBest(rewards, 4 + 8));
  }
  const size_t promising = std::max_element(values.begin(), values.end()) - values.begin();
  for (size_t i = 12; i < 20; ++i) EXPECT_EQ(all[i].token_ids[0], all[4 * promising].token_ids[0]) << i;
  double best = *all[0].reward;
  for (const CandidateEvent& candidate : all) best = std::max(best, *candidate.reward);
  EXPECT_EQ(*result->reward, best);
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens + 20);
  EXPECT_EQ(usage_.rollouts, 3 + 20);
}

TEST_F(TailGuidedTest, ResponsesOfOneStepAreTakenAsTheyAre) {
  const auto result =
      Run({.states = 3, .probes = 2, .candidates = 20, .separator = "never written", .sampling = kSampling});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(sink_.candidates.size(), 3u) << "nothing can go on behind a finished response";
}

TEST_F(TailGuidedTest, ABudgetEndsItWithWhatThereIs) {
  const auto result = Run({.separator = kSeparator, .sampling = kSampling}, /*budget=*/40);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->finish_reason, FinishReason::kModelCallBudget);
  EXPECT_LT(usage_.decoded_tokens, 40 + 16);
}

TEST_F(TailGuidedTest, CancellingEndsIt) {
  stop_.Stop(StopToken::Reason::kCancelled);
  EXPECT_EQ(Run({.separator = kSeparator, .sampling = kSampling}).status(),
            absl::CancelledError("the request was cancelled by its caller"));
}

}  // namespace
}  // namespace nabla
