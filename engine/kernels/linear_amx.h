// Products with bfloat16 weights by the tile units (AMX) of Intel's CPUs: sixteen outputs by sixteen rows at a time, so
// that sixteen rows cost hardly more than one. What linear.h promises holds; call that instead.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_AMX_H_
#define NABLA_ENGINE_KERNELS_LINEAR_AMX_H_

#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

// Whether this machine has them, the system lets us, and rows of `inputs` numbers fill whole tiles.
bool TilesFit(int64_t inputs);

// Columns [begin, end), multiples of 32, of x [rows, inputs], rounded to bfloat16, to where the tiles want them in
// `pairs`: for every sixteen rows, pairs of neighbours [inputs / 2, rows].
void PackForTiles(const float* x, int64_t rows, int64_t inputs, int64_t begin, int64_t end, uint32_t* pairs);

void LinearByTiles(const WeightMatrix& weight, const uint32_t* pairs, int64_t rows, const float* bias, float* out,
                   int64_t out_stride, int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_AMX_H_
