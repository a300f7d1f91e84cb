// Adding up the lanes of AVX-512 vectors. Of x86 only; may be called where the machine has AVX512F and AVX512DQ.
#ifndef NABLA_ENGINE_KERNELS_SUMS_AVX512_H_
#define NABLA_ENGINE_KERNELS_SUMS_AVX512_H_

#include <immintrin.h>

namespace nabla::kernels {

// The sums of four vectors' lanes, always added in the same order.
__attribute__((target("avx512f,avx512dq"))) inline __m128 SumsOf(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ac = _mm512_add_ps(_mm512_unpacklo_ps(a, c), _mm512_unpackhi_ps(a, c));
  const __m512 bd = _mm512_add_ps(_mm512_unpacklo_ps(b, d), _mm512_unpackhi_ps(b, d));
  const __m512 blocks = _mm512_add_ps(_mm512_unpacklo_ps(ac, bd), _mm512_unpackhi_ps(ac, bd));
  const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(blocks), _mm512_extractf32x8_ps(blocks, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_SUMS_AVX512_H_
