#include "engine/model/likelihood.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/engine/test_models.h"

namespace nabla {
namespace {

std::shared_ptr<const Model> Load(const std::string& dtype, int64_t head_piece) {
  return Model::Load(LanguageModelFolder(), dtype, TestDevice(), 0, std::make_shared<ThreadTeam>(2),
                     {.head_piece = head_piece})
      .value();
}

TEST(LikelihoodTest, BlocksAgreeWithAutogradOverTheWholeMatrix) {
  // A head in pieces, the last one shorter, and rows in parts.
  const auto model = Load("float32", /*head_piece=*/100);
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

TEST(LikelihoodTest, InBfloat16PiecesAgreeWithTheWhole) {
  torch::manual_seed(4);
  const torch::Tensor hidden = torch::randn({40, 64}).to(torch::kBFloat16);
  std::vector<int32_t> targets;
  for (int32_t i = 0; i < 40; ++i) targets.push_back(i * 37 % 403);
  const TokenLikelihood whole = ComputeTokenLikelihood(*Load("bfloat16", 1 << 20), hidden, targets, true);
  const TokenLikelihood pieces = ComputeTokenLikelihood(*Load("bfloat16", 100), hidden, targets, true);
  EXPECT_TRUE(torch::allclose(torch::tensor(pieces.log_probs), torch::tensor(whole.log_probs), 1e-5, 1e-5));
  const torch::Tensor expected = whole.hidden_gradient.to(torch::kFloat32);
  const torch::Tensor difference = pieces.hidden_gradient.to(torch::kFloat32) - expected;
  // Every piece's share is rounded, and so is the sum: to 8 bits.
  EXPECT_LT(difference.norm().item<double>(), std::ldexp(1.0, -7) * expected.norm().item<double>());
}

}  // namespace
}  // namespace nabla
