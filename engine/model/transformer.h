// The decoder stack of Llama, Qwen2 and Qwen3: embeddings in, hidden states after the final norm out. Includes torch.
//
//   torch::Tensor hidden = body.Extend(body.Embed(ids), cache);                                   // decoding: appends
//   to the cache torch::Tensor hidden = body.Forward(embeddings, cache, prefix_length);                        //
//   refinement: differentiable
//
// Immutable and thread-safe; callers own the mutable state (the cache). n tokens, H hidden size. No batch dimension:
// the sequences of a batch are rows of the same products, only attention tells them apart. Throws c10::Error;
// GuardTorch() at the engine's edge catches it.
#ifndef NABLA_ENGINE_MODEL_TRANSFORMER_H_
#define NABLA_ENGINE_MODEL_TRANSFORMER_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model_config.h"
#include "engine/model/weights.h"

namespace nabla {

// The seam behind which every product with frozen weights lies. weight [out, in].
struct Linear {
  torch::Tensor weight;
  torch::Tensor bias;  // undefined without one

  torch::Tensor operator()(const torch::Tensor& x) const { return at::linear(x, weight, bias); }
};

class Transformer {
 public:
  // `max_length`: positions that rotary tables are made for.
  static absl::StatusOr<Transformer> Load(const ModelConfig& config, const Weights& weights, int64_t max_length,
                                          torch::ScalarType dtype, torch::Device device);

  // Rows of the embedding matrix: [n, H].
  torch::Tensor Embed(absl::Span<const int32_t> ids) const;
  const torch::Tensor& embedding() const { return embedding_; }  // [V, H]

  // Inference: n tokens behind what `cache` holds, appended to it. Returns [n, H]. Needs room for n more.
  torch::Tensor Extend(const torch::Tensor& embeddings, KvCache& cache) const;

  // Differentiable in `embeddings` [n, H]: n tokens behind the first `prefix_length` of `prefix`, which are constants
  // and not changed.
  torch::Tensor Forward(const torch::Tensor& embeddings, const KvCache& prefix, int64_t prefix_length) const;

 private:
  struct Layer {
    torch::Tensor input_norm, post_attention_norm;
    Linear query, key, value, output, gate, up, down;
    torch::Tensor query_norm, key_norm;  // Qwen3; else undefined
  };

  Transformer(const ModelConfig& config, int64_t max_length, torch::ScalarType dtype, torch::Device device);

  // Keys and values of one layer, the new ones [heads, n, head dimension] in, all that can be attended to out.
  template <typename KeysAndValues>
  torch::Tensor Run(torch::Tensor x, int64_t position, const KeysAndValues& keys_and_values) const;
  torch::Tensor Norm(const torch::Tensor& x, const torch::Tensor& weight) const;
  torch::Tensor Rotate(const torch::Tensor& x, int64_t position) const;
  torch::Tensor Attend(const torch::Tensor& query, const torch::Tensor& keys, const torch::Tensor& values,
                       const torch::Tensor& mask) const;

  ModelConfig config_;
  torch::ScalarType dtype_;
  torch::Device device_;
  torch::Tensor embedding_, final_norm_;
  torch::Tensor cos_, sin_;  // [max_length, head dimension]
  std::vector<Layer> layers_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_TRANSFORMER_H_
