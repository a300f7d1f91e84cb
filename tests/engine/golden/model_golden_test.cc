// Every model folder of the golden directory against what HF transformers and the authors' code computed: logits,
// rewards, gradients, refined logits, whole traces. Tolerances are those of the golden README.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "engine/decode/session.h"
#include "engine/decode/session_state.h"
#include "engine/model/model.h"
#include "engine/refine/gradient_field.h"
#include "engine/refine/refinement.h"
#include "engine/reward/local_reward_model.h"
#include "engine/reward/response_scorer.h"
#include "engine/strategy/strategy.h"
#include "engine/text/chat_template.h"
#include "tests/engine/golden_dir.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr double kTolerance = 2e-4;
constexpr double kRefinedTolerance = 1e-3;

std::vector<std::string> ModelFolders() {
  std::vector<std::string> folders;
  if (GoldenDir().empty()) return folders;
  for (const auto& entry : fs::directory_iterator(GoldenDir())) {
    if (fs::exists(entry.path() / "golden.json")) folders.push_back(entry.path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

class DiscardingSink : public EventSink {
 public:
  void OnEvent(Event) override {}
};

// Keeps the acceptance tests of a run.
class RevisionSink : public EventSink {
 public:
  void OnEvent(Event event) override {
    if (const auto* revision = std::get_if<RevisionEvent>(&event)) revisions.push_back(*revision);
  }
  std::vector<RevisionEvent> revisions;
};

// Absolute, or relative to the larger of 1 and the value.
double Error(double expected, double actual) { return std::abs(expected - actual) / std::max(1.0, std::abs(expected)); }

void ExpectNear(const Json& expected, const torch::Tensor& actual, double tolerance, const std::string& what) {
  const torch::Tensor values = actual.to(torch::kCPU, torch::kFloat64).contiguous().view({-1});
  ASSERT_EQ(static_cast<int64_t>(expected.size()), values.numel()) << what;
  double worst = 0;
  int64_t where = 0;
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double error = Error(expected[i].get<double>(), values[i].item<double>());
    if (!(error <= worst)) worst = error, where = i;
  }
  EXPECT_LE(worst, tolerance) << what << ": worst at " << where << ", expected " << expected[where] << ", got "
                              << values[where].item<double>();
}

// One golden folder, loaded on the test device. What is decoded and scored is `recorded` for gradients, as a
// server does by default, or they run passes of their own.
class Case {
 public:
  explicit Case(const std::string& folder, const std::string& dtype = "float32") {
    std::ifstream(folder + "/golden.json") >> golden;
    model = Load(folder + "/lm", dtype);
    runner = NewRunner(model, kKvTokens, NewBudget());
    classifier = Reward(Load(folder + "/rm", dtype), RewardKind::kClassifier);
    judge = Reward(Load(folder + "/judge", dtype), RewardKind::kLikelihood);
  }

  // The prompt run through the model, the greedy continuation rolled out.
  std::unique_ptr<Session> Greedy(int tokens, EventSink* sink) {
    auto session = Session::Create(runner.get(),
                                   {.prompt_ids = golden["prompt_ids"].get<std::vector<int32_t>>(),
                                    .max_new_tokens = tokens,
                                    .keep_activations = recorded},
                                   &stop, sink, &usage);
    EXPECT_TRUE(session.ok()) << session.status();
    return *std::move(session);
  }

  ResponseScorer Scorer(const LocalRewardModel& reward, int tokens) {
    maps.push_back(
        std::make_unique<VocabularyMap>(model->tokenizer(), static_cast<int>(model->vocabulary_size()), reward));
    auto context = reward.Open({{"user", golden["prompt"].get<std::string>()}}, tokens);
    EXPECT_TRUE(context.ok()) << context.status();
    ResponseScorer scorer(&reward, maps.back().get(), *std::move(context), &usage.reward_model);
    if (recorded) {
      EXPECT_TRUE(scorer.ExpectGradients().ok());
    }
    return scorer;
  }

  bool recorded = false;
  Json golden;
  std::shared_ptr<const Model> model;
  std::shared_ptr<ModelRunner> runner;
  std::unique_ptr<LocalRewardModel> classifier, judge;
  StopToken stop;
  DiscardingSink discard;
  Usage usage;

 private:
  static constexpr int64_t kKvTokens = 16384;

  static std::shared_ptr<MemoryBudget> NewBudget() { return std::make_shared<MemoryBudget>(int64_t{1} << 30); }
  static std::shared_ptr<const Model> Load(const std::string& folder, const std::string& dtype) {
    auto loaded = Model::Load(folder, dtype, TestDevice(), 0);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }
  static std::unique_ptr<LocalRewardModel> Reward(std::shared_ptr<const Model> loaded, RewardKind kind) {
    auto reward =
        LocalRewardModel::Create(NewRunner(std::move(loaded), kKvTokens, NewBudget()), kind, VerdictOptions());
    EXPECT_TRUE(reward.ok()) << reward.status();
    return *std::move(reward);
  }

  std::vector<std::unique_ptr<VocabularyMap>> maps;
};

RefinementOptions RefinementOf(const Json& settings) {
  RefinementOptions options;
  options.parameter = settings.value("parameter", "LOGITS") == "HIDDEN" ? RefinementOptions::Parameter::kHidden
                                                                        : RefinementOptions::Parameter::kLogits;
  options.iterations = settings["iterations"];
  options.learning_rate = settings["learning_rate"];
  options.min_learning_rate_ratio = settings["min_lr_ratio"];
  options.reward_weight = settings["reward_coeff"];
  options.likelihood_weight = settings["nll_coeff"];
  options.gradient_caching = settings["grad_caching"];
  options.update_postfix = settings.value("update_postfix", false);
  return options;
}

std::optional<double> Threshold(const Json& value) {
  return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
}

class ModelGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(ModelGoldenTest, PromptIdsLogitsAndGreedyContinuation) {
  Case c(GetParam());
  const auto text = c.model->chat_template()->Render({{"user", c.golden["prompt"].get<std::string>()}}, true);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, c.golden["prompt_text"].get<std::string>());
  EXPECT_EQ(c.model->tokenizer().Encode(*text), c.golden["prompt_ids"].get<std::vector<int32_t>>());
  const auto session = c.Greedy(24, &c.discard);
  ASSERT_TRUE(session->RollOut({.temperature = 0}, Session::Stream::kCommit).ok());
  ExpectNear(c.golden["prompt_last_logits"], c.model->Head(session->state().hidden[0]), kTolerance,
             "logits at the prompt's last position");
  EXPECT_EQ(std::vector<int32_t>(session->response().begin(), session->response().end()),
            c.golden["greedy_24"].get<std::vector<int32_t>>());
}

TEST_P(ModelGoldenTest, RewardsOfClassifierAndJudge) {
  Case c(GetParam());
  const auto response = c.golden["greedy_24"].get<std::vector<int32_t>>();
  const auto score = [&](const LocalRewardModel& reward) { return c.Scorer(reward, 24).Score(response).value(); };
  EXPECT_LE(Error(c.golden["reward_of_greedy_24"], score(*c.classifier)), kTolerance);
  EXPECT_LE(Error(c.golden["judge_likelihood"]["reward_of_greedy_24"], score(*c.judge)), kTolerance);
}

// Any split into what the caches hold and what is scored anew gives the same reward.
TEST_P(ModelGoldenTest, RewardDoesNotDependOnWhatWasScoredBefore) {
  Case c(GetParam());
  const auto response = c.golden["greedy_24"].get<std::vector<int32_t>>();
  for (const LocalRewardModel* reward : {c.classifier.get(), c.judge.get()}) {
    const double expected = c.Scorer(*reward, 24).Score(response).value();
    auto context = reward->Open({{"user", c.golden["prompt"].get<std::string>()}}, 24).value();
    const int size = static_cast<int>(response.size());
    for (const int kept : {0, 1, size / 3, size - 1, size}) {
      std::vector<int32_t> other = response;
      for (int i = kept; i < size; ++i) other[i] = (other[i] + 1) % static_cast<int32_t>(c.model->vocabulary_size());
      ASSERT_TRUE(context->Score(other).ok());
      EXPECT_LE(Error(expected, context->Score(response).value()), kTolerance) << kept << " tokens kept";
      ASSERT_TRUE(context->Score(other).ok());
      EXPECT_LE(Error(expected, context->ScoreGradient(response, std::min(kept, size - 1), false)->reward), kTolerance)
          << kept << " tokens kept";
    }
  }
}

// The greedy rollout's G at its one-hots.
void CheckGradient(Case& c, const LocalRewardModel& reward, const Json& norms, const Json& first_row,
                   const Json* last_row) {
  SCOPED_TRACE(c.recorded ? "recorded" : "");
  RefinementOptions options;
  options.reward_weight = c.golden["gradient"]["reward_coeff"];
  options.likelihood_weight = c.golden["gradient"]["nll_coeff"];
  ResponseScorer scorer = c.Scorer(reward, 24);
  const auto session = c.Greedy(24, &c.discard);
  ASSERT_TRUE(session->RollOut({.temperature = 0}, Session::Stream::kDraft).ok());
  if (c.recorded) {
    ASSERT_TRUE(scorer.Score(session->response()).ok());
  }
  const Usage before = c.usage;
  auto field = GradientField::Compute(session->state(), scorer, options, session->response(), 0);
  ASSERT_TRUE(field.ok()) << field.status();
  ExpectNear(first_row, field->Rows(0, 1).value(), kTolerance, "first row");
  if (last_row != nullptr)
    ExpectNear(*last_row, field->Rows(field->rows() - 1, field->rows()).value(), kTolerance, "last row");
  ExpectNear(norms, torch::tensor(field->Norms().value(), torch::kFloat64), kTolerance, "norms");
  if (c.recorded && c.model->body().can_record()) {
    EXPECT_EQ(c.usage.language_model.forward_tokens, before.language_model.forward_tokens);
    EXPECT_EQ(c.usage.reward_model.forward_tokens, before.reward_model.forward_tokens);
  }
}

TEST_P(ModelGoldenTest, GradientAtTheOneHots) {
  Case c(GetParam());
  const Json& golden = c.golden["gradient"];
  for (const bool recorded : {false, true}) {
    c.recorded = recorded;
    CheckGradient(c, *c.classifier, golden["norms"], golden["first_row"], &golden["last_row"]);
  }
}

TEST_P(ModelGoldenTest, GradientWithJudge) {
  Case c(GetParam());
  const Json& golden = c.golden["judge_likelihood"];
  for (const bool recorded : {false, true}) {
    c.recorded = recorded;
    CheckGradient(c, *c.judge, golden["gradient_norms"], golden["gradient_first_row"], nullptr);
  }
}

// What bfloat16 costs, weights included: the size of the difference to float32's values over the size of those, to be
// read in the output. The bounds, about twice and more of what four models have, tell rounding from what is wrong,
// which is off by its own size and more.
TEST_P(ModelGoldenTest, Bfloat16IsNearFloat32) {
  Case c(GetParam(), "bfloat16");
  const auto response = c.golden["greedy_24"].get<std::vector<int32_t>>();
  const auto expect_near = [](const Json& expected, const torch::Tensor& actual, double most, const std::string& what) {
    const torch::Tensor exact = torch::tensor(expected.get<std::vector<double>>(), torch::kFloat64);
    const torch::Tensor values = actual.to(torch::kCPU, torch::kFloat64).view({-1});
    const double error = ((values - exact).norm() / exact.norm()).item<double>();
    std::cout << "bfloat16, " << what << ": " << 100 * error << " % off" << std::endl;
    EXPECT_LT(error, most) << what;
  };
  const auto session = c.Greedy(24, &c.discard);
  ASSERT_TRUE(session->RollOut({.temperature = 0}, Session::Stream::kDraft).ok());
  expect_near(c.golden["prompt_last_logits"], c.model->Head(session->state().hidden[0]), 0.1, "logits");
  const auto check_gradient = [&](const LocalRewardModel& reward, const Json& first_row, const Json& norms,
                                  const std::string& what) {
    ResponseScorer scorer = c.Scorer(reward, 24);
    RefinementOptions options;
    options.reward_weight = c.golden["gradient"]["reward_coeff"];
    options.likelihood_weight = c.golden["gradient"]["nll_coeff"];
    auto field = GradientField::Compute(session->state(), scorer, options, response, 0);
    ASSERT_TRUE(field.ok()) << field.status();
    expect_near(first_row, field->Rows(0, 1).value(), 0.3, "first row of G, " + what);
    expect_near(norms, torch::tensor(field->Norms().value(), torch::kFloat64), 0.15, "norms of G, " + what);
  };
  const Json &classifier = c.golden["gradient"], &judge = c.golden["judge_likelihood"];
  check_gradient(*c.classifier, classifier["first_row"], classifier["norms"], "classifier");
  check_gradient(*c.judge, judge["gradient_first_row"], judge["gradient_norms"], "judge");
}

void CheckRefinement(Case& c, const LocalRewardModel& reward, const Json& golden) {
  SCOPED_TRACE(golden["parameter"].get<std::string>() + " caching " + golden["grad_caching"].dump() + " postfix " +
               golden.value("update_postfix", Json(false)).dump() + (c.recorded ? ", recorded" : ""));
  ResponseScorer scorer = c.Scorer(reward, 24);
  const auto session = c.Greedy(24, &c.discard);
  ASSERT_TRUE(session->RollOut({.temperature = 0}, Session::Stream::kDraft).ok());
  if (c.recorded) {
    ASSERT_TRUE(scorer.Score(session->response()).ok());
  }
  std::shared_ptr<const GradientField> initial;
  auto result = RefineAhead(session->state(), scorer, RefinementOf(golden), initial);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->gradient_steps, golden["gradient_steps"].get<int>());
  ExpectNear(golden["first_row"], result->logits[0], kRefinedTolerance, "refined first row");
  if (golden.contains("argmax")) {
    EXPECT_EQ(result->argmax, golden["argmax"].get<std::vector<int32_t>>());
  }
  if (golden.contains("last_row")) {
    const int64_t last = session->ahead() - 1;
    const torch::Tensor row =
        result->logits.size(0) > last ? result->logits[last] : c.model->Head(session->state().hidden[last]);
    ExpectNear(golden["last_row"], row, kRefinedTolerance, "refined last row");
  }
}

TEST_P(ModelGoldenTest, RefinedLogits) {
  Case c(GetParam());
  for (const bool recorded : {false, true}) {
    c.recorded = recorded;
    for (const Json& golden : c.golden["dto"]) CheckRefinement(c, *c.classifier, golden);
  }
}

TEST_P(ModelGoldenTest, RefinedLogitsWithJudge) {
  Case c(GetParam());
  for (const bool recorded : {false, true}) {
    c.recorded = recorded;
    CheckRefinement(c, *c.judge, c.golden["judge_likelihood"]["dto"]);
  }
}

void CheckTraces(Case& c) {
  for (const Json& golden : c.golden["traces"]) {
    SCOPED_TRACE("confidence " + golden["confidence_threshold"].dump() + " gradient " +
                 golden["gradient_threshold"].dump() + (c.recorded ? ", recorded" : ""));
    c.usage = Usage();
    const int tokens = golden["max_new_tokens"];
    NablaOptions options{.max_rollouts = golden["max_rollouts"]};
    options.selectors.max_confidence = Threshold(golden["confidence_threshold"]);
    options.selectors.min_gradient_norm = Threshold(golden["gradient_threshold"]);
    options.refinement = RefinementOf(golden);
    ResponseScorer scorer = c.Scorer(*c.classifier, tokens);
    RevisionSink sink;
    const auto session = c.Greedy(tokens, &sink);
    auto result = RunNabla(options, std::nullopt, *session, &scorer);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->token_ids, golden["output_ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(c.usage.rollouts, golden["stats"]["n_generations"].get<int>());
    EXPECT_EQ(c.usage.revisions_rejected, golden["stats"]["n_rejections"].get<int>());
    EXPECT_EQ(c.usage.model_calls, golden["stats"]["n_llm_calls"].get<int>());
    ASSERT_EQ(sink.revisions.size(), golden["steps"].size());
    for (size_t i = 0; i < sink.revisions.size(); ++i) {
      const RevisionEvent& step = sink.revisions[i];
      const Json& expected = golden["steps"][i];
      EXPECT_EQ(step.position, expected["position"].get<int>());
      EXPECT_EQ(step.old_token_id, expected["from_token"].get<int>());
      EXPECT_EQ(step.new_token_id, expected["to_token"].get<int>());
      EXPECT_LE(Error(expected["reward_current"], *step.reward_before), kTolerance);
      EXPECT_LE(Error(expected["reward_proposed"], *step.reward_after), kTolerance);
      EXPECT_EQ(step.accepted, expected["accepted"].get<bool>());
    }
  }
}

TEST_P(ModelGoldenTest, WholeTraces) {
  Case c(GetParam());
  for (const bool recorded : {false, true}) {
    c.recorded = recorded;
    CheckTraces(c);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ModelGoldenTest, testing::ValuesIn(ModelFolders()), [](const auto& info) {
  std::string name = fs::path(info.param).filename().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name + "_" + std::to_string(info.index);
});

TEST(ModelGoldenFolders, AreThere) {
  ASSERT_FALSE(GoldenDir().empty()) << kNoGoldenDir;
  EXPECT_FALSE(ModelFolders().empty()) << GoldenDir() << " holds no folder with a golden.json";
}

}  // namespace
}  // namespace nabla
