#include "engine/model/transformer.h"

#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

class TransformerTest : public testing::TestWithParam<const char*> {
 protected:
  TransformerTest() : model_(Model::Load(GetParam(), "float32", "cpu", 0).value()) {}
  KvCache Cache(int64_t capacity) const {
    return KvCache(model_->config(), capacity, model_->dtype(), model_->device());
  }

  const std::vector<int32_t> ids_ = {5, 80, 7, 200, 300, 402, 11, 12};
  std::shared_ptr<const Model> model_;
};

TEST_P(TransformerTest, TokenByTokenEqualsAllAtOnce) {
  const Transformer& body = model_->body();
  KvCache whole = Cache(8), stepwise = Cache(8);
  const torch::Tensor expected = body.Extend(body.Embed(ids_), whole);
  std::vector<torch::Tensor> rows;
  for (const int32_t id : ids_) rows.push_back(body.Extend(body.Embed({id}), stepwise));
  EXPECT_TRUE(torch::allclose(torch::cat(rows), expected, 1e-4, 1e-4));
}

TEST_P(TransformerTest, ForwardBehindACachedPrefixEqualsForwardOfEverything) {
  const Transformer& body = model_->body();
  KvCache whole = Cache(8), prefix = Cache(8);
  const torch::Tensor expected = body.Extend(body.Embed(ids_), whole);
  body.Extend(body.Embed(absl::MakeConstSpan(ids_).subspan(0, 5)), prefix);
  const torch::Tensor behind = body.Forward(body.Embed(absl::MakeConstSpan(ids_).subspan(3)), prefix, 3);
  EXPECT_TRUE(torch::allclose(behind, expected.narrow(0, 3, 5), 1e-4, 1e-4));
  EXPECT_EQ(prefix.length(), 5) << "a differentiable pass must leave the cache alone";
}

TEST_P(TransformerTest, GradientAtTheInputsAgreesWithFiniteDifferences) {
  const Transformer& body = model_->body();
  KvCache prefix = Cache(8);
  body.Extend(body.Embed(absl::MakeConstSpan(ids_).subspan(0, 3)), prefix);
  const torch::Tensor start = body.Embed(absl::MakeConstSpan(ids_).subspan(3)).clone();
  torch::manual_seed(1);
  const torch::Tensor weights = torch::randn({5, 64}), direction = torch::randn({5, 64});
  const auto value = [&](const torch::Tensor& inputs) { return (body.Forward(inputs, prefix, 3) * weights).sum(); };
  const torch::Tensor inputs = start.clone().requires_grad_(true);
  const torch::Tensor gradient = torch::autograd::grad({value(inputs)}, {inputs})[0];
  constexpr double kStep = 1e-3;
  const double numeric =
      (value(start + kStep * direction) - value(start - kStep * direction)).item<double>() / (2 * kStep);
  const double analytic = (gradient * direction).sum().item<double>();
  EXPECT_NEAR(numeric, analytic, 2e-2 * std::max(1.0, std::abs(analytic)));
}

TEST_P(TransformerTest, ARestoredTailIsAsBefore) {
  const Transformer& body = model_->body();
  KvCache cache = Cache(8);
  body.Extend(body.Embed(absl::MakeConstSpan(ids_).subspan(0, 6)), cache);
  const torch::Tensor keys = cache.Keys(0, 6).clone(), values = cache.Values(1, 6).clone();
  const KvCache::Tail tail = cache.CopyTail(2);
  cache.Truncate(2);
  body.Extend(body.Embed({9, 10, 11, 12, 13, 14}), cache);
  cache.RestoreTail(tail);
  EXPECT_EQ(cache.length(), 6);
  EXPECT_TRUE(torch::equal(cache.Keys(0, 6), keys));
  EXPECT_TRUE(torch::equal(cache.Values(1, 6), values));
}

TEST_P(TransformerTest, Bfloat16IsCloseToFloat32) {
  const auto half = Model::Load(GetParam(), "bfloat16", "cpu", 0).value();
  const auto logits = [&](const Model& model) {
    KvCache cache(model.config(), 8, model.dtype(), model.device());
    return model.Head(model.body().Extend(model.body().Embed(ids_), cache));
  };
  const torch::Tensor exact = logits(*model_), rounded = logits(*half);
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  EXPECT_LT(((exact - rounded).norm() / exact.norm()).item<double>(), 0.05);
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerTest,
                         testing::Values("tests/golden/qwen3/lm", "tests/golden/llama3-rope/lm"));

}  // namespace
}  // namespace nabla
