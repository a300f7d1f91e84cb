#include "engine/model/quantized_matrix.h"

#include "engine/kernels/elementwise.h"
#include "engine/model/cpu_tensors.h"

namespace nabla {

QuantizedMatrix::QuantizedMatrix(const torch::Tensor& matrix, WeightMemory& memory, ThreadTeam& team)
    : numbers_(memory.Empty(matrix.sizes(), torch::kInt8)), scales_(matrix.size(0)) {
  constexpr int64_t kRowsPerTask = 64;
  const int64_t outputs = matrix.size(0), inputs = matrix.size(1);
  auto* const numbers = numbers_.data_ptr<int8_t>();
  const auto* const data = static_cast<const char*>(matrix.data_ptr());
  team.ParallelFor(outputs, kRowsPerTask, [&](int64_t begin, int64_t end) {
    std::vector<float> row(inputs);
    for (int64_t i = begin; i < end; ++i) {
      kernels::Widen(TypeOf(matrix), data + i * inputs * matrix.element_size(), inputs, row.data());
      scales_[i] = kernels::QuantizeRow(row.data(), inputs, numbers + i * inputs);
    }
  });
}

kernels::WeightMatrix QuantizedMatrix::weight() const {
  return {.data = numbers_.data_ptr(),
          .type = kernels::NumberType::kInt8,
          .outputs = numbers_.size(0),
          .inputs = numbers_.size(1),
          .scales = scales_.data()};
}

}  // namespace nabla
