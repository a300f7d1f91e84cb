#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "engine/reward/local_reward_model.h"
#include "engine/strategy/strategy.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

class CountingSink : public EventSink {
 public:
  void OnEvent(Event event) override {
    if (const auto* committed = std::get_if<CommittedEvent>(&event))
      ids.insert(ids.end(), committed->token_ids.begin(), committed->token_ids.end());
    if (const auto* revision = std::get_if<RevisionEvent>(&event)) revisions.push_back(*revision);
    if (std::holds_alternative<ProgressEvent>(event)) ++refinements;
    if (on_event) on_event(event);
  }
  std::function<void(const Event&)> on_event;
  std::vector<int32_t> ids;
  std::vector<RevisionEvent> revisions;
  int refinements = 0;
};

class NablaTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = Model::Load(LanguageModelFolder(), "float32", "cpu", 0).value();
    runner_ = NewRunner(model_);
    reward_ = LocalRewardModel::Create(NewRunner(Model::Load(ClassifierFolder(), "float32", "cpu", 0).value()),
                                       RewardKind::kClassifier, VerdictOptions())
                  .value();
  }
  static void TearDownTestSuite() { model_.reset(), runner_.reset(), reward_.reset(); }

  absl::StatusOr<ReasonResult> Run(const NablaOptions& options, std::optional<int64_t> budget = std::nullopt) {
    constexpr int kTokens = 24;
    usage_ = Usage();
    sink_.ids.clear(), sink_.revisions.clear(), sink_.refinements = 0;
    const VocabularyMap map(model_->tokenizer(), 403, *reward_);
    ResponseScorer scorer(reward_.get(), &map, reward_->Open({{"user", "How many?"}}, kTokens).value(), &usage_);
    const auto session =
        Session::Create(runner_.get(), {.prompt_ids = {1, 87, 85, 285, 2, 201, 1}, .max_new_tokens = kTokens}, &stop_,
                        &sink_, &usage_)
            .value();
    return RunNabla(options, budget, *session, &scorer);
  }

  static NablaOptions Bold() {
    NablaOptions options;
    options.refinement.learning_rate = 0.3;
    return options;
  }

  static std::shared_ptr<const Model> model_;
  static std::shared_ptr<ModelRunner> runner_;
  static std::unique_ptr<LocalRewardModel> reward_;
  StopToken stop_;
  CountingSink sink_;
  Usage usage_;
};
std::shared_ptr<const Model> NablaTest::model_;
std::shared_ptr<ModelRunner> NablaTest::runner_;
std::unique_ptr<LocalRewardModel> NablaTest::reward_;

TEST_F(NablaTest, TheRewardNeverFallsAndCommittedTokensAreTheAnswer) {
  const auto result = Run(Bold());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(*result->reward, *result->initial_reward - 1e-4);
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_EQ(usage_.rollouts, 8);
  EXPECT_EQ(usage_.revisions_accepted + usage_.revisions_rejected, static_cast<int>(sink_.revisions.size()));
}

TEST_F(NablaTest, ModelCallsAddUp) {
  ASSERT_TRUE(Run(Bold()).ok());
  EXPECT_EQ(usage_.model_calls,
            usage_.decoded_tokens + 4 * usage_.gradient_steps + 2 * static_cast<int64_t>(sink_.revisions.size()));
  EXPECT_LT(usage_.gradient_steps_computed, usage_.gradient_steps)
      << "gradients of one rollout serve all its positions";
  EXPECT_GT(usage_.language_model.backward_passes, 0);
  EXPECT_EQ(usage_.reward_model.backward_passes, usage_.gradient_steps_computed);
}

TEST_F(NablaTest, ScreeningRollsOutOnlyWhatRaisesTheRewardInPlace) {
  NablaOptions options;
  options.selectors = {};
  options.screening_candidates = 4;
  const auto result = Run(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(sink_.revisions.empty());
  EXPECT_GE(*result->reward, *result->initial_reward - 1e-4);
  EXPECT_EQ(result->token_ids, sink_.ids);
  const int accepted = usage_.revisions_accepted;
  EXPECT_LE(usage_.gradient_steps_computed, 1 + accepted) << "one gradient serves all positions of a rollout";
  EXPECT_EQ(usage_.gradient_steps, usage_.gradient_steps_computed);
  const int64_t scores = usage_.model_calls - usage_.decoded_tokens - 4 * usage_.gradient_steps -
                         2 * static_cast<int64_t>(sink_.revisions.size());
  EXPECT_GT(scores, 0);
  EXPECT_LE(scores, 4 * sink_.refinements);
}

TEST_F(NablaTest, WithoutRejectionEveryRevisionIsAccepted) {
  NablaOptions options = Bold();
  options.rejection_sampling = false;
  ASSERT_TRUE(Run(options).ok());
  ASSERT_FALSE(sink_.revisions.empty());
  for (const RevisionEvent& revision : sink_.revisions) {
    EXPECT_TRUE(revision.accepted);
    EXPECT_FALSE(revision.reward_before.has_value());
  }
}

TEST_F(NablaTest, OneRolloutCommitsItAsItIs) {
  NablaOptions options = Bold();
  options.max_rollouts = 1;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(usage_.rollouts, 1);
  EXPECT_TRUE(sink_.revisions.empty());
}

TEST_F(NablaTest, AModelCallBudgetEndsTheSearch) {
  const auto result = Run(Bold(), 60);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->finish_reason, FinishReason::kModelCallBudget);
  EXPECT_EQ(result->token_ids, sink_.ids);
  EXPECT_LT(usage_.rollouts, 8);
}

TEST_F(NablaTest, ZeroIterationsChangeNothing) {
  NablaOptions options;
  options.refinement.iterations = 0;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_TRUE(sink_.revisions.empty());
  EXPECT_EQ(usage_.gradient_steps_computed, 0);
}

TEST_F(NablaTest, NoSelectorMeansEveryPosition) {
  NablaOptions options;
  options.selectors.max_confidence.reset();
  options.refinement.iterations = 1;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(sink_.refinements, static_cast<int>(sink_.ids.size()));
}

TEST_F(NablaTest, AnEntropyNothingReachesSelectsNothing) {
  NablaOptions options;
  options.selectors.min_entropy = 100;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(sink_.refinements, 0);
}

TEST_F(NablaTest, GradientSelectorSharesItsPassWithTheRefinement) {
  NablaOptions options;
  options.selectors = {.max_confidence = std::nullopt, .min_gradient_norm = 0.0};
  options.refinement.iterations = 1;
  options.refinement.learning_rate = 1e-9;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(sink_.refinements, static_cast<int>(sink_.ids.size()));
  EXPECT_EQ(usage_.gradient_steps, sink_.refinements);
  EXPECT_EQ(usage_.gradient_steps_computed, 1);
}

TEST_F(NablaTest, CancellingDuringRefinementEndsIt) {
  sink_.on_event = [&](const Event& event) {
    if (std::holds_alternative<ProgressEvent>(event)) stop_.Stop(StopToken::Reason::kCancelled);
  };
  EXPECT_EQ(Run(Bold()).status(), absl::CancelledError("the request was cancelled by its caller"));
  EXPECT_EQ(sink_.refinements, 1);
}

TEST_F(NablaTest, WithoutARewardModelItSaysSo) {
  const auto session =
      Session::Create(runner_.get(), {.prompt_ids = {1, 2}, .max_new_tokens = 2}, &stop_, &sink_, &usage_).value();
  EXPECT_EQ(RunStrategy({.strategy = NablaOptions{}}, *session, nullptr).status(),
            absl::FailedPreconditionError("strategy nabla needs a reward model"));
}

}  // namespace
}  // namespace nabla
