// The rest of a decoder layer on a CPU: norms, rotations, the gate of the MLP, and what the logits of a row say. No
// torch.
//
// Every function works on one row at a time, so its result cannot depend on other rows. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_ELEMENTWISE_H_
#define NABLA_ENGINE_KERNELS_ELEMENTWISE_H_

#include <bit>
#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

// `count` numbers of type `type` as float32.
void Widen(NumberType type, const void* from, int64_t count, float* to);

// The other way round, to the nearest.
void Narrow(NumberType type, const float* from, int64_t count, void* to);

// The nearest bfloat16's bits, ties to even.
inline uint16_t RoundToBfloat16(float number) {
  const uint32_t bits = std::bit_cast<uint32_t>(number);
  if (number != number) return static_cast<uint16_t>(bits >> 16 | 0x40);  // not a number
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// to[i] += from[i].
void Add(const float* from, int64_t count, float* to);

// out = weight · x / sqrt(mean(x²) + epsilon). `out` may be `x`.
void RmsNorm(const float* x, const float* weight, int64_t count, float epsilon, float* out);

// Turns pairs (x[i], x[i + count/2]) by the angles whose cosines and sines [count] are given, in place.
void Rotate(const float* cosines, const float* sines, int64_t count, float* x);

// gate = silu(gate) · up, in place.
void SiluMultiply(const float* up, int64_t count, float* gate);

// The first of the largest of `count` numbers, 1 or more.
int64_t ArgMax(const float* x, int64_t count);

// What a row of logits says, untempered.
struct RowStats {
  int32_t argmax = 0;    // the first of equals
  float confidence = 0;  // largest probability
  float entropy = 0;     // nats
};
RowStats StatsOf(const float* logits, int64_t count);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_ELEMENTWISE_H_
