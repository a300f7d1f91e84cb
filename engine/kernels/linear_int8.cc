#include "engine/kernels/linear_int8.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/kernels/sums_avx512.h"
#include "engine/kernels/unrolled.h"
#include "engine/kernels/weight_streams.h"

#define NABLA_BYTES __attribute__((target("avx512vnni,avx512f,avx512bw,avx512vl,avx512dq")))

namespace nabla::kernels {
namespace {

constexpr int64_t kBlock = 64;   // bytes that an instruction takes
constexpr int64_t kHalf = 32;    // those that share a scale
constexpr int64_t kLanes = 16;   // floats of a vector
constexpr char kOffset = -0x80;  // the instruction wants one side without signs: weights plus 128

// Weights plus 128.
NABLA_BYTES inline __m512i Load(const int8_t* from) {
  return _mm512_xor_si512(_mm512_loadu_si512(from), _mm512_set1_epi8(kOffset));
}

NABLA_BYTES inline __m512i LoadFirst(const int8_t* from, int64_t count) {
  const __m512i weights = _mm512_maskz_loadu_epi8((uint64_t{1} << count) - 1, from);
  return _mm512_xor_si512(weights, _mm512_set1_epi8(kOffset));
}

// What is done to the sums of outputs.
struct Finish {
  const float *scales, *bias;  // `bias` may be null
};

// Dot products of kRows rows of x with kOutputs rows of the weights. Every sum runs over k block by block, whatever the
// tile's shape. Fetches kLines lines of `ahead` a block.
template <int kRows, int kOutputs, int kLines>
NABLA_BYTES void Tile(const int8_t* weight, const ByteBlock* x, int64_t inputs, const char* ahead, const Finish& finish,
                      float* out, int64_t out_stride) {
  const int64_t blocks = BlocksOf(inputs);
  __m512 sums[kRows][kOutputs];
  NABLA_UNROLLED
  for (auto& row : sums) {
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  __m512i weights[kOutputs];
  const auto add_block = [&](int64_t block) NABLA_BYTES {
    NABLA_UNROLLED
    for (int r = 0; r < kRows; ++r) {
      const ByteBlock& numbers = x[r * blocks + block];
      const __m512i bytes = _mm512_load_si512(numbers.bytes), starts = _mm512_load_si512(numbers.starts);
      const __m512 scales = _mm512_load_ps(numbers.scales);
      for (int o = 0; o < kOutputs; ++o) {
        const __m512i products = _mm512_dpbusd_epi32(starts, weights[o], bytes);
        sums[r][o] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sums[r][o]);
      }
    }
  };
  int64_t block = 0;
  for (; (block + 1) * kBlock <= inputs; ++block) {
    for (int o = 0; o < kOutputs; ++o) weights[o] = Load(weight + o * inputs + block * kBlock);
    WeightStream::Fetch<kLines>(ahead);
    ahead += kLines * WeightStream::kLine;
    add_block(block);
  }
  if (block < blocks) {
    const int64_t left = inputs - block * kBlock;
    for (int o = 0; o < kOutputs; ++o) weights[o] = LoadFirst(weight + o * inputs + block * kBlock, left);
    add_block(block);
  }
  NABLA_UNROLLED
  for (int r = 0; r < kRows; ++r) {
    float* row = out + r * out_stride;
    if constexpr (kOutputs == 1) {
      const __m512 none = _mm512_setzero_ps();
      row[0] = _mm_cvtss_f32(SumsOf(sums[r][0], none, none, none)) * finish.scales[0];
      if (finish.bias != nullptr) row[0] += finish.bias[0];
    } else {
      for (int o = 0; o < kOutputs; o += 4) {
        __m128 four = SumsOf(sums[r][o], sums[r][o + 1], sums[r][o + 2], sums[r][o + 3]);
        four = _mm_mul_ps(four, _mm_loadu_ps(finish.scales + o));
        if (finish.bias != nullptr) four = _mm_add_ps(four, _mm_loadu_ps(finish.bias + o));
        _mm_storeu_ps(row + o, four);
      }
    }
  }
}

template <int kOutputs>
NABLA_BYTES void Rows(const int8_t* weight, const ByteBlock* x, int64_t rows, int64_t inputs, WeightStream stream,
                      const Finish& finish, float* out, int64_t out_stride) {
  ForTiles<kOutputs>(rows, stream, [&]<int kRows, int kLines>(int64_t i, const char* ahead) NABLA_BYTES {
    Tile<kRows, kOutputs, kLines>(weight, x + i * BlocksOf(inputs), inputs, ahead, finish, out + i * out_stride,
                                  out_stride);
  });
}

// Up to 32 numbers to half `half` of a block.
NABLA_BYTES void RoundHalf(const float* x, int64_t count, int64_t half, ByteBlock& block) {
  const auto wanted = static_cast<uint32_t>((uint64_t{1} << count) - 1);
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(wanted), x);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(wanted >> kLanes), x + kLanes);
  const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
  const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127 / largest : 0);
  const __m128i low_bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
  const __m128i high_bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
  const __m256i bytes = _mm256_set_m128i(high_bytes, low_bytes);
  _mm256_store_si256(reinterpret_cast<__m256i*>(block.bytes + half * kHalf), bytes);
  // Products with weights plus 128 are 128 times these sums of four bytes too large.
  const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
  const __m256i starts = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_setzero_si256(), sums), 7);
  _mm256_store_si256(reinterpret_cast<__m256i*>(block.starts + half * kLanes / 2), starts);
  _mm256_store_ps(block.scales + half * kLanes / 2, _mm256_set1_ps(largest / 127));
}

}  // namespace

bool HasByteProducts() {
  static const bool has = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

NABLA_BYTES void RoundToBytes(const float* x, int64_t inputs, int64_t begin, int64_t end, ByteBlock* row) {
  // The last number's block ends in zeros.
  const int64_t padded = end == inputs ? BlocksOf(inputs) * kBlock : end;
  for (; begin < padded; begin += kHalf) {
    const int64_t left = begin < end ? end - begin : 0;
    RoundHalf(x + begin, left < kHalf ? left : kHalf, begin / kHalf % 2, row[begin / kBlock]);
  }
}

NABLA_BYTES void LinearByBytes(const WeightMatrix& matrix, const ByteBlock* x, int64_t rows, const float* bias,
                               float* out, int64_t out_stride, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const int8_t*>(matrix.data);
  const int64_t inputs = matrix.inputs;
  const auto finish_at = [&](int64_t output) {
    return Finish{matrix.scales + output, bias != nullptr ? bias + output : nullptr};
  };
  int64_t o = begin;
  const auto stream_at = [&](int64_t output, int outputs) {
    return WeightStream(weight + output * inputs, weight + end * inputs, outputs, inputs, rows / 4);
  };
  // Eight sums keep the adders busy while weights stream by. One output after another, as OneStreamIsBest has it for
  // wider weights, measured alike on AMD Zen 4: 5.5 and 5.7 ms for one row of SmolLM2.
  if (rows == 1) {
    for (; o + 8 <= end; o += 8) {
      Rows<8>(weight + o * inputs, x, rows, inputs, stream_at(o, 8), finish_at(o), out + o, out_stride);
    }
  }
  for (; o + 4 <= end; o += 4) {
    Rows<4>(weight + o * inputs, x, rows, inputs, stream_at(o, 4), finish_at(o), out + o, out_stride);
  }
  for (; o < end; ++o) {
    Rows<1>(weight + o * inputs, x, rows, inputs, WeightStream(), finish_at(o), out + o, out_stride);
  }
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

bool HasByteProducts() { return false; }
void RoundToBytes(const float*, int64_t, int64_t, int64_t, ByteBlock*) {}
void LinearByBytes(const WeightMatrix&, const ByteBlock*, int64_t, const float*, float*, int64_t, int64_t, int64_t) {}

}  // namespace nabla::kernels

#endif
