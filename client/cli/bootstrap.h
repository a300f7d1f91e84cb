// Confidence intervals of means by the bootstrap: resampled with replacement, percentiles of the means.
//
//   const Estimate accuracy = EstimateMean({1, 0, 1, 1});   // {.mean = 0.75, .low = 0.25, .high = 1}
//
// Of pairs, give the differences. 10,000 resamples from a fixed seed: the same numbers give the same interval. Pure
// function; thread-safe.
#ifndef NABLA_CLIENT_CLI_BOOTSTRAP_H_
#define NABLA_CLIENT_CLI_BOOTSTRAP_H_

#include <vector>

namespace nabla {

struct Estimate {
  double mean = 0;
  double low = 0, high = 0;  // 95 %
};

// All 0 for no values.
Estimate EstimateMean(const std::vector<double>& values);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_BOOTSTRAP_H_
