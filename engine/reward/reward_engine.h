// One device that serves a reward model alone: the model, its execution thread, and what a client has to know of it.
//
//   NABLA_ASSIGN_OR_RETURN(auto engine, RewardEngine::Create({.model = {.path = "models/judge"}}));
//   NABLA_ASSIGN_OR_RETURN(auto context, engine->model().Open(messages, 64));
//
// Thread-safe. Create blocks while it loads; contexts must not outlive the engine.
#ifndef NABLA_ENGINE_REWARD_REWARD_ENGINE_H_
#define NABLA_ENGINE_REWARD_REWARD_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/decode/batcher.h"
#include "engine/reward/embedding_table.h"
#include "engine/reward/local_reward_model.h"
#include "engine/reward/reward_model_options.h"

namespace nabla {

struct RewardEngineOptions {
  RewardModelOptions model;
  std::string device = "auto";                 // "cpu", "cuda:N" or "auto" (CUDA where there is one)
  int64_t kv_cache_bytes = int64_t{1} << 30;   // of keys and values
  int threads = 0;                             // of a CPU's products; 0: by cores and model, see ThreadCount
  int max_batch_tokens = 128;                  // rows of one forward pass
  std::string gradient_weights = "packed";     // as EnginePoolOptions'
  std::function<void(int64_t rows)> on_batch;  // after every forward pass, on the execution thread; must not block
};

class RewardEngine {
 public:
  // Errors name the file or the option and what was expected.
  static absl::StatusOr<std::unique_ptr<RewardEngine>> Create(const RewardEngineOptions& options);

  const LocalRewardModel& model() const { return *model_; }
  const EmbeddingTable& embedding() const { return embedding_; }
  // Of the model's files, its number type and the kind of reward: equal where the numbers are.
  const std::string& fingerprint() const { return fingerprint_; }

  // False once the device has failed.
  bool healthy() const { return batcher_->healthy(); }
  absl::Duration time_without_progress() const { return batcher_->time_without_progress(); }

 private:
  RewardEngine() = default;

  std::unique_ptr<Batcher> batcher_;  // outlives the model, which runs on it
  std::unique_ptr<LocalRewardModel> model_;
  EmbeddingTable embedding_;
  std::string fingerprint_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_REWARD_ENGINE_H_
