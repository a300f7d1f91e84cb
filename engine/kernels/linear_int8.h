// Products with int8 weights by the instruction that adds four products of bytes at once (AVX512_VNNI): x is rounded to
// bytes, too, every 32 numbers of a row to multiples of a scale of their own. What linear.h promises holds; call that
// instead.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_INT8_H_
#define NABLA_ENGINE_KERNELS_LINEAR_INT8_H_

#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

// Whether this machine has it.
bool HasByteProducts();

// Numbers [begin, end) of a row of `inputs`, rounded, to where they belong in `row`, [BlocksOf(inputs)]. `begin` and
// `end` are multiples of 32, or `end` is `inputs`; behind that come zeros to the block's end.
void RoundToBytes(const float* x, int64_t inputs, int64_t begin, int64_t end, ByteBlock* row);
inline int64_t BlocksOf(int64_t inputs) { return (inputs + 63) / 64; }

// `x`: [rows, BlocksOf(inputs)].
void LinearByBytes(const WeightMatrix& weight, const ByteBlock* x, int64_t rows, const float* bias, float* out,
                   int64_t out_stride, int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_INT8_H_
