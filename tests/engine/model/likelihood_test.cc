#include "engine/model/likelihood.h"

#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace nabla {
namespace {

TEST(LikelihoodTest, BlocksAgreeWithAutogradOverTheWholeMatrix) {
  // A head in pieces, the last one shorter.
  const auto model =
      Model::Load(LanguageModelFolder(), "float32", TestDevice(), 0, /*team=*/nullptr, {.head_piece = 100}).value();
  torch::manual_seed(3);
  const int64_t rows = 2 * kVocabularyBlockRows + 5;
  const torch::Tensor hidden = torch::randn({rows, 64}).requires_grad_(true);
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < rows; ++i) targets.push_back(static_cast<int32_t>((i * 37) % 403));

  const torch::Tensor chosen = torch::log_softmax(torch::matmul(hidden, model->head_weight().t()), -1)
                                   .gather(1, torch::tensor(targets, torch::kInt64).unsqueeze(1))
                                   .squeeze(1);
  const torch::Tensor gradient = torch::autograd::grad({chosen.sum()}, {hidden})[0];
  const TokenLikelihood likelihood = ComputeTokenLikelihood(*model, hidden.detach(), targets, true);
  EXPECT_TRUE(torch::allclose(torch::tensor(likelihood.log_probs, torch::kFloat32), chosen, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(likelihood.hidden_gradient, gradient, 1e-4, 1e-5));
}

}  // namespace
}  // namespace nabla
