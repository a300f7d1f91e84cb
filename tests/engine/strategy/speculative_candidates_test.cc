#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

constexpr char kSeparator[] = "e";  // what the tiny model meets within a few tokens
constexpr double kNever = 1e9;      // a drop that no reward makes

// The draft model is the language model, where no other is given: what it drafts is what that would write.
class SpeculativeCandidatesTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> Run(const SpeculativeCandidatesOptions& options,
                                   std::optional<int64_t> budget = std::nullopt, ModelRunner* drafter = nullptr) {
    const Parts parts = NewRequest(/*seed=*/5);
    const auto draft = Session::Create(drafter != nullptr ? drafter : runner_.get(),
                                       {.prompt_ids = {1, 87, 85, 285, 2, 201, 1},
                                        .max_new_tokens = 24,
                                        .seed = 5,
                                        .keep_hidden = false,
                                        .is_draft = true},
                                       &stop_, /*sink=*/nullptr, &usage_)
                           .value();
    return RunSpeculativeCandidates(options, budget, *parts.session, *draft, *parts.scorer);
  }

  std::vector<int32_t> Greedy() {
    const Parts parts = NewRequest();
    return RunGreedy(*parts.session)->token_ids;
  }
};

TEST_F(SpeculativeCandidatesTest, GreedyDraftsOfTheSameModelAreItsAnswer) {
  const std::vector<int32_t> greedy = Greedy();
  const auto result =
      Run({.candidates = 1, .max_reward_drop = kNever, .separator = kSeparator, .sampling = {.temperature = 0}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_ids, greedy);
  EXPECT_EQ(sink_.ids, greedy);
  EXPECT_GT(usage_.rollouts, 1) << "else there was one step and this shows little";
  EXPECT_EQ(usage_.language_model.forward_tokens, 0) << "it was not asked";
  EXPECT_GT(usage_.draft_model.forward_tokens, 0);
}

TEST_F(SpeculativeCandidatesTest, EachModelWritesItsOwnSteps) {
  const auto other = NewRunner(Model::Load(JudgeFolder(), "float32", TestDevice(), 0).value());
  const std::vector<int32_t> greedy = Greedy();
  const auto session = Session::Create(other.get(), {.prompt_ids = {1, 87, 85, 285, 2, 201, 1}, .max_new_tokens = 24},
                                       &stop_, &sink_, &usage_)
                           .value();
  const std::vector<int32_t> others_greedy = RunGreedy(*session)->token_ids;
  ASSERT_NE(others_greedy, greedy) << "else one could not tell which model wrote";
  SpeculativeCandidatesOptions options = {
      .candidates = 1, .max_reward_drop = kNever, .separator = kSeparator, .sampling = {.temperature = 0}};
  EXPECT_EQ(Run(options, std::nullopt, other.get())->token_ids, others_greedy);
  options.max_reward_drop = -kNever;
  EXPECT_EQ(Run(options, std::nullopt, other.get())->token_ids, greedy);
}

TEST_F(SpeculativeCandidatesTest, WhereNoDraftIsGoodEnoughTheLanguageModelWrites) {
  const std::vector<int32_t> greedy = Greedy();
  const auto result =
      Run({.candidates = 1, .max_reward_drop = -kNever, .separator = kSeparator, .sampling = {.temperature = 0}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_ids, greedy);
  EXPECT_EQ(usage_.rollouts % 2, 0) << "a draft and a written one of each step";
  EXPECT_GE(usage_.language_model.forward_tokens, static_cast<int64_t>(greedy.size()));
}

TEST_F(SpeculativeCandidatesTest, StepsOfBothModelsMakeOneText) {
  const std::vector<int32_t> greedy = Greedy();
  const auto result =
      Run({.candidates = 1, .max_reward_drop = 0, .separator = kSeparator, .sampling = {.temperature = 0}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->token_ids, greedy);
  EXPECT_GT(usage_.language_model.forward_tokens, 0) << "else no step was written";
  EXPECT_NE(usage_.rollouts % 2, 0) << "else no step was drafted alone";
}

TEST_F(SpeculativeCandidatesTest, TheBestDraftIsKept) {
  const auto result =
      Run({.candidates = 4, .max_reward_drop = kNever, .separator = "never written", .sampling = {.temperature = 1}});
  ASSERT_TRUE(result.ok()) << result.status();
  double best = -1e9;
  std::vector<int32_t> best_ids;
  for (uint64_t i = 1; i <= 4; ++i) {
    const Parts parts = NewRequest(5 + i * 0x9e3779b97f4a7c15);
    const std::vector<int32_t> ids = RunSample({.sampling = {.temperature = 1}}, *parts.session)->token_ids;
    const double reward = parts.scorer->Score(ids).value();
    if (reward > best) best = reward, best_ids = ids;
  }
  EXPECT_EQ(result->token_ids, best_ids);
  EXPECT_EQ(*result->reward, best);
}

TEST_F(SpeculativeCandidatesTest, ABudgetEndsItWithWhatThereIs) {
  const auto result = Run({.separator = kSeparator}, /*budget=*/20);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(usage_.decoded_tokens, 20 + 4);
  EXPECT_EQ(result->token_ids, sink_.ids);
}

TEST_F(SpeculativeCandidatesTest, ItNeedsADraftModel) {
  const Parts parts = NewRequest();
  EXPECT_EQ(RunStrategy({.strategy = SpeculativeCandidatesOptions{}}, *parts.session, parts.scorer.get()).status(),
            absl::FailedPreconditionError("strategy speculative_candidates needs a draft model"));
}

}  // namespace
}  // namespace nabla
