// A weight matrix in int8, a scale for each output: a quarter of float32's bytes to stream. Includes torch.
//
//   const QuantizedMatrix matrix(linear.weight, memory, team);
//   kernels::Linear(matrix.weight(), input, nullptr, out, outputs, 0, outputs);
//
// Immutable and thread-safe; movable: weight() of a moved matrix is still good.
#ifndef NABLA_ENGINE_MODEL_QUANTIZED_MATRIX_H_
#define NABLA_ENGINE_MODEL_QUANTIZED_MATRIX_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "engine/kernels/linear.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/weight_memory.h"

namespace nabla {

class QuantizedMatrix {
 public:
  // Of a float32 or bfloat16 matrix [outputs, inputs] of a CPU, without gaps between its rows; in `memory`.
  QuantizedMatrix(const torch::Tensor& matrix, WeightMemory& memory, ThreadTeam& team);

  kernels::WeightMatrix weight() const;

 private:
  torch::Tensor numbers_;  // int8 [outputs, inputs]
  std::vector<float> scales_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_QUANTIZED_MATRIX_H_
