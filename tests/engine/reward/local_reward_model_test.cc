#include "engine/reward/local_reward_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include "engine/model/model.h"
#include "engine/reward/local_reward_context.h"
#include "engine/text/chat_template.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

const std::vector<ChatMessage> kQuestion = {{"user", "How many apples?"}};

std::shared_ptr<const Model> Judge() { return Model::Load(JudgeFolder(), "float32", "cpu", 0).value(); }

// Logits at the last position of a text, computed without any cache.
torch::Tensor LastLogits(const Model& model, const std::vector<int32_t>& ids) {
  KvCache cache = NewKvCache(model);
  return model.Head(Extend(model, ids, cache))[-1];
}

TEST(LocalRewardModelTest, AVerdictIsTheLogOddsOfTheTwoWordsBehindTheQuestion) {
  const auto model = Judge();
  const VerdictOptions verdict{.question = "Right?", .yes = "Y", .no = "N"};
  const auto reward = LocalRewardModel::Create(NewRunner(model), RewardKind::kVerdict, verdict).value();
  const std::vector<int32_t> response = model->tokenizer().Encode("There are 7.");
  const double score = reward->Open(kQuestion, 32).value()->Score(response).value();

  const std::string text =
      model->chat_template()
          ->Render({{"user", "How many apples?"}, {"assistant", "There are 7."}, {"user", "Right?"}}, true)
          .value();
  const torch::Tensor logits = LastLogits(*model, model->tokenizer().Encode(text));
  const int32_t yes = model->tokenizer().Encode("Y")[0], no = model->tokenizer().Encode("N")[0];
  EXPECT_NEAR(score, (logits[yes] - logits[no]).item<double>(), 1e-3);
}

// The input gradient of every kind, against finite differences along the embedding of another token.
TEST(LocalRewardModelTest, GradientPredictsTheChangeOfASmallStepAtTheEmbeddings) {
  const auto model = Judge();
  const auto reward =
      LocalRewardModel::Create(NewRunner(model), RewardKind::kVerdict, VerdictOptions{.yes = "Y", .no = "N"}).value();
  const auto context = reward->Open(kQuestion, 32).value();
  const std::vector<int32_t> response = {10, 40, 90, 200, 17};
  const RewardGradient gradient = context->ScoreGradient(response, 1, false).value();
  EXPECT_EQ(gradient.rows, 4);
  EXPECT_EQ(gradient.hidden_size, 64);
  EXPECT_EQ(gradient.log_probs, nullptr);
  EXPECT_NEAR(gradient.reward, context->Score(response).value(), 1e-4);

  // Autograd through the uncached model is the second opinion.
  const std::string text = model->chat_template()
                               ->Render({kQuestion[0], {"assistant", "@"}, {"user", VerdictOptions().question}}, true)
                               .value();
  const size_t at = text.find('@');
  const std::vector<int32_t> before = model->tokenizer().Encode(text.substr(0, at)),
                             after = model->tokenizer().Encode(text.substr(at + 1));
  std::vector<int32_t> ids = before;
  ids.insert(ids.end(), response.begin(), response.end());
  ids.insert(ids.end(), after.begin(), after.end());
  const KvCache nothing = NewKvCache(*model);
  const torch::Tensor inputs = model->body().Embed(ids).clone().requires_grad_(true);
  const torch::Tensor logits =
      torch::matmul(model->body().ForwardWithTorch(inputs, nothing, 0), model->head_weight().t())[-1];
  const torch::Tensor odds = logits[model->tokenizer().Encode("Y")[0]] - logits[model->tokenizer().Encode("N")[0]];
  const torch::Tensor expected =
      torch::autograd::grad({odds}, {inputs})[0].narrow(0, static_cast<int64_t>(before.size()) + 1, 4);
  const torch::Tensor actual = torch::tensor(gradient.input_gradient).view({4, 64});
  EXPECT_TRUE(torch::allclose(actual, expected, 1e-3, 1e-4));
}

TEST(LocalRewardModelTest, LikelihoodRowsAreTheJudgesLogProbabilities) {
  const auto model = Judge();
  const auto reward = LocalRewardModel::Create(NewRunner(model), RewardKind::kLikelihood, VerdictOptions()).value();
  const auto context = reward->Open(kQuestion, 32).value();
  const std::vector<int32_t> response = {10, 40, 90, 200, 17};
  const RewardGradient gradient = context->ScoreGradient(response, 2, false).value();
  ASSERT_NE(gradient.log_probs, nullptr);
  std::vector<int32_t> ids = model->tokenizer().Encode(model->chat_template()->Render(kQuestion, true).value());
  ids.insert(ids.end(), response.begin(), response.begin() + 3);
  const torch::Tensor expected =
      torch::log_softmax(LastLogits(*model, ids), -1);  // predicts token 3: row 1 from position 2
  const std::vector<float> row = gradient.log_probs(1, 2).value();
  EXPECT_TRUE(torch::allclose(torch::tensor(row), expected, 1e-3, 1e-3));
}

TEST(LocalRewardModelTest, AOneTokenResponseHasAGradient) {
  const auto reward = LocalRewardModel::Create(NewRunner(Judge()), RewardKind::kLikelihood, VerdictOptions()).value();
  const auto context = reward->Open(kQuestion, 8).value();
  const RewardGradient gradient = context->ScoreGradient(std::vector<int32_t>{10}, 0, false).value();
  EXPECT_EQ(gradient.rows, 1);
  EXPECT_EQ(gradient.input_gradient, std::vector<float>(64, 0.0f)) << "the last token is a target only";
}

// What scoring leaves to the gradient of the same response, for every kind, in float32 and bfloat16.
class ScoredGradientTest : public testing::TestWithParam<std::tuple<RewardKind, const char*>> {
 protected:
  // `activations`: bytes for recorded rows; null: nothing is recorded.
  std::unique_ptr<LocalRewardModel> NewReward(std::shared_ptr<MemoryBudget> activations) {
    const auto& [kind, dtype] = GetParam();
    const std::string folder = kind == RewardKind::kClassifier ? ClassifierFolder() : JudgeFolder();
    return LocalRewardModel::Create(NewRunner(Model::Load(folder, dtype, "cpu", 0).value(), 16384, activations), kind,
                                    VerdictOptions{.yes = "Y", .no = "N"})
        .value();
  }

  const std::vector<int32_t> response_ = {10, 40, 90, 200, 17, 33}, other_ = {10, 40, 91, 7};
  const int64_t room_ = int64_t{1} << 30;
};

TEST_P(ScoredGradientTest, RunsNoTokenAgainAndHasTheSameBitsWhereThereWasNoRoom) {
  const auto budget = std::make_shared<MemoryBudget>(room_);
  const auto reward = NewReward(budget);
  auto context = reward->Open(kQuestion, 32).value();
  ASSERT_TRUE(context->ExpectGradients().ok());
  ASSERT_TRUE(context->Score(other_).ok());
  const double score = context->Score(response_).value();
  const int64_t before = context->work().forward_tokens;
  const RewardGradient recorded = context->ScoreGradient(response_, 1, true).value();
  EXPECT_EQ(context->work().forward_tokens, before);
  EXPECT_EQ(recorded.reward, score);
  EXPECT_LT(budget->left(), room_);

  for (const auto& activations : {std::make_shared<MemoryBudget>(0), std::shared_ptr<MemoryBudget>()}) {
    const auto without = NewReward(activations);
    const auto fresh = without->Open(kQuestion, 32).value();  // has to score first
    const RewardGradient again = fresh->ScoreGradient(response_, 1, true).value();
    EXPECT_EQ(again.reward, score);
    EXPECT_EQ(again.input_gradient, recorded.input_gradient);
    const auto scores = without->Open(kQuestion, 32).value();
    ASSERT_TRUE(scores->Score(response_).ok());
    EXPECT_EQ(fresh->work().forward_tokens, scores->work().forward_tokens) << "one pass for both";
    if (again.log_probs) {
      EXPECT_EQ(again.log_probs(0, 5).value(), recorded.log_probs(0, 5).value());
    }
  }
  context.reset();
  EXPECT_EQ(budget->left(), room_) << "a context gives back what it took";
}

TEST_P(ScoredGradientTest, IsThatOfAPassOfItsOwnToRounding) {
  const auto reward = NewReward(std::make_shared<MemoryBudget>(room_));
  const auto context = reward->Open(kQuestion, 32).value();
  ASSERT_TRUE(context->ExpectGradients().ok());
  const RewardGradient separate = context->ScoreGradient(response_, 2, false).value();
  const RewardGradient recorded = context->ScoreGradient(response_, 2, true).value();
  ASSERT_EQ(recorded.rows, separate.rows);
  const double tolerance = std::string(std::get<1>(GetParam())) == "float32" ? 1e-4 : 0.05;
  EXPECT_NEAR(recorded.reward, separate.reward, tolerance * std::max(1.0, std::abs(separate.reward)));
  const torch::Tensor expected = torch::tensor(separate.input_gradient);
  EXPECT_LE((torch::tensor(recorded.input_gradient) - expected).norm().item<double>(),
            tolerance * expected.norm().item<double>());
}

TEST_P(ScoredGradientTest, DoesNotGoByWhatWasScoredInBetween) {
  const auto reward = NewReward(std::make_shared<MemoryBudget>(room_));
  const auto context = reward->Open(kQuestion, 32).value();
  ASSERT_TRUE(context->ExpectGradients().ok());
  const RewardGradient expected = context->ScoreGradient(response_, 1, true).value();
  ASSERT_TRUE(context->ScoreGradient(other_, 3, false).ok());
  ASSERT_TRUE(context->Score(std::vector<int32_t>{10, 40, 90}).ok());
  ASSERT_TRUE(context->ScoreAll({response_, other_}).ok());
  const RewardGradient again = context->ScoreGradient(response_, 1, true).value();
  EXPECT_EQ(again.reward, expected.reward);
  EXPECT_EQ(again.input_gradient, expected.input_gradient);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ScoredGradientTest,
                         testing::Combine(testing::Values(RewardKind::kClassifier, RewardKind::kLikelihood,
                                                          RewardKind::kVerdict),
                                          testing::Values("float32", "bfloat16")));

// A score head behind a template that ends with the response.
TEST(LocalRewardContextTest, ScoresWhatIsKeptAlreadyWhereNothingStandsBehindTheResponse) {
  const auto model = Model::Load(ClassifierFolder(), "float32", "cpu", 0).value();
  const auto open = [&] {
    auto context = std::make_unique<LocalRewardContext>(NewRunner(model), RewardKind::kClassifier,
                                                        model->head_weight()[0].to(torch::kFloat32),
                                                        Surroundings{.before = {1, 5}, .after = {}}, 8, nullptr);
    EXPECT_TRUE(context->Prefill().ok());
    return context;
  };
  const std::vector<int32_t> response = {10, 11}, longer = {10, 11, 12};
  const double expected = open()->Score(response).value();
  EXPECT_NE(expected, 0);
  EXPECT_NE(open()->Score({}).value(), 0);
  const auto context = open();
  EXPECT_EQ(context->ScoreAll({longer, response}).value()[1], expected) << "the longer one begins with it";
  EXPECT_EQ(context->Score(response).value(), expected);
  EXPECT_EQ(context->Score(response).value(), expected);
}

// As one batch, behind what is kept, and as many as there is room for at once.
TEST(LocalRewardModelTest, ScoringTogetherGivesWhatScoringOneByOneGives) {
  const auto judge = Judge();
  const auto classifier = Model::Load(ClassifierFolder(), "float32", "cpu", 0).value();
  for (const RewardKind kind : {RewardKind::kLikelihood, RewardKind::kVerdict, RewardKind::kClassifier}) {
    const auto& model = kind == RewardKind::kClassifier ? classifier : judge;
    const auto reward = LocalRewardModel::Create(NewRunner(model), kind, VerdictOptions{.yes = "Y", .no = "N"}).value();
    std::vector<std::vector<int32_t>> different = {{10, 11, 12, 13}, {10, 11}, {10, 11, 14}, {10, 11, 12}, {}, {15}};
    for (int32_t token = 20; token < 32; ++token) different.emplace_back(60, token);  // more than fit together
    std::vector<std::vector<int32_t>> alike;                                          // cheaper in turn
    for (int32_t token = 20; token < 24; ++token) alike.emplace_back(60, 8), alike.back().back() = token;
    const auto context = reward->Open(kQuestion, 64).value();
    ASSERT_TRUE(context->Score(std::vector<int32_t>{10, 11, 12, 13}).ok());
    for (const auto& responses : {different, alike}) {
      const auto all = context->ScoreAll(std::vector<absl::Span<const int32_t>>(responses.begin(), responses.end()));
      ASSERT_TRUE(all.ok()) << all.status();
      ASSERT_EQ(all->size(), responses.size());
      for (size_t i = 0; i < responses.size(); ++i) {
        const double alone = reward->Open(kQuestion, 64).value()->Score(responses[i]).value();
        EXPECT_EQ((*all)[i], alone) << static_cast<int>(kind) << " " << i;
      }
    }
    ASSERT_TRUE(context->Score(std::vector<int32_t>{10, 11, 12, 13}).ok());
    ASSERT_TRUE(context->ScoreAll({absl::MakeConstSpan(different[2]), absl::MakeConstSpan(different[5])}).ok());
    EXPECT_TRUE(context->ScoreAll({}).value().empty());
    const auto other = reward->Open(kQuestion, 64).value();
    ASSERT_TRUE(other->Score(std::vector<int32_t>{10, 11, 12, 13}).ok());
    const auto rows_of_next = [](RewardContext& of) {
      const int64_t before = of.work().forward_tokens;
      EXPECT_TRUE(of.Score(std::vector<int32_t>{10, 11, 12, 13, 14}).ok());
      return of.work().forward_tokens - before;
    };
    EXPECT_EQ(rows_of_next(*context), rows_of_next(*other)) << "what was kept before is still there";
  }
}

TEST(LocalRewardModelTest, AContextKeepsToTheMemoryItSaysItNeeds) {
  constexpr int kTokens = 64;
  const auto judge = Judge();
  const auto create = [&](int64_t kv_tokens) {
    return LocalRewardModel::Create(NewRunner(judge, kv_tokens), RewardKind::kVerdict,
                                    VerdictOptions{.question = std::string(150, '?'), .yes = "Y", .no = "N"})
        .value();
  };
  const auto reward = create(create(16384)->ContextTokens(kQuestion, kTokens).value() + kBlockTokens);
  const auto context = reward->Open(kQuestion, kTokens).value();
  ASSERT_TRUE(context->Score(std::vector<int32_t>(kTokens, 9)).ok());
  std::vector<std::vector<int32_t>> responses;
  for (int32_t token = 20; token < 40; ++token) responses.emplace_back(token < 30 ? kTokens : 1, token);
  const auto rewards = context->ScoreAll(std::vector<absl::Span<const int32_t>>(responses.begin(), responses.end()));
  EXPECT_TRUE(rewards.ok()) << rewards.status();
}

TEST(LocalRewardModelTest, ModelAndKindMustGoTogether) {
  const auto classifier = Model::Load(ClassifierFolder(), "float32", "cpu", 0).value();
  EXPECT_EQ(
      LocalRewardModel::Create(NewRunner(classifier), RewardKind::kLikelihood, VerdictOptions()).status().message(),
      "reward model rm is a Qwen3ForSequenceClassification; reward kind likelihood or verdict needs a …ForCausalLM");
  EXPECT_EQ(LocalRewardModel::Create(NewRunner(Judge()), RewardKind::kClassifier, VerdictOptions()).status().message(),
            "reward model judge is a Qwen3ForCausalLM; reward kind classifier needs a …ForSequenceClassification");
  EXPECT_EQ(
      LocalRewardModel::Create(NewRunner(Judge()), RewardKind::kVerdict, VerdictOptions{.yes = "Yes", .no = "Yep"})
          .status()
          .message(),
      "the verdict's words \"Yes\" and \"Yep\" begin with the same token; choose others");
}

TEST(LocalRewardModelTest, ConversationsThatDoNotFitAreRefused) {
  const auto reward = LocalRewardModel::Create(NewRunner(Judge()), RewardKind::kLikelihood, VerdictOptions()).value();
  EXPECT_EQ(reward->Open(kQuestion, 5000).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(reward->Open({{"user", "<<<response>>>"}}, 8).status().message(),
            "messages: the reward model's chat template does not show the text <<<response>>> exactly once; leave it "
            "out of the messages");
}

}  // namespace
}  // namespace nabla
