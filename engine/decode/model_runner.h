// A model as the batcher drives it: one forward pass over the sequences of several requests. Includes torch.
//
//   ModelRunner runner(model, pool, &batcher, /*draft=*/quantized);   // null: without drafts
//   NABLA_RETURN_IF_ERROR(runner.Run(job));          // blocks; the job's functions are called on the execution thread
//   KvCache cache(runner.kv_pool());
//
// Thread-safe.
#ifndef NABLA_ENGINE_DECODE_MODEL_RUNNER_H_
#define NABLA_ENGINE_DECODE_MODEL_RUNNER_H_

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/stop_token.h"
#include "engine/decode/batcher.h"
#include "engine/model/kv_cache.h"
#include "engine/model/kv_pool.h"
#include "engine/model/memory_budget.h"
#include "engine/model/model.h"
#include "engine/model/quantized_model.h"

namespace nabla {

// A sequence whose tokens are to be run, and what is to happen with what comes out. All functions are called on the
// execution thread.
class SequenceJob : public BatchJob {
 public:
  // `stop` may be null: nobody can stop it.
  SequenceJob(KvCache* cache, const StopToken* stop) : cache_(cache), stop_(stop) {}

  virtual absl::Span<const int32_t> pending() const = 0;  // tokens that the cache does not hold yet
  // Ahead of a pass: whether a draft model shall guess what comes behind the one pending token.
  virtual bool WantsDraft() const { return false; }
  // The draft model's logits behind the last pending token, [V]. Makes the guess pending, and says whether it wants
  // another behind it.
  virtual bool OnDraftLogits(absl::Span<const float> /*logits*/) { return false; }
  virtual int64_t DraftTokens() const { return 0; }  // that are pending for it; a pass takes them all
  // Ahead of a pass over so many pending tokens: of how many of the last the hidden states are wanted.
  virtual int64_t HiddenWanted(int64_t rows) const { return rows; }
  virtual void OnHidden(const torch::Tensor& hidden, int64_t rows_run) = 0;  // [those wanted, H]
  // Behind OnHidden: of how many of the last of these logits are wanted. 0: of none; nothing pending is done.
  virtual int64_t LogitsWanted(int64_t /*rows_run*/) { return 0; }
  // Of one of these rows, [V], in order. Sets `done`, or makes a token pending; false where it wants no more of them.
  virtual bool OnLogits(absl::Span<const float> /*logits*/) { return false; }

  int64_t RowsWanted() const override { return static_cast<int64_t>(pending().size()); }
  absl::Status Check() const override { return stop_ != nullptr ? stop_->Check() : absl::OkStatus(); }
  KvCache& cache() { return *cache_; }
  virtual RecordedRows* record() { return nullptr; }  // takes what its rows leave to a derivative

 private:
  KvCache* const cache_;
  const StopToken* const stop_;
};

class ModelRunner : public BatchModel {
 public:
  // `draft` may be null.
  // `activations`: what recorded rows of all its sequences share; null: nothing is recorded.
  ModelRunner(std::shared_ptr<const Model> model, std::shared_ptr<KvPool> kv_pool, Batcher* batcher,
              std::shared_ptr<const QuantizedModel> draft = nullptr,
              std::shared_ptr<MemoryBudget> activations = nullptr)
      : model_(std::move(model)),
        kv_pool_(std::move(kv_pool)),
        batcher_(batcher),
        draft_(std::move(draft)),
        activations_(std::move(activations)) {}

  absl::Status Run(SequenceJob& job) { return batcher_->Run(*this, job); }
  absl::Status Run(absl::Span<SequenceJob* const> jobs) {
    return batcher_->Run(*this, std::vector<BatchJob*>(jobs.begin(), jobs.end()));
  }
  // Computes with this model's tensors on the execution thread, between two steps and without autograd; what torch
  // throws becomes a status.
  absl::Status Compute(const std::function<void()>& work) const;
  absl::StatusOr<int64_t> RunPass(absl::Span<const BatchShare> shares) override;
  // Prepares the model's weights for gradients while the execution thread is idle, so that the first gradient does not
  // have to (two models of SmolLM2's shape on two cores: 3 s in float32). Returns at once.
  void PrepareGradients() const;

  const std::shared_ptr<const Model>& model() const { return model_; }
  const std::shared_ptr<KvPool>& kv_pool() const { return kv_pool_; }
  Batcher& batcher() const { return *batcher_; }
  bool drafts() const { return draft_ != nullptr; }
  const std::shared_ptr<MemoryBudget>& activations() const { return activations_; }

 private:
  absl::StatusOr<int64_t> RunSlices(absl::Span<const BatchShare> shares);
  void Draft(absl::Span<const BatchShare> shares) const;

  const std::shared_ptr<const Model> model_;
  const std::shared_ptr<KvPool> kv_pool_;
  Batcher* const batcher_;
  const std::shared_ptr<const QuantizedModel> draft_;
  const std::shared_ptr<MemoryBudget> activations_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_MODEL_RUNNER_H_
