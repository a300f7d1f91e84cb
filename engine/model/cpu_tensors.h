// Tensors of a CPU as the kernels take them. Includes torch.
#ifndef NABLA_ENGINE_MODEL_CPU_TENSORS_H_
#define NABLA_ENGINE_MODEL_CPU_TENSORS_H_

#include <torch/torch.h>

#include <vector>

#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear.h"

namespace nabla {

inline kernels::NumberType TypeOf(torch::ScalarType type) {
  return type == torch::kFloat32 ? kernels::NumberType::kFloat32 : kernels::NumberType::kBfloat16;
}
inline kernels::NumberType TypeOf(const torch::Tensor& tensor) { return TypeOf(tensor.scalar_type()); }

inline kernels::WeightMatrix MatrixOf(const torch::Tensor& weight) {
  return {.data = weight.data_ptr(), .type = TypeOf(weight), .outputs = weight.size(0), .inputs = weight.size(1)};
}

// All numbers in float32; none of an undefined tensor.
inline std::vector<float> Widened(const torch::Tensor& tensor) {
  std::vector<float> wide(tensor.defined() ? tensor.numel() : 0);
  if (!wide.empty()) kernels::Widen(TypeOf(tensor), tensor.data_ptr(), tensor.numel(), wide.data());
  return wide;
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_TENSORS_H_
