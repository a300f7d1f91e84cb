// The decoder stack of Llama, Qwen2 and Qwen3: tokens in, hidden states after the final norm out. Includes torch.
//
//   torch::Tensor hidden = body.Extend({{&cache, ids}});                         // decoding: appends to the caches
//   Transformer::Pass pass = body.Forward(embeddings, cache, prefix_length);    // refinement
//   torch::Tensor at_embeddings = pass.backward(hidden_gradient);
//
// Immutable and thread-safe; callers own the mutable state (the caches). n tokens, H hidden size. No batch dimension:
// the sequences of a batch are rows of the same products, only attention tells them apart. Throws c10::Error;
// GuardTorch() at the engine's edge catches it.
#ifndef NABLA_ENGINE_MODEL_TRANSFORMER_H_
#define NABLA_ENGINE_MODEL_TRANSFORMER_H_

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/cpu_decoder.h"
#include "engine/model/cpu_gradient.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/recorded_rows.h"
#include "engine/model/weights.h"

namespace nabla {

class Transformer {
 public:
  // `max_length`: positions that rotary tables are made for. `team` divides the passes of a CPU, whose gradients keep
  // copies of the weights or not.
  static absl::StatusOr<Transformer> Load(const ModelConfig& config, Weights& weights, int64_t max_length,
                                          torch::ScalarType dtype, torch::Device device,
                                          std::shared_ptr<ThreadTeam> team, bool copies_for_gradients = true);

  // Rows of the embedding matrix: [n, H].
  torch::Tensor Embed(absl::Span<const int32_t> ids) const;
  const torch::Tensor& embedding() const { return weights_.embedding; }  // [V, H]
  const DecoderWeights& weights() const { return weights_; }

  // Inference: one pass over the tokens of several sequences, each behind what its cache holds. Returns [Σ n, H], the
  // slices one after another, of each the rows that it wants. On a CPU a row's numbers depend on its own sequence alone
  // (engine/kernels), not on the other slices nor on how its tokens were cut into passes.
  torch::Tensor Extend(absl::Span<const Slice> slices) const;
  torch::Tensor ExtendWithTorch(absl::Span<const Slice> slices) const;  // what other devices do; the same to rounding
  // One sequence by the products that Forward uses, whatever the device.
  torch::Tensor ExtendAsForward(const Slice& slice) const;

  // Refinement: a pass over `embeddings` [n, H] behind the first `prefix_length` tokens of `prefix`, which are
  // constants and not changed, and its derivative.
  struct Pass {
    torch::Tensor hidden;  // [n, H]
    // From the gradient [k, H] at the last k rows of `hidden`, those before having none, to that at the embeddings:
    // float32 [n, H].
    std::function<torch::Tensor(const torch::Tensor& hidden_gradient)> backward;
  };
  Pass Forward(const torch::Tensor& embeddings, const KvCache& prefix, int64_t prefix_length) const;
  // The derivative alone, of tokens [first, ids.size()) that Extend has run into `cache`, which holds ids[0] at the
  // record's first position: as recorded, else computed again, to the same bits. Where can_record().
  std::function<torch::Tensor(const torch::Tensor& hidden_gradient)> Derivative(absl::Span<const int32_t> ids,
                                                                                int64_t first, const KvCache& cache,
                                                                                const RecordedRows& record) const;
  // Has Extend, and what Derivative computes again, go by `decoder`, a CPU's, which holds these weights in another
  // form. Derivatives are still taken with the weights as they are.
  void DecodeWith(std::shared_ptr<const CpuDecoder> decoder) { cpu_ = std::move(decoder); }
  bool can_record() const { return cpu_gradient_ != nullptr; }
  const CpuGradient* cpu_gradient() const { return cpu_gradient_.get(); }  // null on other devices
  // The same for autograd, as other devices do it.
  torch::Tensor ForwardWithTorch(const torch::Tensor& embeddings, const KvCache& prefix, int64_t prefix_length) const;

 private:
  Transformer(DecoderWeights weights, std::shared_ptr<ThreadTeam> team);

  // Runs every layer; `attend(layer, query, key, value)` rotates [n, heads, head dimension] and returns [n, heads ·
  // head dimension].
  template <typename Attention>
  torch::Tensor Run(torch::Tensor x, const Attention& attend) const;
  torch::Tensor Norm(const torch::Tensor& x, const torch::Tensor& weight) const;
  torch::Tensor Rotate(const torch::Tensor& x, const torch::Tensor& cosines, const torch::Tensor& sines) const;

  DecoderWeights weights_;
  std::shared_ptr<const CpuDecoder> cpu_;            // null on other devices
  std::shared_ptr<const CpuGradient> cpu_gradient_;  // null on other devices
  torch::Tensor cosines_, sines_;                    // in the model's type
  std::shared_ptr<ThreadTeam> team_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_TRANSFORMER_H_
