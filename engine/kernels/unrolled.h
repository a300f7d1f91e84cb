// Arrays of vectors in registers.
//
//   Vector sums[kRows];
//   NABLA_UNROLLED
//   for (int r = 0; r < kRows; ++r) sums[r] = …;
//
// GCC 12 keeps an array in memory if loops of constant length that index it outside the main one are still loops when
// it looks at the array, and this word ahead of them makes it unroll them before: tiles of products wrote their sums to
// the stack twice (Intel Ice Lake, embedded models, 8 clients: 28.6 revised answers a second instead of 24.2).
#ifndef NABLA_ENGINE_KERNELS_UNROLLED_H_
#define NABLA_ENGINE_KERNELS_UNROLLED_H_

#include <hwy/base.h>

#define NABLA_UNROLLED HWY_UNROLL(16)

#endif  // NABLA_ENGINE_KERNELS_UNROLLED_H_
