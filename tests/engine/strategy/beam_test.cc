#include <set>

#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

constexpr SamplingOptions kSampling = {.temperature = 1.0};

// The tiny model writes noise: a text that it meets within a few tokens, so that responses have several steps.
constexpr char kSeparator[] = "e";

class BeamTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> Run(const BeamOptions& options, std::optional<int64_t> budget = std::nullopt) {
    const Parts parts = NewRequest(/*seed=*/5);
    const absl::StatusOr<ReasonResult> result = RunBeam(options, budget, *parts.session, *parts.scorer);
    if (result.ok()) reward_of_answer_ = parts.scorer->Score(result->token_ids).value();
    return result;
  }

  double reward_of_answer_ = 0;
};

TEST_F(BeamTest, TheBestHypothesisIsTheAnswer) {
  const auto result = Run({.width = 3, .expansions = 2, .separator = kSeparator, .sampling = kSampling});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_EQ(*result->reward, reward_of_answer_);
  ASSERT_EQ(sink_.candidates.size(), 3u);
  for (const CandidateEvent& candidate : sink_.candidates) {
    EXPECT_EQ(candidate.chosen, candidate.index == 0) << "the best comes first";
    EXPECT_LE(*candidate.reward, *result->reward);
  }
  EXPECT_EQ(sink_.candidates[0].token_ids, result->token_ids);
}

TEST_F(BeamTest, OfOneStepItIsBestOfNBehindFreshSeeds) {
  const auto result = Run({.width = 2, .expansions = 2, .separator = "never written", .sampling = kSampling});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(usage_.rollouts, 4);
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens + 4);
  std::vector<std::vector<int32_t>> samples;
  std::vector<double> rewards;
  for (uint64_t i = 1; i <= 4; ++i) {
    const Parts parts = NewRequest(5 + i * 0x9e3779b97f4a7c15);
    samples.push_back(RunSample({.sampling = kSampling}, *parts.session)->token_ids);
    rewards.push_back(parts.scorer->Score(samples.back()).value());
  }
  const size_t best = std::max_element(rewards.begin(), rewards.end()) - rewards.begin();
  EXPECT_EQ(result->token_ids, samples[best]) << "token for token";
}

TEST_F(BeamTest, StepsAreScoredAndPrunedAndWhatIsKeptGoesOn) {
  ASSERT_TRUE(Run({.width = 2, .expansions = 3, .separator = kSeparator, .sampling = kSampling}).ok());
  EXPECT_GT(usage_.rollouts, 6) << "else there was one step and this shows nothing";
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens + usage_.rollouts) << "a score for every step";
}

TEST_F(BeamTest, SubtreesKeepTheirOwn) {
  const BeamOptions options = {
      .width = 3, .expansions = 3, .subtrees = 3, .separator = kSeparator, .sampling = kSampling};
  const auto diverse = Run(options);
  ASSERT_TRUE(diverse.ok()) << diverse.status();
  ASSERT_EQ(sink_.candidates.size(), 3u);
  std::set<int32_t> firsts;
  for (const CandidateEvent& candidate : sink_.candidates) firsts.insert(candidate.token_ids[0]);
  EXPECT_GT(firsts.size(), 1u) << "one of each subtree is left";
}

TEST_F(BeamTest, TheSameSeedGivesTheSameAnswer) {
  const BeamOptions options = {.width = 2, .expansions = 2, .separator = kSeparator, .sampling = kSampling};
  const auto first = Run(options), second = Run(options);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->token_ids, second->token_ids);
}

TEST_F(BeamTest, ABudgetEndsItWithWhatThereIs) {
  const auto result = Run({.width = 2, .expansions = 2, .sampling = kSampling}, /*budget=*/20);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->finish_reason, FinishReason::kModelCallBudget);
  EXPECT_LT(usage_.decoded_tokens, 20 + 4);
  EXPECT_EQ(result->token_ids, sink_.ids);
}

TEST_F(BeamTest, CancellingEndsIt) {
  sink_.on_event = [&](const Event&) { stop_.Stop(StopToken::Reason::kCancelled); };
  EXPECT_EQ(Run({.separator = kSeparator, .sampling = kSampling}).status(),
            absl::CancelledError("the request was cancelled by its caller"));
}

}  // namespace
}  // namespace nabla
