// What a machine can do, for benchmarks to be held against. Includes torch.
//
//   const MachineLimits limits = MachineLimits::Measure(torch::kBFloat16, torch::kCPU);
//   const double share = limits.LeastTime(operations, bytes) / seconds;
#ifndef NABLA_BENCH_MACHINE_LIMITS_H_
#define NABLA_BENCH_MACHINE_LIMITS_H_

#include <torch/torch.h>

#include <algorithm>

namespace nabla {

struct MachineLimits {
  double operations_per_second = 0;  // multiplications and additions of matrix products
  double bytes_per_second = 0;       // read from memory

  // The best rates found with as many threads as libtorch has, of products of numbers of `type`. Takes seconds.
  static MachineLimits Measure(torch::ScalarType type, torch::Device device);

  // Seconds that work takes at least, which multiplies and adds so often and reads so much.
  double LeastTime(double operations, double bytes) const {
    return std::max(operations / operations_per_second, bytes / bytes_per_second);
  }
};

}  // namespace nabla

#endif  // NABLA_BENCH_MACHINE_LIMITS_H_
