// A model's decoder stack and head with int8 copies of their weights. Includes torch.
//
//   const QuantizedModel copy(model->body().weights(), model->head_weight(), team);
//   torch::Tensor logits = copy.Head(copy.Extend({{&cache, ids}}));   // float32 [Σ n, V]; appends to the caches
//
// One stream decodes as fast as weights can be read, and these are a quarter of float32's. Either they draft, that is,
// guess what the model itself is about to say, which one pass of it verifies (ModelRunner), or they stand in for it
// wherever it decodes (WeightCopies). Of a CPU. Immutable and thread-safe.
#ifndef NABLA_ENGINE_MODEL_QUANTIZED_MODEL_H_
#define NABLA_ENGINE_MODEL_QUANTIZED_MODEL_H_

#include <torch/torch.h>

#include <memory>

#include "absl/types/span.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/cpu_decoder.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/quantized_matrix.h"
#include "engine/model/weight_memory.h"

namespace nabla {

class QuantizedModel {
 public:
  // `head`: [V, H].
  QuantizedModel(const DecoderWeights& weights, const torch::Tensor& head, std::shared_ptr<ThreadTeam> team);

  torch::Tensor Extend(absl::Span<const Slice> slices) const { return body_.Extend(slices, *team_); }
  torch::Tensor Head(const torch::Tensor& hidden) const;  // [n, H] → float32 [n, V]
  const CpuDecoder& body() const { return body_; }

 private:
  const std::shared_ptr<ThreadTeam> team_;
  WeightMemory copies_;  // ahead of those that it holds
  const CpuDecoder body_;
  const QuantizedMatrix head_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_QUANTIZED_MODEL_H_
