#include "engine/model/quantized_matrix.h"

#include "engine/kernels/elementwise.h"
#include "engine/model/cpu_tensors.h"

namespace nabla {

QuantizedMatrix::QuantizedMatrix(const torch::Tensor& matrix, ThreadTeam& team)
    : outputs_(matrix.size(0)), inputs_(matrix.size(1)), numbers_(outputs_ * inputs_), scales_(outputs_) {
  constexpr int64_t kRowsPerTask = 64;
  const auto* const data = static_cast<const char*>(matrix.data_ptr());
  team.ParallelFor(outputs_, kRowsPerTask, [&](int64_t begin, int64_t end) {
    std::vector<float> row(inputs_);
    for (int64_t i = begin; i < end; ++i) {
      kernels::Widen(TypeOf(matrix), data + i * inputs_ * matrix.element_size(), inputs_, row.data());
      scales_[i] = kernels::QuantizeRow(row.data(), inputs_, numbers_.data() + i * inputs_);
    }
  });
}

kernels::WeightMatrix QuantizedMatrix::weight() const {
  return {.data = numbers_.data(),
          .type = kernels::NumberType::kInt8,
          .outputs = outputs_,
          .inputs = inputs_,
          .scales = scales_.data()};
}

}  // namespace nabla
