// Products of small float32 matrices whose operands lie in a core's caches, vectorised for the machine it runs on
// (Highway). No torch.
//
//   Multiply({{a, k}, {b, n}, {c, n}, m, n, k});      // C [m, n] = A [m, k] B [k, n]
//   MultiplyAdd({{a, 1, m}, {b, n}, {c, n}, m, n, k});   // C += A B, where A lies transposed, [k, m]
//
// Runs on the calling thread. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_H_
#define NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_H_

#include <cstdint>

namespace nabla::kernels {

template <typename Number>
struct MatrixAt {
  Number* at;
  int64_t row;         // from a row to the next
  int64_t column = 1;  // of A alone: from a column to the next
};

// Of A [m, k], B [k, n] and C [m, n]; n is a multiple of kPad.
struct MatrixProduct {
  MatrixAt<const float> a, b;
  MatrixAt<float> c;
  int64_t m, n, k;
};

constexpr int64_t kPad = 16;  // numbers: a vector's, at most

// C = A B.
void Multiply(const MatrixProduct& product);
// C += A B.
void MultiplyAdd(const MatrixProduct& product);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_MATRIX_PRODUCT_H_
