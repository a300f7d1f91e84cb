#include "engine/reward/reward_engine.h"

#include <algorithm>

#include "engine/base/fingerprint.h"
#include "engine/base/status_macros.h"
#include "engine/model/fingerprint.h"
#include "engine/model/row_parts.h"
#include "engine/reward/reward_kind.h"

namespace nabla {
namespace {

absl::StatusOr<std::string> FingerprintOf(const RewardModelOptions& options, const LocalRewardModel& model) {
  NABLA_ASSIGN_OR_RETURN(const std::string files, FingerprintModel(options.path, model.info().dtype));
  Fingerprint fingerprint;
  fingerprint.Add(absl::string_view(files)).Add(RewardKindName(model.kind()));
  if (model.kind() == RewardKind::kVerdict) {
    for (const std::string& text : {options.verdict_question, options.verdict_yes, options.verdict_no}) {
      fingerprint.Add(absl::string_view(text));
    }
  }
  return fingerprint.Hex();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RewardEngine>> RewardEngine::Create(const RewardEngineOptions& options) {
  std::unique_ptr<RewardEngine> engine(new RewardEngine());
  engine->batcher_ = std::make_unique<Batcher>(Batcher::Options{
      .max_batch_tokens = options.max_batch_tokens, .on_thread_start = UseOneTorchThread, .on_pass = options.on_batch});
  NABLA_ASSIGN_OR_RETURN(
      engine->model_,
      LocalRewardModel::Load(options.model, options.device, options.kv_cache_bytes, options.threads,
                             engine->batcher_.get(), {.for_gradients = options.gradient_weights == "packed"}));
  NABLA_ASSIGN_OR_RETURN(engine->embedding_, engine->model_->Embedding());
  NABLA_ASSIGN_OR_RETURN(engine->fingerprint_, FingerprintOf(options.model, *engine->model_));
  return engine;
}

}  // namespace nabla
