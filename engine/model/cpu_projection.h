// A frozen linear layer for passes of many rows on a CPU, there and back. Includes torch.
//
//   const CpuProjection down(layer.down);
//   down.Forward(ProjectionInput(x, type), out);          // out = x Wᵀ + bias
//   down.Backward(ProjectionInput(gradient, type), at_x, /*add=*/false);   // at_x = gradient W
//
// All tensors float32, [rows, columns], contiguous; bfloat16 weights multiply rounded numbers and add up in float32.
// Where the CPU has tiles for bfloat16 (AMX), products are the kernels' of engine/kernels, which take the weights as
// they lie and are half as fast again as oneDNN's; for the way back, a transposed copy of the weights is made when it
// is first wanted. Elsewhere they are libtorch's, which are faster than those kernels for more than a few rows. Runs on
// the calling thread. Immutable and thread-safe.
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
  explicit CpuProjection(const Linear& linear);

  void Forward(const ProjectionInput& x, const torch::Tensor& out) const;

  // `add`: at_x += instead.
  void Backward(const ProjectionInput& gradient, const torch::Tensor& at_x, bool add) const;

 private:
  struct Transposed {
    std::once_flag once;
    torch::Tensor weight;
  };

  Linear linear_;
  std::vector<float> bias_;
  std::shared_ptr<Transposed> transposed_ = std::make_shared<Transposed>();
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_PROJECTION_H_
