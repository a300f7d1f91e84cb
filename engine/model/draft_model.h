// The same model with int8 weights, which guesses what the model itself is about to say. Includes torch.
//
//   const DraftModel draft(model);
//   torch::Tensor logits = draft.Logits({{&cache, ids}});   // float32 [Σ n, V]; appends to the caches
//   cache.Truncate(before);                                 // its keys and values are guesses, too
//
// One stream decodes as fast as weights can be read, and these are a quarter of float32's: a few guesses and one pass
// of the model over all of them cost less than a pass for each token. For models of a CPU. Immutable and thread-safe.
#ifndef NABLA_ENGINE_MODEL_DRAFT_MODEL_H_
#define NABLA_ENGINE_MODEL_DRAFT_MODEL_H_

#include <torch/torch.h>

#include <memory>

#include "absl/types/span.h"
#include "engine/model/cpu_decoder.h"
#include "engine/model/model.h"
#include "engine/model/quantized_matrix.h"
#include "engine/model/weight_memory.h"

namespace nabla {

class DraftModel {
 public:
  explicit DraftModel(std::shared_ptr<const Model> model);

  torch::Tensor Logits(absl::Span<const Slice> slices) const;

 private:
  const std::shared_ptr<const Model> model_;
  WeightMemory copies_;  // ahead of those that it holds
  const CpuDecoder body_;
  const QuantizedMatrix head_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_DRAFT_MODEL_H_
