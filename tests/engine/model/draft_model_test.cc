#include "engine/model/draft_model.h"

#include <gtest/gtest.h>

#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

// Near enough to guess what the model says, and not the model itself.
TEST(DraftModelTest, ItsLogitsAreNearThoseOfTheModel) {
  for (const char* dtype : {"float32", "bfloat16"}) {
    const std::shared_ptr<const Model> model = Model::Load(LanguageModelFolder(), dtype, "cpu", 0).value();
    const DraftModel draft(model);
    const std::vector<int32_t> ids = {1, 87, 85, 285, 201, 5, 2, 201, 1};
    KvCache cache = NewKvCache(*model), draft_cache = NewKvCache(*model);
    const torch::Tensor logits = model->Head(Extend(*model, ids, cache));
    ASSERT_TRUE(draft_cache.Prepare(9).ok());
    const torch::Tensor guessed = draft.Logits({{&draft_cache, ids}});
    ASSERT_EQ(guessed.sizes(), logits.sizes());
    EXPECT_EQ(draft_cache.length(), 9);
    const double error = ((guessed - logits).norm() / logits.norm()).item<double>();
    EXPECT_GT(error, 1e-4) << dtype;
    EXPECT_LT(error, 0.05) << dtype;
  }
}

}  // namespace
}  // namespace nabla
