#include "engine/model/quantized_model.h"

#include <gtest/gtest.h>

#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

class QuantizedModelTest : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> Load(bool int8_rollouts) const {
    return Model::Load(LanguageModelFolder(), GetParam(), "cpu", 0, /*team=*/nullptr, {.int8_rollouts = int8_rollouts})
        .value();
  }

  const std::vector<int32_t> ids_ = {1, 87, 85, 285, 201, 5, 2, 201, 1};
};

// Near enough to guess what the model says, and not the model itself.
TEST_P(QuantizedModelTest, ItsLogitsAreNearThoseOfTheModel) {
  const std::shared_ptr<const Model> model = Load(/*int8_rollouts=*/false);
  const auto quantized = model->QuantizedCopy();
  KvCache cache = NewKvCache(*model), quantized_cache = NewKvCache(*model);
  const torch::Tensor logits = model->Head(Extend(*model, ids_, cache));
  ASSERT_TRUE(quantized_cache.Prepare(9).ok());
  const torch::Tensor near = quantized->Head(quantized->Extend({{&quantized_cache, ids_}}));
  ASSERT_EQ(near.sizes(), logits.sizes());
  EXPECT_EQ(quantized_cache.length(), 9);
  const double error = ((near - logits).norm() / logits.norm()).item<double>();
  EXPECT_GT(error, 1e-4);
  EXPECT_LT(error, 0.05);
}

TEST_P(QuantizedModelTest, AModelMayDecodeWithIt) {
  const std::shared_ptr<const Model> model = Load(/*int8_rollouts=*/true);
  const auto quantized = model->QuantizedCopy();
  KvCache cache = NewKvCache(*model), quantized_cache = NewKvCache(*model);
  ASSERT_TRUE(quantized_cache.Prepare(9).ok());
  const torch::Tensor hidden = Extend(*model, ids_, cache);
  EXPECT_TRUE(torch::equal(hidden, quantized->Extend({{&quantized_cache, ids_}})));
  EXPECT_TRUE(torch::equal(model->Head(hidden), quantized->Head(hidden)));
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizedModelTest, testing::Values("float32", "bfloat16"));

}  // namespace
}  // namespace nabla
