// What a decoder stack of Llama, Qwen2 or Qwen3 is made of, and what a pass through it takes. Includes torch.
#ifndef NABLA_ENGINE_MODEL_DECODER_WEIGHTS_H_
#define NABLA_ENGINE_MODEL_DECODER_WEIGHTS_H_

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model_config.h"

namespace nabla {

// The seam behind which every product with frozen weights lies. weight [out, in].
struct Linear {
  torch::Tensor weight;
  torch::Tensor bias;  // undefined without one

  torch::Tensor operator()(const torch::Tensor& x) const { return at::linear(x, weight, bias); }
};

class RecordedRows;

// Tokens of one sequence in a pass: `ids` come behind what `cache` holds, which has room for them (KvCache::Prepare).
struct Slice {
  KvCache* cache = nullptr;
  absl::Span<const int32_t> ids;
  RecordedRows* record = nullptr;  // takes what the pass leaves to a derivative, on a CPU; wants all hidden states
  // Of how many of the last tokens the hidden states are wanted; unset: of all. The others leave keys and values alone.
  std::optional<int64_t> last = std::nullopt;

  int64_t hidden_rows() const { return last.value_or(static_cast<int64_t>(ids.size())); }
};

struct DecoderLayer {
  torch::Tensor input_norm, post_attention_norm;
  Linear query, key, value, output, gate, up, down;
  torch::Tensor query_norm, key_norm;  // Qwen3; else undefined
};

struct DecoderWeights {
  ModelConfig config;
  torch::ScalarType dtype;
  torch::Device device;
  bool copies_for_gradients = true;     // on a CPU, see CpuProjection
  torch::Tensor embedding, final_norm;  // [V, H], [H]
  torch::Tensor cosines, sines;         // float32 [max_length, head dimension]
  std::vector<DecoderLayer> layers;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_DECODER_WEIGHTS_H_
