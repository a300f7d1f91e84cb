#include "engine/strategy/tail.h"

#include <algorithm>
#include <cmath>

namespace nabla {
namespace {

// Inverse of the standard normal distribution's function, by bisection: it is asked a handful of times a request.
double NormalQuantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2)) / 2 < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

double NormalScore(int i, int n) {
  constexpr double kBlom = 0.375;
  return NormalQuantile((i - kBlom) / (n + 1 - 2 * kBlom));
}

double ExpectedBest(std::vector<double> rewards, int draws) {
  std::sort(rewards.begin(), rewards.end());
  const int n = static_cast<int>(rewards.size());
  const int used = std::max(2, (n + 1) / 2);
  double mean_x = 0, mean_y = 0;
  for (int i = n - used; i < n; ++i) {
    mean_x += NormalScore(i + 1, n) / used;
    mean_y += rewards[i] / used;
  }
  double covariance = 0, variance = 0;
  for (int i = n - used; i < n; ++i) {
    const double x = NormalScore(i + 1, n) - mean_x;
    covariance += x * (rewards[i] - mean_y);
    variance += x * x;
  }
  return mean_y + covariance / variance * (NormalScore(draws, draws) - mean_x);
}

}  // namespace nabla
