// Frozen linear layers of the same inputs, for passes of many rows on a CPU, there and back. Includes torch.
//
//   const CpuProjection gate_up({layer.gate, layer.up});   // their outputs side by side
//   const torch::Tensor out = gate_up.Forward(ProjectionInput(x, type));            // x Wᵀ + bias, [rows, outputs]
//   const torch::Tensor at_x = gate_up.Backward(ProjectionInput(gradient, type));   // gradient W, [rows, inputs]
//
// Results are float32, or bfloat16 where a library's product of bfloat16 numbers ends in it; bfloat16 weights multiply
// rounded numbers and add up in float32. Where the CPU has tiles for bfloat16 (AMX), products are the kernels' of
// engine/kernels, which take the weights as they lie and are half as fast again as oneDNN's; for the way back, a
// transposed copy of the weights is made when it is first wanted. Other products of large matrices are oneDNN's on
// weights that are packed, for either way, when they are first wanted (gradients of SmolLM2: AMD Zen 4 0.68 s instead
// of 0.87 in float32, 0.40 instead of 0.44 in bfloat16). Everything else is libtorch's plain product. CPUs without
// instructions for bfloat16 multiply widened weights by numbers that are not rounded, and keep widened copies, twice
// as large. Runs on the calling thread. Immutable and thread-safe.
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

// Rows as the products with weights of a type want them. May refer to `x`.
class ProjectionInput {
 public:
  // `x`: float32 or the weights' type, better TypeFor that; contiguous.
  ProjectionInput(const torch::Tensor& x, torch::ScalarType weights);

  // What rows of `inputs` numbers need no conversion in.
  static torch::ScalarType TypeFor(torch::ScalarType weights, int64_t inputs);

 private:
  friend class CpuProjection;

  torch::Tensor x_;                            // as libtorch multiplies them by the weights, or
  std::optional<kernels::LinearInput> tiles_;  // for the kernels
};

class CpuProjection {
 public:
  enum class Copies {
    kNone,          // only for the tiles' way back, one transposed by every thread that goes it, while it does
    kWhereTheyPay,  // as above
    kPacked,        // for oneDNN, which libtorch must have, whatever the weights
  };

  // Refers to the tensors of `linears`, which are of one type, and all have a bias or none.
  explicit CpuProjection(std::vector<Linear> linears, Copies copies = Copies::kWhereTheyPay);

  bool keeps_copies() const { return keeps_; }  // where they pay
  // Makes the copies of the weights that Forward or Backward makes when it is first called.
  void PrepareForward() const;
  void PrepareBackward() const;

  torch::Tensor Forward(const ProjectionInput& x) const;
  torch::Tensor Backward(const ProjectionInput& gradient) const;

 private:
  // A copy of the weights, as the products of one way want them.
  struct Copy {
    std::once_flag once;
    torch::Tensor weight;
  };

  // Whether such weights are to be packed on this machine.
  static bool PackingPays(const std::vector<Linear>& linears);
  torch::ScalarType library_type() const;
  torch::Tensor Stacked() const;  // all weights, [outputs, inputs]
  torch::Tensor Transposed() const { return Stacked().t().contiguous(); }

  std::vector<Linear> linears_;
  torch::Tensor bias_;  // [outputs], or undefined
  int64_t inputs_ = 0, outputs_ = 0;
  const bool keeps_, packs_;  // copies; those for oneDNN
  std::shared_ptr<Copy> forward_ = std::make_shared<Copy>(), backward_ = std::make_shared<Copy>();
};

inline CpuProjection::Copies CopiesForGradients(bool wanted) {
  return wanted ? CpuProjection::Copies::kWhereTheyPay : CpuProjection::Copies::kNone;
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_PROJECTION_H_
