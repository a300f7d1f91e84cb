#include "engine/kernels/linear_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/kernels/sums_avx512.h"
#include "engine/kernels/unrolled.h"
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
// whatever the tile's shape. Fetches kLines lines of `ahead` a step.
template <int kRows, int kOutputs, int kLines>
NABLA_PAIRS void Tile(const uint16_t* weight, const uint16_t* x, int64_t inputs, const char* ahead, const float* bias,
                      float* out, int64_t out_stride) {
  __m512 sums[kRows][kOutputs];
  NABLA_UNROLLED
  for (auto& row : sums) {
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  int64_t k = 0;
  for (; k + kInputs <= inputs; k += kInputs) {
    __m512bh weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) weights[o] = Load(weight + o * inputs + k);
    WeightStream::Fetch<kLines>(ahead);
    ahead += kLines * WeightStream::kLine;
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = Load(x + r * inputs + k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = _mm512_dpbf16_ps(sums[r][o], value, weights[o]);
    }
  }
  if (k < inputs) {
    __m512bh weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) weights[o] = LoadFirst(weight + o * inputs + k, inputs - k);
    NABLA_UNROLLED
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = LoadFirst(x + r * inputs + k, inputs - k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = _mm512_dpbf16_ps(sums[r][o], value, weights[o]);
    }
  }
  NABLA_UNROLLED
  for (int r = 0; r < kRows; ++r) {
    float* row = out + r * out_stride;
    if constexpr (kOutputs == 1) {
      const __m512 none = _mm512_setzero_ps();
      row[0] = _mm_cvtss_f32(SumsOf(sums[r][0], none, none, none)) + (bias != nullptr ? bias[0] : 0);
    } else {
      for (int o = 0; o < kOutputs; o += 4) {
        const __m128 four = SumsOf(sums[r][o], sums[r][o + 1], sums[r][o + 2], sums[r][o + 3]);
        _mm_storeu_ps(row + o, bias != nullptr ? _mm_add_ps(four, _mm_loadu_ps(bias + o)) : four);
      }
    }
  }
}

template <int kOutputs>
NABLA_PAIRS void Rows(const uint16_t* weight, const uint16_t* x, int64_t rows, int64_t inputs, WeightStream stream,
                      const float* bias, float* out, int64_t out_stride) {
  ForTiles<kOutputs>(rows, stream, [&]<int kRows, int kLines>(int64_t i, const char* ahead) NABLA_PAIRS {
    Tile<kRows, kOutputs, kLines>(weight, x + i * inputs, inputs, ahead, bias, out + i * out_stride, out_stride);
  });
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
  const auto one_by_one = [&]() NABLA_PAIRS {
    for (; o < end; ++o) Rows<1>(weight + o * inputs, x, rows, inputs, WeightStream(), bias_of(o), out + o, out_stride);
  };
  if (rows <= 2 && OneStreamIsBest()) return one_by_one();
  const auto stream_at = [&](int64_t output, int outputs) {
    return WeightStream(weight + output * inputs, weight + end * inputs, outputs, inputs * sizeof(uint16_t), rows / 4);
  };
  if (rows == 1) {  // eight sums keep the adders busy while weights stream by
    for (; o + 8 <= end; o += 8) {
      Rows<8>(weight + o * inputs, x, rows, inputs, stream_at(o, 8), bias_of(o), out + o, out_stride);
    }
  }
  for (; o + 4 <= end; o += 4) {
    Rows<4>(weight + o * inputs, x, rows, inputs, stream_at(o, 4), bias_of(o), out + o, out_stride);
  }
  one_by_one();
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

bool HasPairProducts() { return false; }
void NarrowForPairs(const float*, int64_t, uint16_t*) {}
void LinearByPairs(const WeightMatrix&, const uint16_t*, int64_t, const float*, float*, int64_t, int64_t, int64_t) {}

}  // namespace nabla::kernels

#endif
