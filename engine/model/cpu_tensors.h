// Tensors of a CPU as the kernels take them. Includes torch.
#ifndef NABLA_ENGINE_MODEL_CPU_TENSORS_H_
#define NABLA_ENGINE_MODEL_CPU_TENSORS_H_

#include <torch/torch.h>

#include <cstdint>
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

// Row `i` of a matrix whose rows have no gaps, in float32: itself, or widened to `scratch`.
inline float* ReadRow(const torch::Tensor& matrix, int64_t i, std::vector<float>& scratch) {
  char* const row = static_cast<char*>(matrix.data_ptr()) + i * matrix.stride(0) * matrix.element_size();
  if (matrix.scalar_type() == torch::kFloat32) return reinterpret_cast<float*>(row);
  scratch.resize(matrix.size(1));
  kernels::Widen(TypeOf(matrix), row, matrix.size(1), scratch.data());
  return scratch.data();
}

// The other way round: `row`, unless that is what ReadRow gave, to row `i` in the type of the matrix.
inline void WriteRow(const torch::Tensor& matrix, int64_t i, const float* row) {
  char* const to = static_cast<char*>(matrix.data_ptr()) + i * matrix.stride(0) * matrix.element_size();
  if (to != reinterpret_cast<const char*>(row)) kernels::Narrow(TypeOf(matrix), row, matrix.size(1), to);
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_TENSORS_H_
