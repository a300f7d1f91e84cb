// As linear_dot.h, with weights packed so that outputs lie side by side: a vector of sums is then one row's for sixteen
// outputs, and no lanes are left to be added up, which with few inputs takes half as long as the products. (Embedded
// writer, AMD Zen 4, a step of 1, 4 and 16 rows: 0.077, 0.147, 0.60 ms instead of 0.101, 0.169, 0.69.) What linear.h
// promises holds; call that instead.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_PAIRS_H_
#define NABLA_ENGINE_KERNELS_LINEAR_PAIRS_H_

#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

inline constexpr int64_t kOutputsPacked = 16;  // side by side

// Whether this machine multiplies by such weights once they are packed.
bool CanPackPairs(const WeightMatrix& weight);

// [outputs, inputs] → [outputs / 16, inputs / 2, 16, 2], as many numbers, which then are `packed` weights.
void PackPairs(const WeightMatrix& weight, uint16_t* packed);

// `weight` is packed; `x`: bfloat16 [rows, inputs]. `begin` and `end` are multiples of kOutputsPacked.
void LinearByPackedPairs(const WeightMatrix& weight, const uint16_t* x, int64_t rows, const float* bias, float* out,
                         int64_t out_stride, int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_PAIRS_H_
