#include "engine/kernels/linear_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/kernels/weight_streams.h"

#define NABLA_PAIRS __attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq")))

namespace nabla::kernels {
namespace {

constexpr int64_t kPairs = 16;           // products that one instruction adds to as many sums
constexpr int64_t kInputs = 2 * kPairs;  // numbers of a row that it takes

NABLA_PAIRS inline __m512bh Load(const uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }

NABLA_PAIRS inline __m512bh LoadFirst(const uint16_t* from, int64_t count) {
  return (__m512bh)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << count) - 1), from);
}

// Dot products of kRows rows of x with kOutputs rows of the weights. Every sum runs over k in steps of kInputs,
// whatever the tile's shape. kAhead: fetches the weights behind these meanwhile.
template <int kRows, int kOutputs, bool kAhead>
NABLA_PAIRS void Tile(const uint16_t* weight, const uint16_t* x, int64_t inputs, const float* bias, float* out,
                      int64_t out_stride) {
  __m512 sums[kRows][kOutputs];
  for (auto& row : sums) {
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  int64_t k = 0;
  for (; k + kInputs <= inputs; k += kInputs) {
    __m512bh weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) {
      weights[o] = Load(weight + o * inputs + k);
      if constexpr (kAhead) _mm_prefetch(weight + (kOutputs + o) * inputs + k, _MM_HINT_T0);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = Load(x + r * inputs + k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = _mm512_dpbf16_ps(sums[r][o], value, weights[o]);
    }
  }
  if (k < inputs) {
    __m512bh weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) weights[o] = LoadFirst(weight + o * inputs + k, inputs - k);
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = LoadFirst(x + r * inputs + k, inputs - k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = _mm512_dpbf16_ps(sums[r][o], value, weights[o]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int o = 0; o < kOutputs; ++o) {
      out[r * out_stride + o] = _mm512_reduce_add_ps(sums[r][o]) + (bias != nullptr ? bias[o] : 0);
    }
  }
}

template <int kOutputs>
NABLA_PAIRS void Rows(const uint16_t* weight, const uint16_t* x, int64_t rows, int64_t inputs, const float* bias,
                      float* out, int64_t out_stride) {
  int64_t i = 0;
  if (rows >= 4) {  // while the other rows are computed, memory would idle
    Tile<4, kOutputs, /*kAhead=*/true>(weight, x, inputs, bias, out, out_stride);
    i = 4;
  }
  for (; i + 4 <= rows; i += 4) {
    Tile<4, kOutputs, false>(weight, x + i * inputs, inputs, bias, out + i * out_stride, out_stride);
  }
  if (rows - i >= 2) {
    Tile<2, kOutputs, false>(weight, x + i * inputs, inputs, bias, out + i * out_stride, out_stride);
    i += 2;
  }
  if (i < rows) Tile<1, kOutputs, false>(weight, x + i * inputs, inputs, bias, out + i * out_stride, out_stride);
}

}  // namespace

bool HasPairProducts() {
  static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

NABLA_PAIRS void NarrowForPairs(const float* x, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; i += kPairs) {
    const auto wanted = static_cast<__mmask16>((uint32_t{1} << (count - i < kPairs ? count - i : kPairs)) - 1);
    const __m256bh narrow = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(wanted, x + i));
    _mm256_mask_storeu_epi16(out + i, wanted, (__m256i)narrow);
  }
}

NABLA_PAIRS void LinearByPairs(const WeightMatrix& matrix, const uint16_t* x, int64_t rows, const float* bias,
                               float* out, int64_t out_stride, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const uint16_t*>(matrix.data);
  const int64_t inputs = matrix.inputs;
  const auto bias_of = [bias](int64_t output) { return bias != nullptr ? bias + output : nullptr; };
  int64_t o = begin;
  if (rows <= 8 && OneStreamIsBest()) {
    for (; o < end; ++o) Rows<1>(weight + o * inputs, x, rows, inputs, bias_of(o), out + o, out_stride);
    return;
  }
  if (rows == 1) {  // eight sums keep the adders busy while weights stream by
    for (; o + 8 <= end; o += 8) {
      Tile<1, 8, /*kAhead=*/true>(weight + o * inputs, x, inputs, bias_of(o), out + o, out_stride);
    }
  }
  for (; o + 4 <= end; o += 4) Rows<4>(weight + o * inputs, x, rows, inputs, bias_of(o), out + o, out_stride);
  for (; o < end; ++o) Rows<1>(weight + o * inputs, x, rows, inputs, bias_of(o), out + o, out_stride);
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

bool HasPairProducts() { return false; }
void NarrowForPairs(const float*, int64_t, uint16_t*) {}
void LinearByPairs(const WeightMatrix&, const uint16_t*, int64_t, const float*, float*, int64_t, int64_t, int64_t) {}

}  // namespace nabla::kernels

#endif
