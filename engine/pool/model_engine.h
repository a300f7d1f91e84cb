// The engine: a language model and the models that judge or draft its answers on one device, with one execution thread
// (engine/decode/batcher.h) and a key/value budget that all share.
//
//   NABLA_ASSIGN_OR_RETURN(auto engine, ModelEngine::Create(options, "cuda:0", nullptr));
//
// Thread-safe, as Engine. Models are loaded once and immutable; every Run owns its caches.
#ifndef NABLA_ENGINE_POOL_MODEL_ENGINE_H_
#define NABLA_ENGINE_POOL_MODEL_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/pool/engine.h"
#include "engine/pool/engine_pool.h"
#include "engine/pool/reward.h"
#include "engine/pool/reward_connection.h"

namespace nabla {

class KvPool;
class Model;
class ModelRunner;
class ResponseScorer;

class ModelEngine : public Engine {
 public:
  // `reward_model_factory` as in EnginePool::Create.
  static absl::StatusOr<std::unique_ptr<ModelEngine>> Create(const EnginePoolOptions& options,
                                                             const std::string& device,
                                                             const RewardModelFactory& reward_model_factory);
  ~ModelEngine() override;

  absl::StatusOr<Prepared> Prepare(ReasonRequest request) const override;
  bool TryReserve(int64_t kv_tokens) override;
  void Release(int64_t kv_tokens) override;
  absl::StatusOr<ReasonResult> Run(const Prepared& prepared, absl::Duration queue_time, const StopToken& stop,
                                   EventSink& sink) override;
  EngineLoad load() const override;
  ModelInfos models() const override;

 private:
  ModelEngine();

  absl::Status Load(const EnginePoolOptions& options, const std::string& device,
                    const RewardModelFactory& reward_model_factory);
  const Model& model() const;
  std::vector<KvPool*> KvPools() const;  // of all models that run here
  absl::StatusOr<ReasonResult> RunPrepared(const Prepared& prepared, const StopToken& stop, EventSink& sink,
                                           Usage& usage);
  absl::StatusOr<int64_t> KvTokens(const ReasonRequest& request, int64_t prompt_tokens) const;
  std::shared_ptr<const Reward> reward() const;  // null without one; a remote one may be another the next time
  std::vector<std::shared_ptr<const Reward>> RewardsFor(const ReasonRequest& request) const;
  absl::StatusOr<std::unique_ptr<RewardContext>> OpenContext(std::shared_ptr<const Reward>& reward,
                                                             const ReasonRequest& request, const StopToken& stop) const;
  absl::StatusOr<std::unique_ptr<ResponseScorer>> OpenScorer(std::shared_ptr<const Reward>& reward,
                                                             const ReasonRequest& request, const StopToken& stop,
                                                             ModelWork* work) const;

  int max_draft_tokens_ = 0;
  std::function<void(const Usage& usage)> on_usage_;
  std::unique_ptr<Batcher> batcher_;  // outlives all that runs on it
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<ModelRunner> draft_runner_;  // null without a draft model
  std::shared_ptr<const Reward> local_reward_;
  std::unique_ptr<RewardConnection> remote_reward_;  // instead of it
  std::vector<std::shared_ptr<const Reward>> guards_;
  ModelInfos infos_;  // but for the reward model
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_MODEL_ENGINE_H_
