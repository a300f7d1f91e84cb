// One device: its language model, its reward model, and how a request runs on them.
//
//   NABLA_ASSIGN_OR_RETURN(auto engine, Engine::Create(options));
//   absl::StatusOr<ReasonResult> result = engine->Run(prepared, stop, sink);   // blocks; any number of threads at once
//
// Immutable and thread-safe: weights are shared, every Run owns its caches.
#ifndef NABLA_ENGINE_POOL_ENGINE_H_
#define NABLA_ENGINE_POOL_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/stop_token.h"
#include "engine/pool/engine_pool.h"
#include "engine/strategy/event.h"
#include "engine/strategy/request.h"

namespace nabla {

class Model;
class RewardModel;
class VocabularyMap;

class Engine {
 public:
  // A request that was found to be valid, with its prompt tokenised.
  struct Prepared {
    ReasonRequest request;
    std::vector<int32_t> prompt_ids;
  };

  static absl::StatusOr<std::unique_ptr<Engine>> Create(const ModelOptions& model,
                                                        const std::optional<RewardModelOptions>& reward_model);
  ~Engine();

  // Checks everything that can be checked without running the models.
  absl::StatusOr<Prepared> Prepare(ReasonRequest request) const;

  // `queue_time` goes into the result's usage.
  absl::StatusOr<ReasonResult> Run(const Prepared& prepared, absl::Duration queue_time, const StopToken& stop,
                                   EventSink& sink) const;

  // Tensor operations of the calling thread use this many threads.
  static void SetThreads(int threads);

  const ModelInfo& model_info() const { return model_info_; }
  const std::optional<ModelInfo>& reward_model_info() const { return reward_model_info_; }
  int64_t cached_tokens() const {
    return cached_tokens_.load(std::memory_order_relaxed);
  }  // reserved by running requests

 private:
  Engine() = default;

  std::shared_ptr<const Model> model_;
  std::unique_ptr<RewardModel> reward_model_;      // null without one
  std::unique_ptr<VocabularyMap> vocabulary_map_;  // null without a reward model
  ModelInfo model_info_;
  std::optional<ModelInfo> reward_model_info_;
  mutable std::atomic<int64_t> cached_tokens_{0};
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_ENGINE_H_
