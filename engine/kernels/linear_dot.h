// Products with bfloat16 weights by the instruction that adds two products at once (AVX512_BF16), on CPUs without tiles
// for them: half the multiplications of widened numbers, and nothing to widen. What linear.h promises holds; call that
// instead.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_DOT_H_
#define NABLA_ENGINE_KERNELS_LINEAR_DOT_H_

#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

// Whether this machine has it.
bool HasPairProducts();

// `count` numbers rounded to bfloat16.
void NarrowForPairs(const float* x, int64_t count, uint16_t* out);

// `x`: bfloat16 [rows, inputs].
void LinearByPairs(const WeightMatrix& weight, const uint16_t* x, int64_t rows, const float* bias, float* out,
                   int64_t out_stride, int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_DOT_H_
