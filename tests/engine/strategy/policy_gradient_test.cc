#include "engine/refine/prefix_policy.h"
#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

class PolicyGradientTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> Run(const PolicyGradientOptions& options, std::optional<int64_t> budget = std::nullopt) {
    const Parts parts = NewRequest(/*seed=*/5);
    const absl::StatusOr<ReasonResult> result = RunPolicyGradient(options, budget, *parts.session, *parts.scorer);
    if (result.ok()) reward_of_answer_ = parts.scorer->Score(result->token_ids).value();
    return result;
  }

  double reward_of_answer_ = 0;
};

TEST_F(PolicyGradientTest, ReinforcedTokensGrowLikelier) {
  const Parts parts = NewRequest();
  ASSERT_TRUE(parts.session->RollOut({.temperature = 0}, Session::Stream::kDraft).ok());
  const std::vector<int32_t> tokens = {17, 42, 99};
  // How often each is drawn, of many.
  const auto shares = [&](double advantage) {
    PrefixPolicy policy(*parts.session, 3, /*learning_rate=*/0.5);
    EXPECT_GT(policy.Reinforce(tokens, advantage).value(), 0);
    std::vector<int> counts(3);
    for (int i = 0; i < 300; ++i) {
      const std::vector<int32_t> drawn = policy.Draw(*parts.session, {.temperature = 1}).value();
      for (size_t row = 0; row < drawn.size(); ++row) counts[row] += drawn[row] == tokens[row] ? 1 : 0;
    }
    return counts;
  };
  const std::vector<int> likelier = shares(1), less_likely = shares(-1);
  for (size_t row = 0; row < 3; ++row) EXPECT_GT(likelier[row], less_likely[row] + 10) << row;
}

TEST_F(PolicyGradientTest, TheBestResponseIsTheAnswerAndTheRewardNeverFalls) {
  const auto result = Run({.fraction = 0.5, .max_rollouts = 12, .learning_rate = 0.1});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_EQ(*result->reward, reward_of_answer_);
  ASSERT_GT(usage_.revisions_accepted, 0) << "else this shows nothing";
  EXPECT_GT(*result->reward, *result->initial_reward);
  ASSERT_EQ(sink_.revisions.size(), result->revisions.size());
  double best = *result->initial_reward;
  for (const RevisionEvent& revision : sink_.revisions) {
    EXPECT_EQ(*revision.reward_before, best);
    EXPECT_EQ(revision.accepted, *revision.reward_after > best);
    best = std::max(best, *revision.reward_after);
    EXPECT_LT(revision.position, 12) << "half of 24 tokens";
  }
  EXPECT_EQ(*result->reward, best);
  EXPECT_EQ(usage_.rollouts, 1 + static_cast<int>(sink_.revisions.size()));
  EXPECT_EQ(usage_.reward_model.backward_passes, 0) << "nothing is asked of the reward but its number";
  EXPECT_EQ(usage_.language_model.backward_passes, 0);
}

TEST_F(PolicyGradientTest, TheSameSeedGivesTheSameAnswer) {
  const PolicyGradientOptions options = {.fraction = 0.5, .learning_rate = 0.1};
  const auto first = Run(options), second = Run(options);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->token_ids, second->token_ids);
}

TEST_F(PolicyGradientTest, OneRolloutIsTheFirst) {
  const auto result = Run({.max_rollouts = 1});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(sink_.revisions.empty());
  EXPECT_EQ(*result->reward, *result->initial_reward);
}

TEST_F(PolicyGradientTest, AtTheTargetItStops) {
  ASSERT_TRUE(Run({.target_reward = -1e6}).ok());
  EXPECT_EQ(usage_.rollouts, 1);
}

TEST_F(PolicyGradientTest, ABudgetEndsIt) {
  const auto result = Run({.fraction = 0.5}, /*budget=*/5);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(usage_.rollouts, 1);
}

TEST_F(PolicyGradientTest, CancellingEndsIt) {
  sink_.on_event = [&](const Event& event) {
    if (std::holds_alternative<ProgressEvent>(event)) stop_.Stop(StopToken::Reason::kCancelled);
  };
  EXPECT_EQ(Run({.fraction = 0.5}).status(), absl::CancelledError("the request was cancelled by its caller"));
}

}  // namespace
}  // namespace nabla
