// How weights are best read from memory while they meet few rows.
#ifndef NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_
#define NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_

#include <cstdint>

namespace nabla::kernels {

// Whether products with few rows are to take one output after another, not several side by side. AMD's prefetchers
// follow one stream of weights as fast as memory yields it, and several that are a row apart half as fast (Zen 4: 20
// and 9 GB/s a core).
inline bool OneStreamIsBest() {
#if defined(__x86_64__)
  static const bool amd = __builtin_cpu_is("amd") != 0;
  return amd;
#else
  return false;
#endif
}

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_
