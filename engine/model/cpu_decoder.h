// Transformer::Extend on a CPU, by the row-independent kernels of engine/kernels. Includes torch for the weights only.
//
//   const CpuDecoder decoder(weights);
//   torch::Tensor hidden = decoder.Extend({{&cache, ids}}, team);
//
// A layer is five loops that the team's threads share, each with all that follows a product as long as it needs no
// other output of it: every core streams its part of the weights and no more. (Giving each thread some of the sequences
// instead saves handing over, but was slower even for the embedded models: each core then streams all weights.) How
// loops are divided does not change a number. Immutable and thread-safe.
#ifndef NABLA_ENGINE_MODEL_CPU_DECODER_H_
#define NABLA_ENGINE_MODEL_CPU_DECODER_H_

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/quantized_matrix.h"
#include "engine/model/weight_memory.h"

namespace nabla {

class CpuDecoder {
 public:
  // Refers to the tensors of `weights`, float32 or bfloat16 ones; packs those of small models (linear_pairs.h).
  explicit CpuDecoder(const DecoderWeights& weights);
  // Its products with int8 copies of their weights, which lie in `memory`.
  static CpuDecoder Quantized(const DecoderWeights& weights, WeightMemory& memory, ThreadTeam& team);

  torch::Tensor Extend(absl::Span<const Slice> slices, ThreadTeam& team) const;

  // Computes tokens again that `cache` holds at `position` and behind, for `record` alone; the same numbers.
  void Record(const KvCache& cache, int64_t position, absl::Span<const int32_t> ids, RecordedRows& record,
              ThreadTeam& team) const;

 private:
  class Pass;
  struct Product {
    kernels::WeightMatrix weight;
    std::vector<float> bias;  // empty without one
  };
  struct Layer {
    std::vector<float> input_norm, post_attention_norm;
    Product query, key, value, output, gate, up, down;
    std::vector<float> query_norm, key_norm;  // Qwen3; else empty
  };

  using Quantizer = std::function<QuantizedMatrix(const torch::Tensor& weight)>;  // null: weights as they are
  CpuDecoder(const DecoderWeights& weights, const Quantizer& quantize);
  Product ProductOf(const Linear& linear, const Quantizer& quantize);
  kernels::WeightMatrix PackedIfSmall(const torch::Tensor& weight);

  DecoderWeights weights_;
  std::vector<QuantizedMatrix> quantized_;  // what products refer to, or none
  WeightMemory packed_memory_;
  std::vector<torch::Tensor> packed_;  // the same
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;
};

// Products without autograd: [… , in] → float32 […, out]. `bias` may be empty.
torch::Tensor LinearOnCpu(const Linear& linear, const torch::Tensor& x, ThreadTeam& team);
torch::Tensor MultiplyOnCpu(const kernels::WeightMatrix& weight, const std::vector<float>& bias, const torch::Tensor& x,
                            ThreadTeam& team);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_DECODER_H_
