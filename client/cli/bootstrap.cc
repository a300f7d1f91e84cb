#include "client/cli/bootstrap.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>

namespace nabla {
namespace {

constexpr size_t kResamples = 10'000;
constexpr double kOutside = 0.05;

}  // namespace

Estimate EstimateMean(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  std::mt19937_64 random(1);
  std::uniform_int_distribution<size_t> pick(0, values.size() - 1);
  std::vector<double> means(kResamples);
  for (double& mean : means) {
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += values[pick(random)];
    mean = sum / count;
  }
  std::sort(means.begin(), means.end());
  const auto below = static_cast<size_t>(kOutside / 2 * kResamples);
  return {.mean = std::accumulate(values.begin(), values.end(), 0.0) / count,
          .low = means[below],
          .high = means[kResamples - 1 - below]};
}

}  // namespace nabla
