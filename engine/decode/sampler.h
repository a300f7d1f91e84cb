// Draws tokens from logits: temperature, top-k, top-p, in that order, as HF transformers does; reproducible by seed on
// every platform.
//
//   RandomSource random(seed);
//   int32_t token = SampleToken(logits, {.temperature = 0.7, .top_p = 0.9}, random);
#ifndef NABLA_ENGINE_DECODE_SAMPLER_H_
#define NABLA_ENGINE_DECODE_SAMPLER_H_

#include <cstdint>
#include <random>

#include "absl/types/span.h"
#include "engine/base/request.h"

namespace nabla {

// Uniform numbers in [0, 1). std::uniform_real_distribution differs between libraries; this does not.
class RandomSource {
 public:
  explicit RandomSource(uint64_t seed) : engine_(seed) {}
  double Uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }

 private:
  std::mt19937_64 engine_;
};

// One token id. Temperature 0 takes the largest logit (the first of equals) and draws nothing from `random`.
int32_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, RandomSource& random);

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_SAMPLER_H_
