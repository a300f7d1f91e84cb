#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

class NablaTest : public StrategyTest {
 protected:
  absl::StatusOr<ReasonResult> Run(const NablaOptions& options, std::optional<int64_t> budget = std::nullopt) {
    const Parts parts = NewRequest();
    return RunNabla(options, budget, *parts.session, parts.scorer.get());
  }

  static NablaOptions Bold() {
    NablaOptions options;
    options.refinement.learning_rate = 0.3;
    return options;
  }
};

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

TEST_F(NablaTest, AtTheTargetItStops) {
  ASSERT_TRUE(Run(Bold()).ok());
  ASSERT_GE(usage_.revisions_accepted, 2) << "else this shows nothing";
  const auto first = std::find_if(sink_.revisions.begin(), sink_.revisions.end(),
                                  [](const RevisionEvent& revision) { return revision.accepted; });
  NablaOptions options = Bold();
  options.target_reward = *first->reward_after;
  const auto result = Run(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(usage_.revisions_accepted, 1);
  EXPECT_TRUE(sink_.revisions.back().accepted) << "nothing is tried behind it";
  EXPECT_EQ(*result->reward, *options.target_reward);
  options.target_reward = -1e6;
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(usage_.gradient_steps, 0);
}

TEST_F(NablaTest, LikelihoodMayWeighOnAcceptance) {
  NablaOptions options = Bold();
  options.selectors = {};
  ASSERT_TRUE(Run(options).ok());
  const int accepted = usage_.revisions_accepted;
  options.acceptance_likelihood_weight = 1e6;  // the reward hardly counts beside it
  const Parts parts = NewRequest();
  ASSERT_TRUE(parts.session->RollOut(options.rollout, Session::Stream::kDraft).ok());
  const double before = parts.session->LogLikelihood().value();
  ASSERT_TRUE(RunNabla(options, std::nullopt, *parts.session, parts.scorer.get()).ok());
  EXPECT_GE(parts.session->LogLikelihood().value(), before - 1e-3);
  EXPECT_NE(usage_.revisions_accepted, accepted);
}

TEST_F(NablaTest, RevisionsTellTheGradientsNorm) {
  ASSERT_TRUE(Run(Bold()).ok());
  ASSERT_FALSE(sink_.revisions.empty());
  for (const RevisionEvent& revision : sink_.revisions) EXPECT_GT(revision.gradient_norm, 0);
}

TEST_F(NablaTest, ARevisionMustGainMoreThanAskedFor) {
  NablaOptions options = Bold();
  ASSERT_TRUE(Run(options).ok());
  std::vector<double> gains;
  for (const RevisionEvent& revision : sink_.revisions) {
    if (revision.accepted) gains.push_back(*revision.reward_after - *revision.reward_before);
  }
  ASSERT_FALSE(gains.empty());
  options.min_reward_gain = gains[0];
  ASSERT_TRUE(Run(options).ok());
  EXPECT_NE(usage_.revisions_rejected, 0);
  for (const RevisionEvent& revision : sink_.revisions) {
    EXPECT_EQ(revision.accepted, *revision.reward_after - *revision.reward_before > gains[0]);
  }
}

TEST_F(NablaTest, ARevisionMustPleaseTheGuards) {
  NablaOptions options = Bold();
  options.selectors = {};
  ASSERT_TRUE(Run(options).ok());
  const int64_t accepted_alone = usage_.revisions_accepted;
  const auto judge = LocalRewardModel::Create(runner_, RewardKind::kLikelihood, VerdictOptions()).value();
  const VocabularyMap map(model_->tokenizer(), 403, *judge);
  ModelWork work;
  const Parts parts = NewRequest();
  ResponseScorer guard(judge.get(), &map, judge->Open({{"user", "How many?"}}, parts.session->max_new_tokens()).value(),
                       &work);
  const auto result = RunNabla(options, std::nullopt, *parts.session, parts.scorer.get(), {&guard});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(usage_.revisions_accepted, accepted_alone);
  EXPECT_GT(work.forward_tokens, 0);
  int asked = 0;
  for (const RevisionEvent& revision : sink_.revisions) {
    const bool raised = *revision.reward_after > *revision.reward_before;
    ASSERT_EQ(revision.guard_gains.size(), raised ? 1u : 0u)
        << "who would be refused anyway is not shown to the guards";
    asked += raised;
    EXPECT_EQ(revision.accepted, raised && revision.guard_gains[0] > 0);
  }
  EXPECT_GT(asked, usage_.revisions_accepted) << "else the guard refused nothing";
  EXPECT_EQ(usage_.model_calls, usage_.decoded_tokens + 4 * usage_.gradient_steps +
                                    2 * (static_cast<int64_t>(sink_.revisions.size()) + asked));
}

TEST_F(NablaTest, ASecondSweepGoesOnWhereTheFirstHasChangedSomething) {
  NablaOptions options = Bold();
  options.selectors = {};
  options.max_rollouts = 100;
  options.refinement.anchor = RefinementOptions::Anchor::kRollout;
  const auto once = Run(options);
  ASSERT_TRUE(once.ok()) << once.status();
  const int refinements = sink_.refinements;
  ASSERT_GT(usage_.revisions_accepted, 0) << "else there is nothing to come back for";
  bool committed = false, returned = false;
  int furthest = 0;
  sink_.on_event = [&](const Event& event) {
    committed |= std::holds_alternative<CommittedEvent>(event);
    if (const auto* draft = std::get_if<DraftEvent>(&event); draft != nullptr && !committed) {
      EXPECT_EQ(draft->position, 0);
    }
    const auto* progress = std::get_if<ProgressEvent>(&event);
    if (progress == nullptr) return;
    if (progress->position < furthest) returned = true;
    EXPECT_TRUE(returned || !committed) << "what may be looked at again is not final";
    furthest = std::max(furthest, progress->position);
  };
  options.max_sweeps = 2;
  const auto twice = Run(options);
  sink_.on_event = nullptr;
  ASSERT_TRUE(twice.ok()) << twice.status();
  EXPECT_TRUE(returned);
  EXPECT_GT(sink_.refinements, refinements);
  EXPECT_LT(sink_.refinements, 2 * refinements) << "positions whose text is as it was are not refined again";
  EXPECT_GE(*twice->reward, *once->reward - 1e-4);
  EXPECT_EQ(twice->token_ids, sink_.ids);
  options.max_rollouts = 2;  // used up in the first sweep
  ASSERT_TRUE(Run(options).ok());
  EXPECT_EQ(usage_.rollouts, 2);
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
