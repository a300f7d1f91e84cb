// A differentiable pass through a decoder stack on a CPU, and its derivative, written out. Includes torch.
//
//   const CpuGradient gradient(weights);
//   CpuGradient::Tape tape = CpuGradient::NewTape(weights, prefix_length, /*rows=*/embeddings.size(0));
//   torch::Tensor hidden = gradient.Forward(embeddings, prefix, tape, team);
//   torch::Tensor at_embeddings = gradient.Backward(hidden_gradient, tape, team);
//
// What autograd would do, without what it does not know: that no weight wants a gradient, that all but attention goes
// row by row. So the rows are divided among the team's threads, which meet once a layer forwards and once backwards,
// and each runs the products of its own rows alone. Attention weights are computed again rather
// than kept: memory grows with n, not with n². The residual stream and all that is not a product is float32, also in
// bfloat16 models. Immutable and thread-safe. Source: algorithm.md, equivalences 1, 2 and 4.
#ifndef NABLA_ENGINE_MODEL_CPU_GRADIENT_H_
#define NABLA_ENGINE_MODEL_CPU_GRADIENT_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "engine/kernels/thread_team.h"
#include "engine/model/cpu_projection.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/kv_cache.h"

namespace nabla {

class CpuGradient {
 public:
  // What a pass leaves to its derivative; n rows, T = prefix + n.
  struct Tape {
    struct Layer {
      torch::Tensor input, middle;       // float32 [n, H]: the residual stream ahead of attention and MLP
      torch::Tensor query;               // [n, heads · head dimension], rotated
      torch::Tensor raw_query, raw_key;  // ahead of their norms; Qwen3 only
      torch::Tensor keys, values;        // [key/value heads, T, head dimension]
      torch::Tensor gate, up;            // [n, intermediate size]
    };
    int64_t prefix = 0;
    std::vector<Layer> layers;
    torch::Tensor last;  // float32 [n, H]: ahead of the final norm
  };

  // Room for `rows` rows behind `prefix` tokens, without keys and values.
  static Tape NewTape(const DecoderWeights& weights, int64_t prefix, int64_t rows);
  // Room of one layer, which all write to: for a pass of which keys and values are wanted, but no derivative.
  static Tape NewTapeOfOneLayer(const DecoderWeights& weights, int64_t prefix, int64_t rows);

  // Refers to the tensors of `weights`, float32 or bfloat16 ones.
  explicit CpuGradient(const DecoderWeights& weights);

  // Every product with frozen weights.
  std::vector<const CpuProjection*> projections() const;

  // Hidden states [n, H] of n tokens behind the first `tape.prefix` ones of `prefix`. Fills `tape`, which has room for
  // n rows.
  torch::Tensor Forward(const torch::Tensor& embeddings, const KvCache& prefix, Tape& tape, ThreadTeam& team) const;

  // float32 [n, H], from the gradient [k, H] at the last k hidden states; those before have none. The tape is left as
  // it is.
  torch::Tensor Backward(const torch::Tensor& hidden_gradient, const Tape& tape, ThreadTeam& team) const;

 private:
  class Rows;
  class ForwardRows;
  class BackwardRows;
  struct Layer {
    CpuProjection query_key_value, output, gate_up, down;
    std::vector<float> input_norm, post_attention_norm;
    std::vector<float> query_norm, key_norm;  // Qwen3; else empty
  };

  static Tape::Layer NewLayer(const DecoderWeights& weights, int64_t rows);
  double KeysLikeWeights(int64_t products) const;

  DecoderWeights weights_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_GRADIENT_H_
