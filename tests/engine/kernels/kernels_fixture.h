// Numbers that tests of kernels compute with.
#ifndef NABLA_TESTS_ENGINE_KERNELS_KERNELS_FIXTURE_H_
#define NABLA_TESTS_ENGINE_KERNELS_KERNELS_FIXTURE_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "engine/kernels/elementwise.h"

namespace nabla::kernels {

inline std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(static_cast<int>(engine() % 2001) - 1000) / 500.0f;
  return numbers;
}

inline float FromBfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float number;
  std::memcpy(&number, &wide, sizeof(number));
  return number;
}

inline std::vector<uint16_t> ToBfloat16(const std::vector<float>& numbers) {
  std::vector<uint16_t> bits;
  for (const float number : numbers) bits.push_back(RoundToBfloat16(number));
  return bits;
}

}  // namespace nabla::kernels

#endif  // NABLA_TESTS_ENGINE_KERNELS_KERNELS_FIXTURE_H_
