#include "engine/kernels/linear_pairs.h"

#include "engine/kernels/linear_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "engine/kernels/unrolled.h"

#define NABLA_PAIRS __attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq")))

namespace nabla::kernels {
namespace {

// kRows rows of x by kVectors vectors of outputs. Every sum runs over pairs of inputs in their order.
template <int kRows, int kVectors>
NABLA_PAIRS void Tile(const uint16_t* weight, const uint16_t* x, int64_t inputs, const float* bias, float* out,
                      int64_t out_stride) {
  __m512 sums[kRows][kVectors];
  NABLA_UNROLLED
  for (auto& row : sums) {
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  const int64_t vector = inputs * kOutputsPacked;  // numbers from one of them to the next
  for (int64_t k = 0; k < inputs; k += 2) {
    __m512bh weights[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = (__m512bh)_mm512_loadu_si512(weight + v * vector + k * kOutputsPacked);
    }
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + r * inputs + k, sizeof(pair));
      const auto pairs = (__m512bh)_mm512_set1_epi32(pair);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], pairs, weights[v]);
    }
  }
  NABLA_UNROLLED
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t o = v * kOutputsPacked;
      const __m512 sum = bias != nullptr ? _mm512_add_ps(sums[r][v], _mm512_loadu_ps(bias + o)) : sums[r][v];
      _mm512_storeu_ps(out + r * out_stride + o, sum);
    }
  }
}

template <int kVectors>
NABLA_PAIRS void Rows(const uint16_t* weight, const uint16_t* x, int64_t rows, int64_t inputs, const float* bias,
                      float* out, int64_t out_stride) {
  const auto tile = [&]<int kRows>(int64_t i) NABLA_PAIRS {
    Tile<kRows, kVectors>(weight, x + i * inputs, inputs, bias, out + i * out_stride, out_stride);
  };
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) tile.template operator()<4>(i);
  for (; i + 2 <= rows; i += 2) tile.template operator()<2>(i);
  if (i < rows) tile.template operator()<1>(i);
}

}  // namespace

bool CanPackPairs(const WeightMatrix& weight) {
  return weight.type == NumberType::kBfloat16 && HasPairProducts() && !MultipliesByTiles(weight.type, weight.inputs) &&
         weight.outputs % kOutputsPacked == 0 && weight.inputs % 2 == 0;
}

void PackPairs(const WeightMatrix& weight, uint16_t* packed) {
  const int64_t inputs = weight.inputs;
  for (int64_t o = 0; o < weight.outputs; ++o) {
    const uint16_t* const from = static_cast<const uint16_t*>(weight.data) + o * inputs;
    uint16_t* const to = packed + o / kOutputsPacked * kOutputsPacked * inputs + o % kOutputsPacked * 2;
    for (int64_t k = 0; k < inputs; k += 2) std::memcpy(to + k * kOutputsPacked, from + k, 2 * sizeof(*to));
  }
}

NABLA_PAIRS void LinearByPackedPairs(const WeightMatrix& matrix, const uint16_t* x, int64_t rows, const float* bias,
                                     float* out, int64_t out_stride, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const uint16_t*>(matrix.data);
  const int64_t inputs = matrix.inputs;
  const auto columns = [&]<int kVectors>(int64_t o) NABLA_PAIRS {
    Rows<kVectors>(weight + o * inputs, x, rows, inputs, bias != nullptr ? bias + o : nullptr, out + o, out_stride);
  };
  int64_t o = begin;
  for (; o + 4 * kOutputsPacked <= end; o += 4 * kOutputsPacked) columns.template operator()<4>(o);
  for (; o + 2 * kOutputsPacked <= end; o += 2 * kOutputsPacked) columns.template operator()<2>(o);
  for (; o < end; o += kOutputsPacked) columns.template operator()<1>(o);
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

bool CanPackPairs(const WeightMatrix&) { return false; }
void PackPairs(const WeightMatrix&, uint16_t*) {}
void LinearByPackedPairs(const WeightMatrix&, const uint16_t*, int64_t, const float*, float*, int64_t, int64_t,
                         int64_t) {}

}  // namespace nabla::kernels

#endif
