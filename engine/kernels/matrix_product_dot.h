// The same products as matrix_product.h's of bfloat16 numbers, by the instruction that adds two products at once
// (AVX512_BF16): twice as fast as float32 on AMD Zen 4. Sums are float32. Call them where HasPairProducts
// (linear_dot.h).
//
// An element of A and of B is a pair: two numbers that follow each other along k, in the bits of a float. So k counts
// pairs. A [m, k] is a bfloat16 matrix of rows as it lies; B [k, n] comes of one by PairRows, or of Bᵀ by transposing
// it pair by pair.
#ifndef NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_DOT_H_
#define NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_DOT_H_

#include <cstdint>

#include "engine/kernels/matrix_product.h"

namespace nabla::kernels {

void MultiplyPairs(const MatrixProduct& product);
void MultiplyAddPairs(const MatrixProduct& product);

// Two rows of `count` bfloat16 numbers, a multiple of kPad, to a row of as many pairs. `next` may be null: zeros.
void PairRows(const uint16_t* row, const uint16_t* next, int64_t count, float* pairs);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_DOT_H_
