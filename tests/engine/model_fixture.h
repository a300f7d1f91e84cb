// What tests of models need beside them: caches, and a batcher to run them on.
#ifndef NABLA_TESTS_ENGINE_MODEL_FIXTURE_H_
#define NABLA_TESTS_ENGINE_MODEL_FIXTURE_H_

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "engine/decode/batcher.h"
#include "engine/decode/model_runner.h"
#include "engine/model/kv_cache.h"
#include "engine/model/kv_pool.h"
#include "engine/model/model.h"

namespace nabla {

inline std::shared_ptr<KvPool> NewKvPool(const Model& model, int64_t tokens) {
  return std::make_shared<KvPool>(model.config(), tokens, model.dtype(), model.device());
}

inline KvCache NewKvCache(const Model& model, int64_t tokens = 256) { return KvCache(NewKvPool(model, tokens)); }

// Hidden states of `ids` behind what the cache holds.
inline torch::Tensor Extend(const Model& model, absl::Span<const int32_t> ids, KvCache& cache) {
  EXPECT_TRUE(cache.Prepare(static_cast<int64_t>(ids.size())).ok());
  return model.body().Extend({{&cache, ids}});
}

// One execution thread for all tests of a binary.
inline Batcher& TestBatcher() {
  static Batcher batcher({});
  return batcher;
}

inline std::shared_ptr<ModelRunner> NewRunner(std::shared_ptr<const Model> model, int64_t kv_tokens = 16384,
                                              std::shared_ptr<MemoryBudget> activations = nullptr) {
  auto pool = NewKvPool(*model, kv_tokens);
  return std::make_shared<ModelRunner>(std::move(model), std::move(pool), &TestBatcher(), /*draft=*/nullptr,
                                       std::move(activations));
}

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_MODEL_FIXTURE_H_
