#include "engine/refine/refinement.h"

#include <cmath>
#include <numbers>
#include <thread>
#include <vector>

#include "engine/model/likelihood.h"
#include "engine/refine/optimizer.h"
#include "engine/refine/refiner.h"
#include "tests/engine/strategy/strategy_fixture.h"

namespace nabla {
namespace {

constexpr SamplingOptions kGreedy = {.temperature = 0};
constexpr SamplingOptions kSampling = {.temperature = 1};

TEST(OptimizerTest, SignAndMirrorDescentTakeWhatTheyAreNamedFor) {
  const RefinementOptions sign = {
      .optimizer = RefinementOptions::Optimizer::kSign, .iterations = 2, .learning_rate = 0.5};
  torch::Tensor parameter = torch::tensor({1.0f, 1.0f, 1.0f});
  Optimizer(sign).Step(parameter, torch::tensor({3.0f, 0.0f, -0.25f}));
  EXPECT_TRUE(torch::equal(parameter, torch::tensor({0.5f, 1.0f, 1.5f})));
  RefinementOptions mirror = sign;
  mirror.optimizer = RefinementOptions::Optimizer::kMirrorDescent;
  Optimizer optimizer(mirror);
  optimizer.Step(parameter, torch::tensor({1.0f, 0.0f, -1.0f}));
  EXPECT_TRUE(torch::equal(parameter, torch::tensor({0.0f, 1.0f, 2.0f})));
  optimizer.Step(parameter, torch::tensor({1.0f, 0.0f, -1.0f}));  // half-way through the cosine
  EXPECT_TRUE(torch::allclose(parameter, torch::tensor({-0.25f, 1.0f, 2.25f})));
}

// Against Adam's formulas, in double precision.
TEST(OptimizerTest, AdamTakesTheSizeOutOfGradients) {
  const RefinementOptions adam = {.iterations = 4, .learning_rate = 0.5, .min_learning_rate_ratio = 0};
  const std::vector<std::vector<float>> gradients = {{3, -0.01f, 0, 1, 2, -1, 0.5f, 8, 1e-3f, -4, 1, 1, 1, 1, 1, 1, -6},
                                                     {-1, 0.02f, 0, 1, 0, 1, 0.5f, 8, 1e-3f, 4, 2, 2, 2, 2, 2, 2, 3},
                                                     {2, 5, 1, 1, -2, 0, 0.1f, -8, 1e-3f, 1, 0, 0, 0, 0, 0, 0, 1}};
  const size_t count = gradients.front().size();
  std::vector<double> expected(count, 1.0), mean(count), variance(count);
  torch::Tensor parameter = torch::ones({1, static_cast<int64_t>(count)});
  Optimizer optimizer(adam);
  for (size_t step = 1; step <= gradients.size(); ++step) {
    const std::vector<float>& gradient = gradients[step - 1];
    optimizer.Step(parameter, torch::tensor(gradient).unsqueeze(0));
    const double rate = 0.25 * (1 + std::cos(std::numbers::pi * static_cast<double>(step - 1) / 4));
    for (size_t i = 0; i < count; ++i) {
      mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
      variance[i] = 0.999 * variance[i] + 0.001 * gradient[i] * gradient[i];
      const double power = static_cast<double>(step);
      expected[i] -=
          rate * mean[i] / (1 - std::pow(0.9, power)) / (std::sqrt(variance[i] / (1 - std::pow(0.999, power))) + 1e-8);
      EXPECT_NEAR(parameter[0][static_cast<int64_t>(i)].item<float>(), expected[i], 1e-5)
          << "step " << step << ", " << i;
    }
  }
}

// Says that it computes in another process, and on which thread it was asked.
class RemoteModel : public RewardModel {
 public:
  explicit RemoteModel(const RewardModel& model) : model_(model) {}

  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages, int max_response_tokens,
                                                      const StopToken* stop, absl::string_view trace) const override {
    auto context = std::make_unique<Context>();
    context->context = model_.Open(messages, max_response_tokens, stop, trace).value();
    context->asked_on = &asked_on_;
    return context;
  }
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float> gradient, int rows) const override {
    return model_.ProjectToVocabulary(gradient, rows);
  }
  std::vector<std::string> TokenStrings() const override { return model_.TokenStrings(); }
  int vocabulary_size() const override { return model_.vocabulary_size(); }
  int32_t pad_token_id() const override { return model_.pad_token_id(); }
  RewardKind kind() const override { return model_.kind(); }
  bool remote() const override { return true; }
  const std::string& name() const override { return model_.name(); }
  ModelInfo info() const override { return model_.info(); }
  std::thread::id asked_on() const { return asked_on_; }

 private:
  struct Context : RewardContext {
    absl::StatusOr<double> Score(absl::Span<const int32_t> response) override { return context->Score(response); }
    absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const absl::Span<const int32_t>> responses) override {
      return context->ScoreAll(responses);
    }
    absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first, bool scored) override {
      *asked_on = std::this_thread::get_id();
      return context->ScoreGradient(response, first, scored);
    }
    const ModelWork& work() const override { return context->work(); }

    std::unique_ptr<RewardContext> context;
    std::thread::id* asked_on = nullptr;
  };

  const RewardModel& model_;
  mutable std::thread::id asked_on_;
};

class RefinementTest : public StrategyTest {
 protected:
  // A request whose rollout is done.
  Parts RolledOut(const SamplingOptions& sampling) {
    Parts parts = NewRequest(/*seed=*/3);
    EXPECT_TRUE(parts.session->RollOut(sampling, Session::Stream::kDraft).ok());
    return parts;
  }

  RefinementResult Refine(const Parts& parts, const RefinementOptions& options) {
    field_ = nullptr;
    return RefineAhead(parts.session->state(), *parts.scorer, options, field_).value();
  }

  static torch::Tensor FirstLogits(const Parts& parts) {
    const torch::NoGradGuard no_gradient;
    return model_->Head(parts.session->state().hidden.narrow(0, 0, 1));
  }

  // KL(refined ‖ model) of the first row.
  static double Divergence(const torch::Tensor& refined, const torch::Tensor& before) {
    const torch::Tensor now = torch::log_softmax(refined.to(torch::kFloat64), -1);
    return (now.exp() * (now - torch::log_softmax(before.to(torch::kFloat64), -1))).sum().item<double>();
  }

  std::shared_ptr<const GradientField> field_;  // where the last refinement began
};

TEST_F(RefinementTest, MirrorDescentMovesLogitsAgainstTheGradientAtTheOneHots) {
  const Parts parts = RolledOut(kGreedy);
  const torch::Tensor before = FirstLogits(parts);
  const RefinementResult result = Refine(
      parts, {.optimizer = RefinementOptions::Optimizer::kMirrorDescent, .iterations = 1, .learning_rate = 0.75});
  const torch::Tensor gradient = field_->Rows(0, 1).value();
  EXPECT_TRUE(torch::allclose(result.logits, before - 0.75 * gradient, 1e-6, 1e-6));
  EXPECT_NEAR(result.gradient_norm, gradient.norm().item<double>(), 1e-5);
  EXPECT_GT(result.gradient_norm, 0);
}

TEST_F(RefinementTest, ARemoteRewardModelComputesMeanwhile) {
  const Parts parts = RolledOut(kGreedy);
  const SessionState& state = parts.session->state();
  const GradientField near = GradientField::Compute(state, *parts.scorer, {}, state.response, 0).value();
  const RemoteModel remote(*reward_);
  ModelWork work;
  ResponseScorer scorer(&remote, map_.get(), remote.Open({{"user", "How many?"}}, 24, &stop_, "").value(), &work);
  const GradientField far = GradientField::Compute(state, scorer, {}, state.response, 0).value();
  EXPECT_EQ(far.Norms().value(), near.Norms().value());
  EXPECT_EQ(work.backward_passes, 1);
  EXPECT_NE(remote.asked_on(), std::thread::id());
  EXPECT_NE(remote.asked_on(), std::this_thread::get_id());
  // Alone, where there is nothing else to compute.
  ASSERT_TRUE(GradientField::Compute(state, scorer, {.likelihood_weight = 0}, state.response, 0).ok());
  EXPECT_EQ(remote.asked_on(), std::this_thread::get_id());
}

// What the published code computes afresh in every step without caching, and whenever an argmax flips back.
TEST_F(RefinementTest, TokensThatAreTriedAgainNeedNoNewGradient) {
  const Parts parts = RolledOut(kGreedy);
  int before = usage_.gradient_steps_computed;
  EXPECT_EQ(Refine(parts, {.iterations = 5, .learning_rate = 1e-6, .gradient_caching = false}).gradient_steps, 5);
  EXPECT_EQ(usage_.gradient_steps_computed - before, 1);
  // With caching, every step but the first is one behind an argmax that has changed.
  before = usage_.gradient_steps_computed;
  const int steps = Refine(parts, {.iterations = 40, .learning_rate = 1}).gradient_steps;
  EXPECT_GT(steps, 3);
  EXPECT_LT(usage_.gradient_steps_computed - before, steps) << "or no argmax has flipped back";
}

TEST_F(RefinementTest, ATrustRegionBoundsHowFarLogitsGo) {
  const Parts parts = RolledOut(kGreedy);
  const torch::Tensor before = FirstLogits(parts);
  RefinementOptions options = {.learning_rate = 0.5};
  const torch::Tensor free = Refine(parts, options).logits;
  const double distance = Divergence(free, before);
  ASSERT_GT(distance, 0.1) << "else there is nothing to bound";
  options.max_kl = distance / 4;
  EXPECT_NEAR(Divergence(Refine(parts, options).logits, before), distance / 4, distance * 1e-3);
  options.max_kl = distance * 2;
  EXPECT_TRUE(torch::equal(Refine(parts, options).logits, free)) << "within the bound nothing changes";
}

TEST_F(RefinementTest, ScreeningLeavesOutWhatIsBeyondTheTrustRegion) {
  const Parts parts = RolledOut(kGreedy);
  const torch::Tensor log_probabilities = torch::log_softmax(FirstLogits(parts)[0], -1);
  const auto screen = [&](std::optional<double> max_kl) {
    return Refiner(parts.session.get(), parts.scorer.get(), {.max_kl = max_kl}, {}).Screen(400).value().candidates;
  };
  const std::vector<int32_t> all = screen(std::nullopt);
  const double bound = -std::get<0>(torch::kthvalue(log_probabilities, 380)).item<double>();  // about twenty are nearer
  const std::vector<int32_t> near = screen(bound);
  EXPECT_LT(near.size(), all.size());
  for (const int32_t token : near) EXPECT_LE(-log_probabilities[token].item<double>(), bound + 1e-5);
}

TEST_F(RefinementTest, MirrorDescentScreensByRefinedLogits) {
  const Parts parts = RolledOut(kGreedy);
  RefinementOptions options = {
      .optimizer = RefinementOptions::Optimizer::kMirrorDescent, .iterations = 1, .learning_rate = 30};
  const torch::Tensor refined = Refine(parts, options).logits[0];
  const std::vector<int32_t> candidates =
      Refiner(parts.session.get(), parts.scorer.get(), options, {}).Screen(5).value().candidates;
  ASSERT_FALSE(candidates.empty());
  const auto logit = [&](int32_t token) { return refined[token].item<float>(); };
  for (size_t i = 0; i < candidates.size(); ++i) {
    EXPECT_GT(logit(candidates[i]), logit(parts.session->response()[0]));
    EXPECT_LE(logit(candidates[i]), logit(candidates[i > 0 ? i - 1 : 0]) + 1e-4);
  }
}

TEST_F(RefinementTest, TheAnchorSaysWhereTheGradientIsTaken) {
  const Parts parts = RolledOut(kSampling);
  const std::vector<int32_t> response(parts.session->response().begin(), parts.session->response().end());
  Refine(parts, {.anchor = RefinementOptions::Anchor::kArgmax, .iterations = 1});
  const std::vector<int32_t> likeliest = field_->response();
  ASSERT_NE(likeliest, response) << "else sampling has drawn the likeliest token everywhere";
  for (size_t i = 0; i < likeliest.size(); ++i) {
    EXPECT_EQ(likeliest[i], parts.session->stats(static_cast<int>(i)).argmax);
  }
  Refine(parts, {.anchor = RefinementOptions::Anchor::kRollout, .iterations = 1});
  EXPECT_EQ(field_->response(), response);
  const int64_t passes = usage_.reward_model.forward_passes;
  ASSERT_TRUE(parts.scorer->Score(response).ok());
  EXPECT_EQ(usage_.reward_model.forward_passes, passes) << "the gradient saw the rollout's own reward";
}

TEST_F(RefinementTest, WithGreedyRolloutsTheAnchorsAreOne) {
  const Parts parts = RolledOut(kGreedy);
  const torch::Tensor argmax = Refine(parts, {.anchor = RefinementOptions::Anchor::kArgmax}).logits;
  EXPECT_TRUE(torch::equal(Refine(parts, {.anchor = RefinementOptions::Anchor::kRollout}).logits, argmax));
}

// Σ log-probabilities of the response's tokens, from one pass over the whole text.
TEST_F(RefinementTest, TheSessionKnowsTheLikelihoodOfItsResponseAlsoBehindAProposal) {
  const Parts parts = RolledOut(kSampling);
  Session& session = *parts.session;
  const auto log_likelihood = [&] {
    const torch::NoGradGuard no_gradient;
    std::vector<int32_t> ids = session.state().options.prompt_ids;
    const size_t prompt = ids.size();
    ids.insert(ids.end(), session.response().begin(), session.response().end());
    const KvCache empty(runner_->kv_pool());
    const torch::Tensor hidden =
        model_->body().Forward(model_->body().Embed(absl::MakeConstSpan(ids).first(ids.size() - 1)), empty, 0).hidden;
    const TokenLikelihood likelihood = ComputeTokenLikelihood(
        *model_, hidden.narrow(0, prompt - 1, session.response().size()), session.response(), false);
    double sum = 0;
    for (const double log_prob : likelihood.log_probs) sum += log_prob;
    return sum;
  };
  const double before = log_likelihood();
  EXPECT_NEAR(session.LogLikelihood().value(), before, 1e-3);
  session.Commit(2);
  const int32_t other = session.response()[2] == 50 ? 51 : 50;
  ASSERT_TRUE(session.Propose(other, kSampling).ok());
  EXPECT_NEAR(session.LogLikelihoodBeforeProposal().value(), before, 1e-3);
  EXPECT_NEAR(session.LogLikelihood().value(), log_likelihood(), 1e-3);
  session.Reject();
  EXPECT_NEAR(session.LogLikelihood().value(), before, 1e-3);
}

// What a rollout leaves to its gradient, in float32 and bfloat16, with head norms (Qwen3) and without.
class RecordedRolloutTest : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  struct Gradient {
    torch::Tensor rows;
    int64_t forward_tokens = 0;  // run for it
  };

  // G of all ahead tokens behind a proposal that `accepts` or not, the second token committed, with so many bytes for
  // recorded rows; null: nothing is recorded.
  Gradient Run(std::shared_ptr<MemoryBudget> budget, bool accepts) {
    const torch::NoGradGuard no_gradient;
    const auto [folder, dtype] = GetParam();
    const auto model = Model::Load(folder, dtype, "cpu", 0).value();
    ModelRunner runner(model, NewKvPool(*model, 4096), &TestBatcher(), /*draft=*/nullptr, budget);
    const auto reward =
        LocalRewardModel::Create(NewRunner(Model::Load(ClassifierFolder(), "float32", "cpu", 0).value()),
                                 RewardKind::kClassifier, VerdictOptions())
            .value();
    const VocabularyMap map(model->tokenizer(), static_cast<int>(model->vocabulary_size()), *reward);
    const StopToken stop;
    CountingSink sink;
    Usage usage;
    ResponseScorer scorer(reward.get(), &map, reward->Open({{"user", "How many?"}}, 40).value(), &usage.reward_model);
    const auto session =
        Session::Create(&runner,
                        {.prompt_ids = {1, 87, 85, 285, 2, 201, 1}, .max_new_tokens = 40, .keep_activations = true},
                        &stop, &sink, &usage)
            .value();
    EXPECT_TRUE(session->RollOut(kSampling, Session::Stream::kDraft).ok());
    session->Commit(1);
    EXPECT_TRUE(session->Propose(session->response()[1] == 50 ? 51 : 50, kSampling).ok());
    accepts ? session->Accept() : session->Reject();
    session->Commit(1);
    EXPECT_GT(session->ahead(), 4);
    const int64_t before = usage.language_model.forward_tokens;
    const auto field = GradientField::Compute(session->state(), scorer, {.likelihood_weight = 1, .reward_weight = 0},
                                              session->response(), session->committed())
                           .value();
    return {.rows = field.Rows(0, field.rows()).value(),
            .forward_tokens = usage.language_model.forward_tokens - before};
  }
};

TEST_P(RecordedRolloutTest, ItsGradientRunsNoTokenAgainAndHasTheSameBitsWhereThereWasNoRoom) {
  const auto budget = std::make_shared<MemoryBudget>(int64_t{1} << 30);
  const Gradient recorded = Run(budget, /*accepts=*/true);
  EXPECT_EQ(recorded.forward_tokens, 0);
  EXPECT_EQ(budget->left(), int64_t{1} << 30) << "the session gives back what it took";
  const Gradient again = Run(std::make_shared<MemoryBudget>(0), /*accepts=*/true);
  EXPECT_GT(again.forward_tokens, 0);
  EXPECT_TRUE(torch::equal(recorded.rows, again.rows));
}

TEST_P(RecordedRolloutTest, ItsGradientIsThatOfAPassOfItsOwnToRounding) {
  const double tolerance = std::string(GetParam().second) == "float32" ? 1e-4 : 0.05;
  for (const bool accepts : {false, true}) {
    const torch::Tensor recorded = Run(std::make_shared<MemoryBudget>(int64_t{1} << 30), accepts).rows;
    const torch::Tensor separate = Run(nullptr, accepts).rows;
    EXPECT_LE((recorded - separate).norm().item<double>(), tolerance * separate.norm().item<double>());
  }
}

// The rows behind a rejected proposal were overwritten by it.
TEST_P(RecordedRolloutTest, ARejectedProposalDoesNotPassForTheRollout) {
  const Gradient recorded = Run(std::make_shared<MemoryBudget>(int64_t{1} << 30), /*accepts=*/false);
  const Gradient again = Run(std::make_shared<MemoryBudget>(0), /*accepts=*/false);
  EXPECT_GT(recorded.forward_tokens, 0);
  EXPECT_TRUE(torch::equal(recorded.rows, again.rows));
}

INSTANTIATE_TEST_SUITE_P(Models, RecordedRolloutTest,
                         testing::Values(std::pair("tests/golden/qwen3/lm", "float32"),
                                         std::pair("tests/golden/qwen3/lm", "bfloat16"),
                                         std::pair("tests/golden/llama3-rope/lm", "float32"),
                                         std::pair("tests/golden/llama3-rope/lm", "bfloat16")));

}  // namespace
}  // namespace nabla
