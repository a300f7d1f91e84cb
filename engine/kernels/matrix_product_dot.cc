#include "engine/kernels/matrix_product_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/kernels/unrolled.h"

#define NABLA_PAIRS __attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq")))

namespace nabla::kernels {
namespace {

// C's rows [i, i + kRows), kVectors vectors of columns from j on.
template <bool kAdd, int kRows, int kVectors>
NABLA_PAIRS void ProductTile(const MatrixProduct& p, int64_t i, int64_t j) {
  __m512 sums[kRows][kVectors];
  float* const c = p.c.at + i * p.c.row + j;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = kAdd ? _mm512_loadu_ps(c + r * p.c.row + v * kPad) : _mm512_setzero_ps();
    }
  }
  const float* a = p.a.at + i * p.a.row;
  const float* b = p.b.at + j;
  for (int64_t k = 0; k < p.k; ++k) {
    __m512bh column[kVectors];
    for (int v = 0; v < kVectors; ++v) column[v] = (__m512bh)_mm512_loadu_ps(b + v * kPad);
    for (int r = 0; r < kRows; ++r) {
      const auto pair = (__m512bh)_mm512_set1_ps(a[r * p.a.row]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], pair, column[v]);
    }
    a += p.a.column, b += p.b.row;
  }
  NABLA_UNROLLED
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + r * p.c.row + v * kPad, sums[r][v]);
  }
}

// All rows of some columns, whose part of B stays in the first-level cache.
template <bool kAdd, int kVectors>
void ProductColumns(const MatrixProduct& p, int64_t j) {
  int64_t i = 0;
  for (; i + 6 <= p.m; i += 6) ProductTile<kAdd, 6, kVectors>(p, i, j);
  for (; i + 2 <= p.m; i += 2) ProductTile<kAdd, 2, kVectors>(p, i, j);
  if (i < p.m) ProductTile<kAdd, 1, kVectors>(p, i, j);
}

template <bool kAdd>
void Product(const MatrixProduct& p) {
  int64_t j = 0;
  for (; j + 4 * kPad <= p.n; j += 4 * kPad) ProductColumns<kAdd, 4>(p, j);
  for (; j < p.n; j += kPad) ProductColumns<kAdd, 1>(p, j);
}

}  // namespace

void MultiplyPairs(const MatrixProduct& product) { Product<false>(product); }
void MultiplyAddPairs(const MatrixProduct& product) { Product<true>(product); }

NABLA_PAIRS void PairRows(const uint16_t* row, const uint16_t* next, int64_t count, float* pairs) {
  for (int64_t i = 0; i < count; i += kPad) {
    const auto wide = [i](const uint16_t* numbers) NABLA_PAIRS {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + i)));
    };
    const __m512i upper = next != nullptr ? _mm512_slli_epi32(wide(next), 16) : _mm512_setzero_si512();
    _mm512_storeu_si512(pairs + i, _mm512_or_si512(wide(row), upper));
  }
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

void MultiplyPairs(const MatrixProduct&) {}
void MultiplyAddPairs(const MatrixProduct&) {}
void PairRows(const uint16_t*, const uint16_t*, int64_t, float*) {}

}  // namespace nabla::kernels

#endif
