// A frozen linear layer for passes of many rows on a CPU, there and back. Includes torch.
//
//   const CpuProjection down(layer.down);
//   const torch::Tensor out = down.Forward(ProjectionInput(x, type));            // x Wᵀ + bias
//   const torch::Tensor at_x = down.Backward(ProjectionInput(gradient, type));   // gradient W
//
// All tensors float32, [rows, columns], those given contiguous; bfloat16 weights multiply rounded numbers and add up in
// float32. Where the CPU has tiles for bfloat16 (AMX), products are the kernels' of engine/kernels, which take the
// weights as they lie and are half as fast again as oneDNN's; for the way back, a transposed copy of the weights is
// made when it is first wanted. Large float32 matrices on CPUs other than Intel's, where MKL leaves AVX-512 alone, are
// oneDNN's on weights that are packed, for either way, when they are first wanted (not measured there; on an Intel CPU
// it gained nothing, as weights come from memory). Everything else is libtorch's plain product. Runs on the calling
// thread. Immutable and thread-safe.
#ifndef NABLA_ENGINE_MODEL_CPU_PROJECTION_H_
#define NABLA_ENGINE_MODEL_CPU_PROJECTION_H_

#include <torch/torch.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/kernels/linear.h"
#include "engine/model/decoder_weights.h"

namespace nabla {

// Rows as the products with weights of a type want them; made once for all products of these rows. May refer to `x`.
class ProjectionInput {
 public:
  ProjectionInput(const torch::Tensor& x, torch::ScalarType weights);

 private:
  friend class CpuProjection;

  torch::Tensor x_;                            // in the weights' type, for libtorch, or
  std::optional<kernels::LinearInput> tiles_;  // for the kernels
};

class CpuProjection {
 public:
  // Refers to the tensors of `linear`.
  explicit CpuProjection(const Linear& linear) : CpuProjection(linear, PackingPays(linear.weight)) {}
  // `packs`: float32 weights alone; libtorch has oneDNN.
  CpuProjection(const Linear& linear, bool packs);

  // Whether `weight` is to be packed on this machine.
  static bool PackingPays(const torch::Tensor& weight);

  torch::Tensor Forward(const ProjectionInput& x) const;
  torch::Tensor Backward(const ProjectionInput& gradient) const;

 private:
  // A copy of the weights, as the products of one way want them.
  struct Copy {
    std::once_flag once;
    torch::Tensor weight;
  };

  Linear linear_;
  std::vector<float> bias_;
  const bool packs_;
  std::shared_ptr<Copy> forward_ = std::make_shared<Copy>(), backward_ = std::make_shared<Copy>();
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_PROJECTION_H_
